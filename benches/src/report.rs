//! What the samples mean: medians, ratios within a round, and whether the targets are met.

use std::{fmt::Write as _, fs, thread};

use serde::{Deserialize, Serialize};

use crate::{
    cold::Opened,
    load::Outcome,
    plan::{Behind, Peer, Plan, Scenario},
    rounds::Sample,
    wire::Era,
};

/// A hop over HTTP may cost this many times the floor.
pub const HTTP_LIMIT: f64 = 1.35;
/// Calls per second to a stdio server must be this many times those of the best npm package.
pub const STDIO_LIMIT: f64 = 20.0;
/// Calls per second to a shared stdio server must be this many times those of the floor.
pub const STDIO_FLOOR_LIMIT: f64 = 0.8;
/// Write system calls per call with many calls in flight, all of them into the pipe, since answers
/// to clients are sent: several calls a write.
pub const WRITES_LIMIT: f64 = 0.25;
/// Opening a session when there is a spare, in starts of the server.
pub const WARM_LIMIT: f64 = 0.2;
/// Opening a session when others have taken the spare, in starts of the server.
pub const TOGETHER_LIMIT: f64 = 1.5;

/// A median over rounds and what it is the median of.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The smallest.
    pub low: f64,
    /// The one in the middle.
    pub median: f64,
    /// The largest.
    pub high: f64,
    /// How many rounds had a value.
    pub rounds: usize,
}

impl Spread {
    /// Of the finite ones among `values`; `None` if there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let rounds = values.len();
        let (low, high) = (*values.first()?, *values.last()?);
        let middle = (*values.get((rounds - 1) / 2)?, *values.get(rounds / 2)?);
        Some(Self { low, median: f64::midpoint(middle.0, middle.1), high, rounds })
    }

    /// The median, and from where to where.
    pub(crate) fn brief(self) -> String {
        format!("{:.2} ({:.2}-{:.2})", self.median, self.low, self.high)
    }
}

/// A target of the project and what was measured against it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Verdict {
    /// What is limited, in words.
    pub what: String,
    /// The limit.
    pub limit: f64,
    /// Whether the limit is a least (`true`) or a most (`false`).
    pub at_least: bool,
    /// What was measured; nothing if no round gave a ratio.
    pub measured: Option<Spread>,
    /// Whether the median is within the limit.
    pub pass: bool,
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
    /// What sessions of a slow server cost, if that was measured.
    #[serde(default)]
    pub opened: Option<Opened>,
    /// What follows for the targets.
    pub verdicts: Vec<Verdict>,
    /// Calls that failed, over all samples.
    pub errors: u64,
}

impl Report {
    /// Draws the conclusions from `samples`.
    #[must_use]
    pub fn new(
        machine: Vec<String>,
        plan: Plan,
        samples: Vec<Sample>,
        opened: Option<Opened>,
    ) -> Self {
        let each = plan.scenarios.iter().flat_map(|s| verdicts(&plan, &samples, *s));
        let cold = opened.iter().flat_map(|opened| cold_verdicts(&plan, opened));
        let verdicts = each.chain(cold).collect();
        let errors = samples.iter().map(|sample| sample.outcome.errors).sum();
        Self { machine, plan, samples, opened, verdicts, errors }
    }

    /// The report as text, one table a scenario, then the targets.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = self.machine.join("\n");
        text.push('\n');
        for scenario in &self.plan.scenarios {
            table(&mut text, &self.plan, &self.samples, *scenario);
        }
        if let Some(opened) = &self.opened {
            sessions(&mut text, &self.plan, opened);
        }
        if !self.verdicts.is_empty() {
            text.push_str("\nTargets (median of the rounds' ratios, lowest and highest)\n");
        }
        for verdict in &self.verdicts {
            let measured = verdict.measured.map_or_else(|| "no ratio".to_owned(), Spread::brief);
            let sign = if verdict.at_least { ">=" } else { "<=" };
            let word = if verdict.pass { "PASS" } else { "MISS" };
            let Verdict { what, limit, .. } = verdict;
            line(&mut text, format_args!("{word}  {what}: {measured}, target {sign} {limit}"));
        }
        if self.errors > 0 {
            line(&mut text, format_args!("{} calls FAILED: the numbers are void", self.errors));
        }
        text
    }
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    writeln!(text, "{arguments}").ok();
}

