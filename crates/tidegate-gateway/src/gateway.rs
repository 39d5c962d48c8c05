//! A running proxy.

use std::{fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use tidegate_config::Config;
use tidegate_server::{Front, Listener};
use tidegate_service::{OnError, Tasks, slow::Backlog};
use tidegate_session::{Account, Store, StoreParams};
use tidegate_telemetry::Telemetry;
use tokio::{
    sync::watch,
    time::{self, Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use crate::{
    census::{Census, Counted},
    lower, observe,
    processes::Processes,
    stack::{self, Shared},
    status::Reporter,
    stop::{Outcome, Parts, Stop},
};

/// Why a gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener could not be bound.
    #[error("cannot listen on {address}: {source}; is something else using it?")]
    Bind {
        /// The configured address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// An upstream could not be set up.
    #[error("upstream `{name}`: {source}")]
    Upstream {
        /// The configured name.
        name: String,
        /// What is wrong with it.
        source: tidegate_upstream_http::SetupError,
    },
    /// A route names no upstream. Validation refuses such a configuration.
    #[error("route `{path}` names the unknown upstream `{upstream}`")]
    Route {
        /// The route's path.
        path: String,
        /// The name that was not found.
        upstream: String,
    },
}

/// The handle of a running proxy. Dropping it drains and stops the proxy in the background;
/// [`Gateway::finished`] tells when that is done.
#[derive(Debug)]
pub struct Gateway {
    addresses: Vec<SocketAddr>,
    ops_address: Option<SocketAddr>,
    counted: Counted,
    wanted: watch::Sender<Option<Stop>>,
    finished: Finished,
}

/// Tells when a gateway has stopped, and how. Outlives the gateway.
#[derive(Clone, Debug)]
pub struct Finished(watch::Receiver<Option<Outcome>>);

impl Gateway {
    /// Binds every listener, sets every upstream up and starts serving. Must run inside a tokio
    /// runtime with time and IO.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing is left running then.
    ///
    /// # Cancel safety
    ///
    /// Only the end of what a failed start has begun is awaited, and that ends by itself if the
    /// wait is dropped.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let processes = Processes::open(config.state_dir.as_deref());
        Self::whole(config, processes, Tasks::default()).await
    }

    /// Like [`Gateway::start`], for a program that is a proxy and nothing else: it becomes the
    /// parent of whatever its servers leave behind, so that none of it escapes or stays a zombie.
    ///
    /// # Errors
    ///
    /// As [`Gateway::start`].
    ///
    /// # Cancel safety
    ///
    /// As [`Gateway::start`].
    pub async fn start_alone(config: Config) -> Result<Self, StartError> {
        let processes = Processes::open(config.state_dir.as_deref());
        let upstreams = Tasks::default();
        // Before the first process, or finding out whose a stray is would take the whole table.
        processes.adopt_orphans(&upstreams);
        Self::whole(config, processes, upstreams).await
    }

    /// Starts everything, or leaves nothing running.
    async fn whole(
        config: Config,
        processes: Processes,
        upstreams: Tasks,
    ) -> Result<Self, StartError> {
        let started = Self::with(config, processes, upstreams.clone());
        if started.is_err() {
            upstreams.stop().await;
        }
        started
    }

    fn with(config: Config, processes: Processes, upstreams: Tasks) -> Result<Self, StartError> {
        let listeners = bind_all(config.listeners.iter().map(|listener| listener.address))?;
        let ops = bind_all(config.ops.iter().map(|ops| ops.address))?.pop();
        let addresses: Vec<_> = listeners.iter().map(Listener::address).collect();
        let ops_address = ops.as_ref().map(Listener::address);

        let drain = CancellationToken::new();
        let [clients, background, ops_tasks, root] = [(); 4].map(|()| Tasks::default());
        let telemetry = Telemetry::new();
        let store = Store::new(StoreParams {
            max_sessions: config.limits.max_sessions,
            idle: config.timeouts.session_idle,
        });
        let leaves = lower::leaves(&config, &processes.spawner, &upstreams)?;
        // The last that can fail, since only tasks of upstreams are ended then.
        let backlog = Backlog::new(config.limits.slow_client_budget);
        let routes = lower::routes(&config, &leaves, &backlog)?;
        let slow: Arc<[_]> = routes.iter().map(|route| Arc::clone(&route.slow)).collect();
        let logs = Account::new(config.limits.replay_budget);
        if let Some(window) = routes.iter().filter_map(stack::Route::replay_window).min() {
            logs.start(tenth(window), &background);
        }
        let shared = Shared { store: &store, logs: &logs, telemetry: &telemetry };
        let edge = stack::edge(routes, &shared);
        let front = Front::new(edge, lower::server(&config, &slow), drain.clone());

        let owners = [&clients, &background, &upstreams, &ops_tasks].map(Clone::clone);
        let tasks = owners.into_iter().collect();
        let leaves = leaves.into();
        let counted = Counted { front, store, logs, slow, backlog, leaves, processes, tasks };
        let parts = Parts {
            drain,
            patience: config.timeouts.drain,
            clients,
            counted: counted.clone(),
            background,
            upstreams,
            ops: ops_tasks,
        };
        let where_to = (&addresses[..], ops_address);
        let reporter = Reporter::new(&config, where_to, counted.clone(), parts.drain.clone());
        if let Some(directory) = &config.state_dir {
            reporter.serve(directory, &parts.ops);
        }
        if let Some(ops) = ops {
            let sources = observe::sources(&telemetry, &counted, &reporter);
            let security = lower::security(&config);
            ops.observe(sources, security, parts.ops.stopping(), &parts.ops);
        }
        sweep_sessions(&counted.store, config.timeouts.session_idle, &parts.background);
        for listener in listeners {
            listener.serve(&counted.front, &parts.clients);
        }

        let (wanted, wish) = watch::channel(None);
        let (finish, finished) = watch::channel(None);
        root.spawn("supervise", OnError::Log, async move {
            let outcome = parts.run(wish).await;
            finish.send_replace(Some(outcome));
            Ok(())
        });
        Ok(Self { addresses, ops_address, counted, wanted, finished: Finished(finished) })
    }

    /// Where clients connect, in the order of the configuration.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where health and metrics are served.
    pub const fn ops_address(&self) -> Option<SocketAddr> {
        self.ops_address
    }

    /// What there is right now.
    pub fn census(&self) -> Census {
        self.counted.census()
    }

    /// A handle to wait with, also after this one is gone.
    pub fn finished(&self) -> Finished {
        self.finished.clone()
    }

    /// Asks for a stop and waits until it is done. Asking for [`Stop::Now`] while a graceful stop
    /// is under way hurries it.
    ///
    /// # Cancel safety
    ///
    /// The stop goes on if the wait is dropped.
    pub async fn stop(&self, how: Stop) -> Outcome {
        self.wanted.send_replace(Some(how));
        self.finished.clone().wait().await
    }
}

impl Finished {
    /// Waits until the gateway has stopped.
    ///
    /// # Cancel safety
    ///
    /// Dropping the wait changes nothing.
    pub async fn wait(mut self) -> Outcome {
        match self.0.wait_for(Option::is_some).await.map(|outcome| *outcome) {
            Ok(Some(outcome)) => outcome,
            // The supervisor died, or its runtime did; either way nothing was drained.
            Ok(None) | Err(_) => Outcome { cut: 0, left: Census { tasks: 1, ..Census::default() } },
        }
    }
}

fn bind_all(addresses: impl Iterator<Item = SocketAddr>) -> Result<Vec<Listener>, StartError> {
    addresses
        .map(|address| {
            Listener::bind(address).map_err(|source| StartError::Bind { address, source })
        })
        .collect()
}

/// How often to look for what is older than `limit`.
fn tenth(limit: Duration) -> Duration {
    (limit / 10).clamp(Duration::from_millis(100), Duration::from_secs(60))
}

/// Ends sessions that nobody uses, ten times within the time they may be idle.
fn sweep_sessions(store: &Store, idle: Duration, background: &Tasks) {
    let every = tenth(idle);
    let store = store.clone();
    let stopping = background.stopping().clone();
    background.spawn("sweep sessions", OnError::Log, async move {
        let mut tick = time::interval(every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => store.sweep(Instant::now()).await,
                () = stopping.cancelled() => return Ok(()),
            };
        }
    });
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.borrow().is_some() { "stopped" } else { "running" })
    }
}
