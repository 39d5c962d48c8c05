//! What the layers cost per call: `cargo run --release -p tidegate-telemetry --example cost`.
//!
//! Three stacks over a service that is ready with its answer, each behind the box that a route has
//! anyway, run in turn; what counts is the difference to the first. The median of many rounds is
//! shown, because the machine does other things too.

#![expect(clippy::print_stdout, reason = "a program for people to run")]

use std::hint::black_box;

use futures_util::{FutureExt as _, StreamExt as _, stream};
use tidegate_protocol::{Bytes, Envelope, Era, ParseError};
use tidegate_service::{Body, Call, Cx, Error, EventStream, Frame, Reply, Upstream};
use tidegate_telemetry::Telemetry;
use tokio::time::Instant;
use tower::{Layer as _, Service as _, service_fn};

const ROUNDS: usize = 201;
const CALLS: u32 = 2_000;

fn main() -> Result<(), ParseError> {
    let call = Bytes::from_static(
        br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{}}}"#,
    );
    let call = Call::send(Envelope::parse(call)?, Cx::new(Era::Modern));
    let answer = Bytes::from_static(br#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#);
    let answer = Envelope::parse(answer)?;

    let message = answer.clone();
    let one = service_fn(move |_: Call| {
        let message = message.clone();
        async move { Ok::<_, Error>(Reply::one(message)) }
    });
    let streamed = service_fn(move |_: Call| {
        let frames = stream::iter(vec![Frame::Message(answer.clone()); 10]);
        async move { Ok::<_, Error>(Reply::stream(EventStream::new(frames.map(Ok)))) }
    });
    let telemetry = Telemetry::new();
    let route = telemetry.route_layer("route", "upstream");
    let attempt = telemetry.attempt_layer("upstream", "endpoint");
    measure(
        "one message",
        &call,
        [
            Upstream::new(one.clone()),
            Upstream::new(route.layer(one.clone())),
            Upstream::new(route.layer(attempt.layer(one))),
        ],
    );
    measure(
        "stream of ten messages",
        &call,
        [
            Upstream::new(streamed.clone()),
            Upstream::new(route.layer(streamed.clone())),
            Upstream::new(route.layer(attempt.layer(streamed))),
        ],
    );
    println!("scrape: {} bytes", telemetry.render().len());
    Ok(())
}

fn measure(what: &str, call: &Call, mut stacks: [Upstream; 3]) {
    let mut times = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        for (stack, times) in stacks.iter_mut().zip(&mut times) {
            times.push(round(stack, call));
        }
    }
    let [bare, route, both] = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times.get(ROUNDS / 2).copied().unwrap_or_default()
    });
    println!(
        "{what}: bare {bare:.0} ns, route layer +{:.0} ns, route and attempt +{:.0} ns",
        route - bare,
        both - bare
    );
}

/// One round; nanoseconds per call.
fn round(stack: &mut Upstream, call: &Call) -> f64 {
    let begin = Instant::now();
    for _ in 0..CALLS {
        let reply = stack.call(call.clone()).now_or_never();
        if let Some(Ok(Reply { body: Body::Stream(frames), .. })) = reply {
            black_box(frames.count().now_or_never());
        } else {
            black_box(reply.is_some());
        }
    }
    begin.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS)
}
