//! What a call meets, from the edge to the upstream, in this order.

use std::{sync::Arc, time::Duration};

use tidegate_service::{Call, Error, Reply, Upstream, slow::SlowClients};
use tidegate_session::{Account, ReplayLayer, ReplayParams, ResolveLayer, Store};
use tidegate_telemetry::Telemetry;
use tidegate_upstream_http::HttpUpstream;
use tidegate_upstream_sse::SseUpstream;
use tidegate_upstream_stdio::StdioUpstream;
use tower::{Layer as _, Service, ServiceExt as _, service_fn};

use crate::{
    census::Census,
    rules::{Forward, HeaderPolicyLayer, ProgressLayer, TimeoutsLayer, by_path},
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
    pub(crate) timeouts: TimeoutsLayer,
    /// The proxy asks for progress that no client asked for.
    pub(crate) asks_for_progress: bool,
    /// `None` where clients see the upstream's event ids, if it has any.
    pub(crate) replay: Option<ReplayParams>,
    pub(crate) slow: Arc<SlowClients>,
}

/// What the layers of all routes share.
#[derive(Debug)]
pub(crate) struct Shared<'a> {
    pub(crate) store: &'a Store,
    pub(crate) logs: &'a Account,
    pub(crate) telemetry: &'a Telemetry,
}

/// The whole of it.
pub(crate) fn edge(routes: Vec<Route>, shared: &Shared<'_>) -> Upstream {
    let routes = routes.into_iter().map(|route| {
        let stack = self::route(&route, shared);
        (route.path, stack)
    });
    by_path(routes)
}

fn route(route: &Route, shared: &Shared<'_>) -> Upstream {
    // The last thing before an upstream that headers can reach: whatever layers before it read or
    // set, nothing but what it lets pass leaves the process.
    let policy = HeaderPolicyLayer(route.forward);
    let leaf = match &route.leaf {
        Leaf::Http(http, _) => {
            let http = http.clone();
            leaf(route, shared, policy.layer(service_fn(move |call| http.answer(call))))
        }
        Leaf::Sse(sse, _) => leaf(route, shared, policy.layer(sse.clone())),
        Leaf::Stdio(stdio) => {
            let stdio = stdio.clone();
            leaf(route, shared, service_fn(move |call| stdio.answer(call)))
        }
    };
    // Sessions are resolved inside the count, so that calls with a dead session are counted too.
    let resolved = ResolveLayer::new(shared.store, &route.path).layer(leaf);
    let measured = shared.telemetry.route_layer(&route.path, &route.upstream).layer(resolved);
    // Outermost, so that both ends know: the upstream, what may wait; the server, how long.
    let (to_upstream, to_client) = (Arc::clone(&route.slow), Arc::clone(&route.slow));
    let treated = measured.map_request(move |mut call: Call| {
        call.cx.slow = Some(Arc::clone(&to_upstream));
        call
    });
    Upstream::new(treated.map_response(move |reply: Reply| reply.read_by(&to_client)))
}

fn leaf<S>(route: &Route, shared: &Shared<'_>, upstream: S) -> Upstream
where
    S: Service<Call, Response = Reply, Error = Error> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    let attempt = shared.telemetry.attempt_layer(&route.upstream, route.leaf.endpoint());
    let upstream = route.timeouts.layer(attempt.layer(upstream));
    match route.asks_for_progress {
        true => replayed(route, shared, ProgressLayer::new().layer(upstream)),
        false => replayed(route, shared, upstream),
    }
}

fn replayed<S>(route: &Route, shared: &Shared<'_>, upstream: S) -> Upstream
where
    S: Service<Call, Response = Reply, Error = Error> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    match route.replay {
        // It needs the session, and what it goes on with when a client leaves is one attempt.
        Some(params) => Upstream::new(ReplayLayer::new(shared.logs, params).layer(upstream)),
        None => Upstream::new(upstream),
    }
}

impl Route {
    /// How long clients may be away from their streams.
    pub(crate) fn replay_window(&self) -> Option<Duration> {
        self.replay.map(|params| params.limits.age)
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
