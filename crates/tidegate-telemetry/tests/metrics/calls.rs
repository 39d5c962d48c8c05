//! Calls through the layers: what is counted, under which outcome, and that it is counted once.

use std::{future, panic::AssertUnwindSafe, pin::pin, task::Poll, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _, poll, stream};
use http::StatusCode;
use tidegate_protocol::{Era, sse};
use tidegate_service::{
    Body, Call, Cx, Error, EventStream, Frame, Kind, Operation, Origin, Reply, Retry,
};
use tidegate_telemetry::{OUTCOMES, Telemetry};
use tokio::{
    task::yield_now,
    time::{Instant, sleep},
};
use tower::{Layer as _, service_fn};

use crate::{
    ASKS_BACK, RESULT, RPC_ERROR, TOOL_ERROR, Upstream, call, empty, message, other, request,
    scrape,
};

type Item = Result<Frame, Error>;

fn error(kind: Kind) -> Error {
    Error::new(kind, Origin::Upstream, Retry::Never, "on purpose")
}

fn frame(text: &str) -> Item {
    Ok(Frame::Message(message(text)))
}

fn block(text: &str) -> Item {
    let mut decoder = sse::Decoder::new(1024);
    let wire = sse::encode(text.as_bytes());
    decoder.push(wire);
    Ok(Frame::Block(decoder.next().unwrap().unwrap()))
}

/// An upstream whose every reply is made by `reply`.
fn replies(reply: fn() -> Result<Reply, Error>) -> Upstream {
    Upstream::new(service_fn(move |_: Call| async move { reply() }))
}

/// An upstream that answers with a stream of these items.
fn streams(items: fn() -> Vec<Item>) -> Upstream {
    Upstream::new(service_fn(move |_: Call| async move {
        Ok(Reply::stream(EventStream::new(stream::iter(items()))))
    }))
}

/// Reads a reply up to its end or its first error.
async fn read(reply: Result<Reply, Error>) {
    if let Ok(Reply { body: Body::Stream(mut frames), .. }) = reply {
        while let Some(Ok(_)) = frames.next().await {}
    }
}

/// Makes one call through both layers, lets `finish` have the reply, and checks that the call was
/// counted once everywhere and that nothing is left in flight.
async fn check(upstream: Upstream, expected: (&str, &str), finish: fn(Reply)) {
    let telemetry = Telemetry::new();
    let attempt = telemetry.attempt_layer("up", "up-1").layer(upstream);
    let mut route = telemetry.route_layer("r", "up").layer(attempt);
    // A panic may come from the call itself, from the future, or from reading the reply.
    let outcome = AssertUnwindSafe(async {
        let mut reply = pin!(call(&mut route, request("tools/call")));
        for _ in 0..2 {
            if let Poll::Ready(reply) = poll!(reply.as_mut()) {
                return reply.map(finish).unwrap_or_default();
            }
        }
    });
    outcome.catch_unwind().await.unwrap_or_default();
    let seen = scrape(&telemetry);
    let (by_route, by_attempt) = expected;
    assert!(OUTCOMES.contains(&by_route) && OUTCOMES.contains(&by_attempt));
    let labels = [("method", "tools/call"), ("outcome", by_route), ("era", "legacy")];
    assert_eq!(seen.sum("tidegate_requests_total", &labels), 1.0, "{by_route}: {seen:#?}");
    assert_eq!(seen.sum("tidegate_requests_total", &[]), 1.0, "{by_route}");
    assert_eq!(seen.sum("tidegate_request_duration_seconds_count", &[]), 1.0, "{by_route}");
    assert_eq!(seen.sum("tidegate_requests_in_flight", &[]), 0.0, "{by_route}");
    assert_eq!(seen.sum("tidegate_streams_open", &[]), 0.0, "{by_route}");
    let labels = [("upstream", "up"), ("endpoint", "up-1"), ("outcome", by_attempt)];
    assert_eq!(seen.sum("tidegate_upstream_attempts_total", &labels), 1.0, "{by_attempt}");
    assert_eq!(seen.sum("tidegate_upstream_attempts_total", &[]), 1.0, "{by_attempt}");
}

fn to_the_end(reply: Reply) {
    read(Ok(reply)).now_or_never().unwrap();
}

fn one_item(reply: Reply) {
    let Body::Stream(mut frames) = reply.body else { panic!("expected a stream") };
    assert!(frames.next().now_or_never().unwrap().is_some());
}

#[tokio::test]
async fn a_reply_of_one_message_is_counted_by_what_it_says() {
    check(replies(|| Ok(Reply::one(message(RESULT)))), ("ok", "ok"), drop).await;
    check(replies(|| Ok(Reply::accepted())), ("ok", "ok"), drop).await;
    let refused = replies(|| Ok(empty(StatusCode::NOT_FOUND)));
    check(refused, ("http_error", "http_error"), drop).await;
    let failed = replies(|| Ok(Reply::one(message(TOOL_ERROR))));
    check(failed, ("tool_error", "tool_error"), drop).await;
    let error = replies(|| Ok(Reply::one(message(RPC_ERROR))));
    check(error, ("rpc_error", "rpc_error"), drop).await;
}

