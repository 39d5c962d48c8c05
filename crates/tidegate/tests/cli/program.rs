//! Running the program in a folder and an environment of its own.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::Path,
    process::{Child, ChildStdout, Command, Output, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A folder to run in.
pub(crate) struct Program {
    folder: TempDir,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A run that goes on; killed when dropped.
pub(crate) struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Program {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn with_file(name: &str, text: &str) -> Self {
        let program = Self::new();
        fs::write(program.folder.path().join(name), text).unwrap();
        program
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs to the end.
    pub(crate) fn run(&self, args: &[&str], vars: &[(&str, &str)]) -> Ended {
        self.run_with_stdin(args, vars, "")
    }

    pub(crate) fn run_with_stdin(
        &self,
        args: &[&str],
        vars: &[(&str, &str)],
        stdin: &str,
    ) -> Ended {
        let mut child = self.command(args, vars).spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        // A program that ends without reading closes the pipe.
        pipe.write_all(stdin.as_bytes()).unwrap_or_default();
        drop(pipe);
        child.wait_with_output().unwrap().into()
    }

    /// Starts and leaves running, with errors to the terminal.
    pub(crate) fn start(&self, args: &[&str], vars: &[(&str, &str)]) -> Running {
        let mut command = self.command(args, vars);
        let mut child = command.stderr(Stdio::inherit()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Running { child, stdout }
    }

    /// Starts and leaves running, with errors kept for [`Running::end_logged`].
    pub(crate) fn start_logged(&self, args: &[&str], vars: &[(&str, &str)]) -> Running {
        let mut child = self.command(args, vars).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Running { child, stdout }
    }

    fn command(&self, args: &[&str], vars: &[(&str, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command
            .args(args)
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .envs(vars.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

impl Running {
    /// The next line that it prints, without its end; `None` once it prints no more.
    pub(crate) fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let length = self.stdout.read_line(&mut line).unwrap();
        (length > 0).then(|| line.trim_end_matches('\n').to_owned())
    }

    /// Lines up to the one that `last` accepts.
    pub(crate) fn lines_until(&mut self, last: impl Fn(&str) -> bool) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(line) = self.line() {
            let end = last(&line);
            lines.push(line);
            if end {
                break;
            }
        }
        lines
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }

    /// Waits for the end and gives the exit code and what was printed last.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

impl Running {
    /// Waits for the end and gives what was logged.
    pub(crate) fn end_logged(mut self) -> String {
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        self.child.wait().unwrap();
        log
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended, which is fine.
        self.child.kill().unwrap_or_default();
        drop(self.child.wait());
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}
