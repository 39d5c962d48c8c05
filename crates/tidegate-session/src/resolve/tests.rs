//! Sessions from the outside: calls go in, replies come out, the store counts.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderValue, StatusCode};
use tidegate_protocol::{Envelope, Era, Version, header::MCP_SESSION_ID};
use tidegate_service::{
    Body, Call, Cx, Error, EventStream, Frame, Kind, Operation, Origin, Reply, Retry, Upstream,
};
use tokio::time::{self, Instant};
use tower::{Layer as _, ServiceExt as _, service_fn};

use crate::{ResolveLayer, Store, StoreParams};

const INITIALIZED: &str =
    r#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-06-18","capabilities":{}}}"#;

/// What the upstream of a test does and has seen.
#[derive(Clone, Default)]
struct Fake {
    keeps_no_session: bool,
    refuses_to_initialize: bool,
    streams: bool,
    forgets: bool,
    /// Says by an error, instead of a status, that it has forgotten.
    fails_to_know: bool,
    /// Does not answer when a session ends.
    ignores_the_end: bool,
    seen: Arc<Mutex<Vec<&'static str>>>,
}

impl Fake {
    fn route(&self, store: &Store, name: &str) -> Upstream {
        let fake = self.clone();
        let upstream = service_fn(move |call: Call| {
            let is_call =
                call.envelope().is_some_and(|it| it.method().as_deref() != Some("initialize"));
            let answer = if fake.fails_to_know && is_call {
                Err(Error::new(Kind::SessionUnknown, Origin::Upstream, Retry::Never, "gone"))
            } else {
                Ok(fake.answer(&call))
            };
            let hangs = fake.ignores_the_end && matches!(call.operation, Operation::EndSession);
            async move {
                if hangs {
                    std::future::pending::<()>().await;
                }
                answer
            }
        });
        Upstream::new(ResolveLayer::new(store, name).layer(Upstream::new(upstream)))
    }

    fn answer(&self, call: &Call) -> Reply {
        let note = |what| self.seen.lock().unwrap().push(what);
        match &call.operation {
            Operation::EndSession => {
                note("end");
                Reply::accepted()
            }
            Operation::Listen { .. } => {
                note("listen");
                Reply::stream(EventStream::new(stream::pending()))
            }
            Operation::Send(envelope) if envelope.method().as_deref() == Some("initialize") => {
                note("initialize");
                self.initialized(call)
            }
            Operation::Send(_) if self.forgets => Reply::with(StatusCode::NOT_FOUND, Body::Empty),
            Operation::Send(_) => {
                note(if call.cx.session.is_some() { "call" } else { "bare call" });
                Reply::accepted()
            }
        }
    }

    fn initialized(&self, call: &Call) -> Reply {
        if !self.keeps_no_session {
            assert!(call.cx.session.as_ref().unwrap().bind(Arc::new(())));
        }
        let answer = if self.refuses_to_initialize {
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"no"}}"#
        } else {
            INITIALIZED
        };
        if !self.streams {
            return Reply::one(message(answer));
        }
        let log = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{}}"#;
        let frames = [log, answer].map(|text| Ok(Frame::Message(message(text))));
        Reply::stream(EventStream::new(stream::iter(frames)))
    }
}

fn store() -> Store {
    Store::new(StoreParams { max_sessions: 2, idle: Duration::from_secs(60) })
}