#[tokio::test]
async fn an_error_is_counted_by_its_kind() {
    check(replies(|| Err(error(Kind::Timeout))), ("timeout", "timeout"), drop).await;
    check(replies(|| Err(error(Kind::Died))), ("died", "died"), drop).await;
    let exhausted = replies(|| Err(error(Kind::PoolExhausted)));
    check(exhausted, ("pool_exhausted", "pool_exhausted"), drop).await;
}

#[tokio::test]
async fn a_stream_is_counted_by_its_end() {
    let answered = streams(|| vec![frame(ASKS_BACK), frame(RESULT)]);
    check(answered.clone(), ("ok", "ok"), to_the_end).await;
    check(answered, ("cancelled", "cancelled"), one_item).await;
    let tool_error = streams(|| vec![frame(ASKS_BACK), frame(TOOL_ERROR)]);
    check(tool_error, ("tool_error", "ok"), to_the_end).await;
    check(streams(|| vec![frame(RPC_ERROR)]), ("rpc_error", "ok"), to_the_end).await;
    let broken = streams(|| vec![frame(ASKS_BACK), Err(error(Kind::Died))]);
    check(broken, ("failed", "failed"), to_the_end).await;
    check(streams(|| vec![frame(RESULT)]), ("cancelled", "cancelled"), drop).await;
}

#[tokio::test]
async fn a_stream_dropped_after_its_answer_was_not_cancelled() {
    check(streams(|| vec![frame(RESULT)]), ("ok", "cancelled"), one_item).await;
    check(streams(|| vec![frame(TOOL_ERROR)]), ("tool_error", "cancelled"), one_item).await;
}

#[tokio::test]
async fn blocks_are_not_looked_into() {
    check(streams(|| vec![block(TOOL_ERROR)]), ("ok", "ok"), to_the_end).await;
    check(streams(|| vec![block(RESULT)]), ("cancelled", "cancelled"), one_item).await;
}

/// A message with the event that it goes out as.
fn stamped(text: &str) -> Item {
    let message = message(text);
    let block = sse::Block::message("tg-1", message.bytes()).unwrap();
    Ok(Frame::Stamped { message, block })
}

#[tokio::test]
async fn a_message_with_an_id_is_a_message() {
    check(streams(|| vec![stamped(TOOL_ERROR)]), ("tool_error", "ok"), to_the_end).await;
    check(streams(|| vec![stamped(RESULT)]), ("ok", "cancelled"), one_item).await;
}

#[tokio::test(start_paused = true)]
async fn an_id_to_come_back_with_is_no_item() {
    let slow = service_fn(|_: Call| async {
        let priming = block("");
        let later = stream::once(async {
            sleep(Duration::from_secs(3)).await;
            frame(RESULT)
        });
        Ok(Reply::stream(EventStream::new(stream::iter([priming]).chain(later))))
    });
    let telemetry = Telemetry::new();
    read(call(&mut telemetry.route_layer("r", "up").layer(slow), request("tools/call")).await)
        .await;
    let seen = scrape(&telemetry);
    assert_eq!(seen.sum("tidegate_request_time_to_first_item_seconds_sum", &[]), 3.0);
}

#[tokio::test]
async fn a_dropped_future_is_cancelled() {
    let silent = Upstream::new(service_fn(|_: Call| future::pending()));
    check(silent, ("cancelled", "cancelled"), drop).await;
}