/// The value of `get` for `peer` in each round.
fn each<'a>(
    samples: &'a [Sample],
    scenario: Scenario,
    peer: Peer,
    get: impl Fn(&Outcome) -> f64 + 'a,
) -> impl Iterator<Item = f64> + 'a {
    samples
        .iter()
        .filter(move |sample| sample.scenario == scenario && sample.peer == peer)
        .map(move |sample| if sample.outcome.calls == 0 { f64::NAN } else { get(&sample.outcome) })
}

fn median(
    samples: &[Sample],
    scenario: Scenario,
    peer: Peer,
    get: impl Fn(&Outcome) -> f64,
) -> f64 {
    Spread::of(each(samples, scenario, peer, get)).map_or(f64::NAN, |spread| spread.median)
}

/// The ratio of two peers in each round.
fn ratios(
    samples: &[Sample],
    scenario: Scenario,
    (over, under): (Peer, Peer),
    get: fn(&Outcome) -> f64,
) -> Option<Spread> {
    let over = each(samples, scenario, over, get);
    let under = each(samples, scenario, under, get);
    Spread::of(over.zip(under).map(|(over, under)| over / under))
}

/// What each round's `peer` adds to its direct latency.
fn added(
    samples: &[Sample],
    scenario: Scenario,
    peer: Peer,
    get: fn(&Outcome) -> f64,
) -> impl Iterator<Item = f64> + '_ {
    let direct = each(samples, scenario, Peer::Direct, get);
    each(samples, scenario, peer, get).zip(direct).map(|(with, without)| with - without)
}

/// Added latency as a ratio to what the floor adds; rounds in which the floor added nothing are
/// left out, since noise has won there.
fn added_ratios(
    samples: &[Sample],
    scenario: Scenario,
    peer: Peer,
    get: fn(&Outcome) -> f64,
) -> Option<Spread> {
    let floor = added(samples, scenario, Peer::Floor, get);
    let ratios = added(samples, scenario, peer, get)
        .zip(floor)
        .filter(|(_, floor)| *floor > 0.0)
        .map(|(peer, floor)| peer / floor);
    Spread::of(ratios)
}

fn p50(outcome: &Outcome) -> f64 {
    outcome.p50_us
}

fn p99(outcome: &Outcome) -> f64 {
    outcome.p99_us
}

/// The columns that only one kind of scenario has, and the ratios.
fn heads(behind: Behind) -> (&'static [&'static str], &'static [&'static str]) {
    match behind {
        Behind::Http => {
            (&["+p50", "+p99", "kids"], &["CPU x floor", "added p50 x floor", "added p99 x floor"])
        }
        Behind::Stdio => (
            &["writes", "reads", "kids", "starts"],
            &["CPU x floor", "calls/s x floor", "calls/s x direct", "calls/s x best npm"],
        ),
    }
}

fn table(text: &mut String, plan: &Plan, samples: &[Sample], scenario: Scenario) {
    line(text, format_args!("\n{scenario}"));
    let (columns, ratios) = heads(scenario.behind);
    let mut head = format!(
        "{:<17}{:>9}{:>12}{:>9}{:>9}{:>9}",
        "", "calls/s", "CPU us/call", "p50 us", "p95 us", "p99 us"
    );
    columns.iter().for_each(|name| head += &format!("{name:>9}"));
    ratios.iter().for_each(|name| head += &format!("{name:>22}"));
    line(text, format_args!("{head}"));
    for peer in plan.peers(scenario.behind) {
        let get = |get: fn(&Outcome) -> f64| median(samples, scenario, peer, get);
        // The fixture is not a proxy: its processor time is not the price of a hop.
        let cpu = match peer {
            Peer::Direct => String::new(),
            _ => format!("{:.1}", get(Outcome::proxy_us_per_call)),
        };
        let mut row = format!(
            "{peer:<17}{:>9.0}{cpu:>12}{:>9.0}{:>9.0}{:>9.0}",
            get(Outcome::rate),
            get(p50),
            get(|outcome| outcome.p95_us),
            get(p99),
        );
        cells(samples, scenario, peer).iter().for_each(|cell| row += &format!("{cell:>9}"));
        for ratio in row_ratios(samples, scenario, peer) {
            row += &format!("{:>22}", ratio.map_or_else(String::new, Spread::brief));
        }
        line(text, format_args!("{}", row.trim_end()));
    }
}

