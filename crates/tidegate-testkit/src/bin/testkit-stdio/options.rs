//! What the command line asks for.

use std::{
    env, fs, io,
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
    thread,
    time::Duration,
};

use crate::pipe::Pipe;

#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    pub(crate) era: String,
    pub(crate) discover: String,
    pub(crate) initialize: String,
    pub(crate) mute: bool,
    pub(crate) never_read: bool,
    pub(crate) ignore_eof: bool,
    ignore_term: bool,
    fork: bool,
    fork_setsid: bool,
    exit_at_start: Option<u8>,
    exit_while: Option<PathBuf>,
    pub(crate) no_ack_while: Option<PathBuf>,
    tools_as: Option<PathBuf>,
    stall_while: Option<PathBuf>,
    start_delay: Duration,
    garbage_at_start: bool,
    stderr_flood: bool,
}

impl Options {
    pub(crate) fn read() -> Self {
        let mut options = Self {
            era: "both".into(),
            discover: "answer".into(),
            initialize: "answer".into(),
            ..Self::default()
        };
        let mut words = env::args().skip(1);
        while let Some(word) = words.next() {
            match word.as_str() {
                "--era" => options.era = words.next().unwrap_or_default(),
                "--discover" => options.discover = words.next().unwrap_or_default(),
                "--initialize" => options.initialize = words.next().unwrap_or_default(),
                "--mute" => options.mute = true,
                "--never-read" => options.never_read = true,
                "--ignore-eof" => options.ignore_eof = true,
                "--ignore-term" => options.ignore_term = true,
                "--fork" => options.fork = true,
                "--fork-setsid" => options.fork_setsid = true,
                "--exit-at-start" => {
                    options.exit_at_start = words.next().and_then(|code| code.parse().ok());
                }
                "--exit-while" => options.exit_while = words.next().map(PathBuf::from),
                "--no-ack-while" => options.no_ack_while = words.next().map(PathBuf::from),
                "--tools-as" => options.tools_as = words.next().map(PathBuf::from),
                "--stall-while" => options.stall_while = words.next().map(PathBuf::from),
                "--start-delay" => {
                    let milliseconds = words.next().and_then(|text| text.parse().ok());
                    options.start_delay = Duration::from_millis(milliseconds.unwrap_or_default());
                }
                "--garbage-at-start" => options.garbage_at_start = true,
                "--stderr-flood" => options.stderr_flood = true,
                _ => (),
            }
        }
        options
    }

    /// What `tools/list` gets now; nothing where it is answered.
    pub(crate) fn tools_as(&self) -> String {
        let file = self.tools_as.as_ref();
        file.and_then(|file| fs::read_to_string(file).ok()).unwrap_or_default()
    }

    /// An ignored signal stays ignored across exec, and a shell can ignore one without `unsafe`.
    pub(crate) fn reexec_ignoring_term(&self) {
        const DONE: &str = "TESTKIT_TERM_IGNORED";
        if !self.ignore_term || env::var_os(DONE).is_some() {
            return;
        }
        let Ok(program) = env::current_exe() else { return };
        let error = Command::new("/bin/sh")
            .args(["-c", "trap '' TERM; exec \"$0\" \"$@\""])
            .arg(program)
            .args(env::args_os().skip(1))
            .env(DONE, "1")
            .exec();
        complain(&format!("cannot ignore SIGTERM: {error}"));
    }

    /// The faults that come before the first message. `Some` ends the process.
    pub(crate) fn misbehave_at_start(&self, pipe: &Pipe) -> Option<ExitCode> {
        #[expect(clippy::disallowed_methods, reason = "a process that takes its time")]
        thread::sleep(self.start_delay);
        while self.stall_while.as_ref().is_some_and(|file| file.exists()) {
            #[expect(clippy::disallowed_methods, reason = "a process that takes its time")]
            thread::sleep(Duration::from_millis(5));
        }
        if self.garbage_at_start {
            pipe.raw(b"Listening on stdio, have fun!\n\n{not json\n\xff\xfe\n");
        }
        if self.fork || self.fork_setsid {
            grandchild(self.fork_setsid, self.ignore_term);
        }
        if self.stderr_flood {
            thread::spawn(|| {
                let line = [b'x'; 199];
                let mut chunk = Vec::new();
                for _ in 0..300 {
                    chunk.extend_from_slice(&line);
                    chunk.push(b'\n');
                }
                while io::stderr().write_all(&chunk).is_ok() {}
            });
        }
        let exists = self.exit_while.as_ref().is_some_and(|file| file.exists());
        self.exit_at_start.or_else(|| exists.then_some(4)).map(|code| {
            complain("cannot start: the canary died");
            ExitCode::from(code)
        })
    }
}

/// Starts a process that outlives its parent, and returns its pid; 0 where that failed.
pub(crate) fn grandchild(setsid: bool, ignore_term: bool) -> u32 {
    let script = if ignore_term { "trap '' TERM; sleep 120; :" } else { "exec sleep 120" };
    let mut command = Command::new(if setsid { "setsid" } else { "sh" });
    if setsid {
        command.arg("sh");
    }
    // The pipes are kept open on purpose: that is what real wrappers do.
    let spawned = command.args(["-c", script]).stdin(Stdio::null()).spawn();
    spawned.map_or(0, |child| child.id())
}

pub(crate) fn complain(text: &str) {
    let mut line = text.as_bytes().to_vec();
    line.push(b'\n');
    // Nobody can be told when stderr is gone.
    drop(io::stderr().write_all(&line));
}
