//! Upstreams and the routes to them.

use std::sync::Arc;

use tidegate_config::{Config, Upstream as Configured};
use tidegate_service::Tasks;
use tidegate_upstream_http::HttpUpstream;
use tidegate_upstream_stdio::StdioUpstream;

use crate::{
    gateway::StartError,
    rules::Forward,
    stack::{Leaf, Route},
};

/// Sets every upstream up. None is contacted yet.
pub(crate) fn leaves(config: &Config, tasks: &Tasks) -> Result<Vec<(Arc<str>, Leaf)>, StartError> {
    config
        .upstreams
        .iter()
        .map(|(name, upstream)| {
            let key: Arc<str> = Arc::from(name.as_str());
            let leaf = match upstream {
                Configured::Http(http) => {
                    let endpoint = http.url.authority().map_or("", |host| host.as_str());
                    let http = HttpUpstream::new(http_params(&key, http), tasks.clone())
                        .map_err(|source| StartError::Upstream { name: name.clone(), source })?;
                    Leaf::Http(http, endpoint.into())
                }
                Configured::Stdio(stdio) => {
                    Leaf::Stdio(StdioUpstream::new(stdio_params(&key, stdio), tasks.clone()))
                }
            };
            Ok((key, leaf))
        })
        .collect()
}

/// Joins each route with its upstream.
pub(crate) fn routes(
    config: &Config,
    leaves: &[(Arc<str>, Leaf)],
) -> Result<Vec<Route>, StartError> {
    config
        .routes
        .iter()
        .map(|route| {
            let found = leaves.iter().find(|(name, _)| **name == *route.upstream);
            let (upstream, leaf) = found.ok_or_else(|| StartError::Route {
                path: route.path.clone(),
                upstream: route.upstream.clone(),
            })?;
            Ok(Route {
                path: route.path.clone(),
                upstream: Arc::clone(upstream),
                leaf: leaf.clone(),
                forward: Forward {
                    authorization: route.forward.authorization,
                    cookies: route.forward.cookies,
                },
            })
        })
        .collect()
}

fn http_params(
    name: &Arc<str>,
    http: &tidegate_config::HttpUpstream,
) -> tidegate_upstream_http::Params {
    tidegate_upstream_http::Params {
        name: Arc::clone(name),
        url: http.url.clone(),
        connect_timeout: http.connect_timeout,
        request_timeout: http.request_timeout,
        idle_timeout: http.idle_timeout,
        max_connections: http.max_connections,
        pool_idle: http.pool_idle,
        max_response: http.max_response,
        ca_pem: http.ca_pem.clone(),
        headers: http.headers.clone(),
        ..tidegate_upstream_http::Params::new(Arc::clone(name), http.url.clone())
    }
}

fn stdio_params(
    name: &Arc<str>,
    stdio: &tidegate_config::StdioUpstream,
) -> tidegate_upstream_stdio::Params {
    let command = std::iter::once(stdio.program.clone().into())
        .chain(stdio.args.iter().map(Into::into))
        .collect();
    tidegate_upstream_stdio::Params {
        env: stdio.env.iter().map(|(name, value)| (name.into(), value.expose().into())).collect(),
        cwd: stdio.cwd.clone(),
        start_timeout: stdio.start_timeout,
        stop_grace: stdio.stop_grace,
        max_line: stdio.max_line,
        max_in_flight: stdio.max_in_flight,
        request_timeout: stdio.request_timeout,
        ..tidegate_upstream_stdio::Params::new(Arc::clone(name), command)
    }
}
