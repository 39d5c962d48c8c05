//! Proof that a soak can fail: a server that loses, doubles, swaps and confuses events, one that
//! comes back too late, one that ends a stream without the answer, and a log that is too short. The
//! proxy passes all of it on, as it must, and each has to be found and called by its name.

use std::io::ErrorKind;
use std::rc::Rc;

use serde_json::{Value, json};

use super::follow::{Follower, Goal};
use super::judge::Faults;
use super::modern;
use super::reader::{Opened, call, in_session, open};
use super::run::Run;

/// Calls in which a reader leaves and comes back, until one did.
const TRIES: usize = 40;

/// What was not found although it is there, or found although it is not.
pub(super) async fn run(run: &Rc<Run>) -> anyhow::Result<Vec<String>> {
    let none = Faults::default();
    let mut problems = Vec::new();
    let mut found = 0;
    for (name, expected) in [
        ("clean", none),
        ("loses", Faults { lost: 1, ..none }),
        ("doubles", Faults { doubled: 1, ..none }),
        ("swaps", Faults { reordered: 1, ..none }),
        ("strays", Faults { foreign: 1, ..none }),
    ] {
        let before = run.books.faults();
        one_call(run, name, name).await;
        let faults = difference(run.books.faults(), before);
        if faults == expected {
            found += 1;
        } else {
            problems.push(format!("{name}: {faults:?}, expected {expected:?}"));
        }
    }
    // From here on readers leave, and this server sends them one event less than they missed.
    let before = run.books.faults();
    let leaving = Rc::new(Run { has_cuts: true, ..run.alike() });
    for number in 0..TRIES {
        if leaving.books.get("clients that came back") > 0 {
            break;
        }
        one_call(&leaving, "skips", &format!("skips.{number}")).await;
    }
    match difference(run.books.faults(), before) {
        Faults { lost: 1.., doubled: 0, reordered: 0, foreign: 0 } => found += 1,
        faults => problems.push(format!("skips: {faults:?}")),
    }
    let findings = run.books.findings().len();
    modern::call(run, "/web", "stops.1").await;
    match run.books.findings().len() > findings {
        true => found += 1,
        false => problems.push("a stream without its answer was not found".to_owned()),
    }
    gap(run).await?;
    match run.books.get("gaps told (-31010)") {
        1 => found += 1,
        gaps => problems.push(format!("{gaps} gaps were told, expected 1")),
    }
    println!("soak: {found} of 8 planted cases came out as they should");
    Ok(problems)
}

async fn one_call(run: &Rc<Run>, client: &str, name: &str) {
    if let Some(session) = run.begin("/web", client).await {
        run.call("/web", &session, name).await;
        let end = in_session("DELETE", "/web", &session, None);
        // It goes with the proxy at the latest.
        open(run.address, &end, None).await.ok();
    }
}

/// A client that comes back with an id from before what its route keeps.
async fn gap(run: &Rc<Run>) -> anyhow::Result<()> {
    let Some(session) = run.begin("/short", "short").await else { return Ok(()) };
    let id = Value::from(1);
    let arguments = json!({"stream": "short.1", "count": 10});
    let request = in_session("POST", "/short", &session, Some(&call(&id, "count", &arguments)));
    let mut first = None;
    if let Opened::Stream(mut reader) = open(run.address, &request, None).await? {
        while let Some(event) = reader.next().await? {
            first = first.or(event.id);
        }
    }
    let total = Goal::Total(Box::new(|| None));
    let mut follower = Follower::new(run, "/short", &session, "short.1", total);
    follower.remember(&first.unwrap_or_default(), 0);
    follower.follow(Err(ErrorKind::ConnectionReset.into())).await;
    let end = in_session("DELETE", "/short", &session, None);
    open(run.address, &end, None).await?;
    Ok(())
}

const fn difference(now: Faults, before: Faults) -> Faults {
    Faults {
        lost: now.lost - before.lost,
        doubled: now.doubled - before.doubled,
        reordered: now.reordered - before.reordered,
        foreign: now.foreign - before.foreign,
    }
}
