//! Health and metrics, on a listener of their own. Reads only: nothing here changes anything.
//!
//! | path | says |
//! |---|---|
//! | `/health/live` | 200 while the process runs |
//! | `/health/ready` | 200 while calls are taken, 503 otherwise |
//! | `/health` | both, and why, as JSON |
//! | `/metrics` | metrics in the text format of Prometheus |

use std::{convert::Infallible, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tidegate_service::Tasks;
use tokio::{net::TcpStream, sync::Semaphore};
use tokio_util::sync::CancellationToken;

use crate::{
    http::Guard,
    listen::{Intake, Listener},
    params::{Params, Security},
    stats::Counters,
};

/// The most scrapers and probes at once.
const MAX_CONNECTIONS: usize = 64;
const PATIENCE: Duration = Duration::from_secs(10);

/// How the process is.
#[derive(Clone, Debug)]
pub struct Health {
    /// Whether calls are taken.
    pub ready: bool,
    /// A JSON object that says why.
    pub report: String,
}

/// Where the answers come from. Both are asked at each request and must not block.
#[derive(Clone)]
pub struct Sources {
    /// How the process is now.
    pub health: Arc<dyn Fn() -> Health + Send + Sync>,
    /// The text of `/metrics` now.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// The content type of that text.
    pub metrics_type: &'static str,
}

struct Observer {
    sources: Sources,
    guard: Guard,
}

impl Listener {
    /// Starts answering health and metrics here, until `drain` is cancelled. `security` guards
    /// against web pages that reach for a loopback address.
    pub fn observe(
        self,
        sources: Sources,
        security: Security,
        drain: &CancellationToken,
        tasks: &Tasks,
    ) {
        let params = Params { security, ..Params::default() };
        let guard = Guard::new(&params, self.address());
        let observer = Arc::new(Observer { sources, guard });
        let intake = Intake {
            places: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            counters: Arc::new(Counters::default()),
            drain: drain.clone(),
        };
        self.accept_with(intake, tasks, move |stream, tasks| {
            connection(stream, Arc::clone(&observer), tasks)
        });
    }
}

async fn connection(
    stream: TcpStream,
    observer: Arc<Observer>,
    tasks: Tasks,
) -> Result<(), hyper::Error> {
    let service = service_fn(move |request: Request<Incoming>| {
        std::future::ready(Ok::<_, Infallible>(observer.answer(&request.into_parts().0)))
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        ended = served => ended,
        () = tasks.stopping().cancelled() => Ok(()),
    }
}

impl Observer {
    fn answer(&self, head: &http::request::Parts) -> Response<Full<Bytes>> {
        if self.guard.check(head).is_err() {
            return text(StatusCode::FORBIDDEN, "not served to this Host or Origin\n");
        }
        if !matches!(head.method, Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "this listener only answers GET\n");
        }
        match head.uri.path() {
            "/health/live" => text(StatusCode::OK, "live\n"),
            "/health/ready" if (self.sources.health)().ready => text(StatusCode::OK, "ready\n"),
            "/health/ready" => text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
            "/health" => {
                let health = (self.sources.health)();
                let status =
                    if health.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                typed(status, HeaderValue::from_static("application/json"), health.report)
            }
            "/metrics" => {
                let kind = HeaderValue::from_static(self.sources.metrics_type);
                typed(StatusCode::OK, kind, (self.sources.metrics)())
            }
            _ => text(
                StatusCode::NOT_FOUND,
                "try /health, /health/live, /health/ready or /metrics\n",
            ),
        }
    }
}

fn text(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    typed(status, HeaderValue::from_static("text/plain; charset=utf-8"), body)
}

fn typed(status: StatusCode, kind: HeaderValue, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("metrics_type", &self.metrics_type).finish_non_exhaustive()
    }
}
