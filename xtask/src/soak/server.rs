//! A scripted MCP server over HTTP that breaks off whenever the dice say so and goes on wherever it
//! is asked to.
//!
//! On one address it cuts its streams, refuses those that come back for a while, and is restarted;
//! on the other one it is steady, and gives no event ids. What it says is in `script`, so both
//! survive.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

use super::books::Books;
use super::script::{Mistake, Script, place};
use super::stream::{Then, serve_stream};
use super::wire::{Head, Wire};
use crate::dice::Dice;

/// How long a connection of the server may rest.
const REST: Duration = Duration::from_secs(120);
/// How long others may still take a server that was restarted for the one from before, or for away.
const SETTLING: Duration = Duration::from_secs(10);

/// The server. Clones are the same one.
#[derive(Clone)]
pub(super) struct Web(Rc<Inner>);

pub(super) struct Inner {
    seed: u64,
    pub(super) books: Books,
    /// Whether streams are cut.
    pub(super) has_cuts: bool,
    /// Whether the streams that are named for a mistake have it.
    has_mistakes: bool,
    sessions: RefCell<HashMap<String, String>>,
    scripts: RefCell<HashMap<String, Rc<Script>>>,
    minted: Cell<u64>,
    /// Since when everything is to come to an end.
    pub(super) stopped: Cell<Option<Instant>>,
    pub(super) stopping: Notify,
    life: watch::Sender<Life>,
}

/// Which process this would be, if it was one.
#[derive(Clone, Copy, Debug)]
struct Life {
    number: u64,
    /// Whether it may listen.
    may_listen: bool,
    /// Since when it does.
    up: Option<Instant>,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// Cut and restarted.
    Web,
    /// Neither, and without event ids.
    Bare,
}

impl Web {
    pub(super) fn new(seed: u64, books: &Books, has_cuts: bool, has_mistakes: bool) -> Self {
        let life = Life { number: 1, may_listen: true, up: Some(Instant::now()) };
        let (life, _) = watch::channel(life);
        Self(Rc::new(Inner {
            seed,
            books: books.clone(),
            has_cuts,
            has_mistakes,
            sessions: RefCell::default(),
            scripts: RefCell::default(),
            minted: Cell::default(),
            stopped: Cell::default(),
            stopping: Notify::new(),
            life,
        }))
    }

    /// Listens at this door, in a task.
    pub(super) fn open(&self, door: Door) -> io::Result<SocketAddr> {
        let listener = listen("127.0.0.1:0".parse().map_err(io::Error::other)?)?;
        let address = listener.local_addr()?;
        let (inner, books) = (Rc::clone(&self.0), self.0.books.clone());
        spawn_local(async move {
            if let Err(error) = inner.accept(listener, address, door).await {
                books.finding(format!("the server of the soak itself failed: {error}"));
            }
        });
        Ok(address)
    }

    /// Ends the server as a crash would, and starts it again later.
    pub(super) async fn restart(&self, down: Duration) {
        self.0.books.count("restarts");
        let is_cut = |script: &&Rc<Script>| script.has_ids || script.session.is_none();
        for script in self.0.scripts.borrow().values().filter(is_cut) {
            script.cut.set(Some((Instant::now(), script.written.get(), "restart of the server")));
            script.was_cut.set(true);
        }
        self.0.life.send_modify(|life| {
            *life = Life { number: life.number + 1, may_listen: false, up: None };
        });
        sleep(down).await;
        self.0.life.send_modify(|life| life.may_listen = true);
    }

    /// Whether no restart can have disturbed what began then.
    pub(super) fn is_calm_since(&self, began: Instant) -> bool {
        self.0.life.borrow().up.is_some_and(|up| up + SETTLING <= began)
    }

    /// No more cuts, and all that is still to come comes now.
    pub(super) fn stop(&self) {
        self.0.stopped.set(Some(Instant::now()));
        self.0.stopping.notify_waiters();
    }

    pub(super) fn script(&self, name: &str) -> Option<Rc<Script>> {
        self.0.scripts.borrow().get(name).map(Rc::clone)
    }

    /// The number of the last event of a stream that has no answer.
    pub(super) fn total(&self, name: &str) -> Option<u64> {
        let stopped = self.0.stopped.get()?;
        self.script(name).map(|script| script.due(stopped, Some(stopped)))
    }

