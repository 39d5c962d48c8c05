//! Exchanges against a process that the test plays, on a paused clock.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _};
use serde_json::{Value, json};
use tidegate_process::Spawner;
use tidegate_protocol::{Bytes, Envelope, Era, Id};
use tidegate_service::{Body, Error, Kind, Reply, Retry, Tasks, Timeouts};
use tokio::time::{self, Instant};

use super::{Caller, Exchange, Patience};
use crate::{
    child::{Child, Death, Refused, State},
    demux::{Mode, Owner},
    host::{Host, Ordinal},
    params::Params,
    stats::Counters,
};

const SILENCE: Duration = Duration::from_secs(300);

/// A process without a process: what would go to its stdin is read by the test, which answers.
#[derive(Clone)]
struct Stage {
    child: Arc<Child>,
    counters: Arc<Counters>,
    era: Era,
}

impl Stage {
    fn new(era: Era, max_in_flight: usize) -> Self {
        let params = Params {
            max_line: 1 << 20,
            max_in_flight,
            timeouts: Timeouts {
                request: Some(SILENCE),
                idle: Some(SILENCE),
                ..Timeouts::default()
            },
            ..Params::new("stage", Vec::new())
        };
        let mode = if era == Era::Legacy { Mode::Session } else { Mode::Modern };
        let host = Arc::new(Host::new(params, Spawner::new(), Tasks::default()));
        let counters = Arc::clone(&host.counters);
        let child = Child::new(host, mode, Ordinal::default(), 0);
        Self { child: Arc::new(child), counters, era }
    }

    fn call(
        &self,
        deadline: Option<Instant>,
    ) -> impl Future<Output = Result<Reply, Error>> + use<> {
        let request = json!({"jsonrpc": "2.0", "id": "c", "method": "tools/call",
            "params": {"_meta": {"progressToken": "t"}}});
        self.send(&request, deadline)
    }

    fn send(
        &self,
        request: &Value,
        deadline: Option<Instant>,
    ) -> impl Future<Output = Result<Reply, Error>> + use<> {
        self.send_with(request, Patience::with_silence(SILENCE, deadline))
    }

    fn send_with(
        &self,
        request: &Value,
        patience: Patience,
    ) -> impl Future<Output = Result<Reply, Error>> + use<> {
        let request = Envelope::parse(Bytes::from(request.to_string())).unwrap();
        let Self { child, era, .. } = self.clone();
        async move {
            let id = request.id().unwrap();
            let caller = Caller { id, owner: Owner::default(), era, counts: true, slow: None };
            let exchange = Exchange::start(child, &request, caller, patience).await;
            exchange.unwrap().reply().await
        }
    }

    /// What the process would read.
    fn reads(&self) -> Vec<Value> {
        let taken = self.child.look(|state| {
            let chunks: Vec<_> = std::iter::from_fn(|| state.queue.take()).collect();
            chunks.concat()
        });
        self.child.made_room();
        let lines = taken.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
    }

    fn says(&self, message: &Value) {
        let message = Envelope::parse(Bytes::from(message.to_string())).unwrap();
        self.child.change(|state, fx| state.demux.receive(message, Instant::now(), fx));
    }

    fn in_flight(&self) -> usize {
        self.counters.snapshot().in_flight
    }
}

fn progress(token: impl Into<Value>) -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/progress",
        "params": {"progressToken": token.into(), "progress": 1}})
}

