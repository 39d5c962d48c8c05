//! What the samples of streams mean: medians, ratios within a round, and whether targets are met.

use std::fmt::Write as _;

use rand::seq::SliceRandom as _;
use serde::{Deserialize, Serialize};

use super::{
    hold::{Flood, Held, Kib},
    peers::Stage,
    plan::{Look, Plan, Shape},
};
use crate::{
    plan::Peer,
    report::{Spread, Verdict},
};

/// KiB that an idle stream may cost with HTTP/1.1 on both sides.
pub const IDLE_LIMIT: f64 = 24.0;
/// KiB that an idle stream may cost where a side is HTTP/2.
pub const HTTP2_IDLE_LIMIT: f64 = 14.0;
/// The time to the first event may be this many times the relay's.
pub const FIRST_EVENT_LIMIT: f64 = 1.2;
/// Events for a second of processor time must be this many times those of nginx.
pub const EVENTS_LIMIT: f64 = 0.8;

/// One process under one load.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sample {
    /// Which round it belongs to, from zero.
    pub round: usize,
    /// What was looked at.
    pub look: Look,
    /// Which streams.
    pub shape: Shape,
    /// Who held them.
    pub peer: Peer,
    /// What was seen.
    pub held: Held,
}

/// All of a run, as it is written to a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// The machine and how it was used, one fact a line.
    pub machine: Vec<String>,
    /// What was asked for.
    pub plan: Plan,
    /// What was seen.
    pub samples: Vec<Sample>,
    /// What follows for the targets.
    pub verdicts: Vec<Verdict>,
}

/// Measures everything, each round in an order of its own; `say` is told what comes next.
///
/// # Errors
///
/// When a sample is void: a peer does not start, or a stream breaks or loses an event.
pub fn run(
    plan: &Plan,
    stage: &Stage<'_>,
    say: &mut dyn FnMut(&str),
) -> anyhow::Result<Vec<Sample>> {
    let mut order: Vec<_> = plan.samples().collect();
    let mut samples = Vec::new();
    for round in 0..plan.rounds {
        order.shuffle(&mut rand::rng());
        for (look, shape, peer) in order.iter().copied() {
            say(&format!("round {} of {}: {look:?}, {shape}: {peer}", round + 1, plan.rounds));
            let held = stage.sample(plan, (look, shape, peer))?;
            samples.push(Sample { round, look, shape, peer, held });
        }
    }
    Ok(samples)
}

impl Report {
    /// Draws the conclusions from `samples`.
    #[must_use]
    pub fn new(machine: Vec<String>, plan: Plan, samples: Vec<Sample>) -> Self {
        let verdicts = verdicts(&plan, &samples);
        Self { machine, plan, samples, verdicts }
    }

