//! Who is there: sessions with their streams, and modern callers without a session.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::books::Books;
use super::follow::{End, Follower, Goal};
use super::modern;
use super::reader::{LEGACY, Opened, call, in_session, listen, open, request};
use super::server::Web;
use crate::dice::Dice;

/// How long the server of a run may be away when a session begins.
const PATIENCE: Duration = Duration::from_secs(90);
/// Until then a reader that its proxy has not noticed may still want something.
const AFTERLIFE: Duration = Duration::from_secs(30);
/// Events that a child process says unasked in one go.
const TOLD: u64 = 30;

/// What all clients share.
pub(super) struct Run {
    pub(super) seed: u64,
    pub(super) address: SocketAddr,
    pub(super) web: Web,
    pub(super) books: Books,
    /// Whether clients leave before the end.
    pub(super) has_cuts: bool,
    pub(super) stopping: Cell<bool>,
    pub(super) live: Cell<usize>,
}

/// What a client does with its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Visit {
    /// Where, which says what stands behind it and who keeps the log.
    pub(super) path: &'static str,
    /// Whether it listens to what the server says unasked.
    pub(super) listens: bool,
    /// How many calls it makes at a time.
    pub(super) calls: usize,
    /// Whether all that belongs to a stream is read from a modern server.
    pub(super) is_modern: bool,
}

/// Streams of one session.
const TOGETHER: usize = 5;
/// Sessions that have a process of their own, at most: each costs memory that is not the proxy's.
const PROCESSES: usize = 48;

/// Who has these streams. In parts of a hundred, about: 13 modern calls, 10 of child processes, 10
/// before a server without event ids, 25 with the proxy's log, and the rest with the server's.
pub(super) fn visits(streams: usize) -> Vec<Visit> {
    let mut visits = Vec::new();
    let part = |share: usize| (streams * share).div_ceil(100);
    let mut add = |path, listens: bool, calls: usize, count: usize, is_modern| {
        let visit = Visit { path, listens, calls, is_modern };
        visits.extend(std::iter::repeat_n(visit, count));
        count * (usize::from(listens) + calls)
    };
    let mut left = streams;
    left = left.saturating_sub(add("/web", false, 1, part(13), true));
    let processes = part(4).clamp(2, PROCESSES);
    left = left.saturating_sub(add("/own", false, TOGETHER - 1, processes.div_ceil(2), false));
    left = left.saturating_sub(add("/own", true, 0, processes / 2, false));
    left = left.saturating_sub(add("/bare", false, TOGETHER, part(10).div_ceil(TOGETHER), false));
    left =
        left.saturating_sub(add("/kept", true, TOGETHER - 1, part(25).div_ceil(TOGETHER), false));
    left -= add("/web", true, TOGETHER - 1, left / TOGETHER, false);
    add("/web", true, left.saturating_sub(1), usize::from(left > 0), false);
    visits
}

