//! The handle that everybody holds, and the one collector behind it.

use std::{fmt, sync::Arc};

use parking_lot::RwLock;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, text},
    registry::Registry,
};

use crate::{
    attempt::{AttemptCells, AttemptLayer},
    exposition::{Row, Value, write},
    names::{Own, PREFIX},
    process::ProcessCollector,
    route::{RouteCells, RouteLayer},
    samples::Samples,
};

/// All metrics of one gateway. Clones share them.
#[derive(Clone, Debug)]
pub struct Telemetry {
    numbers: Arc<Numbers>,
    registry: Arc<Registry>,
}

type Source = Arc<dyn Fn(&mut Samples) + Send + Sync>;

/// The numbers. The locks guard lists that change with the configuration; calls do not take them.
#[derive(Default)]
struct Numbers {
    routes: RwLock<Vec<Arc<RouteCells>>>,
    attempts: RwLock<Vec<Arc<AttemptCells>>>,
    sources: RwLock<Vec<Source>>,
}

#[derive(Debug)]
struct OwnCollector(Arc<Numbers>);

impl Telemetry {
    /// Starts with nothing counted.
    pub fn new() -> Self {
        let numbers = Arc::new(Numbers::default());
        let mut registry = Registry::default();
        registry.register_collector(Box::new(ProcessCollector::default()));
        let ours = registry.sub_registry_with_prefix(PREFIX);
        ours.register_collector(Box::new(OwnCollector(Arc::clone(&numbers))));
        Self { numbers, registry: Arc::new(registry) }
    }

    /// The layer that measures the calls of a route. Both names are as configured.
    ///
    /// Layers of the same pair share their numbers, so a route that is built anew goes on counting.
    pub fn route_layer(&self, route: &str, upstream: &str) -> RouteLayer {
        let mut routes = self.numbers.routes.write();
        let same =
            |known: &&Arc<RouteCells>| *known.route == *route && *known.upstream == *upstream;
        if let Some(known) = routes.iter().find(same) {
            return RouteLayer::new(Arc::clone(known));
        }
        let cells = Arc::new(RouteCells::new(route, upstream));
        routes.push(Arc::clone(&cells));
        RouteLayer::new(cells)
    }

    /// The layer that measures the attempts at one endpoint of an upstream. Both names are as
    /// configured; layers of the same pair share their numbers.
    pub fn attempt_layer(&self, upstream: &str, endpoint: &str) -> AttemptLayer {
        let mut attempts = self.numbers.attempts.write();
        let same = |known: &&Arc<AttemptCells>| {
            *known.upstream == *upstream && *known.endpoint == *endpoint
        };
        if let Some(known) = attempts.iter().find(same) {
            return AttemptLayer::new(Arc::clone(known));
        }
        let cells = Arc::new(AttemptCells::new(upstream, endpoint));
        attempts.push(Arc::clone(&cells));
        AttemptLayer::new(cells)
    }

    /// Adds a source that is asked at every scrape. It must be fast and must not block.
    ///
    /// It lives as long as the last clone of this handle. A source that holds such a clone keeps
    /// both alive forever; give it the counters it reads, or something weak.
    pub fn register_source(&self, source: impl Fn(&mut Samples) + Send + Sync + 'static) {
        self.numbers.sources.write().push(Arc::new(source));
    }

    /// Everything counted so far, in the form that [`crate::CONTENT_TYPE`] names.
    pub fn render(&self) -> String {
        let mut out = String::with_capacity(16 * 1024);
        // A string takes everything. Should an encoder ever fail, the text lacks its end mark, and
        // a scraper refuses it.
        text::encode(&mut out, &self.registry).unwrap_or_default();
        out
    }
}

impl Default for Telemetry {
    fn default() -> Self {
        Self::new()
    }
}

impl Numbers {
    /// Asks every source. No lock is held meanwhile, so a source may register another.
    fn samples(&self) -> Samples {
        let mut samples = Samples::default();
        let sources = self.sources.read().clone();
        for source in sources {
            source(&mut samples);
        }
        samples
    }
}

impl Collector for OwnCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        let routes = self.0.routes.read().clone();
        let attempts = self.0.attempts.read().clone();
        let (routes, attempts) = (routes.iter(), attempts.iter());
        for &own in Own::ALL {
            let family = &own.family();
            let (routes, attempts) = (routes.clone(), attempts.clone());
            match own {
                Own::Requests => write(encoder, family, routes.flat_map(|r| r.requests())),
                Own::RequestDuration => {
                    write(encoder, family, routes.flat_map(|r| r.histograms(|m| &m.duration)))
                }
                Own::TimeToFirstItem => {
                    write(encoder, family, routes.flat_map(|r| r.histograms(|m| &m.first_item)))
                }
                Own::RequestsInFlight => {
                    write(encoder, family, routes.map(|r| r.gauge(|r| &r.in_flight)))
                }
                Own::StreamsOpen => write(encoder, family, routes.map(|r| r.gauge(|r| &r.streams))),
                Own::Attempts => write(encoder, family, attempts.flat_map(|a| a.attempts())),
                Own::TimeToHead => write(encoder, family, attempts.filter_map(|a| a.head())),
                Own::BuildInfo => {
                    let labels = vec![env!("CARGO_PKG_VERSION")];
                    write(encoder, family, [Row { labels, value: Value::Count(1) }])
                }
            }?;
        }
        self.0.samples().encode(encoder)
    }
}

impl fmt::Debug for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Numbers")
            .field("routes", &self.routes.read().len())
            .field("attempts", &self.attempts.read().len())
            .field("sources", &self.sources.read().len())
            .finish_non_exhaustive()
    }
}