    /// The report as text: memory by shape, events, then the targets.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = self.machine.join("\n");
        text.push('\n');
        for look in &self.plan.looks {
            match look {
                Look::Memory => self.plan.shapes.iter().for_each(|s| self.memory(&mut text, *s)),
                Look::Events => {
                    self.plan.shapes.first().into_iter().for_each(|s| self.events(&mut text, *s));
                }
            }
        }
        text.push_str("\nTargets (median of the rounds, lowest and highest)\n");
        for verdict in &self.verdicts {
            let measured = verdict.measured.map_or_else(|| "no value".to_owned(), Spread::brief);
            let sign = if verdict.at_least { ">=" } else { "<=" };
            let word = if verdict.pass { "PASS" } else { "MISS" };
            let Verdict { what, limit, .. } = verdict;
            line(&mut text, format_args!("{word}  {what}: {measured}, target {sign} {limit}"));
        }
        text
    }

    fn memory(&self, text: &mut String, shape: Shape) {
        line(text, format_args!("\n{shape}, {} streams, KiB of RSS for each", self.plan.held));
        line(
            text,
            format_args!(
                "{:<17}{:>20}{:>20}{:>20}{:>14}{:>14}{:>22}",
                "", "idle", "with bursts", "idle again", "KiB before", "first us", "first x floor"
            ),
        );
        for peer in self.plan.peers(shape) {
            let kib = |get: fn(&Kib) -> f64| {
                let each = each(&self.samples, (Look::Memory, shape, peer), move |held| {
                    held.kib.as_ref().map_or(f64::NAN, get)
                });
                Spread::of(each).map_or_else(String::new, tenth)
            };
            let first = each(&self.samples, (Look::Memory, shape, peer), first_event);
            let first = Spread::of(first).map_or(f64::NAN, |spread| spread.median);
            let ratio = first_event_ratios(&self.samples, shape, peer);
            let row = format!(
                "{peer:<17}{:>20}{:>20}{:>20}{:>14}{first:>14.0}{:>22}",
                kib(|kib| kib.idle),
                kib(|kib| kib.busy),
                kib(|kib| kib.after),
                kib(|kib| kib.before).split(' ').next().unwrap_or_default(),
                ratio.map_or_else(String::new, Spread::brief),
            );
            line(text, format_args!("{}", row.trim_end()));
        }
    }

    fn events(&self, text: &mut String, shape: Shape) {
        let Plan { busy, burst, .. } = self.plan;
        line(
            text,
            format_args!("\n{shape}, {busy} streams, bursts of {burst} events of 100 bytes"),
        );
        line(
            text,
            format_args!(
                "{:<17}{:>12}{:>12}{:>12}{:>12}{:>22}{:>22}",
                "",
                "events/s",
                "CPU ns each",
                "busy",
                "client",
                "per CPU x nginx",
                "per CPU x inline"
            ),
        );
        for peer in self.plan.peers(shape) {
            let median = |get: fn(&Flood) -> f64| {
                let each = each(&self.samples, (Look::Events, shape, peer), move |held| {
                    held.flood.as_ref().map_or(f64::NAN, get)
                });
                Spread::of(each).map_or(f64::NAN, |spread| spread.median)
            };
            let against = |base| {
                let ratios = ratios(&self.samples, (Look::Events, shape), (peer, base), capacity);
                ratios.filter(|_| peer != base).map_or_else(String::new, Spread::brief)
            };
            let row = format!(
                "{peer:<17}{:>12.0}{:>12.0}{:>12.2}{:>12.2}{:>22}{:>22}",
                median(|flood| flood.per_second),
                median(|flood| flood.cpu_ns),
                median(|flood| flood.busy),
                median(|flood| flood.client_busy),
                against(Peer::Nginx),
                against(Peer::FloorInline),
            );
            line(text, format_args!("{}", row.trim_end()));
        }
    }
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    writeln!(text, "{arguments}").ok();
}

fn tenth(spread: Spread) -> String {
    format!("{:.1} ({:.1}-{:.1})", spread.median, spread.low, spread.high)
}

/// Events for a second of the proxy's processor: what it could do alone, whatever the fixture and
/// the client can.
fn capacity(held: &Held) -> f64 {
    held.flood.map_or(f64::NAN, |flood| 1e9 / flood.cpu_ns)
}

fn first_event(held: &Held) -> f64 {
    held.first_event_p50_us
}

/// The value of `get` for one peer in each round.
fn each(
    samples: &[Sample],
    what: (Look, Shape, Peer),
    get: impl Fn(&Held) -> f64,
) -> impl Iterator<Item = f64> {
    samples
        .iter()
        .filter(move |sample| (sample.look, sample.shape, sample.peer) == what)
        .map(move |sample| get(&sample.held))
}

/// The ratio of two peers in each round.
fn ratios(
    samples: &[Sample],
    (look, shape): (Look, Shape),
    (over, under): (Peer, Peer),
    get: fn(&Held) -> f64,
) -> Option<Spread> {
    let over = each(samples, (look, shape, over), get);
    let under = each(samples, (look, shape, under), get);
    Spread::of(over.zip(under).map(|(over, under)| over / under))
}

fn first_event_ratios(samples: &[Sample], shape: Shape, peer: Peer) -> Option<Spread> {
    if peer == Peer::Floor {
        return None;
    }
    ratios(samples, (Look::Memory, shape), (peer, Peer::Floor), first_event)
}

