//! Everything at once, against the real program: sessions dropped at any point, processes that do
//! not want to end and have offspring that hides, `kill -9` on them and on the proxy itself. At the
//! end nothing may be left, neither in the process table nor in the proxy's own books.
//!
//! Processes are recognized by a mark in their environment, so it does not matter where they are
//! in the tree or whose child they have become. The only test of its process: it is a heavy one.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

use std::{collections::BTreeSet, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use tidegate_tests::{
    Binary, Dice, Mark, Metrics,
    client::{initialize, legacy, modern},
    http::{self, Connection, Response},
    mark, modern_headers,
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

const VERSION: &str = "2025-11-25";
const SESSIONS_BEFORE: usize = 1_000;
const SESSIONS_AFTER: usize = 1_000;
const CHILD_KILLS: usize = 200;
const PROXY_KILLS: usize = 20;
const CLIENTS: usize = 12;

/// What the children do when they should end; each has a route of its own.
const KINDS: [(&str, &str); 6] = [
    ("/plain", "sharing: session, min_idle: 1"),
    ("/stubborn", "sharing: session"),
    ("/forking", "sharing: session"),
    ("/hiding", "sharing: session"),
    ("/worst", "sharing: session"),
    ("/shared", "sharing: shared"),
];

fn options(path: &str) -> &'static [&'static str] {
    match path {
        "/stubborn" => &["--ignore-eof", "--ignore-term"],
        "/forking" => &["--fork", "--ignore-eof"],
        "/hiding" | "/shared" => &["--fork-setsid"],
        "/worst" => &["--fork-setsid", "--ignore-eof", "--ignore-term"],
        _ => &[],
    }
}

fn configuration(mark: &Mark, state: &Path) -> String {
    let program = tidegate_testkit::stdio_bin();
    let mut text = format!(
        "state_dir: {}\nlog: {{ level: error }}\n\
         timeouts: {{ session_idle: 1500ms, drain: 2s }}\nupstreams:\n",
        state.display()
    );
    for (path, sharing) in KINDS {
        // Children are killed here all the time; no server may count as down for it.
        let words = options(path).iter().map(ToString::to_string);
        let words: Vec<_> = [program.display().to_string()].into_iter().chain(words).collect();
        text.push_str(&format!(
            "  {}: {{ stdio: {{ command: {words:?}, {}, {sharing}, stop_grace: 100ms, \
             max_processes: 64, max_waiting: 64, acquire_timeout: 5s, \
             start_attempts: 1000 }} }}\n",
            &path[1..],
            mark.setting()
        ));
    }
    text.push_str("routes:\n");
    for (path, _) in KINDS {
        text.push_str(&format!("  - {{ match: {{ path: {path} }}, upstream: {} }}\n", &path[1..]));
    }
    text
}

/// What clients and killers know of the run.
struct Field {
    mark: Mark,
    /// Where the proxy is now; changes when it has been killed and started again.
    address: watch::Receiver<SocketAddr>,
    /// Sessions that have been dropped so far.
    dropped: watch::Sender<usize>,
}

impl Field {
    /// A connection to the proxy of the moment.
    async fn connect(&self) -> Connection {
        let connecting = timeout(Duration::from_secs(30), async {
            loop {
                let address = *self.address.borrow();
                match Connection::try_open(address).await {
                    Ok(connection) => return connection,
                    Err(_) => sleep(Duration::from_millis(5)).await,
                }
            }
        });
        connecting.await.expect("a proxy that listens")
    }

    /// Sends a request to the proxy of the moment. Without an answer the status is 0.
    async fn ask(&self, bytes: &[u8]) -> Response {
        let mut connection = self.connect().await;
        connection.send(bytes).await;
        connection.response().await
    }
}

/// A session as its client knows it.
struct Session<'a> {
    field: &'a Field,
    path: &'static str,
    id: String,
}

