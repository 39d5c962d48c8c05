//! Starts what is measured, says where it listens, and ends it.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::{
    client::Target,
    npm,
    plan::{Behind, Peer, Plan},
};

const START_WITHIN: Duration = Duration::from_secs(30);
const END_WITHIN: Duration = Duration::from_secs(5);
const LOG_LINES: usize = 15;

/// Where programs are, and which of the machine's means may be used.
#[derive(Debug)]
pub struct Programs {
    /// The folder with the fixture, the floor and the load client.
    pub own: PathBuf,
    /// The program under test.
    pub tidegate: PathBuf,
    /// Where npm packages are kept.
    pub tools: PathBuf,
    /// Whether processes can be bound to processors 0 and 1.
    pub pinned: bool,
    orphans: bool,
}

impl Programs {
    /// Looks at what this machine has. `tools` is where npm packages are kept.
    #[must_use]
    pub fn find(own: PathBuf, tidegate: PathBuf, tools: PathBuf) -> Self {
        Self {
            own,
            tidegate,
            tools,
            pinned: succeeds("taskset", &["-c", "0,1", "true"]),
            orphans: !succeeds("setpriv", &["--pdeathsig", "TERM", "true"]),
        }
    }

    /// A command for one of this package's programs.
    #[must_use]
    pub fn own(&self, name: &str, cpu: Option<usize>) -> Command {
        let mut command = self.command(self.own.join(name).as_os_str(), cpu);
        command.arg("--die-with-parent");
        command
    }

    /// The stdio fixture with what it needs, as the words of a command. It notes each start in the
    /// file `starts`.
    #[must_use]
    pub fn stdio_fixture(&self, starts: &Path) -> Vec<OsString> {
        let program = self.own.join("fixture_upstream");
        [program.as_os_str(), "stdio".as_ref(), "--starts".as_ref(), starts.as_os_str()]
            .map(OsString::from)
            .to_vec()
    }

    /// A command that is bound to `cpu` and ends when this process does, where that is possible.
    pub(crate) fn command(&self, program: &OsStr, cpu: Option<usize>) -> Command {
        let mut words: Vec<OsString> = Vec::new();
        if let Some(cpu) = cpu.filter(|_| self.pinned) {
            words.extend(["taskset".into(), "-c".into(), cpu.to_string().into()]);
        }
        if !self.orphans {
            words.extend(["setpriv", "--pdeathsig", "TERM", "--"].map(OsString::from));
        }
        words.push(program.to_owned());
        let mut words = words.into_iter();
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        command
    }
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    let quiet = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    quiet.is_ok_and(|status| status.success())
}

/// A process that ends when this is dropped: asked first, then forced.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// Where calls are sent.
    pub target: Target,
}

impl Process {
    /// The process id, which is also that of the program that `taskset` started.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            kill_process(pid, Signal::TERM).ok();
        }
        let deadline = Instant::now() + END_WITHIN;
        while Instant::now() < deadline {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            nap();
        }
        // Both fail only if the process has ended by itself meanwhile.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[expect(clippy::disallowed_methods, reason = "a synchronous program waits for another process")]
fn nap() {
    thread::sleep(Duration::from_millis(20));
}

/// Everything that runs during the rounds.
#[derive(Debug)]
pub struct Stage {
    running: Vec<(Behind, Peer, Process)>,
    // Kept until the processes that write there have ended.
    logs: TempDir,
}

impl Stage {
    /// Starts all peers of the plan. They stay up, idle, while others are measured.
    ///
    /// # Errors
    ///
    /// When one does not start; the error ends with the last lines of its log.
    pub fn set(plan: &Plan, programs: &Programs) -> anyhow::Result<Self> {
        let logs = TempDir::new()?;
        let mut stage = Self { running: Vec::new(), logs };
        for behind in [Behind::Http, Behind::Stdio] {
            if !plan.has(behind) {
                continue;
            }
            // The fixture stands behind the others, so it runs even when it is not measured.
            let needed = |peer: &Peer| *peer == Peer::Direct || !plan.without.contains(peer);
            // The pipe of a child is nobody's port: whoever measures it starts the child.
            let has_port = |peer: &Peer| (behind, *peer) != (Behind::Stdio, Peer::Direct);
            for peer in behind.peers().iter().copied().filter(needed).filter(has_port) {
                let process = stage
                    .start(behind, peer, programs)
                    .with_context(|| format!("cannot start {peer} in front of {behind:?}"))?;
                stage.running.push((behind, peer, process));
            }
        }
        Ok(stage)
    }

    /// The process that answers for `peer`.
    #[must_use]
    pub fn find(&self, behind: Behind, peer: Peer) -> Option<&Process> {
        self.running.iter().find(|(b, p, _)| *b == behind && *p == peer).map(|(_, _, p)| p)
    }