fn message(text: &str) -> Envelope {
    Envelope::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

fn request(method: &str) -> Operation {
    Operation::Send(message(&format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}"}}"#)))
}

async fn send(route: &Upstream, operation: Operation, id: Option<&str>) -> Result<Reply, Error> {
    let mut cx = Cx::new(Era::Legacy);
    if let Some(id) = id {
        cx.headers.insert(MCP_SESSION_ID, HeaderValue::from_str(id).unwrap());
    }
    route.clone().oneshot(Call { operation, cx }).await
}

async fn open(route: &Upstream) -> String {
    let reply = send(route, request("initialize"), None).await.unwrap();
    reply.headers.get(MCP_SESSION_ID).unwrap().to_str().unwrap().to_owned()
}

fn kind(result: Result<Reply, Error>) -> Kind {
    result.expect_err("refused").kind
}

#[tokio::test(start_paused = true)]
async fn a_session_lives_from_initialize_to_delete() {
    let (store, fake) = (store(), Fake::default());
    let route = fake.route(&store, "/mcp");
    let id = open(&route).await;
    send(&route, request("ping"), Some(&id)).await.unwrap();
    assert_eq!(store.stats().open, 1);
    let deleted = send(&route, Operation::EndSession, Some(&id)).await.unwrap();
    assert_eq!(deleted.status, StatusCode::OK);
    assert_eq!(kind(send(&route, request("ping"), Some(&id)).await), Kind::SessionUnknown);
    assert_eq!(kind(send(&route, Operation::EndSession, Some(&id)).await), Kind::SessionUnknown);
    assert_eq!(*fake.seen.lock().unwrap(), ["initialize", "call", "end"]);
    assert_eq!((store.stats().open, store.stats().ended_by_client), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn ids_nobody_was_given_and_ids_of_another_route_are_unknown() {
    let store = store();
    let (here, there) = (Fake::default(), Fake::default());
    let (here, there) = (here.route(&store, "/a"), there.route(&store, "/b"));
    let id = open(&here).await;
    for stolen in [&*id, "0123456789abcdef0123456789abcdef", ""] {
        assert_eq!(kind(send(&there, request("ping"), Some(stolen)).await), Kind::SessionUnknown);
    }
    send(&here, request("ping"), Some(&id)).await.expect("its own route knows it");
}

#[tokio::test(start_paused = true)]
async fn an_upstream_without_sessions_gets_calls_without_one() {
    let (store, fake) = (store(), Fake { keeps_no_session: true, ..Fake::default() });
    let route = fake.route(&store, "/mcp");
    let reply = send(&route, request("initialize"), None).await.unwrap();
    assert!(!reply.headers.contains_key(MCP_SESSION_ID));
    send(&route, request("ping"), None).await.unwrap();
    assert_eq!(kind(send(&route, Operation::EndSession, None).await), Kind::SessionMissing);
    assert_eq!(*fake.seen.lock().unwrap(), ["initialize", "bare call"]);
    assert_eq!(store.stats().created, 0);
}

#[tokio::test(start_paused = true)]
async fn a_refused_initialize_opens_nothing() {
    let (store, fake) = (store(), Fake { refuses_to_initialize: true, ..Fake::default() });
    let route = fake.route(&store, "/mcp");
    for _ in 0..5 {
        let reply = send(&route, request("initialize"), None).await.unwrap();
        assert!(!reply.headers.contains_key(MCP_SESSION_ID));
    }
    assert_eq!(store.stats().created, 0, "and no place is kept");
}

#[tokio::test(start_paused = true)]
async fn a_streamed_answer_to_initialize_opens_a_session_and_loses_no_frame() {
    let (store, fake) = (store(), Fake { streams: true, ..Fake::default() });
    let route = fake.route(&store, "/mcp");
    let reply = send(&route, request("initialize"), None).await.unwrap();
    assert!(reply.headers.contains_key(MCP_SESSION_ID));
    let Body::Stream(frames) = reply.body else { panic!("expected a stream") };
    assert_eq!(frames.count().await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_full_store_refuses_and_a_place_comes_back() {
    let store = store();
    let route = Fake::default().route(&store, "/mcp");
    let first = open(&route).await;
    open(&route).await;
    assert_eq!(kind(send(&route, request("initialize"), None).await), Kind::Overloaded);
    send(&route, Operation::EndSession, Some(&first)).await.unwrap();
    open(&route).await;
    assert_eq!((store.stats().open, store.stats().refused), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn idle_sessions_end_and_those_in_use_do_not() {
    let (store, fake) = (store(), Fake::default());
    let route = fake.route(&store, "/mcp");
    let (idle, busy) = (open(&route).await, open(&route).await);
    let stream = send(&route, Operation::Listen { last_event_id: None }, Some(&busy)).await;
    time::advance(Duration::from_secs(59)).await;
    assert_eq!(store.sweep(Instant::now()).await, 0);
    time::advance(Duration::from_secs(2)).await;
    assert_eq!(store.sweep(Instant::now()).await, 1);
    assert_eq!(kind(send(&route, request("ping"), Some(&idle)).await), Kind::SessionUnknown);
    send(&route, request("ping"), Some(&busy)).await.expect("its stream is open");
    time::advance(Duration::from_secs(61)).await;
    assert_eq!(store.sweep(Instant::now()).await, 0);
    time::advance(Duration::from_secs(1)).await;
    drop(stream);
    assert_eq!(store.sweep(Instant::now()).await, 0, "it was in use a moment ago");
    time::advance(Duration::from_secs(61)).await;
    assert_eq!(store.sweep(Instant::now()).await, 1);
    assert_eq!((store.stats().open, store.stats().ended_idle), (0, 2));
    let seen = fake.seen.lock().unwrap();
    assert_eq!(seen.iter().filter(|each| **each == "end").count(), 2, "upstreams are told");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_session_closes_its_streams() {
    let store = store();
    let route = Fake::default().route(&store, "/mcp");
    let id = open(&route).await;
    let listen = send(&route, Operation::Listen { last_event_id: None }, Some(&id)).await.unwrap();
    let Body::Stream(mut frames) = listen.body else { panic!("expected a stream") };
    store.end_all().await;
    assert!(frames.next().await.is_none());
    drop(frames);
    assert_eq!((store.stats().open, store.stats().ended_by_shutdown), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_holds_up_neither_a_stop_nor_the_end_of_other_sessions() {
    for is_stop in [true, false] {
        let store = store();
        let hanging = Fake { ignores_the_end: true, ..Fake::default() };
        let stuck = open(&hanging.route(&store, "/mcp")).await;
        time::advance(Duration::from_secs(61)).await;
        let began = Instant::now();
        let ending = async {
            match is_stop {
                true => store.end_all().await,
                false => assert_eq!(store.sweep(Instant::now()).await, 1),
            }
        };
        time::timeout(Duration::from_secs(600), ending).await.expect("the wait has a bound");
        assert!(began.elapsed() <= Duration::from_secs(5), "{:?}", began.elapsed());
        assert_eq!(store.stats().open, 0);
        assert_eq!(*hanging.seen.lock().unwrap(), ["initialize", "end"], "{stuck} was told");
    }
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_forgot_the_session_ends_it_here_too() {
    for fails_to_know in [false, true] {
        let (store, fake) = (store(), Fake { forgets: true, fails_to_know, ..Fake::default() });
        let route = fake.route(&store, "/mcp");
        let id = open(&route).await;
        match send(&route, request("ping"), Some(&id)).await {
            Ok(reply) => assert_eq!(reply.status, StatusCode::NOT_FOUND),
            Err(error) => assert_eq!(error.kind, Kind::SessionUnknown),
        }
        assert_eq!((store.stats().open, store.stats().ended_by_upstream), (0, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn batches_belong_to_one_version() {
    let store = store();
    let route = Fake::default().route(&store, "/mcp");
    let id = open(&route).await;
    let mut cx = Cx::new(Era::Legacy);
    cx.batched = true;
    cx.headers.insert(MCP_SESSION_ID, HeaderValue::from_str(&id).unwrap());
    let call = Call { operation: request("ping"), cx };
    assert_eq!(kind(route.clone().oneshot(call.clone()).await), Kind::BadRequest);
    let mut bare = call;
    bare.cx.headers.clear();
    bare.cx.version = Some(Version::V2025_03_26);
    route.oneshot(bare).await.expect("2025-03-26 has them");
}

#[tokio::test(start_paused = true)]
async fn a_modern_call_has_no_session_whatever_its_headers_say() {
    let (store, fake) = (store(), Fake::default());
    let route = fake.route(&store, "/mcp");
    let mut cx = Cx::new(Era::Modern);
    cx.headers.insert(MCP_SESSION_ID, HeaderValue::from_static("anything"));
    route.oneshot(Call { operation: request("tools/list"), cx }).await.unwrap();
    assert_eq!(*fake.seen.lock().unwrap(), ["bare call"]);
}