impl Run {
    /// The same place, for somebody with other habits.
    pub(super) fn alike(&self) -> Self {
        let (web, books) = (self.web.clone(), self.books.clone());
        let (seed, address, has_cuts) = (self.seed, self.address, self.has_cuts);
        let (stopping, live) = (Cell::new(false), Cell::new(0));
        Self { seed, address, web, books, has_cuts, stopping, live }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    /// Lives through one visit.
    pub(super) async fn visit(self: Rc<Self>, number: usize, visit: Visit) {
        let name = format!("c{number}");
        if visit.is_modern {
            return modern::calls(&self, visit.path, &name).await;
        }
        let Some(session) = self.begin(visit.path, &name).await else { return };
        let mut streams = JoinSet::new();
        if visit.listens {
            let (run, session, name) = (Rc::clone(&self), session.clone(), name.clone());
            streams.spawn_local(async move { run.listen(visit.path, &session, &name).await });
        }
        for slot in 0..visit.calls {
            let (run, session) = (Rc::clone(&self), session.clone());
            let name = format!("{name}.{slot}");
            streams.spawn_local(async move {
                let mut round = 0;
                while !run.is_stopping() {
                    round += 1;
                    run.live.set(run.live.get() + 1);
                    let name = format!("{name}.{round}");
                    run.call(visit.path, &session, &name).await;
                    run.live.set(run.live.get() - 1);
                }
            });
        }
        while let Some(done) = streams.join_next().await {
            if let Err(error) = done {
                self.books.finding(format!("{name}: the client itself failed: {error}"));
            }
        }
        let end = in_session("DELETE", visit.path, &session, None);
        // The proxy may have ended it already, which the books of the proxy tell.
        open(self.address, &end, None).await.ok();
    }

    /// Opens a session.
    pub(super) async fn begin(&self, path: &str, name: &str) -> Option<String> {
        let params = json!({"protocolVersion": LEGACY, "capabilities": {},
            "clientInfo": {"name": name, "version": "0"}});
        let hello = json!({"jsonrpc": "2.0", "id": "hello", "method": "initialize",
            "params": params});
        let hello = request("POST", path, &[], Some(&hello));
        let began = Instant::now();
        loop {
            let what = match open(self.address, &hello, None).await {
                Ok(Opened::Other(200, body)) if body.get("session").is_some() => {
                    let session = body.get("session")?.as_str()?.to_owned();
                    let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
                    let ready = in_session("POST", path, &session, Some(&ready));
                    match open(self.address, &ready, None).await {
                        Ok(Opened::Other(202, _)) => return Some(session),
                        Ok(Opened::Other(status, body)) => format!("{status} {body}"),
                        _ => "no answer to the second message".to_owned(),
                    }
                }
                Ok(Opened::Other(status, body)) => format!("{status} {body}"),
                Ok(Opened::Stream(_)) => "a stream".to_owned(),
                Err(error) => error.to_string(),
            };
            if began.elapsed() > PATIENCE {
                self.books.finding(format!("{name}: no session at {path}: {what}"));
                return None;
            }
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// One call, from its request to its answer.
    pub(super) async fn call(self: &Rc<Self>, path: &'static str, session: &str, name: &str) {
        let mut dice = Dice::of(self.seed.wrapping_add(1), name);
        let began = Instant::now();
        // A child process cannot be told to hurry at the end.
        let (events, pause) = if path == "/own" { (20, 500) } else { (60, 800) };
        let count = 20 + dice.below(events) as u64;
        let every = 200 + dice.below(pause) as u64;
        let padding = if dice.below(8) == 0 { 4_000 } else { 40 + dice.below(200) };
        let arguments =
            json!({"stream": name, "count": count, "every_ms": every, "padding": padding});
        let id = Value::from(name);
        let request = in_session("POST", path, session, Some(&call(&id, "count", &arguments)));
        let goal = Goal::Answer(id);
        let mut follower = Follower::new(self, path, session, name, goal);
        let first = open(self.address, &request, None).await;
        let end = follower.follow(first).await;
        let total = match end {
            End::Whole => {
                self.books.count("calls answered");
                Some(count + 1)
            }
            End::Told(what) => {
                // A server that was restarted may have lost the request with its connection, and
                // then nobody can come back for the answer.
                let is_restarted = path == "/web" || path == "/kept";
                if is_restarted && !self.web.is_calm_since(began) {
                    self.books.count("calls told that the server was restarted");
                } else {
                    self.books.finding(format!("{path} {name} failed: {what}"));
                }
                self.pause(&mut dice, 1_000).await;
                None
            }
            // What was not read is lost, or the finding would be only about its end.
            End::GivenUp => Some(count + 1),
        };
        self.books.judged(name, follower.transcript.close(total));
        let (web, name) = (self.web.clone(), name.to_owned());
        tokio::task::spawn_local(async move {
            sleep(AFTERLIFE).await;
            web.forget(&name);
        });
    }

    pub(super) async fn pause(&self, dice: &mut Dice, most: usize) {
        sleep(Duration::from_millis(dice.below(most) as u64)).await;
    }

    /// What a server says unasked, until the end of the run.
    async fn listen(self: Rc<Self>, path: &'static str, session: &str, name: &str) {
        self.live.set(self.live.get() + 1);
        let heard = Rc::new(Cell::new(0));
        let (goal, telling): (Goal, Option<JoinSet<()>>) = if path == "/own" {
            let (total, mut telling) = (Rc::new(Cell::new(None)), JoinSet::new());
            let (run, heard, end) = (Rc::clone(&self), Rc::clone(&heard), Rc::clone(&total));
            let (session, name) = (session.to_owned(), name.to_owned());
            telling.spawn_local(async move {
                end.set(Some(run.have_told(path, &session, &name, &heard).await));
            });
            (Goal::Total(Box::new(move || total.get())), Some(telling))
        } else {
            let (web, name) = (self.web.clone(), name.to_owned());
            (Goal::Total(Box::new(move || web.total(&name))), None)
        };
        let first = open(self.address, &listen(path, session, None), None).await;
        let mut follower = Follower::new(&self, path, session, name, goal);
        follower.heard = Some(heard);
        let end = follower.follow(first).await;
        let total = match &follower.goal {
            Goal::Total(total) => total(),
            Goal::Answer(_) => None,
        };
        if let End::Told(what) = end {
            self.books.finding(format!("{path} {name} failed: {what}"));
        }
        self.books.judged(name, follower.transcript.close(total));
        drop(telling);
        self.live.set(self.live.get() - 1);
    }

    /// Has a child process say things unasked, again and again; returns how many they were.
    async fn have_told(&self, path: &str, session: &str, name: &str, heard: &Cell<u64>) -> u64 {
        let mut dice = Dice::of(self.seed.wrapping_add(2), name);
        let mut told = 0;
        while !self.is_stopping() {
            let every = 100 + dice.below(400) as u64;
            let arguments = json!({"stream": name, "from": told, "count": TOLD, "every_ms": every});
            let id = Value::from(format!("tell {told}"));
            let request = in_session("POST", path, session, Some(&call(&id, "tell", &arguments)));
            match open(self.address, &request, None).await {
                Ok(Opened::Other(200, body)) if body.get("result").is_some() => told += TOLD,
                Ok(Opened::Other(status, body)) => {
                    self.books.finding(format!("{name}: a call failed: {status} {body}"));
                }
                Ok(Opened::Stream(_)) => {
                    self.books.finding(format!("{name}: a quick answer is a stream"));
                }
                Err(error) => self.books.finding(format!("{name}: a call failed: {error}")),
            }
            while heard.get() < told && !self.is_stopping() {
                sleep(Duration::from_millis(100)).await;
            }
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::{PROCESSES, visits};

    #[test]
    fn all_streams_have_a_reader_and_every_way_is_gone() {
        for streams in [20, 60, 199, 300, 1_000, 5_000] {
            let visits = visits(streams);
            let count = |path: &str| -> usize {
                let there = visits.iter().filter(|visit| visit.path == path);
                there.map(|visit| usize::from(visit.listens) + visit.calls).sum()
            };
            let counts = ["/web", "/kept", "/bare", "/own"].map(count);
            assert_eq!(counts.iter().sum::<usize>(), streams, "{counts:?}");
            assert!(counts.iter().all(|count| *count > 0), "{streams}: {counts:?}");
            let processes = visits.iter().filter(|visit| visit.path == "/own").count();
            assert!(processes <= PROCESSES);
        }
    }
}
