//! What is measured of streams: shapes, peers, rounds.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{plan::Peer, wire::Era};

/// What a stream is, and what is spoken on either side of the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// A modern listen, HTTP/1.1 on both sides.
    Listen,
    /// The GET of a legacy session, HTTP/1.1 on both sides.
    Get,
    /// A modern listen, HTTP/2 to the server.
    ListenHttp2Server,
    /// A modern listen, HTTP/2 from the client.
    ListenHttp2Client,
    /// A modern listen, HTTP/2 on both sides.
    ListenHttp2,
}

impl Shape {
    const ALL: [Self; 5] = [
        Self::Listen,
        Self::Get,
        Self::ListenHttp2Server,
        Self::ListenHttp2Client,
        Self::ListenHttp2,
    ];

    /// What the client speaks.
    #[must_use]
    pub fn era(self) -> Era {
        if self == Self::Get { Era::Legacy } else { Era::Modern }
    }

    /// Whether clients share HTTP/2 connections.
    #[must_use]
    pub fn has_http2_client(self) -> bool {
        matches!(self, Self::ListenHttp2Client | Self::ListenHttp2)
    }

    /// Whether the server speaks HTTP/2.
    #[must_use]
    pub fn has_http2_server(self) -> bool {
        matches!(self, Self::ListenHttp2Server | Self::ListenHttp2)
    }

    /// Those that can do it, in the order of the report. nginx speaks no HTTP/2 to servers, the
    /// relay none at all.
    fn peers(self) -> &'static [Peer] {
        match self {
            Self::Listen | Self::Get => {
                &[Peer::Haproxy, Peer::Nginx, Peer::Floor, Peer::FloorInline, Peer::Tidegate]
            }
            Self::ListenHttp2Client => &[Peer::Haproxy, Peer::Nginx, Peer::Tidegate],
            Self::ListenHttp2Server | Self::ListenHttp2 => &[Peer::Haproxy, Peer::Tidegate],
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Listen => "modern listen",
            Self::Get => "legacy GET",
            Self::ListenHttp2Server => "modern listen, HTTP/2 to the server",
            Self::ListenHttp2Client => "modern listen, HTTP/2 from the client",
            Self::ListenHttp2 => "modern listen, HTTP/2 on both sides",
        })
    }
}

/// What is looked at in a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Look {
    /// Memory, and the time to the first event.
    Memory,
    /// Events a second.
    Events,
}

/// How much is measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// In each round every peer meets everything once, in random order.
    pub rounds: usize,
    /// The shapes whose memory is looked at. Events are counted in the first only.
    pub shapes: Vec<Shape>,
    /// What is looked at.
    pub looks: Vec<Look>,
    /// Streams that are open when memory is looked at.
    pub held: usize,
    /// Streams that carry as many events as they can.
    pub busy: usize,
    /// Events in a burst.
    pub burst: u32,
    /// Counted time of events.
    pub window: Duration,
    /// How long streams have bursts when memory is looked at.
    pub busy_for: Duration,
    /// How long a process has to come to rest.
    pub rest: Duration,
    /// Peers that are left out.
    pub without: Vec<Peer>,
}

impl Plan {
    /// Five rounds with everything (about 10 minutes).
    #[must_use]
    pub fn full() -> Self {
        Self {
            rounds: 5,
            shapes: Shape::ALL.to_vec(),
            looks: vec![Look::Memory, Look::Events],
            held: 1000,
            busy: 100,
            burst: 200,
            window: Duration::from_secs(2),
            busy_for: Duration::from_millis(2500),
            rest: Duration::from_millis(800),
            without: Vec::new(),
        }
    }

    /// Three rounds with HTTP/1.1 only (about 2 minutes).
    #[must_use]
    pub fn quick() -> Self {
        Self {
            rounds: 3,
            shapes: vec![Shape::Listen],
            window: Duration::from_secs(1),
            busy_for: Duration::from_millis(1500),
            rest: Duration::from_millis(500),
            ..Self::full()
        }
    }

    /// One round with few streams: shows that every part works, and nothing else.
    #[must_use]
    pub fn smoke() -> Self {
        Self {
            rounds: 1,
            held: 8,
            busy: 4,
            burst: 10,
            window: Duration::from_millis(100),
            busy_for: Duration::from_millis(1200),
            rest: Duration::from_millis(50),
            ..Self::full()
        }
    }

    /// Everything that a round measures.
    pub fn samples(&self) -> impl Iterator<Item = (Look, Shape, Peer)> + '_ {
        self.looks.iter().flat_map(move |look| {
            let shapes = match look {
                Look::Memory => self.shapes.as_slice(),
                Look::Events => self.shapes.get(..1).unwrap_or_default(),
            };
            shapes
                .iter()
                .flat_map(move |shape| self.peers(*shape).map(move |peer| (*look, *shape, peer)))
        })
    }

    /// Those that take part in a shape.
    pub fn peers(&self, shape: Shape) -> impl Iterator<Item = Peer> + '_ {
        shape.peers().iter().copied().filter(|peer| !self.without.contains(peer))
    }
}