#[tokio::test(start_paused = true)]
async fn silence_ends_a_call_at_its_time_and_the_process_is_told() {
    for era in [Era::Legacy, Era::Modern] {
        let stage = Stage::new(era, 8);
        let start = Instant::now();
        let error = stage.call(None).await.expect_err("nobody answers");
        assert_eq!(start.elapsed(), SILENCE);
        assert_eq!(error.message(), "waited 300 s for the server process to answer");
        assert_eq!((error.kind, error.retry), (Kind::Timeout, Retry::Never));
        let lines = stage.reads();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[1]["method"], "notifications/cancelled");
        assert_eq!(lines[1]["params"]["requestId"], lines[0]["id"]);
        assert_eq!(stage.in_flight(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_is_never_cancelled() {
    let stage = Stage::new(Era::Legacy, 8);
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}});
    stage.send(&hello, None).await.expect_err("nobody answers");
    assert_eq!(stage.reads().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_earlier_deadline_counts_and_progress_does_not_move_it() {
    let stage = Stage::new(Era::Modern, 8);
    let start = Instant::now();
    let mut call = pin!(stage.call(Some(start + SILENCE / 3)));
    assert!((&mut call).now_or_never().is_none());
    time::advance(SILENCE / 6).await;
    stage.says(&progress("1"));
    let Body::Stream(mut stream) = call.await.unwrap().body else { panic!("expected a stream") };
    stream.next().await.unwrap().unwrap();
    let error = stream.next().await.unwrap().expect_err("nobody answers");
    assert_eq!((error.kind, start.elapsed()), (Kind::Timeout, SILENCE / 3));
    assert!(stream.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn every_sign_of_life_renews_the_patience() {
    let stage = Stage::new(Era::Legacy, 8);
    let start = Instant::now();
    let mut call = pin!(stage.call(None));
    assert!((&mut call).now_or_never().is_none());
    time::advance(SILENCE / 2).await;
    stage.says(&progress("1"));
    let Body::Stream(mut stream) = call.await.unwrap().body else { panic!("expected a stream") };
    stream.next().await.unwrap().unwrap();
    for _ in 0..3 {
        time::advance(SILENCE / 2).await;
        assert!(stream.next().now_or_never().is_none());
        stage.says(&progress("1"));
        stream.next().await.unwrap().unwrap();
    }
    stream.next().await.unwrap().expect_err("nobody answers");
    assert_eq!(start.elapsed(), SILENCE * 3);
}

#[tokio::test(start_paused = true)]
async fn while_a_process_stands_still_with_its_reader_its_silence_means_nothing() {
    let stage = Stage::new(Era::Legacy, 8);
    let mut call = pin!(stage.call(None));
    assert!((&mut call).now_or_never().is_none());
    let mut said = progress("1");
    said["params"]["message"] = "x".repeat(100_000).into();
    while !stage.child.look(|state| state.demux.holds()) {
        stage.says(&said);
    }
    let Body::Stream(mut stream) = call.await.unwrap().body else { panic!("expected a stream") };
    time::advance(SILENCE * 2).await;
    while let Some(next) = stream.next().now_or_never() {
        next.unwrap().unwrap();
    }
    assert!(stage.child.resumed().notified().now_or_never().is_some(), "it can be read again");
    assert!(!stage.child.look(|state| state.demux.holds()));
    // What it said meanwhile is still in the pipe.
    time::advance(SILENCE / 2).await;
    assert!(stream.next().now_or_never().is_none());
    stage.says(&progress("1"));
    stream.next().await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_first_message_the_pauses_and_the_whole_have_limits_of_their_own() {
    let second = Duration::from_secs(1);
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"_meta": {"progressToken": "t"}}});
    let stage = Stage::new(Era::Legacy, 8);
    let route = |request, idle| Timeouts { request, idle, ..Timeouts::default() };
    let patience = |timeouts: &Timeouts, deadline| {
        Patience::with_call(&stage.child.params, Some(timeouts), deadline)
    };
    let limits = route(Some(20 * second), Some(5 * second));
    let start = Instant::now();
    let mut call = pin!(stage.send_with(&request, patience(&limits, None)));
    assert!((&mut call).now_or_never().is_none());
    time::advance(15 * second).await;
    stage.says(&progress("1"));
    let Body::Stream(mut stream) = call.await.unwrap().body else { panic!("expected a stream") };
    stream.next().await.unwrap().unwrap();
    let error = stream.next().await.unwrap().expect_err("nobody answers");
    assert_eq!(start.elapsed(), 20 * second, "15 s, then a pause of 5 s");
    assert_eq!(error.message(), "waited 5 s for more of the answer");

    // Without a limit for silence the deadline is one.
    let limits = route(None, None);
    let start = Instant::now();
    let deadline = start + 3600 * second;
    let mut call = pin!(stage.send_with(&request, patience(&limits, Some(deadline))));
    assert!((&mut call).now_or_never().is_none());
    time::advance(1800 * second).await;
    stage.says(&progress("2"));
    let Body::Stream(mut stream) = call.await.unwrap().body else { panic!("expected a stream") };
    stream.next().await.unwrap().unwrap();
    let error = stream.next().await.unwrap().expect_err("nobody answers");
    assert_eq!(start.elapsed(), 3600 * second);
    assert_eq!(error.message(), "waited 3600 s for the end of the answer");
    assert_eq!(stage.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_waits_without_end_once_it_runs() {
    let stage = Stage::new(Era::Modern, 8);
    let listen = json!({"jsonrpc": "2.0", "id": 5, "method": "subscriptions/listen", "params": {}});
    let error = stage.send(&listen, None).await.expect_err("no acknowledgement");
    assert_eq!(error.kind, Kind::Timeout);
    let mut call = pin!(stage.send(&listen, Some(Instant::now() + SILENCE)));
    assert!((&mut call).now_or_never().is_none());
    let news = json!({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged",
        "params": {"_meta": {"io.modelcontextprotocol/subscriptionId": 2}}});
    stage.says(&news);
    let Body::Stream(mut stream) = call.await.unwrap().body else { panic!("expected a stream") };
    stream.next().await.unwrap().unwrap();
    let year = Duration::from_secs(86_400 * 365);
    assert!(time::timeout(year, stream.next()).await.is_err());
    assert_eq!(stage.in_flight(), 1);
    drop(stream);
    assert_eq!(stage.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_legacy_call_that_was_left_is_given_up_when_its_time_is_up() {
    let stage = Stage::new(Era::Legacy, 8);
    assert!(stage.call(None).now_or_never().is_none());
    assert_eq!((stage.in_flight(), stage.reads().len()), (1, 1));
    let due = stage.child.look(|state| state.demux.due()).expect("it has an expiry");
    assert_eq!(due, Instant::now() + SILENCE);
    // Whoever keeps the time was told to look again.
    assert!(stage.child.work().notified().now_or_never().is_some());
}

#[tokio::test(start_paused = true)]
async fn callers_wait_for_room_within_their_time_and_in_bounded_number() {
    let stage = Stage::new(Era::Legacy, 4);
    let large =
        json!({"jsonrpc": "2.0", "id": 1, "method": "m", "params": {"x": "y".repeat(900_000)}});
    let start = |deadline| {
        let request = Envelope::parse(Bytes::from(large.to_string())).unwrap();
        let child = Arc::clone(&stage.child);
        async move {
            let patience = Patience::with_silence(SILENCE, deadline);
            Exchange::start(child, &request, Caller::alone(Id::from_u64(1)), patience).await
        }
    };
    let queued = start(None).await.unwrap();
    let began = Instant::now();
    let mut waiting: Vec<_> = (1..4).map(|_| Box::pin(start(Some(began + SILENCE / 2)))).collect();
    for call in &mut waiting {
        assert!(call.now_or_never().is_none());
    }
    assert!(matches!(start(None).await, Err(Refused::Full)));
    // A dropped one makes room for another.
    waiting.pop();
    let mut last = pin!(start(None));
    assert!((&mut last).now_or_never().is_none());
    for call in waiting {
        let refused = call.await.expect_err("nobody reads");
        assert!(matches!(refused, Refused::Stuck(time) if time == SILENCE / 2));
    }
    assert_eq!(stage.in_flight(), 1, "those who waited sent nothing");
    assert_eq!(stage.reads().len(), 1);
    let second = last.await.unwrap();
    assert_eq!(stage.in_flight(), 2);
    stage.child.die(&Arc::new(Death::Silent));
    drop((queued, second));
    assert_eq!(stage.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn death_reaches_callers_who_wait_for_room_as_not_sent() {
    let stage = Stage::new(Era::Modern, 4);
    let large =
        json!({"jsonrpc": "2.0", "id": 1, "method": "m", "params": {"x": "y".repeat(2_000_000)}});
    let mut first = pin!(stage.send(&large, None));
    assert!((&mut first).now_or_never().is_none());
    let request = Envelope::parse(Bytes::from(large.to_string())).unwrap();
    let patience = Patience::with_silence(SILENCE, None);
    let child = Arc::clone(&stage.child);
    let mut second =
        pin!(Exchange::start(child, &request, Caller::modern(Id::from_u64(1), None), patience));
    assert!((&mut second).now_or_never().is_none());
    stage.child.die(&Arc::new(Death::Oversized(7)));
    assert!(matches!(second.await, Err(Refused::Gone)));
    assert_eq!(first.await.expect_err("it died").kind, Kind::Protocol);
    assert!(stage.reads().is_empty(), "nothing is kept for the dead");
}

/// The next process takes it, and this one may not read for a long time.
#[tokio::test(start_paused = true)]
async fn requests_do_not_wait_for_room_in_a_process_that_takes_none_any_more() {
    let stage = Stage::new(Era::Legacy, 4);
    let large =
        json!({"jsonrpc": "2.0", "id": 1, "method": "m", "params": {"x": "y".repeat(900_000)}});
    let mut first = pin!(stage.send(&large, None));
    assert!((&mut first).now_or_never().is_none());
    let request = Envelope::parse(Bytes::from(large.to_string())).unwrap();
    let patience = Patience::with_silence(SILENCE, None);
    let caller = Caller::alone(Id::from_u64(2));
    let mut second = pin!(Exchange::start(Arc::clone(&stage.child), &request, caller, patience));
    assert!((&mut second).now_or_never().is_none());
    // What the client answers may be what the requests in flight wait for.
    let answer = |state: &mut State| state.queue.push(b"{}");
    let until = Instant::now() + SILENCE;
    let mut answer = pin!(stage.child.enqueue(900_000, until, answer));
    assert!((&mut answer).now_or_never().is_none());
    stage.child.retire();
    assert!(matches!(second.now_or_never(), Some(Err(Refused::Gone))));
    assert!((&mut answer).now_or_never().is_none());
    assert_eq!(stage.reads().len(), 1);
    stage.child.made_room();
    assert!(matches!(answer.now_or_never(), Some(Ok(()))));
}

#[tokio::test(start_paused = true)]
async fn a_token_keeps_its_type_both_ways() {
    let stage = Stage::new(Era::Modern, 8);
    for token in [json!("tok"), json!(-3), json!("4")] {
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": "m",
            "params": {"_meta": {"progressToken": token}}});
        let mut call = pin!(stage.send(&request, None));
        assert!((&mut call).now_or_never().is_none());
        let line = stage.reads().pop().unwrap();
        let ours = &line["params"]["_meta"]["progressToken"];
        assert_eq!(ours.is_string(), token.is_string());
        stage.says(&progress(ours.clone()));
        let Body::Stream(mut stream) = call.await.unwrap().body else {
            panic!("expected a stream")
        };
        let Some(Ok(tidegate_service::Frame::Message(message))) = stream.next().await else {
            panic!("expected a message")
        };
        let told: Value = serde_json::from_slice(message.bytes()).unwrap();
        assert_eq!(told["params"]["progressToken"], token);
    }
    assert_eq!(stage.in_flight(), 0);
}
