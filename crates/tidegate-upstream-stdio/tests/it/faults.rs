//! Servers that misbehave: what it costs is theirs alone.

use std::time::Duration;

use futures_util::{StreamExt as _, future::join_all};
use serde_json::{Value, json};
use tidegate_service::{Kind, Origin, Retry};
use tidegate_testkit::procs;
use tokio::time::Instant;

use crate::rig::{Rig, cancel, eventually, gone, next, params, pid, silence, within};

#[tokio::test]
async fn a_process_that_ends_fails_all_its_calls_at_once_and_its_session() {
    let rig = Rig::new(&[]);
    let client = rig.client().await;
    let bystander = rig.client().await;
    let hanging = (0..50).map(|n| {
        let client = client.clone();
        async move { client.error(&client.call(n, "hang", json!({}))).await }
    });
    let asked = Instant::now();
    let exit = client.call("x", "exit", json!({"code": 3}));
    let exit = client.error(&exit);
    // Polled in order, so that the exit is asked for last.
    let (errors, exit) = tokio::join!(join_all(hanging), exit);
    assert!(asked.elapsed() < Duration::from_millis(500), "{:?}", asked.elapsed());
    for error in errors.iter().chain([&exit]) {
        assert_eq!((error.kind, error.origin), (Kind::Died, Origin::Upstream));
        assert_eq!(error.retry, Retry::Never);
        assert_eq!(
            error.message(),
            "the server process ended (exit status 3) before it answered; \
             the outcome of the call is unknown"
        );
    }
    assert!(client.session.as_ref().unwrap().is_ended());
    let later = client.error(&client.call(1, "pid", json!({}))).await;
    assert_eq!(later.kind, Kind::SessionUnknown);
    bystander.tool("pid", json!({})).await;
    eventually("the report", || rig.upstream.stats().exits.failed == 1).await;
    rig.end().await;
}

#[tokio::test]
async fn a_process_that_is_killed_is_reported_as_such() {
    let rig = Rig::new(&[]);
    let client = rig.client().await;
    let server = pid(&client.tool("pid", json!({})).await);
    let kill = async {
        let status = std::process::Command::new("kill").args(["-9", &server.to_string()]).status();
        assert!(status.unwrap().success());
    };
    let call = client.call(1, "hang", json!({}));
    let (error, ()) = tokio::join!(client.error(&call), kill);
    assert!(error.message().contains("signal 9"), "{error}");
    eventually("the report", || rig.upstream.stats().exits.signaled == 1).await;
    rig.end().await;
}

#[tokio::test]
async fn an_answer_cut_off_by_the_end_is_no_answer() {
    let rig = Rig::new(&[]);
    let client = rig.client().await;
    let call = client.call(1, "exit", json!({"code": 0, "partial": true}));
    let error = client.error(&call).await;
    assert!(error.message().contains("exit status 0"), "{error}");
    eventually("the report", || rig.upstream.stats().exits.finished == 1).await;
    assert_eq!(rig.upstream.stats().garbage_lines, 1);
    rig.end().await;
}

#[tokio::test]
async fn an_open_stream_ends_with_an_error_when_the_process_does() {
    let rig = Rig::new(&[]);
    let client = rig.client().await;
    let call = client.call(1, "ask", json!({"method": "roots/list"}));
    let mut stream = client.stream(&call).await;
    next(&mut stream).await;
    let mut listening = client.listen().await;
    client.error(&client.call(2, "exit", json!({"code": 1}))).await;
    let error = within(stream.next()).await.unwrap().expect_err("the stream is broken");
    assert_eq!(error.kind, Kind::Died);
    assert!(stream.next().await.is_none());
    assert!(within(listening.next()).await.is_none());
    rig.end().await;
}

#[tokio::test]
async fn garbage_is_skipped_and_counted() {
    let rig = Rig::new(&[]);
    let client = rig.client().await;
    let lines = [
        "Server listening on port 3000",
        "{\"jsonrpc\":\"2.0\"}",
        "{\"jsonrpc\":\"2.0\",\"method\":5}",
        "null",
        "\u{1b}[32mok\u{1b}[0m",
        "[]",
        "[1,[2]]",
        "{\"a\":",
    ];
    for line in lines {
        client.tool("raw", json!({"text": line})).await;
    }
    assert_eq!(rig.upstream.stats().garbage_lines, lines.len() as u64);
    client.tool("raw", json!({"text": "\r\n\n  \n"})).await;
    assert_eq!(rig.upstream.stats().garbage_lines, lines.len() as u64, "blank lines are fine");
    rig.end().await;
}