    /// Nobody will ask for it again.
    pub(super) fn forget(&self, name: &str) {
        let forgotten = self.0.scripts.borrow_mut().remove(name);
        drop(forgotten);
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(4096)
}

impl Inner {
    async fn accept(
        self: Rc<Self>,
        mut listener: TcpListener,
        address: SocketAddr,
        door: Door,
    ) -> io::Result<()> {
        let mut life = self.life.subscribe();
        let mut number = life.borrow().number;
        loop {
            let restarted = async {
                match door {
                    Door::Web => life.wait_for(|life| life.number != number).await.is_ok(),
                    Door::Bare => std::future::pending().await,
                }
            };
            tokio::select! {
                accepted = listener.accept() => {
                    let (stream, _) = accepted?;
                    let inner = Rc::clone(&self);
                    spawn_local(async move { inner.connection(stream, door).await });
                }
                _ = restarted => {
                    drop(listener);
                    life.wait_for(|life| life.may_listen).await.map_err(io::Error::other)?;
                    number = life.borrow().number;
                    listener = listen(address)?;
                    self.life.send_modify(|life| life.up = Some(Instant::now()));
                }
            }
        }
    }

    async fn connection(&self, stream: TcpStream, door: Door) {
        let mut life = self.life.subscribe();
        let number = life.borrow_and_update().number;
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let mut wire = Wire::new(stream);
        let restarted = async {
            match door {
                Door::Web => life.wait_for(|life| life.number != number).await.is_ok(),
                Door::Bare => std::future::pending().await,
            }
        };
        let then = tokio::select! {
            // First: what was cut says nothing more, however late it is.
            biased;
            // A killed process resets what it has not read, and closes the rest.
            _ = restarted => if number.is_multiple_of(2) { Then::Reset } else { Then::Close },
            then = self.exchanges(&mut wire, door) => then,
        };
        if then == Then::Reset {
            wire.reset();
        }
    }

    async fn exchanges(&self, wire: &mut Wire, door: Door) -> Then {
        loop {
            let Ok(Ok(Some(head))) = timeout(REST, wire.head()).await else { return Then::Close };
            let Ok(body) = wire.take(head.length()).await else { return Then::Close };
            let then = match head.word(0) {
                "POST" => self.post(wire, &head, &body, door).await,
                "GET" => self.get(wire, &head).await,
                _ => {
                    let session = head.field("mcp-session-id").unwrap_or_default();
                    self.sessions.borrow_mut().remove(session);
                    plain(wire, "200 OK", "", "").await
                }
            };
            if then != Then::KeepOn {
                return then;
            }
        }
    }

    async fn post(&self, wire: &mut Wire, head: &Head, body: &[u8], door: Door) -> Then {
        let Ok(message) = serde_json::from_slice::<Value>(body) else {
            return plain(wire, "400 Bad Request", "", "").await;
        };
        let text = |pointer: &str| message.pointer(pointer).and_then(Value::as_str);
        let session = head.field("mcp-session-id");
        let is_known = session.is_none_or(|id| self.sessions.borrow().contains_key(id));
        let Some(id) = message.get("id") else { return plain(wire, "202 Accepted", "", "").await };
        match text("/method") {
            _ if !is_known => {
                self.books
                    .finding("the server was asked in a session that it never had".to_owned());
                plain(wire, "404 Not Found", "", "").await
            }
            Some("initialize") => {
                self.minted.set(self.minted.get() + 1);
                let minted = format!("theirs-{}", self.minted.get());
                let name = text("/params/clientInfo/name").unwrap_or_default().to_owned();
                self.sessions.borrow_mut().insert(minted.clone(), name);
                let result = json!({"protocolVersion": text("/params/protocolVersion"),
                    "capabilities": {"tools": {}, "logging": {}},
                    "serverInfo": {"name": "soak", "version": "1"}});
                let answer = json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string();
                let header = format!("mcp-session-id: {minted}\r\n");
                plain(wire, "200 OK", &header, &answer).await
            }
            Some("tools/call") => {
                let script = self.begin(&message, id, session, door);
                serve_stream(self, wire, &script, 0).await
            }
            _ => {
                let answer = json!({"jsonrpc": "2.0", "id": id, "result": {}}).to_string();
                plain(wire, "200 OK", "", &answer).await
            }
        }
    }

