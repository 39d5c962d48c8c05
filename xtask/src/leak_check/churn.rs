//! The traffic that may leave nothing behind: sessions, calls and streams that end well, and those
//! that end in any other way. Random, from a seed that is printed.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::http::{Answer, Connection, request};
use super::old;
use crate::dice::Dice;
use crate::process::signal;

const LEGACY: &str = "2025-11-25";
const MODERN: &str = "2026-07-28";
/// A server whose child was killed may be started again only after a while.
const RECOVERY: Duration = Duration::from_secs(40);
/// How long the proxy waits for an answer, in seconds. A call may get a child that is not killed, and
/// then there is none.
pub(super) const PATIENCE: u64 = 20;
/// Behind the first stand child processes, one for each session, behind the second one that sessions
/// share, behind the third a server over HTTP.
pub(super) const PATHS: [&str; 3] = ["/own", "/common", "/web"];
/// Behind this one stands a server over HTTP+SSE, which knows legacy clients only.
const OLD: &str = "/old";

/// What to do, and how much of it at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Churn {
    pub(super) address: SocketAddr,
    pub(super) clients: usize,
    pub(super) visits: usize,
}

impl Churn {
    /// Does it. A visit whose connection broke is fine where children are killed, but most have to
    /// go well, or nothing was tested.
    pub(super) fn run(self, dice: &mut Dice) -> anyhow::Result<()> {
        let good = AtomicUsize::new(0);
        thread::scope(|scope| {
            for client in 0..self.clients {
                let (good, mut dice) = (&good, dice.fork());
                scope.spawn(move || {
                    for number in (client..self.visits).step_by(self.clients) {
                        // Once, in the middle of everything: it takes a while to come back.
                        let is_fatal = number == self.visits / 2;
                        let visited = match is_fatal {
                            true => kill_the_shared_child(self.address),
                            false => visit(self.address, &mut dice),
                        };
                        if visited.is_ok() {
                            good.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        let (good, visits) = (good.into_inner(), self.visits);
        ensure!(good * 4 >= visits * 3, "only {good} of {visits} visits went as they should");
        self.bring_back()
    }

    /// Makes sure that what is kept for the next caller is there, however the last child died.
    fn bring_back(self) -> anyhow::Result<()> {
        for path in PATHS {
            let start = Instant::now();
            while let Err(error) = modern_call(self.address, path) {
                ensure!(start.elapsed() < RECOVERY, "{path} does not recover: {error:#}");
                pause(50);
            }
        }
        let mut session = Session::open(self.address, OLD)?;
        session.call()?;
        session.end()
    }
}

/// One visit of a client, of one of the kinds there are.
fn visit(address: SocketAddr, dice: &mut Dice) -> anyhow::Result<()> {
    let path = PATHS.get(dice.below(PATHS.len() + 1)).copied().unwrap_or(OLD);
    match dice.below(12) {
        10 | 11 => old::visit(address, path, dice),
        kind if kind < 4 && path == OLD => old::visit(address, path, dice),
        0 => modern_call(address, path),
        1 => modern_departure(address, path, dice),
        2 => modern_stream(address, path),
        3 => half_a_request(address, path, dice),
        kind => {
            let mut session = Session::open(address, path)?;
            match kind {
                4 => session.call()?,
                5 => session.leave_mid_call(dice)?,
                6 => session.listen_and_leave()?,
                7 if path == "/own" => session.kill_the_child()?,
                // Without a farewell: the proxy has to notice that nobody comes back.
                8 => return Ok(()),
                _ => (0..4).try_for_each(|_| session.call())?,
            }
            session.end()
        }
    }
}

/// What takes a while there.
pub(super) fn slow(path: &str) -> (&'static str, Value) {
    match path {
        "/own" | "/common" => ("hang", json!({})),
        _ => ("slow", json!({"seconds": 1, "steps": 5})),
    }
}

pub(super) fn ask(address: SocketAddr, bytes: &[u8]) -> anyhow::Result<Answer> {
    let mut connection = Connection::open(address)?;
    connection.send(bytes)?;
    Ok(connection.answer()?)
}

fn modern(path: &str, method: &str, name: Option<&str>, mut params: Value) -> Vec<u8> {
    if let Some(params) = params.as_object_mut() {
        params.insert(
            "_meta".to_owned(),
            json!({"io.modelcontextprotocol/protocolVersion": MODERN,
                "io.modelcontextprotocol/clientCapabilities": {}}),
        );
    }
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    let mut headers = vec![("mcp-protocol-version", MODERN), ("mcp-method", method)];
    headers.extend(name.map(|name| ("mcp-name", name)));
    request("POST", path, &headers, &body.to_string())
}

fn modern_tool(path: &str, name: &str, arguments: &Value) -> Vec<u8> {
    modern(path, "tools/call", Some(name), json!({"name": name, "arguments": arguments}))
}

fn modern_call(address: SocketAddr, path: &str) -> anyhow::Result<()> {
    let answer = ask(address, &modern_tool(path, "echo", &json!({"text": "x"})))?;
    ensure!(answer.status == 200, "status {}", answer.status);
    Ok(())
}

/// Others call it at the same time, and their calls fail: they have to be told, and so do we.
fn kill_the_shared_child(address: SocketAddr) -> anyhow::Result<()> {
    let path = "/own";
    let child = pid_in(&ask(address, &modern_tool(path, "pid", &json!({})))?)?;
    let (name, arguments) = slow(path);
    let mut connection = Connection::open(address)?;
    connection.send(&modern_tool(path, name, &arguments))?;
    signal(child, Signal::KILL);
    answered_soon(&mut connection)
}

/// However the proxy tells of a death, it has to tell it, and not only when it has no patience left.
/// That would also be the end of a call that another child got, since this one was dead already.
fn answered_soon(connection: &mut Connection) -> anyhow::Result<()> {
    let began = Instant::now();
    connection.answer().context("a call of a killed child is not answered")?;
    let took = began.elapsed();
    ensure!(took.as_secs() < PATIENCE / 2, "a call of a killed child was answered after {took:?}");
    Ok(())
}

/// What the tool `pid` answers.
fn pid_in(answer: &Answer) -> anyhow::Result<u32> {
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let digits = text.split("\"pid\":").nth(1).unwrap_or_default();
    let digits: String = digits.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().with_context(|| format!("no pid in {text}"))
}

fn modern_departure(address: SocketAddr, path: &str, dice: &mut Dice) -> anyhow::Result<()> {
    let (name, arguments) = slow(path);
    let mut connection = Connection::open(address)?;
    connection.send(&modern_tool(path, name, &arguments))?;
    pause(dice.below(20));
    part(connection, dice);
    Ok(())
}

fn modern_stream(address: SocketAddr, path: &str) -> anyhow::Result<()> {
    let params = json!({"notifications": {"toolsListChanged": true}});
    let mut connection = Connection::open(address)?;
    connection.send(&modern(path, "subscriptions/listen", None, params))?;
    let answer = connection.stream(true)?;
    ensure!(answer.status == 200, "status {}", answer.status);
    Ok(())
}

fn half_a_request(address: SocketAddr, path: &str, dice: &mut Dice) -> anyhow::Result<()> {
    let bytes = modern_tool(path, "echo", &json!({"text": "x"}));
    let mut connection = Connection::open(address)?;
    connection.send(bytes.get(..dice.below(bytes.len())).unwrap_or_default())?;
    part(connection, dice);
    Ok(())
}

pub(super) fn part(connection: Connection, dice: &mut Dice) {
    match dice.below(2) {
        0 => connection.leave(),
        _ => drop(connection),
    }
}

pub(super) fn pause(milliseconds: usize) {
    thread::sleep(Duration::from_millis(milliseconds as u64));
}

/// A legacy session.
pub(super) struct Session {
    address: SocketAddr,
    path: &'static str,
    id: String,
}

impl Session {
    pub(super) fn open(address: SocketAddr, path: &'static str) -> anyhow::Result<Self> {
        let params = json!({"protocolVersion": LEGACY, "capabilities": {},
            "clientInfo": {"name": "leak-check", "version": "0"}});
        let hello = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params});
        let answer = ask(address, &request("POST", path, &[], &hello.to_string()))?;
        let id = answer.session.with_context(|| {
            format!("no session: {} {}", answer.status, String::from_utf8_lossy(&answer.body))
        })?;
        let session = Self { address, path, id };
        let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        let accepted = ask(address, &session.bytes("POST", &ready.to_string()))?;
        ensure!(accepted.status == 202, "status {}", accepted.status);
        Ok(session)
    }

    fn bytes(&self, method: &str, body: &str) -> Vec<u8> {
        let headers = [("mcp-session-id", &*self.id), ("mcp-protocol-version", LEGACY)];
        request(method, self.path, &headers, body)
    }

    fn tool(&self, name: &str, arguments: &Value) -> Vec<u8> {
        let params = json!({"name": name, "arguments": arguments});
        let call = json!({"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": params});
        self.bytes("POST", &call.to_string())
    }

    pub(super) fn call(&mut self) -> anyhow::Result<()> {
        let answer = ask(self.address, &self.tool("echo", &json!({"text": "x"})))?;
        ensure!(answer.status == 200, "status {}", answer.status);
        Ok(())
    }

    /// A call that is not answered soon.
    pub(super) fn start_slow_call(&self) -> io::Result<Connection> {
        let (name, arguments) = slow(self.path);
        let mut connection = Connection::open(self.address)?;
        connection.send(&self.tool(name, &arguments))?;
        Ok(connection)
    }

    fn leave_mid_call(&self, dice: &mut Dice) -> anyhow::Result<()> {
        let connection = self.start_slow_call()?;
        pause(dice.below(20));
        part(connection, dice);
        Ok(())
    }

    /// The stream that a server may send to at any time.
    pub(super) fn listen(&self) -> anyhow::Result<Connection> {
        let mut connection = Connection::open(self.address)?;
        connection.send(&self.bytes("GET", ""))?;
        let answer = connection.stream(false)?;
        ensure!(answer.status == 200, "status {}", answer.status);
        Ok(connection)
    }

    fn listen_and_leave(&self) -> anyhow::Result<()> {
        self.listen().map(Connection::leave)
    }

    /// Kills the session's child in the middle of a call.
    fn kill_the_child(&self) -> anyhow::Result<()> {
        let child = pid_in(&ask(self.address, &self.tool("pid", &json!({})))?)?;
        let mut connection = self.start_slow_call()?;
        signal(child, Signal::KILL);
        answered_soon(&mut connection)
    }

    pub(super) fn end(self) -> anyhow::Result<()> {
        ask(self.address, &self.bytes("DELETE", ""))?;
        Ok(())
    }
}
