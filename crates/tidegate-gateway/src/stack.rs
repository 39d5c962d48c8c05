//! What a call meets, from the edge to the upstream, in this order.

use std::sync::Arc;

use tidegate_service::Upstream;
use tidegate_session::{ResolveLayer, Store};
use tidegate_telemetry::Telemetry;
use tidegate_upstream_http::HttpUpstream;
use tidegate_upstream_sse::SseUpstream;
use tidegate_upstream_stdio::StdioUpstream;
use tower::{Layer as _, service_fn};

use crate::{
    census::Census,
    rules::{Forward, HeaderPolicyLayer, Router},
};

/// An upstream's own end, kept beside the stacks to be counted and stopped.
#[derive(Clone, Debug)]
pub(crate) enum Leaf {
    /// With the endpoint's name in metrics.
    Http(HttpUpstream, Arc<str>),
    /// The same.
    Sse(SseUpstream, Arc<str>),
    Stdio(StdioUpstream),
}

/// One route, resolved.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) path: String,
    pub(crate) upstream: Arc<str>,
    pub(crate) leaf: Leaf,
    pub(crate) forward: Forward,
}

/// The whole of it.
pub(crate) fn edge(routes: Vec<Route>, store: &Store, telemetry: &Telemetry) -> Upstream {
    let routes = routes.into_iter().map(|route| {
        let stack = self::route(&route, store, telemetry);
        (route.path, stack)
    });
    Upstream::new(Router::new(routes))
}

fn route(route: &Route, store: &Store, telemetry: &Telemetry) -> Upstream {
    let leaf = leaf(route, telemetry);
    // Sessions are resolved inside the count, so that calls with a dead session are counted too.
    let resolved = ResolveLayer::new(store, &route.path).layer(leaf);
    Upstream::new(telemetry.route_layer(&route.path, &route.upstream).layer(resolved))
}

fn leaf(route: &Route, telemetry: &Telemetry) -> Upstream {
    // The header policy is the last thing before the upstream: whatever layers before it read or
    // set, nothing but what it lets pass leaves the process.
    let policy = HeaderPolicyLayer(route.forward);
    let attempt = telemetry.attempt_layer(&route.upstream, route.leaf.endpoint());
    match &route.leaf {
        Leaf::Http(http, _) => {
            let http = http.clone();
            let http = service_fn(move |call| http.answer(call));
            Upstream::new(policy.layer(attempt.layer(http)))
        }
        Leaf::Sse(sse, _) => Upstream::new(policy.layer(attempt.layer(sse.clone()))),
        Leaf::Stdio(stdio) => Upstream::new(policy.layer(attempt.layer(stdio.clone()))),
    }
}

impl Leaf {
    /// The endpoint's name in metrics.
    pub(crate) fn endpoint(&self) -> &str {
        match self {
            Self::Http(_, endpoint) | Self::Sse(_, endpoint) => endpoint,
            Self::Stdio(_) => "stdio",
        }
    }

    pub(crate) fn count_into(&self, census: &mut Census) {
        match self {
            Self::Http(http, _) => count_connections(&http.stats(), census),
            Self::Sse(sse, _) => {
                let stats = sse.stats();
                census.in_flight += stats.in_flight;
                count_connections(&stats.http, census);
            }
            Self::Stdio(stdio) => census.in_flight += stdio.stats().in_flight,
        }
    }

    /// Releases everything the upstream holds.
    pub(crate) async fn stop(&self) {
        match self {
            Self::Http(http, _) => http.stop().await,
            Self::Sse(sse, _) => sse.stop().await,
            Self::Stdio(stdio) => stdio.stop().await,
        }
    }
}

fn count_connections(stats: &tidegate_upstream_http::Stats, census: &mut Census) {
    census.leases += stats.calls.in_use + stats.streams.in_use;
    census.idle_connections += stats.calls.idle + stats.streams.idle;
}