    /// Where the stdio fixtures of `peer` note that they were started.
    #[must_use]
    pub fn starts_file(&self, peer: Peer) -> PathBuf {
        self.logs.path().join(format!("{peer:?}.starts"))
    }

    /// How many stdio fixtures `peer` has started so far.
    #[must_use]
    pub fn starts(&self, peer: Peer) -> u64 {
        fs::metadata(self.starts_file(peer)).map_or(0, |file| file.len())
    }

    fn start(&self, behind: Behind, peer: Peer, programs: &Programs) -> anyhow::Result<Process> {
        let log = self.logs.path().join(format!("{behind:?}-{peer:?}.log"));
        let fixture = programs.stdio_fixture(&self.starts_file(peer));
        let upstream = || {
            let direct = self.find(Behind::Http, Peer::Direct).context("needs the fixture")?;
            anyhow::Ok(direct.target.address)
        };
        // A proxy in front of a child is not bound to a processor: the child would inherit it,
        // and Node works with several threads.
        match (behind, peer) {
            (Behind::Http, Peer::Direct) => {
                let mut command = programs.own("fixture_upstream", Some(1));
                announced(command.arg("http"), &log)
            }
            (Behind::Http, Peer::Floor) => {
                let mut command = programs.own("floor_relay", Some(0));
                announced(command.arg("--upstream").arg(upstream()?.to_string()), &log)
            }
            (Behind::Stdio, Peer::Floor) => {
                let mut command = programs.own("floor_relay", None);
                announced(command.args(["--stdio", "--"]).args(fixture), &log)
            }
            (Behind::Http, Peer::Tidegate) => {
                let address = free_address()?;
                let mut command = tidegate(programs, Some(0), address);
                command.arg("--upstream").arg(format!("http://{}/mcp", upstream()?));
                polled(&mut command, address, &log)
            }
            (Behind::Stdio, Peer::Tidegate) => {
                let address = free_address()?;
                let mut command = tidegate(programs, None, address);
                command.arg("--").args(fixture);
                polled(&mut command, address, &log)
            }
            (Behind::Stdio, Peer::McpProxy | Peer::Supergateway) => {
                let address = free_address()?;
                let package = npm::Package::of(peer).context("not an npm package")?;
                let mut command =
                    programs.command(package.script(&programs.tools).as_os_str(), None);
                command.args(package.arguments(address.port(), &fixture)?);
                polled(&mut command, address, &log)
            }
            (Behind::Stdio, Peer::Direct)
            | (Behind::Http, Peer::McpProxy | Peer::Supergateway)
            | (_, Peer::FloorInline | Peer::Nginx | Peer::Haproxy) => bail!("not a peer there"),
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // The proxies first, since they were started after what they lead to.
        while self.running.pop().is_some() {}
    }
}

pub(crate) fn tidegate(programs: &Programs, cpu: Option<usize>, listen: SocketAddr) -> Command {
    let mut command = programs.command(programs.tidegate.as_os_str(), cpu);
    command.args(["serve", "--listen", &listen.to_string(), "--ops", "off", "--workers", "1"]);
    command
}

pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn target(address: SocketAddr) -> Target {
    Target { address, path: "/mcp".to_owned() }
}

/// Starts a program that prints its address.
pub(crate) fn announced(command: &mut Command, log: &Path) -> anyhow::Result<Process> {
    announced_with(command, log).map(|(process, _more)| process)
}

/// Starts a program that prints its address, and says what else is in that line.
pub(crate) fn announced_with(
    command: &mut Command,
    log: &Path,
) -> anyhow::Result<(Process, String)> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::create(log)?)
        .spawn()
        .with_context(|| format!("{command:?}"))?;
    let stdout = child.stdout.take().context("no stdout")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    let line = line.trim();
    let (address, more) = line.split_once(' ').unwrap_or((line, ""));
    match address.parse() {
        Ok(address) => Ok((Process { child, target: target(address) }, more.to_owned())),
        Err(_) => {
            child.wait()?;
            bail!("{command:?} said {line:?}\n{}", tail(log))
        }
    }
}

/// Starts a program that was told its address, and tries until it accepts there.
pub(crate) fn polled(
    command: &mut Command,
    address: SocketAddr,
    log: &Path,
) -> anyhow::Result<Process> {
    let output = File::create(log)?;
    let child = command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .with_context(|| format!("{command:?}"))?;
    let mut process = Process { child, target: target(address) };
    let deadline = Instant::now() + START_WITHIN;
    while TcpStream::connect(address).is_err() {
        if let Some(status) = process.child.try_wait()? {
            bail!("{command:?} ended with {status}\n{}", tail(log));
        }
        ensure!(Instant::now() < deadline, "{command:?} does not listen\n{}", tail(log));
        nap();
    }
    Ok(process)
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default().join("\n")
}
