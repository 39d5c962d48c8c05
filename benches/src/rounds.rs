//! Runs the plan: every peer meets every scenario once a round, in an order of its own.
//!
//! Interleaving is what makes ratios hold on a shared machine: whatever else is going on falls on
//! all peers alike, and ratios are taken within a round.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use rand::seq::SliceRandom as _;
use serde::{Deserialize, Serialize};

use crate::{
    load::Outcome,
    peers::{Programs, Stage},
    plan::{Behind, Peer, Plan, Scenario},
};

/// One load on one peer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sample {
    /// Which round it belongs to, from zero.
    pub round: usize,
    /// Under which load.
    pub scenario: Scenario,
    /// On whom.
    pub peer: Peer,
    /// What was seen.
    pub outcome: Outcome,
    /// Stdio servers that were started for it, from opening the connections to closing them.
    #[serde(default)]
    pub starts: u64,
}

/// Measures everything; `say` is told what is about to be measured.
///
/// # Errors
///
/// When a load could not be run at all. Calls that fail are part of the samples.
pub fn run(
    plan: &Plan,
    programs: &Programs,
    stage: &Stage,
    say: &mut dyn FnMut(&str),
) -> anyhow::Result<Vec<Sample>> {
    let mut order: Vec<(Scenario, Peer)> = plan
        .scenarios
        .iter()
        .flat_map(|scenario| plan.peers(scenario.behind).map(|peer| (*scenario, peer)))
        .collect();
    let measure = |scenario, peer, warm_up, window| {
        measure(programs, stage, scenario, peer, (warm_up, window))
            .with_context(|| format!("{scenario}: {peer}"))
    };
    for (scenario, peer) in order.iter().copied().filter(|_| !plan.settle.is_zero()) {
        say(&format!("settling: {scenario}: {peer}"));
        measure(scenario, peer, Duration::ZERO, plan.settle)?;
    }
    let mut samples = Vec::new();
    for round in 0..plan.rounds {
        order.shuffle(&mut rand::rng());
        for (scenario, peer) in order.iter().copied() {
            say(&format!("round {} of {}: {scenario}: {peer}", round + 1, plan.rounds));
            let starts = stage.starts(peer);
            let outcome = measure(scenario, peer, plan.warm_up, plan.window)?;
            let starts = stage.starts(peer) - starts;
            if let Some(error) = &outcome.first_error {
                say(&format!("  {} failed, the first: {error}", outcome.errors));
            }
            samples.push(Sample { round, scenario, peer, outcome, starts });
        }
    }
    Ok(samples)
}

/// The load runs in a process of its own, so that it can have a processor of its own.
fn measure(
    programs: &Programs,
    stage: &Stage,
    scenario: Scenario,
    peer: Peer,
    (warm_up, window): (Duration, Duration),
) -> anyhow::Result<Outcome> {
    let cpu = (scenario.behind == Behind::Http).then_some(1);
    let mut command: Command = programs.own("load", cpu);
    command
        .args(["--era", scenario.era.as_str()])
        .args(["--connections", &scenario.connections.to_string()])
        .args(["--warm-up-ms", &warm_up.as_millis().to_string()])
        .args(["--window-ms", &window.as_millis().to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    if (scenario.behind, peer) == (Behind::Stdio, Peer::Direct) {
        // However many sessions there are, a client with a pipe has one.
        command.arg("--").args(programs.stdio_fixture(&stage.starts_file(peer)));
    } else {
        let process = stage.find(scenario.behind, peer).context("not started")?;
        command
            .arg(process.target.address.to_string())
            .args(["--path", &process.target.path])
            .args(["--account", &process.pid().to_string()]);
        if scenario.one_session {
            command.arg("--one-session");
        }
        if scenario.events > 0 {
            command.args(["--events", &scenario.events.to_string()]);
        }
    }
    let output = command.output().with_context(|| format!("{command:?}"))?;
    serde_json::from_slice(&output.stdout).context("the load client gave no outcome")
}