fn verdicts(plan: &Plan, samples: &[Sample]) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    let has = |shape, peers: &[Peer]| {
        peers.iter().all(|peer| plan.peers(shape).any(|taking_part| taking_part == *peer))
    };
    let mut judge = |what: String, limit: f64, at_least: bool, measured: Option<Spread>| {
        let within = |spread: Spread| {
            if at_least { spread.median >= limit } else { spread.median <= limit }
        };
        let pass = measured.is_some_and(within);
        verdicts.push(Verdict { what, limit, at_least, measured, pass });
    };
    let looks_at = |look| plan.looks.contains(&look);
    for shape in plan.shapes.iter().copied().filter(|_| looks_at(Look::Memory)) {
        if !has(shape, &[Peer::Tidegate]) {
            continue;
        }
        let is_http2 = shape.has_http2_client() || shape.has_http2_server();
        let limit = if is_http2 { HTTP2_IDLE_LIMIT } else { IDLE_LIMIT };
        let idle = each(samples, (Look::Memory, shape, Peer::Tidegate), |held| {
            held.kib.map_or(f64::NAN, |kib| kib.idle)
        });
        judge(format!("{shape}: KiB for an idle stream"), limit, false, Spread::of(idle));
        if has(shape, &[Peer::Floor]) {
            let measured = first_event_ratios(samples, shape, Peer::Tidegate);
            judge(format!("{shape}: first event, x floor"), FIRST_EVENT_LIMIT, false, measured);
        }
    }
    let first = plan.shapes.first().copied().filter(|_| looks_at(Look::Events));
    if let Some(shape) = first.filter(|shape| has(*shape, &[Peer::Tidegate, Peer::Nginx])) {
        let peers = (Peer::Tidegate, Peer::Nginx);
        let measured = ratios(samples, (Look::Events, shape), peers, capacity);
        judge(format!("{shape}: events per CPU second, x nginx"), EVENTS_LIMIT, true, measured);
    }
    verdicts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(look: Look, shape: Shape, peer: Peer, value: f64) -> Sample {
        let kib = Kib { idle: value, busy: value, after: value, before: 0.0 };
        let flood = Flood { cpu_ns: 1e9 / value, ..Flood::default() };
        let mut held = Held { first_event_p50_us: value, ..Held::default() };
        match look {
            Look::Memory => held.kib = Some(kib),
            Look::Events => held.flood = Some(flood),
        }
        Sample { round: 0, look, shape, peer, held }
    }

    fn passed(tidegate: f64, relay: f64, events: f64, nginx: f64) -> Vec<bool> {
        let (shape, plan) = (Shape::Listen, Plan::quick());
        let samples = vec![
            sample(Look::Memory, shape, Peer::Tidegate, tidegate),
            sample(Look::Memory, shape, Peer::Floor, relay),
            sample(Look::Events, shape, Peer::Nginx, nginx),
            sample(Look::Events, shape, Peer::Tidegate, events),
        ];
        let report = Report::new(Vec::new(), plan, samples);
        assert!(report.render().contains("100 streams, bursts of 200 events"));
        report.verdicts.iter().map(|verdict| verdict.pass).collect()
    }

    #[test]
    fn memory_first_event_and_events_are_judged() {
        assert_eq!(passed(24.0, 20.0, 80.0, 100.0), [true, true, true]);
        assert_eq!(passed(24.1, 20.0, 80.0, 100.0), [false, false, true]);
        assert_eq!(passed(12.1, 10.0, 79.0, 100.0), [true, false, false]);
    }

    #[test]
    fn http2_has_a_limit_of_its_own_and_no_value_is_a_miss() {
        let mut plan = Plan::full();
        plan.looks = vec![Look::Memory];
        plan.shapes = vec![Shape::ListenHttp2Client];
        let of = |samples| Report::new(Vec::new(), plan.clone(), samples).verdicts;
        let sample = |value| sample(Look::Memory, Shape::ListenHttp2Client, Peer::Tidegate, value);
        assert!(of(vec![sample(14.0)]).iter().all(|verdict| verdict.pass));
        assert!(of(vec![sample(14.1)]).iter().all(|verdict| !verdict.pass));
        assert!(of(Vec::new()).iter().all(|verdict| !verdict.pass));
    }
}
