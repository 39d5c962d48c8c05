//! The server's parameters.

use std::sync::Arc;

use tidegate_config::Config;
use tidegate_server::{Limits, Pair, Params, Security, Timeouts};
use tidegate_service::slow::SlowClients;

/// `routes` are those of the configuration, in their order.
pub(crate) fn server(config: &Config, routes: &[Arc<SlowClients>]) -> Params {
    let (limits, timeouts) = (&config.limits, &config.timeouts);
    Params {
        limits: Limits {
            max_body: limits.max_body,
            max_header_bytes: limits.max_header_bytes,
            max_header_value: limits.max_header_value,
            max_headers: limits.max_headers,
            max_uri: limits.max_uri,
            max_connections: limits.max_connections,
            body_budget: limits.body_budget,
            max_depth: u16::try_from(limits.max_depth).unwrap_or(u16::MAX),
            max_batch: limits.max_batch,
            ..Limits::default()
        },
        timeouts: Timeouts {
            first_byte: timeouts.first_byte,
            headers: timeouts.headers,
            body_idle: timeouts.body_idle,
            keep_alive: timeouts.keep_alive,
            write_stall: timeouts.write_stall,
            heartbeat: timeouts.heartbeat,
            ..Timeouts::default()
        },
        security: security(config),
        pairs: pairs(config, routes),
    }
}

fn pairs(config: &Config, routes: &[Arc<SlowClients>]) -> Vec<Pair> {
    let pair = |(route, slow): (&tidegate_config::Route, &Arc<SlowClients>)| {
        let sse = route.sse.as_ref()?;
        Some(Pair {
            endpoint: route.path.clone(),
            stream: sse.path.clone(),
            messages: sse.messages.clone(),
            slow: Some(Arc::clone(slow)),
        })
    };
    config.routes.iter().zip(routes).filter_map(pair).collect()
}

pub(crate) fn security(config: &Config) -> Security {
    Security {
        allowed_hosts: config.security.allowed_hosts.clone(),
        allowed_origins: config.security.allowed_origins.clone(),
    }
}
