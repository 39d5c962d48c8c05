//! Upstreams and the routes to them.

use std::sync::Arc;

use tidegate_config::{
    CallTimeouts, Config, Progress, Replay, ReplayMode, SlowClient, SlowPolicy, Transport,
    Upstream as Configured,
};
use tidegate_process::Spawner;
use tidegate_server::legacy_failure;
use tidegate_service::{
    Tasks, Timeouts,
    slow::{Backlog, Policy, SlowClients, SlowParams},
};
use tidegate_session::{LogLimits, ReplayParams};
use tidegate_upstream_http::{Http2, HttpUpstream, Reconnect, SetupError};
use tidegate_upstream_sse::SseUpstream;
use tidegate_upstream_stdio::{Rlimits, Sharing, StdioUpstream};
use tokio::time::Instant;

use crate::{
    gateway::StartError,
    rules::{CallLimits, Forward, TimeoutsLayer},
    stack::{Leaf, Route},
    transport::{Either, Verdict},
};

/// Sets every upstream up. None is contacted yet.
pub(crate) fn leaves(
    config: &Config,
    spawner: &Spawner,
    tasks: &Tasks,
) -> Result<Vec<(Arc<str>, Leaf)>, StartError> {
    config
        .upstreams
        .iter()
        .map(|(name, upstream)| {
            let key: Arc<str> = Arc::from(name.as_str());
            let leaf = match upstream {
                Configured::Http(http) => {
                    let endpoint = http.url.authority().map_or("", |host| host.as_str());
                    let (params, tasks) = (http_params(&key, http), tasks.clone());
                    let leaf = match http.transport {
                        Transport::Auto => either(params, endpoint, tasks).map(Leaf::Either),
                        Transport::Http => HttpUpstream::new(params, tasks)
                            .map(|upstream| Leaf::Http(upstream, endpoint.into())),
                        Transport::Sse => SseUpstream::new(params, tasks)
                            .map(|upstream| Leaf::Sse(upstream, endpoint.into())),
                    };
                    leaf.map_err(|source| StartError::Upstream { name: name.clone(), source })?
                }
                Configured::Stdio(stdio) => {
                    let params = stdio_params(&key, stdio);
                    Leaf::Stdio(StdioUpstream::new(params, spawner.clone(), tasks.clone()))
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
    backlog: &Backlog,
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
                timeouts: timeouts_layer(route, config.upstreams.get(&route.upstream)),
                asks_for_progress: route.progress == Progress::Always,
                slow: Arc::new(SlowClients::new(
                    route.path.as_str(),
                    slow_params(&route.slow_client),
                    backlog,
                )),
                replay: replay_params(&route.replay, has_ids(leaf)),
                replay_sse: match leaf {
                    Leaf::Either(_) => replay_params(&route.replay, false),
                    Leaf::Http(..) | Leaf::Sse(..) | Leaf::Stdio(_) => None,
                },
            })
        })
        .collect()
}

/// A route says only what its upstream does not.
fn timeouts_layer(
    route: &tidegate_config::Route,
    upstream: Option<&tidegate_config::Upstream>,
) -> TimeoutsLayer {
    let usual = upstream.map(|upstream| timeouts(upstream.timeouts()));
    let limits = |limits: &CallTimeouts| {
        let timeouts = Some(timeouts(limits)).filter(|timeouts| usual != Some(*timeouts));
        CallLimits { timeouts: timeouts.map(Arc::new), total: limits.total }
    };
    let tools = route.tools.iter().map(|(name, tool)| (name.clone(), limits(tool)));
    TimeoutsLayer::new(limits(&route.timeouts), tools.collect())
}

fn timeouts(limits: &CallTimeouts) -> Timeouts {
    let CallTimeouts { connect, request, idle, total: _ } = *limits;
    // Over stdio there is nothing to connect to.
    let connect = connect.unwrap_or_else(|| Timeouts::default().connect);
    Timeouts { connect, request, idle }
}

fn slow_params(slow: &SlowClient) -> SlowParams {
    SlowParams {
        policy: match slow.policy {
            SlowPolicy::Pause => Policy::Pause,
            SlowPolicy::End => Policy::End,
        },
        buffer: slow.buffer,
        after: slow.after,
    }
}

/// A server whose transport is not known, over one set of connections.
fn either(
    params: tidegate_upstream_http::Params,
    endpoint: &str,
    tasks: Tasks,
) -> Result<Either, SetupError> {
    let http = HttpUpstream::new(params.clone(), tasks.clone())?;
    let sse = SseUpstream::over(Arc::clone(http.client()), &params, tasks);
    let verdict = Arc::new(Verdict::new(Instant::now()));
    Ok(Either { http, sse, endpoint: endpoint.into(), verdict })
}