/// What stands in the columns that only one kind of scenario has.
fn cells(samples: &[Sample], scenario: Scenario, peer: Peer) -> Vec<String> {
    if peer == Peer::Direct {
        return Vec::new();
    }
    let get = |get: fn(&Outcome) -> f64| median(samples, scenario, peer, get);
    let kids = format!("{:.0}", get(|outcome| outcome.proxy_children as f64));
    match scenario.behind {
        Behind::Http => {
            let more = |get| {
                let spread = Spread::of(added(samples, scenario, peer, get));
                spread.map_or_else(String::new, |spread| format!("{:.0}", spread.median))
            };
            vec![more(p50), more(p99), kids]
        }
        Behind::Stdio => vec![
            format!("{:.2}", get(Outcome::writes_per_call)),
            format!("{:.2}", get(Outcome::child_reads_per_call)),
            kids,
            format!("{:.0}", Spread::of(starts(samples, scenario, peer)).map_or(0.0, |s| s.median)),
        ],
    }
}

fn starts(samples: &[Sample], scenario: Scenario, peer: Peer) -> impl Iterator<Item = f64> + '_ {
    samples
        .iter()
        .filter(move |sample| sample.scenario == scenario && sample.peer == peer)
        .map(|sample| sample.starts as f64)
}

fn row_ratios(samples: &[Sample], scenario: Scenario, peer: Peer) -> Vec<Option<Spread>> {
    let against = |base, get| ratios(samples, scenario, (peer, base), get);
    match (scenario.behind, peer) {
        (_, Peer::Direct) | (Behind::Http, Peer::Floor) => Vec::new(),
        (Behind::Http, _) => vec![
            against(Peer::Floor, Outcome::proxy_us_per_call),
            added_ratios(samples, scenario, peer, p50),
            added_ratios(samples, scenario, peer, p99),
        ],
        (Behind::Stdio, _) => vec![
            against(Peer::Floor, Outcome::proxy_us_per_call).filter(|_| peer != Peer::Floor),
            against(Peer::Floor, Outcome::rate).filter(|_| peer != Peer::Floor),
            against(Peer::Direct, Outcome::rate),
            best_npm_ratios(samples, scenario, peer).filter(|_| !Peer::NPM.contains(&peer)),
        ],
    }
}

/// The rate of `peer` as a ratio to the best that any npm package made of as many connections in
/// the same round, whatever the era and however many sessions: each is shown at its best.
fn best_npm_ratios(samples: &[Sample], scenario: Scenario, peer: Peer) -> Option<Spread> {
    let best = |round| {
        samples
            .iter()
            .filter(|sample| sample.round == round && Peer::NPM.contains(&sample.peer))
            .filter(|sample| sample.scenario.connections == scenario.connections)
            .map(|sample| sample.outcome.rate())
            .max_by(f64::total_cmp)
    };
    let own = samples.iter().filter(|s| s.scenario == scenario && s.peer == peer);
    Spread::of(own.filter_map(|sample| Some(sample.outcome.rate() / best(sample.round)?)))
}

fn sessions(text: &mut String, plan: &Plan, opened: &Opened) {
    let start = plan.cold.start.as_millis();
    line(text, format_args!("\nopening a session of a server that takes {start} ms to start, ms"));
    if let Some(reason) = &opened.refused {
        line(text, format_args!("not measured: {reason}"));
        return;
    }
    for (name, times) in [
        ("no spare", &opened.cold_ms),
        ("one spare", &opened.warm_ms),
        ("one spare, several at once", &opened.together_ms),
    ] {
        let spread = Spread::of(times.iter().copied()).map_or_else(String::new, Spread::brief);
        line(text, format_args!("{name:<28}{spread}"));
    }
}

/// No caller may wait longer than the limit, so the slowest one is judged.
fn cold_verdicts(plan: &Plan, opened: &Opened) -> Vec<Verdict> {
    let start = plan.cold.start.as_secs_f64() * 1000.0;
    let verdict = |what: &str, limit: f64, times: &[f64]| {
        let measured = Spread::of(times.iter().map(|time| time / start));
        let pass = measured.is_some_and(|spread| spread.high <= limit);
        Verdict { what: what.to_owned(), limit, at_least: false, measured, pass }
    };
    vec![
        verdict(
            "slow server, a spare is there: slowest session, x start",
            WARM_LIMIT,
            &opened.warm_ms,
        ),
        verdict(
            "slow server, the spare is taken: slowest session, x start",
            TOGETHER_LIMIT,
            &opened.together_ms,
        ),
    ]
}