#[tokio::test]
async fn an_answer_that_breaks_the_rules_fails_its_call() {
    let rig = Rig::new(&[]);
    let client = rig.client().await;
    // The call's id on the pipe: 1 was the handshake.
    for (id, body) in [(2, r#""result":{},"result":{}"#), (4, r#""result":{},"error":{}"#)] {
        let text = format!(r#"{{"jsonrpc":"2.0","id":{id},{body}}}"#);
        let hang = client.call(1, "hang", json!({}));
        let raw = client.call(2, "raw", json!({"text": text}));
        let (error, _) = tokio::join!(client.error(&hang), client.ask(&raw));
        assert_eq!((error.kind, error.retry), (Kind::Protocol, Retry::Never), "{error}");
    }
    rig.end().await;
}

#[tokio::test]
async fn a_batch_of_answers_is_taken_apart() {
    let rig = Rig::new(&[]);
    let client = rig.client().await;
    let text =
        r#"[{"jsonrpc":"2.0","id":2,"result":{"a":1}},7,{"jsonrpc":"2.0","id":3,"result":{}}]"#;
    let hang = client.call("h", "hang", json!({}));
    let raw = client.call("r", "raw", json!({"text": text}));
    let (one, two) = tokio::join!(client.ask(&hang), client.ask(&raw));
    assert_eq!(
        (&one["id"], &one["result"]["a"], &two["id"]),
        (&json!("h"), &json!(1), &json!("r"))
    );
    eventually("the second answer", || rig.upstream.stats().duplicate_answers == 1).await;
    assert_eq!(rig.upstream.stats().garbage_lines, 1);
    rig.end().await;
}

#[tokio::test]
async fn second_unknown_and_mistyped_answers_are_dropped() {
    let rig = Rig::new(&[]);
    let client = rig.client().await;
    for answers in ["twice", "unknown", "text"] {
        let echoed = client.tool("echo", json!({"answers": answers, "n": 5})).await;
        assert_eq!(echoed["n"], 5);
    }
    let stats = rig.upstream.stats();
    assert_eq!((stats.duplicate_answers, stats.unknown_answers), (1, 2));
    rig.end().await;
}

#[tokio::test]
async fn a_line_without_end_ends_the_process_before_it_fills_the_memory() {
    let mut params = params(&[]);
    params.max_line = 1 << 20;
    let rig = Rig::with(params);
    let client = rig.client().await;
    let server = pid(&client.tool("pid", json!({})).await);
    let before = procs::resident_kib();
    let hang = client.call(1, "hang", json!({}));
    let giant = client.call(2, "giant", json!({"bytes": 64 << 20}));
    let (one, two) = tokio::join!(client.error(&hang), client.error(&giant));
    for error in [one, two] {
        assert_eq!((error.kind, error.origin), (Kind::Protocol, Origin::Upstream));
    }
    gone(server).await;
    let grown = procs::resident_kib().saturating_sub(before);
    assert!(grown < 16 << 10, "grew by {grown} KiB");
    eventually("the report", || rig.upstream.stats().exits.broken == 1).await;
    assert!(client.session.as_ref().unwrap().is_ended());
    rig.end().await;
}

#[tokio::test]
async fn a_line_of_exactly_the_limit_passes() {
    let mut params = params(&[]);
    params.max_line = 100_000;
    let rig = Rig::with(params);
    let client = rig.client().await;
    let note =
        |length: usize| format!(r#"{{"jsonrpc":"2.0","method":"{}"}}"#, "n".repeat(length - 29));
    assert_eq!(note(100_000).len(), 100_000);
    let call = client.call(1, "raw", json!({"text": note(100_000)}));
    assert_eq!(crate::rig::rest(client.stream(&call).await).await.len(), 2);
    let call = client.call(1, "raw", json!({"text": note(100_001)}));
    assert_eq!(client.error(&call).await.kind, Kind::Protocol);
    rig.end().await;
}

#[tokio::test]
async fn a_call_without_an_answer_times_out_and_is_cancelled() {
    let mut params = params(&[]);
    params.timeouts = silence(Duration::from_millis(200));
    let rig = Rig::with(params);
    let client = rig.client().await;
    let hanging = (0..50).map(|n| {
        let client = client.clone();
        async move { client.error(&client.call(n, "hang", json!({}))).await }
    });
    for error in join_all(hanging).await {
        assert_eq!((error.kind, error.retry), (Kind::Timeout, Retry::Never));
        let message = error.message();
        assert!(message.starts_with("waited 2") && message.ends_with("to answer"), "{message}");
    }
    let seen = client.tool("seen", json!({})).await;
    let cancelled = seen["seen"].as_array().unwrap().iter();
    let cancelled = cancelled.filter(|note| note["method"] == "notifications/cancelled");
    assert_eq!(cancelled.count(), 50);
    assert_eq!(rig.upstream.stats().in_flight, 0);
    rig.end().await;
}

#[tokio::test]
async fn the_deadline_of_the_call_comes_first() {
    let rig = Rig::new(&[]);
    let mut client = rig.client().await;
    client.deadline = Some(Duration::from_millis(100));
    let asked = Instant::now();
    let error = client.error(&client.call(1, "hang", json!({}))).await;
    assert_eq!(error.kind, Kind::Timeout);
    assert!(asked.elapsed() < Duration::from_millis(1000));
    rig.end().await;
}

#[tokio::test]
async fn a_process_that_does_not_read_makes_its_own_callers_wait_and_nobody_elses() {
    let mut params = params(&[]);
    params.timeouts = silence(Duration::from_millis(400));
    let rig = Rig::with(params);
    let client = rig.client().await;
    let bystander = rig.client().await;
    let block = client.call(0, "block", json!({"ms": 60_000}));
    let large = "z".repeat(600_000);
    let callers = (1..8).map(|n| {
        let (client, large) = (client.clone(), large.clone());
        async move { client.error(&client.call(n, "echo", json!({"text": large}))).await }
    });
    let others = async {
        for n in 0..50 {
            let asked = Instant::now();
            bystander.tool("echo", json!({"n": n})).await;
            assert!(asked.elapsed() < Duration::from_millis(300));
        }
    };
    let (_, errors, ()) = tokio::join!(client.error(&block), join_all(callers), others);
    assert!(errors.iter().all(|error| error.kind == Kind::Timeout));
    let unsent = errors.iter().filter(|error| error.retry == Retry::NotSent);
    assert!(unsent.count() >= 4, "the queue holds about a megabyte");
    assert_eq!(rig.upstream.stats().in_flight, 0);
    drop(client);
    rig.end().await;
}

#[tokio::test]
async fn a_process_that_never_reads_at_all_does_not_start() {
    let mut params = params(&["--never-read"]);
    params.start_timeout = Duration::from_millis(200);
    let rig = Rig::with(params);
    assert_eq!(rig.stranger().error(&crate::rig::initialize()).await.kind, Kind::Timeout);
    rig.end().await;
}

#[tokio::test]
async fn a_flood_on_stderr_blocks_nothing_and_is_kept_within_bounds() {
    let rig = Rig::new(&["--stderr-flood"]);
    let client = rig.client().await;
    let before = procs::resident_kib();
    for n in 0..200 {
        client.tool("echo", json!({"n": n})).await;
    }
    eventually("a flood", || rig.upstream.stats().stderr_lines > 500_000).await;
    let stats = rig.upstream.stats();
    assert!(stats.stderr_dropped > stats.stderr_lines / 2, "{stats:?}");
    let grown = procs::resident_kib().saturating_sub(before);
    assert!(grown < 16 << 10, "grew by {grown} KiB");
    rig.end().await;
}

#[tokio::test]
async fn a_process_that_closes_its_stdout_can_serve_no_more() {
    let rig = Rig::new(&[]);
    let client = rig.client().await;
    let server = pid(&client.tool("pid", json!({})).await);
    let error = client.error(&client.call(1, "close_stdout", json!({}))).await;
    assert_eq!(error.kind, Kind::Died);
    assert!(error.message().contains("closed its output"), "{error}");
    assert!(client.session.as_ref().unwrap().is_ended());
    gone(server).await;
    eventually("the report", || rig.upstream.stats().exits.broken == 1).await;
    rig.end().await;
}

#[tokio::test]
async fn more_calls_than_allowed_are_refused_and_messages_are_not() {
    let mut params = params(&[]);
    params.max_in_flight = 4;
    let rig = Rig::with(params);
    let client = rig.client().await;
    let mut hanging: Vec<_> = (0..4)
        .map(|n| {
            let client = client.clone();
            Box::pin(async move { client.reply(&client.call(n, "hang", json!({}))).await })
        })
        .collect();
    for call in &mut hanging {
        assert!(futures_util::poll!(call).is_pending());
    }
    let error = client.error(&client.call(9, "echo", json!({}))).await;
    assert_eq!((error.kind, error.retry), (Kind::Overloaded, Retry::NotSent));
    client.tell(&cancel(0)).await;
    client.tool("echo", json!({})).await;
    rig.end().await;
    let outcomes = join_all(hanging).await;
    let died: Vec<_> = outcomes.iter().filter(|outcome| outcome.is_err()).collect();
    assert_eq!(died.len(), 3);
}

#[tokio::test]
async fn questions_that_nobody_takes_do_not_pile_up() {
    let rig = Rig::new(&[]);
    let client = rig.client().await;
    let question = |n: u64| json!({"jsonrpc": "2.0", "id": n, "method": "roots/list"});
    let questions: Vec<Value> = (0..600).map(question).collect();
    let listening = client.listen().await;
    let chatter = json!({"messages": questions});
    // Two calls in flight: none of the questions can be told to be about either.
    let hang = client.call("h", "hang", json!({}));
    let hang = client.reply(&hang);
    let mut hang = Box::pin(hang);
    assert!(futures_util::poll!(&mut hang).is_pending());
    client.tool("emit", chatter).await;
    assert_eq!(rig.upstream.stats().asks_refused, 600 - 256);
    let told = client.tool("seen", json!({})).await;
    let errors = told["seen"].as_array().unwrap().iter();
    let errors = errors.filter(|message| message["error"]["code"] == -32603);
    assert_eq!(errors.count(), 600 - 256);
    drop(listening);
    rig.end().await;
    within(hang).await.expect_err("the process was stopped");
}
