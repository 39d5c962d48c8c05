//! What a run measures: scenarios, peers, rounds and windows.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::wire::Era;

/// Something that calls are sent to.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Peer {
    /// The fixture without anything in front of it: its port, or the pipe of one child.
    Direct,
    /// The bare relay.
    Floor,
    /// The bare relay that polls its upstream connections itself (streams only).
    FloorInline,
    /// The proxy under test.
    Tidegate,
    /// The npm package of that name (stdio only).
    McpProxy,
    /// The npm package of that name (stdio only).
    Supergateway,
    /// The web server (streams only).
    Nginx,
    /// The load balancer (streams only).
    Haproxy,
}

impl Peer {
    /// The npm packages that the proxy is compared with.
    pub const NPM: [Self; 2] = [Self::McpProxy, Self::Supergateway];
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Direct => "direct",
            Self::Floor => "floor",
            Self::FloorInline => "floor, inline",
            Self::Tidegate => "tidegate",
            Self::McpProxy => "npm mcp-proxy",
            Self::Supergateway => "npm supergateway",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
        })
    }
}

/// What the proxy has behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Behind {
    /// The fixture over HTTP.
    Http,
    /// The fixture as a child process.
    Stdio,
}

impl Behind {
    /// The peers that are compared there, in the order of the report.
    #[must_use]
    pub fn peers(self) -> &'static [Peer] {
        match self {
            Self::Http => &[Peer::Direct, Peer::Floor, Peer::Tidegate],
            Self::Stdio => {
                &[Peer::Direct, Peer::Floor, Peer::Tidegate, Peer::McpProxy, Peer::Supergateway]
            }
        }
    }
}

/// How many events a call of a streaming scenario brings.
const EVENTS: u32 = 200;

/// One kind of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scenario {
    /// What stands behind the proxy.
    pub behind: Behind,
    /// What the client speaks.
    pub era: Era,
    /// Keep-alive connections with one call in flight each.
    pub connections: usize,
    /// Whether they share one legacy session, and so one child where sessions have their own.
    #[serde(default)]
    pub one_session: bool,
    /// How many events each call streams, as fast as they come; with none, it echoes 64 bytes.
    #[serde(default)]
    pub events: u32,
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let behind = match self.behind {
            Behind::Http => "http",
            Behind::Stdio => "stdio",
        };
        write!(f, "{behind}, {} era, {} connection", self.era.as_str(), self.connections)?;
        f.write_str(if self.connections == 1 { "" } else { "s" })?;
        f.write_str(if self.one_session { ", one session" } else { "" })?;
        match self.events {
            0 => Ok(()),
            events => write!(f, ", {events} events a call"),
        }
    }
}

/// How much is measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// In each round every peer meets every scenario once, in random order.
    pub rounds: usize,
    /// Before the first round every peer is driven this long in every scenario, uncounted, so that
    /// just-in-time compilers and allocators have seen the load.
    pub settle: Duration,
    /// Before each counted window.
    pub warm_up: Duration,
    /// Counted.
    pub window: Duration,
    /// The loads.
    pub scenarios: Vec<Scenario>,
    /// Peers that are left out.
    pub without: Vec<Peer>,
    /// How starting is measured.
    pub cold: Cold,
}

/// How the price of a cold child is measured.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Cold {
    /// How long the server takes before it reads anything.
    pub start: Duration,
    /// How many sessions are opened one after the other, with a spare and without.
    pub sessions: usize,
}

impl Plan {
    /// Five rounds of two seconds: the run whose numbers are worth writing down (about 9 minutes).
    #[must_use]
    pub fn full() -> Self {
        let mut plan = Self::new(5, Duration::from_secs(2), [1, 64]);
        plan.settle = Duration::from_secs(1);
        plan.warm_up = Duration::from_millis(300);
        plan
    }

    /// Three short rounds: good enough to see a regression of a third (about 100 s).
    #[must_use]
    pub fn quick() -> Self {
        let mut plan = Self::new(3, Duration::from_millis(500), [1, 64]);
        plan.settle = Duration::from_millis(300);
        plan.warm_up = Duration::from_millis(100);
        plan.cold.sessions = 5;
        plan
    }

    /// One round of a blink: shows that every part works, and nothing about speed.
    #[must_use]
    pub fn smoke() -> Self {
        let mut plan = Self::new(1, Duration::from_millis(100), [1, 8]);
        plan.warm_up = Duration::from_millis(20);
        for streaming in plan.scenarios.iter_mut().filter(|scenario| scenario.events > 0) {
            streaming.events = 5;
        }
        plan.without.extend(Peer::NPM);
        plan.cold = Cold { start: Duration::from_millis(50), sessions: 2 };
        plan
    }

    fn new(rounds: usize, window: Duration, connections: [usize; 2]) -> Self {
        let [one, many] = connections;
        let eras = [Era::Legacy, Era::Modern];
        let load = |behind, era, connections| Scenario {
            behind,
            era,
            connections,
            one_session: false,
            events: 0,
        };
        let streams = eras.map(|era| Scenario { events: EVENTS, ..load(Behind::Http, era, many) });
        let each = |behind, connections| eras.map(|era| load(behind, era, connections));
        // With one connection there is one session anyway.
        let shared = [Scenario { one_session: true, ..load(Behind::Stdio, Era::Legacy, many) }];
        let scenarios = [Behind::Http, Behind::Stdio]
            .map(|behind| [each(behind, one), each(behind, many)].concat())
            .concat();
        Self {
            rounds,
            settle: Duration::ZERO,
            warm_up: Duration::ZERO,
            window,
            scenarios: [scenarios.as_slice(), &streams, &shared].concat(),
            without: Vec::new(),
            cold: Cold { start: Duration::from_millis(300), sessions: 9 },
        }
    }

    /// The peers that take part in a scenario.
    pub fn peers(&self, behind: Behind) -> impl Iterator<Item = Peer> + '_ {
        behind.peers().iter().copied().filter(|peer| !self.without.contains(peer))
    }

    /// Whether any scenario has this behind the proxy.
    #[must_use]
    pub fn has(&self, behind: Behind) -> bool {
        self.scenarios.iter().any(|scenario| scenario.behind == behind)
    }
}
