//! How many calls a second pass through the pipe: 64 callers on one shared process, and 64
//! sessions with a process each. Run with `--release`; the argument is the number of calls.
#![expect(clippy::expect_used, reason = "a measurement that cannot run has no result")]

use std::io::{Write as _, stdout};

use tidegate_process::Spawner;
use tidegate_protocol::{Envelope, Era};
use tidegate_service::{Body, Call, Cx, OnError, Session, Tasks};
use tidegate_testkit::procs::cpu_centiseconds;
use tidegate_upstream_stdio::{Params, StdioUpstream};
use tokio::{runtime::Builder, time::Instant};
use tower::ServiceExt as _;

const CALLERS: u64 = 64;

const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;

fn main() {
    let calls = std::env::args().nth(1).and_then(|calls| calls.parse().ok()).unwrap_or(200_000);
    for workers in [1, 2] {
        let runtime = Builder::new_multi_thread()
            .worker_threads(workers)
            .enable_all()
            .build()
            .expect("a runtime");
        for era in [Era::Modern, Era::Legacy] {
            let before = cpu_centiseconds();
            let rate = runtime.block_on(measure(era, calls));
            // Centiseconds per call, times a million, are seconds per 100,000 calls, times a thousand.
            let cpu = (cpu_centiseconds() - before) * 1_000_000 / calls;
            let line = format!("{era:?}, {workers} workers: {rate:.0} calls/s, {cpu} ms CPU/100k");
            writeln!(stdout(), "{line}").expect("stdout");
        }
    }
}

async fn measure(era: Era, calls: u64) -> f64 {
    let tasks = Tasks::default();
    let upstream = StdioUpstream::new(params(), Spawner::new(), tasks.clone());
    let callers = Tasks::default();
    let mut sessions = Vec::new();
    for _ in 0..CALLERS {
        let mut cx = Cx::new(era);
        if era == Era::Legacy {
            cx.session = Some(Session::new("a session of a measurement"));
            send(&upstream, &cx, HELLO.to_owned()).await;
        }
        sessions.push(cx);
    }
    let started = Instant::now();
    for cx in sessions {
        let upstream = upstream.clone();
        callers.spawn("caller", OnError::Log, async move {
            for n in 0..calls / CALLERS {
                let meta = if era == Era::Modern { META } else { r#""_meta":{}"# };
                let call = format!(
                    r#"{{"jsonrpc":"2.0","id":{n},"method":"tools/call","params":{{"name":"echo","arguments":{{"text":"0123456789abcdef0123456789abcdef"}},{meta}}}}}"#
                );
                send(&upstream, &cx, call).await;
            }
            Ok(())
        });
    }
    callers.wait().await;
    let took = started.elapsed();
    upstream.stop().await;
    tasks.stop().await;
    #[expect(clippy::cast_precision_loss, reason = "a rough number")]
    let rate = calls as f64 / took.as_secs_f64();
    rate
}

const HELLO: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#;

async fn send(upstream: &StdioUpstream, cx: &Cx, message: String) {
    let envelope = Envelope::parse(message.into()).expect("a message");
    let reply = upstream.clone().oneshot(Call::send(envelope, cx.clone())).await;
    let reply = reply.expect("a reply");
    assert!(matches!(reply.body, Body::One(_)), "expected one answer");
}

fn params() -> Params {
    Params::new("measured", vec![tidegate_testkit::stdio_bin().into()])
}