/// Latency is judged with one connection only: with many, a closed loop keeps the proxy's one
/// processor busy, and p50 is the length of the queue, which repeats the processor time.
fn verdicts(plan: &Plan, samples: &[Sample], scenario: Scenario) -> Vec<Verdict> {
    let taking_part: Vec<Peer> = plan.peers(scenario.behind).collect();
    let have = |peers: &[Peer]| peers.iter().all(|peer| taking_part.contains(peer));
    let verdict = |name: &str, limit: f64, at_least: bool, measured: Option<Spread>| {
        let within = |spread: Spread| {
            if at_least { spread.median >= limit } else { spread.median <= limit }
        };
        let pass = measured.is_some_and(within);
        Verdict { what: format!("{scenario}: {name}"), limit, at_least, measured, pass }
    };
    let mut verdicts = Vec::new();
    match scenario.behind {
        Behind::Http if have(&[Peer::Floor, Peer::Tidegate]) => {
            let peers = (Peer::Tidegate, Peer::Floor);
            let cpu = ratios(samples, scenario, peers, Outcome::proxy_us_per_call);
            verdicts.push(verdict("CPU per call, x floor", HTTP_LIMIT, false, cpu));
            if scenario.connections == 1 && have(&[Peer::Direct]) {
                let added = added_ratios(samples, scenario, Peer::Tidegate, p50);
                verdicts.push(verdict("added p50, x floor", HTTP_LIMIT, false, added));
            }
        }
        Behind::Stdio if have(&[Peer::Tidegate]) => {
            // The floor has one child, so only who shares one can be compared with it.
            let is_shared = scenario.era == Era::Modern || scenario.one_session;
            let has_one_child = is_shared || scenario.connections == 1;
            if has_one_child && have(&[Peer::Floor]) {
                let peers = (Peer::Tidegate, Peer::Floor);
                let rate = ratios(samples, scenario, peers, Outcome::rate);
                verdicts.push(verdict("calls/s, x floor", STDIO_FLOOR_LIMIT, true, rate));
            }
            let is_crowded = scenario.connections > 1;
            if is_crowded && is_shared {
                let tidegate = each(samples, scenario, Peer::Tidegate, Outcome::writes_per_call);
                let writes = Spread::of(tidegate);
                verdicts.push(verdict("write calls per call", WRITES_LIMIT, false, writes));
            }
            if is_crowded && Peer::NPM.iter().any(|peer| have(&[*peer])) {
                let rate = best_npm_ratios(samples, scenario, Peer::Tidegate);
                verdicts.push(verdict("calls/s, x best npm", STDIO_LIMIT, true, rate));
            }
        }
        Behind::Http | Behind::Stdio => {}
    }
    verdicts
}

/// Facts about the machine that decide whether a run can be compared with another.
#[must_use]
pub fn machine(pinned: bool) -> Vec<String> {
    let model = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, model)| model);
    let cpus = thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    vec![
        format!("{cpus} x {model}, Linux {}", kernel.trim()),
        match pinned {
            true => "http: proxy on CPU 0, client and upstream on CPU 1 (taskset); stdio: free",
            false => "nothing is bound to a processor (taskset or a second processor is missing)",
        }
        .to_owned(),
        format!("load average before: {}", load_average()),
    ]
}

