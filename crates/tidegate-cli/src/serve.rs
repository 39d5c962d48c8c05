//! `serve`: start the gateway, say where it is, wait for a signal, stop it.

use anyhow::Context as _;
use tidegate_config::{Config, load};
use tidegate_gateway::{Gateway, Outcome, Stop};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use crate::{
    args::ServeArgs,
    check::{current_program, print},
    exit::{Exit, complain, refuse},
    logging, runtime,
    welcome::{self, Serving},
};

/// Serves until a signal comes.
pub(crate) fn serve(args: &ServeArgs) -> Exit {
    let config = match load(&args.flags(current_program)) {
        Ok(loaded) => loaded.config,
        Err(report) => return refuse(&report),
    };
    if let Err(error) = logging::start(&config.log) {
        return complain(&error);
    }
    let outcome = runtime::run(config.workers, run(config, args.source.demo));
    match outcome.context("cannot start the runtime").flatten() {
        Ok(outcome) if outcome.is_clean() => Exit::Ok,
        Ok(outcome) => {
            warn!(cut = outcome.cut, left = ?outcome.left, "stopped before everything was done");
            Exit::Failure
        }
        Err(error) => complain(&error),
    }
}

async fn run(config: Config, demo: bool) -> anyhow::Result<Outcome> {
    // Before the gateway: a signal during its start must not kill its children's parent.
    let mut signals = Signals::new()?;
    let routes = config.routes.clone();
    let gateway = Gateway::start_alone(config).await.context("cannot start")?;
    let serving =
        Serving { addresses: gateway.addresses(), ops: gateway.ops_address(), routes: &routes };
    print(&welcome::text(&serving, demo));

    let mut finished = std::pin::pin!(gateway.finished().wait());
    tokio::select! {
        name = signals.next() => info!(signal = name, "stopping; a second signal cuts calls"),
        outcome = &mut finished => return Ok(outcome),
    }
    tokio::select! {
        outcome = gateway.stop(Stop::Graceful) => Ok(outcome),
        name = signals.next() => {
            warn!(signal = name, "cutting calls");
            Ok(gateway.stop(Stop::Now).await)
        }
    }
}

/// The signals that mean stop.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Catches them from now on, in place of the end of the process.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let catch = |kind| signal(kind).context("cannot catch signals");
        Ok(Self {
            terminate: catch(SignalKind::terminate())?,
            interrupt: catch(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one and gives its name.
    ///
    /// # Cancel safety
    ///
    /// No signal is lost.
    pub(crate) async fn next(&mut self) -> Option<&'static str> {
        tokio::select! {
            got = self.terminate.recv() => got.map(|()| "SIGTERM"),
            got = self.interrupt.recv() => got.map(|()| "SIGINT"),
        }
    }
}