/// Whether streams of the server may have event ids of its own.
const fn has_ids(leaf: &Leaf) -> bool {
    match leaf {
        Leaf::Http(..) | Leaf::Either(_) => true,
        Leaf::Stdio(_) | Leaf::Sse(..) => false,
    }
}

/// Who has no event ids of its own is given ours, unless the route says otherwise.
fn replay_params(replay: &Replay, has_ids: bool) -> Option<ReplayParams> {
    let is_wanted = match replay.mode {
        ReplayMode::On => true,
        ReplayMode::Off => false,
        ReplayMode::Auto => !has_ids,
    };
    is_wanted.then_some(ReplayParams {
        limits: LogLimits {
            events: replay.max_events,
            bytes: replay.max_bytes,
            age: replay.window,
        },
        prime_after: replay.prime_after,
        poll_after: replay.poll_after,
        tell: legacy_failure,
    })
}

fn http_params(
    name: &Arc<str>,
    http: &tidegate_config::HttpUpstream,
) -> tidegate_upstream_http::Params {
    tidegate_upstream_http::Params {
        name: Arc::clone(name),
        url: http.url.clone(),
        timeouts: timeouts(&http.timeouts),
        max_connections: http.max_connections,
        max_waiting: http.max_waiting,
        acquire_timeout: http.acquire_timeout,
        pool_idle: http.pool_idle,
        max_lifetime: http.max_connection_age,
        max_uses: http.max_connection_requests,
        min_idle: http.min_idle_connections,
        max_response: http.max_response,
        http2: match http.http2 {
            tidegate_config::Http2::Off => Http2::Off,
            tidegate_config::Http2::Auto => Http2::Auto,
            tidegate_config::Http2::Always => Http2::Always,
        },
        ca_pem: http.ca_pem.clone(),
        headers: http.headers.clone(),
        reconnect: http.reconnect.map(|reconnect| Reconnect {
            stall: reconnect.stall,
            attempts: reconnect.attempts,
            base: reconnect.base,
            max: reconnect.max,
            window: reconnect.window,
            at_once: reconnect.at_once,
            per_second: reconnect.per_second.get(),
        }),
    }
}

