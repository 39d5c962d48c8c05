//! Modern callers. Their streams are never resumed: what counts is that each ends truthfully, and
//! that a departure reaches the server.

use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::judge::Transcript;
use super::reader::{Opened, Reader, Said, modern_call, open, said};
use super::run::Run;
use super::script::Script;
use crate::dice::Dice;

/// How long a stream may bring nothing.
const PATIENCE: Duration = Duration::from_secs(60);
/// How soon a server has to notice that its caller has left.
const NOTICE: Duration = Duration::from_secs(20);

/// How a call ended, as its caller sees it.
enum End {
    Answered,
    /// The connection was cut, or an error said what happened.
    Broken(String),
    /// In order, and without an answer.
    Hollow,
    Left,
    Stuck,
}

/// Calls, one after the other, until the end of the run.
pub(super) async fn calls(run: &Rc<Run>, path: &'static str, name: &str) {
    let mut round = 0;
    while !run.is_stopping() {
        round += 1;
        run.live.set(run.live.get() + 1);
        call(run, path, &format!("{name}.0.{round}")).await;
        run.live.set(run.live.get() - 1);
    }
}

pub(super) async fn call(run: &Rc<Run>, path: &'static str, name: &str) {
    let mut dice = Dice::of(run.seed.wrapping_add(1), name);
    let count = 10 + dice.below(40) as u64;
    let every = 200 + dice.below(800) as u64;
    let arguments = json!({"stream": name, "count": count, "every_ms": every});
    let leave_after = (run.has_cuts && dice.below(4) == 0).then(|| 1 + dice.below(20));
    let began = Instant::now();
    let request = modern_call(path, &Value::from(name), "count", &arguments);
    let mut transcript = Transcript::new(name);
    let end = match open(run.address, &request, None).await {
        Ok(Opened::Stream(reader)) => read(run, reader, &mut transcript, leave_after).await,
        Ok(Opened::Other(status, body)) => End::Broken(format!("status {status}: {body}")),
        Err(error) => End::Broken(error.to_string()),
    };
    let script = run.web.script(name);
    let total = match end {
        End::Answered => {
            run.books.count("modern calls answered");
            Some(count + 1)
        }
        End::Broken(what) => {
            let was_cut = script.as_ref().is_some_and(|script| script.was_cut.get());
            if was_cut || !run.web.is_calm_since(began) {
                run.books.count("modern calls told that their server broke off");
            } else {
                run.books.finding(format!("{name} failed: {what}"));
            }
            run.pause(&mut dice, 1_000).await;
            None
        }
        End::Hollow => {
            run.books.finding(format!("{name} ended in order without an answer"));
            None
        }
        End::Left => {
            if let Some(script) = &script {
                left(run, script).await;
            }
            None
        }
        End::Stuck => {
            run.books.finding(format!("{name} brought nothing"));
            Some(count + 1)
        }
    };
    if let Some((_, after, _)) = script.as_ref().and_then(|script| script.cut.get())
        && transcript.at() > after + 1
    {
        run.books.finding(format!("{name} went on after event {after}, where it was cut"));
    }
    run.books.judged(name, transcript.close(total));
    run.web.forget(name);
}

async fn read(
    run: &Run,
    mut reader: Reader,
    transcript: &mut Transcript,
    leave_after: Option<usize>,
) -> End {
    let mut count = 0;
    loop {
        let Ok(next) = timeout(PATIENCE, reader.next()).await else { return End::Stuck };
        let event = match next {
            Ok(Some(event)) => event,
            Ok(None) => return End::Hollow,
            Err(error) => return End::Broken(error.to_string()),
        };
        let (name, number, is_answer) = match said(&event) {
            Said::Place => continue,
            Said::Note(name, number) => (name, number, false),
            Said::Answer { name, number, .. } => (name, number, true),
            Said::Failed(code, text) => return End::Broken(format!("{code} {text}")),
            Said::Unknown(text) => {
                run.books.finding(format!("{}: what is this? {text}", transcript.name()));
                continue;
            }
        };
        run.books.count("events read");
        transcript.saw(&name, number);
        if is_answer {
            return End::Answered;
        }
        count += 1;
        if leave_after == Some(count) && !run.is_stopping() {
            return End::Left;
        }
    }
}

/// A caller that leaves cancels, so its server sees the connection close.
async fn left(run: &Run, script: &Script) {
    let began = Instant::now();
    while began.elapsed() < NOTICE {
        if script.was_left.get() {
            run.books.count("modern departures that reached the server");
            run.books.took("modern client leaves", began.elapsed());
            return;
        }
        // Cut or over, it has nobody to notice it.
        let is_over = script.count.is_some_and(|count| script.written.get() > count);
        if script.was_cut.get() || is_over || run.is_stopping() {
            return;
        }
        sleep(Duration::from_millis(5)).await;
    }
    run.books.finding(format!("{}: the server did not hear that its caller left", script.name));
}