#[tokio::test]
async fn a_panic_is_counted_as_ours_wherever_it_happens() {
    let in_call = service_fn(|_: Call| -> future::Ready<Result<Reply, Error>> {
        panic!("on purpose, in call")
    });
    check(Upstream::new(in_call), ("internal", "internal"), drop).await;
    let in_future = service_fn(|_: Call| async { panic!("on purpose, in the future") });
    check(Upstream::new(in_future), ("internal", "internal"), drop).await;
    let later = service_fn(|_: Call| async {
        yield_now().await;
        panic!("on purpose, after a wait")
    });
    check(Upstream::new(later), ("internal", "internal"), drop).await;
    let in_stream = service_fn(|_: Call| async {
        let frames = stream::once(async { panic!("on purpose, in the stream") });
        Ok(Reply::stream(EventStream::new(frames)))
    });
    // Below, a panicking stream is told apart from a dropped one by nobody.
    check(Upstream::new(in_stream), ("internal", "cancelled"), to_the_end).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_lasts_until_its_body_ends() {
    let slow = service_fn(|_: Call| async {
        sleep(Duration::from_secs(1)).await;
        let frames = stream::unfold(0, |sent| async move {
            sleep(Duration::from_secs(10)).await;
            (sent < 3).then(|| (frame(ASKS_BACK), sent + 1))
        });
        Ok(Reply::stream(EventStream::new(frames)))
    });
    let telemetry = Telemetry::new();
    let attempt = telemetry.attempt_layer("up", "up-1").layer(slow);
    let mut route = telemetry.route_layer("r", "up").layer(attempt);
    let begin = Instant::now();

    let reply = call(&mut route, request("tools/call")).await.unwrap();
    let seen = scrape(&telemetry);
    assert_eq!(seen.sum("tidegate_upstream_time_to_head_seconds_sum", &[]), 1.0);
    assert_eq!(seen.sum("tidegate_request_time_to_first_item_seconds_count", &[]), 0.0);
    assert_eq!(seen.sum("tidegate_request_duration_seconds_count", &[]), 0.0);
    assert_eq!(seen.sum("tidegate_requests_in_flight", &[("route", "r")]), 1.0);
    assert_eq!(seen.sum("tidegate_streams_open", &[("route", "r")]), 1.0);

    read(Ok(reply)).await;
    assert_eq!(begin.elapsed(), Duration::from_secs(41));
    let seen = scrape(&telemetry);
    assert_eq!(seen.sum("tidegate_request_time_to_first_item_seconds_sum", &[]), 11.0);
    assert_eq!(seen.sum("tidegate_request_time_to_first_item_seconds_count", &[]), 1.0);
    assert_eq!(seen.sum("tidegate_request_duration_seconds_sum", &[]), 41.0);
    assert_eq!(seen.sum("tidegate_request_duration_seconds_bucket", &[("le", "15.0")]), 0.0);
    assert_eq!(seen.sum("tidegate_request_duration_seconds_bucket", &[("le", "60.0")]), 1.0);
    assert_eq!(seen.sum("tidegate_requests_in_flight", &[]), 0.0);
    assert_eq!(seen.sum("tidegate_streams_open", &[]), 0.0);
}

#[tokio::test(start_paused = true)]
async fn one_message_is_head_first_item_and_end_at_once() {
    let slow = service_fn(|_: Call| async {
        sleep(Duration::from_millis(250)).await;
        Ok::<_, Error>(Reply::one(message(RESULT)))
    });
    let telemetry = Telemetry::new();
    let mut route = telemetry.route_layer("r", "up").layer(slow);
    let reply = call(&mut route, request("ping")).await.unwrap();
    sleep(Duration::from_secs(5)).await;
    drop(reply);
    let seen = scrape(&telemetry);
    assert_eq!(seen.sum("tidegate_request_duration_seconds_sum", &[("method", "ping")]), 0.25);
    assert_eq!(seen.sum("tidegate_request_time_to_first_item_seconds_sum", &[]), 0.25);
}

#[tokio::test]
async fn ten_thousand_methods_are_one_series() {
    let telemetry = Telemetry::new();
    let ok = replies(|| Ok(Reply::one(message(RESULT))));
    let mut route = telemetry.route_layer("r", "up").layer(ok);
    read(call(&mut route, request("made/up")).await).await;
    let before = scrape(&telemetry).samples.len();
    for n in 0..10_000 {
        read(call(&mut route, request(&format!("x/{n}\"\n{{}}"))).await).await;
    }
    let seen = scrape(&telemetry);
    assert_eq!(seen.samples.len(), before);
    assert_eq!(seen.sum("tidegate_requests_total", &[("method", "other")]), 10_001.0);
}

#[tokio::test]
async fn what_has_no_method_has_a_word() {
    let telemetry = Telemetry::new();
    let mut route = telemetry.route_layer("r", "up").layer(replies(|| Ok(Reply::accepted())));
    let listen = Operation::Listen { last_event_id: None };
    read(call(&mut route, other(listen)).await).await;
    read(call(&mut route, other(Operation::EndSession)).await).await;
    let answer = Call::send(message(RESULT), Cx::new(Era::Legacy));
    read(call(&mut route, answer).await).await;
    let seen = scrape(&telemetry);
    for (method, era) in [("listen", "modern"), ("end_session", "modern"), ("response", "legacy")] {
        let labels = [("method", method), ("era", era), ("outcome", "ok")];
        assert_eq!(seen.sum("tidegate_requests_total", &labels), 1.0, "{method}");
    }
}

#[test]
fn threads_lose_no_count() {
    let telemetry = Telemetry::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            // The same pair again: the layers share their numbers.
            let layer = telemetry.route_layer("r", "up");
            scope.spawn(move || {
                let mut route = layer.layer(replies(|| Ok(Reply::one(message(RESULT)))));
                for _ in 0..1_000 {
                    call(&mut route, request("ping")).now_or_never().unwrap().unwrap();
                }
            });
        }
    });
    let seen = scrape(&telemetry);
    assert_eq!(seen.sum("tidegate_requests_total", &[("method", "ping")]), 4_000.0);
    assert_eq!(seen.sum("tidegate_request_duration_seconds_count", &[]), 4_000.0);
    assert_eq!(seen.sum("tidegate_requests_in_flight", &[]), 0.0);
}