impl<'a> Session<'a> {
    /// `None` when the proxy or the child was killed meanwhile.
    async fn open(field: &'a Field, path: &'static str) -> Option<Self> {
        let hello = initialize(VERSION, r#"{"elicitation":{}}"#);
        let answer = field.ask(&http::post_to(path, &[], hello.as_bytes())).await;
        let id = answer.header("mcp-session-id")?.to_owned();
        Some(Self { field, path, id })
    }

    fn bytes(&self, body: &str) -> Vec<u8> {
        let headers = [("mcp-session-id", &*self.id), ("mcp-protocol-version", VERSION)];
        http::post_to(self.path, &headers, body.as_bytes())
    }

    fn tool(&self, name: &str, arguments: &str) -> Vec<u8> {
        let params = format!(r#"{{"name":"{name}","arguments":{arguments}}}"#);
        self.bytes(&legacy("7", "tools/call", &params))
    }

    async fn initialized(&self) -> Response {
        let ready = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        self.field.ask(&self.bytes(ready)).await
    }

    async fn listen(&self) -> Option<Connection> {
        let headers = [
            ("mcp-session-id", &*self.id),
            ("mcp-protocol-version", VERSION),
            ("accept", "text/event-stream"),
        ];
        let mut connection = self.field.connect().await;
        connection.send(&http::request("GET", self.path, &headers)).await;
        connection.head().await?;
        Some(connection)
    }

    async fn delete(&self) -> Response {
        let headers = [("mcp-session-id", &*self.id), ("mcp-protocol-version", VERSION)];
        self.field.ask(&http::request("DELETE", self.path, &headers)).await
    }
}

/// Opens one session and drops it somewhere on its way.
async fn session(field: &Field, dice: &mut Dice) -> Option<()> {
    let path = dice.pick(&KINDS).0;
    let hello = http::post_to(path, &[], initialize(VERSION, "{}").as_bytes());
    match dice.below(10) {
        // In the middle of the question, or before its answer.
        0 => {
            let mut connection = field.connect().await;
            connection.send(&hello[..dice.below(hello.len())]).await;
            part(connection, dice);
        }
        1 => {
            let mut connection = field.connect().await;
            connection.send(&hello).await;
            sleep(Duration::from_millis(dice.below(30) as u64)).await;
            part(connection, dice);
        }
        // After the answer, without another word.
        2 => drop(Session::open(field, path).await?),
        // In the middle of a call, which may end later, or never; with a farewell or without.
        kind @ 3..=5 => {
            let session = Session::open(field, path).await?;
            session.initialized().await;
            let mut connection = field.connect().await;
            let delay = format!(r#"{{"delay_ms":{},"progress":1}}"#, dice.below(300));
            let call = match kind {
                3 => session.tool("hang", "{}"),
                _ => session.tool("echo", &delay),
            };
            connection.send(&call).await;
            sleep(Duration::from_millis(dice.below(20) as u64)).await;
            part(connection, dice);
            if kind != 4 {
                session.delete().await;
            }
        }
        // While it listens.
        6 => {
            let session = Session::open(field, path).await?;
            session.initialized().await;
            part(session.listen().await?, dice);
            if dice.below(2) == 0 {
                session.delete().await;
            }
        }
        // With another grandchild, which hides and does not want to go.
        7 => {
            let session = Session::open(field, path).await?;
            session.initialized().await;
            let fork = session.tool("fork", r#"{"setsid":true,"ignore_term":true}"#);
            field.ask(&fork).await;
            session.delete().await;
        }
        // Used after its end.
        8 => {
            let session = Session::open(field, path).await?;
            session.delete().await;
            let late = field.ask(&session.tool("echo", "{}")).await;
            assert_ne!(late.status, 200, "an ended session answers: {}", late.text());
        }
        // As it should be.
        _ => {
            let session = Session::open(field, path).await?;
            session.initialized().await;
            for _ in 0..dice.below(4) {
                field.ask(&session.tool("echo", "{}")).await;
            }
            session.delete().await;
        }
    }
    if dice.below(4) == 0 {
        modern_caller(field, path, dice).await;
    }
    Some(())
}

/// A caller without a session, on the process that such callers share.
async fn modern_caller(field: &Field, path: &str, dice: &mut Dice) {
    let (name, headers, body) = match dice.below(3) {
        0 => {
            let filter = r#""notifications":{"toolsListChanged":true},"#;
            let headers = modern_headers("subscriptions/listen", None);
            ("listen", headers, modern("1", "subscriptions/listen", filter))
        }
        1 => {
            let headers = modern_headers("tools/call", Some("hang"));
            ("hang", headers, modern("1", "tools/call", r#""name":"hang","arguments":{},"#))
        }
        _ => {
            let headers = modern_headers("tools/call", Some("echo"));
            ("echo", headers, modern("1", "tools/call", r#""name":"echo","arguments":{},"#))
        }
    };
    let request = http::post_to(path, &headers, body.as_bytes());
    if name == "echo" {
        field.ask(&request).await;
    } else {
        let mut connection = field.connect().await;
        connection.send(&request).await;
        sleep(Duration::from_millis(dice.below(20) as u64)).await;
        part(connection, dice);
    }
}

/// Leaves, politely or not.
fn part(connection: Connection, dice: &mut Dice) {
    match dice.below(2) {
        0 => drop(connection),
        _ => connection.reset(),
    }
}

/// Drops sessions from several clients at a time until so many have been dropped, and kills so many
/// children meanwhile.
async fn drop_sessions(field: &Arc<Field>, count: usize, kills: usize, dice: &mut Dice) {
    let already = *field.dropped.borrow();
    let strikes = Arc::new(moments(kills, count, dice));
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let (field, strikes, mut dice) = (Arc::clone(field), Arc::clone(&strikes), dice.fork());
        clients.spawn(async move {
            for number in (client..count).step_by(CLIENTS) {
                if strikes.contains(&number) {
                    kill_a_child(&field, &mut dice).await;
                }
                // What was cut short by a kill counts: that is how it was dropped.
                let dropped = timeout(Duration::from_secs(60), session(&field, &mut dice));
                let _: Option<()> = dropped.await.expect("nobody waits for ever");
                field.dropped.send_modify(|dropped| *dropped += 1);
            }
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    assert_eq!(*field.dropped.borrow(), already + count);
}

/// When to strike: so many different numbers below `sessions`.
fn moments(count: usize, sessions: usize, dice: &mut Dice) -> BTreeSet<usize> {
    let mut moments = BTreeSet::new();
    while moments.len() < count {
        moments.insert(dice.below(sessions));
    }
    moments
}

/// Kills a child of anybody's, while a session makes sure that there is one.
async fn kill_a_child(field: &Field, dice: &mut Dice) {
    let struck = timeout(Duration::from_secs(60), async {
        loop {
            let held = Session::open(field, "/plain").await;
            let victims: Vec<u32> = field.mark.pids_of("testkit-stdio").into_iter().collect();
            // The proxy may have been killed just now, and a victim may end by itself.
            let is_struck = !victims.is_empty() && mark::kill(*dice.pick(&victims)).await;
            if let Some(held) = held {
                held.delete().await;
            }
            if is_struck {
                return;
            }
        }
    });
    struck.await.expect("somebody to kill");
}

/// Waits until the proxy's books say that nothing is under way.
async fn idle(ops: SocketAddr) {
    let at_rest = timeout(Duration::from_secs(20), async {
        while !Metrics::scrape(ops).await.busy().is_empty() {
            sleep(Duration::from_millis(20)).await;
        }
    });
    let is_at_rest = at_rest.await.is_ok();
    assert!(is_at_rest, "still under way: {:#?}", Metrics::scrape(ops).await.busy());
}

/// Each kind of route and caller once, so that what is kept for later is there.
async fn use_everything(field: &Field) {
    for (path, _) in KINDS {
        let session = Session::open(field, path).await.expect("a session");
        session.initialized().await;
        let answer = field.ask(&session.tool("echo", "{}")).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        assert_eq!(session.delete().await.status, 200, "{path}");
        let headers = modern_headers("tools/call", Some("echo"));
        let body = modern("1", "tools/call", r#""name":"echo","arguments":{},"#);
        let answer = field.ask(&http::post_to(path, &headers, body.as_bytes())).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
}

async fn until_ended(pids: &BTreeSet<u32>, mark: &Mark, what: &str) {
    let ended = timeout(Duration::from_secs(15), async {
        while !mark.pids().is_disjoint(pids) {
            sleep(Duration::from_millis(10)).await;
        }
    });
    let all_ended = ended.await.is_ok();
    let left: Vec<_> = mark.pids().intersection(pids).copied().map(mark::describe).collect();
    assert!(all_ended, "{what}: {} processes live on: {left:#?}", left.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_survives_sessions_dropped_anywhere_and_kills_of_children_and_of_the_proxy() {
    let mut dice = Dice::new();
    let state = tempfile::tempdir().unwrap();
    let mark = Mark::new();
    let text = configuration(&mark, state.path());
    let mut proxy = Binary::serve(&text).await.keep_log();
    let (moved, address) = watch::channel(proxy.address());
    let field = Arc::new(Field { mark: mark.clone(), address, dropped: watch::channel(0).0 });

    // First the proxy is killed too, each time in the middle of everything.
    let strikes = moments(PROXY_KILLS, SESSIONS_BEFORE, &mut dice);
    let mut progress = field.dropped.subscribe();
    let mut sessions = JoinSet::new();
    let (shared, mut forked) = (Arc::clone(&field), dice.fork());
    sessions.spawn(async move {
        drop_sessions(&shared, SESSIONS_BEFORE, CHILD_KILLS / 2, &mut forked).await;
    });
    let mut before = BTreeSet::new();
    for strike in strikes {
        progress.wait_for(|dropped| *dropped >= strike).await.unwrap();
        proxy.signal("KILL").await;
        before.append(&mut mark.pids());
        proxy.exit().await;
        proxy = Binary::serve(&text).await.keep_log();
        moved.send_replace(proxy.address());
    }
    sessions.join_next().await.unwrap().unwrap();
    until_ended(&before, &mark, "of proxies that were killed").await;

    // Then one proxy goes through the rest, and has to be afterwards what it was before.
    use_everything(&field).await;
    idle(proxy.ops()).await;
    let files = mark::open_files(proxy.pid());
    drop_sessions(&field, SESSIONS_AFTER, CHILD_KILLS / 2, &mut dice).await;

    idle(proxy.ops()).await;
    use_everything(&field).await;
    idle(proxy.ops()).await;
    let closed = timeout(Duration::from_secs(10), async {
        while mark::open_files(proxy.pid()) > files || !mark::zombies_of(proxy.pid()).is_empty() {
            sleep(Duration::from_millis(20)).await;
        }
    });
    let is_closed = closed.await.is_ok();
    let (now, zombies) = (mark::open_files(proxy.pid()), mark::zombies_of(proxy.pid()));
    assert!(is_closed, "{now} open files, {files} before; zombies {zombies:?}");

    proxy.signal("TERM").await;
    assert!(proxy.exit().await.success());
    mark.until(0, "after the stop").await;
}