/// The three load averages, as the kernel writes them.
#[must_use]
pub fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cpu::Spent, syscalls::Asked};

    fn outcome(calls: u64, own_s: f64, p50_us: f64) -> Outcome {
        Outcome {
            calls,
            errors: 0,
            first_error: None,
            seconds: 1.0,
            p50_us,
            p95_us: p50_us,
            p99_us: p50_us,
            max_us: p50_us,
            proxy: Spent { own_s, descendants_s: 0.0 },
            proxy_children: 0,
            asked: Asked { writes: calls / 5, child_reads: calls },
            client_s: 0.0,
        }
    }

    fn report(scenario: Scenario, rows: &[(usize, Peer, Outcome)]) -> Report {
        let mut plan = Plan::quick();
        plan.scenarios = vec![scenario];
        let samples = rows
            .iter()
            .map(|(round, peer, outcome)| Sample {
                round: *round,
                scenario,
                peer: *peer,
                outcome: outcome.clone(),
                starts: 0,
            })
            .collect();
        Report::new(Vec::new(), plan, samples, None)
    }

    const ONE: Scenario = Scenario {
        behind: Behind::Http,
        era: Era::Legacy,
        connections: 1,
        one_session: false,
        events: 0,
    };

    #[test]
    fn ratios_are_taken_within_a_round_and_latency_over_direct() {
        let report = report(
            ONE,
            &[
                (0, Peer::Direct, outcome(100, 0.1, 50.0)),
                (0, Peer::Floor, outcome(100, 0.010, 150.0)),
                (0, Peer::Tidegate, outcome(100, 0.013, 170.0)),
                // The machine was slower here, for everybody.
                (1, Peer::Tidegate, outcome(50, 0.013, 350.0)),
                (1, Peer::Floor, outcome(50, 0.010, 300.0)),
                (1, Peer::Direct, outcome(50, 0.1, 100.0)),
            ],
        );
        let [cpu, added] = &report.verdicts[..] else { panic!("{:?}", report.verdicts) };
        let cpu_spread = cpu.measured.unwrap();
        assert!((cpu_spread.median - 1.3).abs() < 1e-9 && cpu.pass, "{cpu:?}");
        let added = added.measured.unwrap();
        assert!((added.low - 1.2).abs() < 1e-9 && (added.high - 1.25).abs() < 1e-9, "{added:?}");
        assert!(report.render().contains("PASS"));
    }

    #[test]
    fn a_peer_that_answered_nothing_misses() {
        let report = report(
            ONE,
            &[
                (0, Peer::Direct, outcome(100, 0.1, 50.0)),
                (0, Peer::Floor, outcome(100, 0.01, 150.0)),
                (0, Peer::Tidegate, outcome(0, 0.0, 0.0)),
            ],
        );
        assert!(report.verdicts.iter().all(|verdict| !verdict.pass), "{:?}", report.verdicts);
        assert!(report.render().contains("MISS"));
    }

    #[test]
    fn stdio_is_judged_against_the_floor_and_the_best_npm_package() {
        let stdio = Scenario {
            behind: Behind::Stdio,
            era: Era::Modern,
            connections: 64,
            one_session: false,
            events: 0,
        };
        let passed = |calls, supergateway| {
            let report = report(
                stdio,
                &[
                    (0, Peer::Floor, outcome(50_000, 0.9, 700.0)),
                    (0, Peer::Tidegate, outcome(calls, 0.9, 900.0)),
                    (0, Peer::McpProxy, outcome(2_000, 1.1, 30_000.0)),
                    (0, Peer::Supergateway, outcome(supergateway, 1.1, 30_000.0)),
                ],
            );
            let [floor, writes, npm] = &report.verdicts[..] else { panic!("{report:?}") };
            assert!(writes.pass, "five calls a write");
            (floor.pass, npm.pass)
        };
        assert_eq!(passed(40_000, 1_000), (true, true));
        assert_eq!(passed(39_999, 1_000), (false, false));
        assert_eq!(passed(40_000, 2_001), (true, false), "the better of the two counts");
    }

    #[test]
    fn the_slowest_session_of_a_slow_server_decides_and_no_session_is_a_miss() {
        let mut plan = Plan::quick();
        plan.scenarios.clear();
        let passed = |opened: Opened| {
            let report = Report::new(Vec::new(), plan.clone(), Vec::new(), Some(opened));
            assert!(report.render().contains("takes 300 ms"));
            report.verdicts.iter().map(|verdict| verdict.pass).collect::<Vec<_>>()
        };
        let opened = |warm: f64, together: f64| Opened {
            warm_ms: vec![5.0, warm, 6.0],
            together_ms: vec![together, 7.0],
            ..Opened::default()
        };
        assert_eq!(passed(opened(7.0, 310.0)), [true, true]);
        assert_eq!(passed(opened(61.0, 310.0)), [false, true]);
        assert_eq!(passed(opened(7.0, 610.0)), [true, false]);
        assert_eq!(passed(Opened::default()), [false, false]);
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_and_nothing_has_none() {
        let spread = Spread::of([4.0, 1.0, f64::NAN, 2.0, 3.0]).unwrap();
        assert_eq!((spread.low, spread.median, spread.high, spread.rounds), (1.0, 2.5, 4.0, 4));
        assert_eq!(Spread::of([f64::NAN]), None);
    }
}