fn stdio_params(
    name: &Arc<str>,
    stdio: &tidegate_config::StdioUpstream,
) -> tidegate_upstream_stdio::Params {
    let command = std::iter::once(stdio.program.clone().into())
        .chain(stdio.args.iter().map(Into::into))
        .collect();
    let processes = &stdio.processes;
    tidegate_upstream_stdio::Params {
        env: stdio.env.iter().map(|(name, value)| (name.into(), value.expose().into())).collect(),
        cwd: stdio.cwd.clone(),
        user: stdio.user,
        group: stdio.group,
        rlimits: Rlimits {
            open_files: stdio.rlimits.open_files,
            address_space: stdio.rlimits.address_space,
            cpu: stdio.rlimits.cpu,
        },
        sharing: match processes.sharing {
            tidegate_config::Sharing::Session => Sharing::Session,
            tidegate_config::Sharing::Shared => Sharing::Shared,
            tidegate_config::Sharing::Auto => Sharing::Auto,
        },
        max_processes: processes.max_processes,
        max_waiting: processes.max_waiting,
        acquire_timeout: processes.acquire_timeout,
        min_idle: processes.min_idle,
        idle_timeout: processes.idle_timeout,
        max_age: processes.max_age,
        max_calls: processes.max_calls,
        max_rss: processes.max_rss,
        start_timeout: stdio.start_timeout,
        start_attempts: stdio.start_attempts,
        down_for: stdio.down_for,
        stop_grace: stdio.stop_grace,
        max_line: stdio.max_line,
        max_in_flight: stdio.max_in_flight,
        timeouts: timeouts(&stdio.timeouts),
        ..tidegate_upstream_stdio::Params::new(Arc::clone(name), command)
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU32, time::Duration};

    use tidegate_config::{Environment, Flags, Upstream, load_in};
    use tidegate_service::{
        Tasks, Timeouts,
        slow::{Backlog, Policy, SlowParams},
    };
    use tidegate_session::{LogLimits, ReplayParams};
    use tidegate_upstream_http::{Http2, Reconnect};
    use tidegate_upstream_stdio::{Params, Rlimits, Sharing};

    use crate::{processes::Processes, stack::Route};

    /// The upstream that this says, none of its values a default.
    fn upstream(kind: &str, keys: &str, timeouts: &str) -> Upstream {
        let keys = (format!("TIDEGATE__UPSTREAMS__A__{kind}"), keys.to_owned());
        let timeouts = ("TIDEGATE__UPSTREAMS__A__TIMEOUTS".to_owned(), timeouts.to_owned());
        let around = Environment::new([keys, timeouts], "/").running_as(0, 0);
        load_in(&Flags::default(), &around).unwrap().config.upstreams["a"].clone()
    }

    fn stdio(keys: &str, timeouts: &str) -> Params {
        let keys = format!("{{command: [/bin/sh, -c, x], clear_env: true, {keys}}}");
        let Upstream::Stdio(stdio) = upstream("STDIO", &keys, timeouts) else {
            panic!("not stdio")
        };
        super::stdio_params(&"a".into(), &stdio)
    }

    #[test]
    fn every_key_of_a_command_reaches_its_upstream() {
        let seconds = Duration::from_secs;
        // Without `..`: a parameter that nobody sets here does not compile.
        let Params {
            name,
            command,
            env,
            cwd,
            user,
            group,
            rlimits,
            sharing,
            max_processes,
            max_waiting,
            acquire_timeout,
            min_idle,
            idle_timeout,
            max_age,
            max_calls,
            max_rss,
            start_timeout,
            start_attempts,
            down_for,
            stop_grace,
            max_line,
            max_in_flight,
            timeouts,
        } = stdio(
            "env: {K: v}, cwd: /bin, user: 11, group: 12, \
             rlimits: {nofile: 21, as: 22MiB, cpu: 23s}, sharing: shared, max_processes: 31, \
             max_waiting: 32, acquire_timeout: 33s, idle_timeout: 35s, max_age: 36s, \
             max_calls: 37, max_rss: 38MiB, start_timeout: 41s, start_attempts: 42, down_for: 43s, \
             stop_grace: 44s, max_line: 45KiB, max_in_flight: 46",
            "{request: 12s, idle: 13s}",
        );
        assert_eq!((&*name, command), ("a", ["/bin/sh", "-c", "x"].map(Into::into).to_vec()));
        assert_eq!(env.into_iter().collect::<Vec<_>>(), [("K".into(), "v".into())]);
        assert_eq!((cwd, user, group), (Some("/bin".into()), Some(11), Some(12)));
        let (open_files, address_space, cpu) = (Some(21), Some(22 << 20), Some(seconds(23)));
        assert_eq!(rlimits, Rlimits { open_files, address_space, cpu });
        assert_eq!((sharing, max_processes.get(), min_idle), (Sharing::Shared, 31, 0));
        assert_eq!((max_waiting, acquire_timeout), (32, seconds(33)));
        assert_eq!((idle_timeout, max_age), (Some(seconds(35)), Some(seconds(36))));
        assert_eq!((max_calls, max_rss), (Some(37), Some(38 << 20)));
        assert_eq!((start_timeout, start_attempts), (seconds(41), NonZeroU32::new(42).unwrap()));
        assert_eq!((down_for, stop_grace), (seconds(43), seconds(44)));
        assert_eq!((max_line, max_in_flight), (45 << 10, 46));
        let (request, idle) = (Some(seconds(12)), Some(seconds(13)));
        assert_eq!((timeouts.request, timeouts.idle), (request, idle));
    }

    #[test]
    fn every_way_of_sharing_reaches_its_upstream() {
        for (text, expected) in
            [("session", Sharing::Session), ("shared", Sharing::Shared), ("auto", Sharing::Auto)]
        {
            assert_eq!(stdio(&format!("sharing: {text}"), "{}").sharing, expected);
        }
        assert_eq!(stdio("min_idle: 3", "{}").min_idle, 3);
    }

    #[test]
    fn off_is_no_limit() {
        let params = stdio("idle_timeout: off, max_age: off, max_calls: off, max_rss: off", "{}");
        assert_eq!((params.idle_timeout, params.max_age), (None, None));
        assert_eq!((params.max_calls, params.max_rss), (None, None));
    }

    #[test]
    fn the_defaults_of_the_file_are_those_of_the_upstream() {
        let lowered = stdio("env: {}", "{}");
        let own = Params::new("a", Vec::new());
        let told = |params: &Params| {
            (
                (params.user, params.group, params.rlimits, params.sharing, params.min_idle),
                (params.max_processes, params.max_waiting, params.acquire_timeout),
                (params.idle_timeout, params.max_age, params.max_calls, params.max_rss),
                (params.start_timeout, params.start_attempts, params.down_for, params.stop_grace),
                (params.max_line, params.max_in_flight, params.timeouts),
            )
        };
        assert_eq!(told(&lowered), told(&own));
    }

    /// What becomes of a route with these keys to an upstream of this kind.
    async fn route(kind: &str, keys: &str) -> Route {
        let upstream = match kind {
            "STDIO" => "{command: [/bin/sh, -c, x]}",
            _ => "{url: 'http://127.0.0.1:9/x'}",
        };
        let routes = format!("[{{match: {{path: /a}}, upstream: a, {keys}}}]");
        let vars = [
            (format!("TIDEGATE__UPSTREAMS__A__{kind}"), upstream.to_owned()),
            ("TIDEGATE__ROUTES".to_owned(), routes),
        ];
        let around = Environment::new(vars, "/").running_as(0, 0);
        let config = load_in(&Flags::default(), &around).unwrap().config;
        let tasks = Tasks::default();
        let leaves = super::leaves(&config, &Processes::open(None).spawner, &tasks).unwrap();
        let mut routes = super::routes(&config, &leaves, &Backlog::default()).unwrap();
        tasks.stop().await;
        routes.remove(0)
    }

    #[tokio::test]
    async fn every_key_of_replay_reaches_its_route() {
        let keys = "replay: on, replay_window: 11s, replay_max_events: 12, \
                    replay_max_bytes: 13KiB, replay_prime_after: 14s, replay_poll_after: 15s";
        let ReplayParams { limits, prime_after, poll_after, tell: _ } =
            route("HTTP", keys).await.replay.unwrap();
        let LogLimits { events, bytes, age } = limits;
        assert_eq!((events, bytes), (12, 13 << 10));
        assert_eq!((age, prime_after), (Duration::from_secs(11), Duration::from_secs(14)));
        assert_eq!(poll_after, Some(Duration::from_secs(15)));
        for (kind, mode, expected) in [
            ("STDIO", "auto", true),
            ("STDIO", "on", true),
            ("STDIO", "off", false),
            ("HTTP", "auto", false),
            ("HTTP", "on", true),
            ("HTTP", "off", false),
        ] {
            let route = route(kind, &format!("replay: {mode}")).await;
            assert_eq!(route.replay.is_some(), expected, "{kind} {mode}");
        }
    }

    #[tokio::test]
    async fn every_key_about_slow_clients_reaches_its_route() {
        let keys = "slow_client: end, slow_client_buffer: 71KiB, slow_client_after: 7s";
        let end = route("HTTP", keys).await;
        let seconds = Duration::from_secs;
        let expected = SlowParams { policy: Policy::End, buffer: 71 << 10, after: seconds(7) };
        assert_eq!((end.slow.params(), end.slow.route()), (&expected, "/a"));
        assert_eq!(*route("STDIO", "").await.slow.params(), SlowParams::default());
    }

    fn http(keys: &str) -> tidegate_upstream_http::Params {
        let keys = format!("{{url: 'http://127.0.0.1:9/x', {keys}}}");
        let timeouts = "{connect: 11s, request: 12s, idle: 13s}";
        let Upstream::Http(http) = upstream("HTTP", &keys, timeouts) else { panic!("not http") };
        super::http_params(&"a".into(), &http)
    }

    #[test]
    fn reconnecting_is_off_where_it_is_off_and_else_as_the_upstream_has_it() {
        assert_eq!(http("reconnect: off").reconnect, None);
        assert_eq!(http("reconnect: on").reconnect, Some(Reconnect::default()));
    }

    #[test]
    fn every_key_of_a_url_reaches_its_upstream() {
        let params = http(
            "max_connections: 14, \
             max_waiting: 15, acquire_timeout: 16s, pool_idle: 17s, max_connection_age: 19s, \
             max_connection_requests: 20, min_idle_connections: 3, http2: always, \
             max_response: 18KiB, headers: {k: v}, reconnect_stall: 27s, reconnect_attempts: 21, reconnect_base: 22ms, \
             reconnect_max: 23s, reconnect_for: 24s, reconnect_at_once: 25, reconnect_rate: 26",
        );
        let tidegate_upstream_http::Params {
            name,
            url,
            timeouts,
            max_connections,
            max_waiting,
            acquire_timeout,
            pool_idle,
            max_lifetime,
            max_uses,
            min_idle,
            max_response,
            http2,
            ca_pem,
            headers,
            reconnect,
        } = params;
        let seconds = Duration::from_secs;
        assert_eq!((&*name, url.to_string().as_str()), ("a", "http://127.0.0.1:9/x"));
        let expected =
            Timeouts { connect: seconds(11), request: Some(seconds(12)), idle: Some(seconds(13)) };
        assert_eq!((timeouts, max_connections), (expected, 14));
        assert_eq!((max_waiting, acquire_timeout), (15, seconds(16)));
        assert_eq!((max_lifetime, max_uses, min_idle), (Some(seconds(19)), Some(20), 3));
        assert_eq!((pool_idle, max_response, ca_pem), (seconds(17), 18 << 10, None));
        assert_eq!((http2, &headers["k"]), (Http2::Always, &"v".parse().unwrap()));
        let expected = Reconnect {
            stall: seconds(27),
            attempts: NonZeroU32::new(21).unwrap(),
            base: Duration::from_millis(22),
            max: seconds(23),
            window: seconds(24),
            at_once: 25,
            per_second: 26,
        };
        assert_eq!(reconnect, Some(expected));
    }
}