    /// A call has come. A name that is there already is a call that came twice.
    fn begin(&self, message: &Value, id: &Value, session: Option<&str>, door: Door) -> Rc<Script> {
        let arguments = message.pointer("/params/arguments");
        let number = |name: &str| arguments.and_then(|all| all.get(name)).and_then(Value::as_u64);
        let name = arguments.and_then(|all| all.get("stream")).and_then(Value::as_str);
        let name = name.unwrap_or_default();
        let script = Script {
            every: Duration::from_millis(number("every_ms").unwrap_or(500)),
            count: number("count"),
            id: id.clone(),
            padding: number("padding").and_then(|size| usize::try_from(size).ok()).unwrap_or(0),
            has_ids: door == Door::Web && session.is_some(),
            ..self.script_of(name, session)
        };
        let script = Rc::new(script);
        let earlier = self.scripts.borrow_mut().insert(name.to_owned(), Rc::clone(&script));
        if earlier.is_some() {
            self.books.finding(format!("{name}: the server was called twice"));
        }
        script
    }

    fn script_of(&self, name: &str, session: Option<&str>) -> Script {
        let mut dice = Dice::of(self.seed, name);
        Script {
            name: name.to_owned(),
            session: session.map(str::to_owned),
            start: Instant::now(),
            every: Duration::from_millis(200 + dice.below(800) as u64),
            count: None,
            id: Value::Null,
            padding: 0,
            has_ids: true,
            dice: RefCell::new(dice),
            mistake: self.has_mistakes.then(|| mistake_of(name)).flatten(),
            turn: Cell::default(),
            bell: Notify::new(),
            cut: Cell::default(),
            was_cut: Cell::default(),
            was_left: Cell::default(),
            refusals: Cell::default(),
            written: Cell::default(),
        }
    }

    async fn get(&self, wire: &mut Wire, head: &Head) -> Then {
        let session = head.field("mcp-session-id").unwrap_or_default();
        let Some(client) = self.sessions.borrow().get(session).cloned() else {
            return plain(wire, "404 Not Found", "", "").await;
        };
        let (script, from) = match head.field("last-event-id") {
            Some(last) => {
                let found = place(last).and_then(|(name, number)| {
                    Some((Rc::clone(self.scripts.borrow().get(name)?), number))
                });
                let found = found.filter(|(script, _)| script.session.as_deref() == Some(session));
                let Some((script, number)) = found else {
                    self.books.finding(format!("{client}: asked for what follows on {last}"));
                    return plain(wire, "400 Bad Request", "", "").await;
                };
                let from = script.resumed_from(number);
                (script, from)
            }
            None => self.unasked(&client, session),
        };
        let refusals = script.refusals.get();
        if refusals > 0 && self.stopped.get().is_none() {
            script.refusals.set(refusals - 1);
            self.books.count("resumptions refused by the server");
            let kind = script.dice.borrow_mut().below(5);
            return match kind {
                0 => Then::Reset,
                1 => plain(wire, "503 Service Unavailable", "", "").await,
                2 => plain(wire, "409 Conflict", "", "").await,
                _ => plain(wire, "502 Bad Gateway", "", "").await,
            };
        }
        serve_stream(self, wire, &script, from).await
    }

    /// What the server says unasked: from the first event, or from now on if it was begun before.
    fn unasked(&self, client: &str, session: &str) -> (Rc<Script>, u64) {
        let mut scripts = self.scripts.borrow_mut();
        if let Some(script) = scripts.get(client) {
            return (Rc::clone(script), script.due(Instant::now(), self.stopped.get()));
        }
        let script = Rc::new(self.script_of(client, Some(session)));
        scripts.insert(client.to_owned(), Rc::clone(&script));
        (script, 0)
    }
}

/// Streams of the self-test are named for what is wrong with them.
fn mistake_of(name: &str) -> Option<Mistake> {
    Some(match name.split('.').next()? {
        "loses" => Mistake::Loses,
        "doubles" => Mistake::Doubles,
        "swaps" => Mistake::Swaps,
        "strays" => Mistake::Strays,
        "skips" => Mistake::Skips,
        "stops" => Mistake::Stops,
        _ => return None,
    })
}

async fn plain(wire: &mut Wire, status: &str, headers: &str, body: &str) -> Then {
    let length = body.len();
    let text = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{headers}\
         content-length: {length}\r\n\r\n{body}"
    );
    if wire.write(text.as_bytes()).await.is_ok() { Then::KeepOn } else { Then::Close }
}
