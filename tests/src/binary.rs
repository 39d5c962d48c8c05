//! The real program, as a process.

use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::OnceLock,
    time::Duration,
};

use tidegate_testkit::build::{modified, newest};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::{Child, ChildStderr, ChildStdout, Command},
    task::JoinHandle,
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// A running `tidegate serve`. It is killed if a test drops it.
#[derive(Debug)]
pub struct Binary {
    child: Child,
    stdout: BufReader<ChildStdout>,
    stderr: Stderr,
    address: SocketAddr,
    ops: SocketAddr,
    _file: tempfile::NamedTempFile,
}

/// Who reads the log.
#[derive(Debug)]
enum Stderr {
    /// The test, line by line.
    Lines(BufReader<ChildStderr>),
    /// A task, so that a log that nobody waits for never fills the pipe.
    Kept(JoinHandle<String>),
}

impl Binary {
    /// Starts it with a configuration, as [`crate::Proxy::start`] does, and waits until it serves.
    pub async fn serve(text: &str) -> Self {
        let file = crate::proxy::config_file(text);
        let mut child = Command::new(program())
            .args(["serve", "--config"])
            .arg(file.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut urls = Vec::new();
        let mut line = String::new();
        // One line for each route, then one for health and metrics.
        while !line.contains("health and metrics") {
            line = String::new();
            let read = timeout(PATIENCE, stdout.read_line(&mut line)).await;
            if read.expect("it says in time where it serves").unwrap() == 0 {
                let mut complaint = String::new();
                stderr.read_to_string(&mut complaint).await.unwrap();
                panic!("it does not serve: {complaint}");
            }
            let url = line.split_whitespace().find_map(|word| word.strip_prefix("http://"));
            urls.extend(
                url.map(|url| url.split('/').next().unwrap().parse::<SocketAddr>().unwrap()),
            );
        }
        let stderr = Stderr::Lines(stderr);
        let (address, ops) = (urls[0], urls[urls.len() - 1]);
        Self { child, stdout, stderr, address, ops, _file: file }
    }

    /// Has the log read as it comes, however long it gets.
    pub fn keep_log(self) -> Self {
        let Self { child, stdout, stderr, address, ops, _file } = self;
        let stderr = match stderr {
            Stderr::Lines(mut lines) => Stderr::Kept(tokio::spawn(async move {
                let mut log = Vec::new();
                lines.read_to_end(&mut log).await.unwrap();
                String::from_utf8_lossy(&log).into_owned()
            })),
            kept @ Stderr::Kept(_) => kept,
        };
        Self { child, stdout, stderr, address, ops, _file }
    }

    /// Where clients connect.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where health and metrics are.
    pub const fn ops(&self) -> SocketAddr {
        self.ops
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// The most memory that it had at once, in bytes.
    pub fn most_memory(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        most.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() << 10
    }

    /// Sends it a signal, such as `TERM`.
    pub async fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status().await;
        assert!(sent.unwrap().success(), "SIG{name}");
    }

    /// Waits until it logs a line with this text.
    pub async fn logs(&mut self, text: &str) {
        let mut line = String::new();
        let Stderr::Lines(stderr) = &mut self.stderr else { panic!("the log is kept") };
        let found = timeout(PATIENCE, async {
            while !line.contains(text) {
                line.clear();
                assert_ne!(stderr.read_line(&mut line).await.unwrap(), 0, "no log of {text}");
            }
        });
        found.await.unwrap_or_else(|_| panic!("no log of {text}"));
    }

    /// Waits for its end and returns how it ended.
    pub async fn exit(self) -> ExitStatus {
        self.exit_with_log().await.0
    }

    /// The same, with what it logged that nobody waited for.
    pub async fn exit_with_log(mut self) -> (ExitStatus, String) {
        // The pipes are read to their end, so that nothing blocks on them.
        let mut out = String::new();
        let log = async {
            match self.stderr {
                Stderr::Lines(mut lines) => {
                    let mut log = String::new();
                    lines.read_to_string(&mut log).await.unwrap();
                    log
                }
                Stderr::Kept(log) => log.await.unwrap(),
            }
        };
        let ended = timeout(PATIENCE, async {
            let (status, _, log) =
                tokio::join!(self.child.wait(), self.stdout.read_to_string(&mut out), log);
            (status.unwrap(), log)
        });
        let (status, log) = ended.await.expect("it ends in time");
        assert!(!log.contains("panicked"), "{log}");
        (status, log)
    }
}

/// The path of the program, built if it is missing or old. `TIDEGATE_BIN` names another one.
pub fn program() -> PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| env::var_os("TIDEGATE_BIN").map_or_else(built, PathBuf::from)).clone()
}

/// `target/debug/tidegate` for a test at `target/debug/deps/name-hash`.
fn built() -> PathBuf {
    let exe = env::current_exe().unwrap();
    let folder = exe.ancestors().nth(2).expect("a target folder");
    let path = folder.join("tidegate");
    if is_fresh(&path) {
        return path;
    }
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = std::process::Command::new(cargo)
        .args(["build", "--quiet", "--package", "tidegate", "--bin", "tidegate"])
        .args(["--profile", profile, "--target-dir"])
        .arg(folder.parent().expect("a target folder"))
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    path
}

/// Whether the program is newer than everything it is built from.
fn is_fresh(program: &Path) -> bool {
    let Some(built) = modified(program) else { return false };
    let crates = root().join("crates").read_dir().unwrap().map(|each| each.unwrap().path());
    crates
        .filter(|each| !each.ends_with("tidegate-testkit"))
        .flat_map(|each| [newest(&each.join("src")), modified(&each.join("Cargo.toml"))])
        .chain([modified(&root().join("Cargo.lock"))])
        .flatten()
        .all(|source| source < built)
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}
