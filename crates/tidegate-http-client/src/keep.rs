//! Looking after connections that nobody uses.

use std::{future::Future, sync::Arc, time::Duration};

use tidegate_pool::{Keeper, Pool};
use tidegate_service::{Error, Tasks};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{
    Params,
    dial::{Dialer, Lane},
    fault::Fault,
    link::Link,
};

/// The longest time between two looks at idle connections.
const MAX_PERIOD: Duration = Duration::from_secs(5);
const MIN_PERIOD: Duration = Duration::from_millis(50);

/// Makes connections before they are asked for, and tells which are no longer good.
pub(crate) struct Links {
    dialer: Arc<Dialer>,
    upstream: Arc<str>,
    connect_timeout: Duration,
}

impl Keeper for Links {
    type Item = Box<Link>;
    type Error = Fault;

    async fn make(&self) -> Result<Box<Link>, Fault> {
        match self.dialer.dial(Lane::Calls, self.connect_timeout, None).await {
            Ok(mut link) => {
                link.set_aside();
                Ok(Box::new(link))
            }
            Err(fault) => {
                debug!(upstream = %self.upstream, ?fault, "no connection made in advance");
                Err(fault)
            }
        }
    }

    fn is_good(&self, link: &mut Box<Link>) -> bool {
        link.is_clean()
    }
}

/// How often to look: often enough for the shortest life that a connection may have.
fn period(params: &Params) -> Duration {
    let shortest = params.max_lifetime.map_or(params.pool_idle, |age| age.min(params.pool_idle));
    (shortest / 2).clamp(MIN_PERIOD, MAX_PERIOD)
}

/// Looks after the connections of `pools` until `stopped`, or until all tasks stop.
pub(crate) fn look_after(
    pools: [Pool<Box<Link>>; 2],
    dialer: &Arc<Dialer>,
    params: &Params,
    stopped: CancellationToken,
    tasks: Tasks,
) -> impl Future<Output = Result<(), Error>> + Send + use<> {
    let period = period(params);
    // Not the pools themselves: they and their connections go with the upstream.
    let [calls, streams] = pools.map(|pool| {
        let links = Links {
            dialer: Arc::clone(dialer),
            upstream: Arc::clone(&params.name),
            connect_timeout: params.timeouts.connect,
        };
        pool.maintain(links, period)
    });
    async move {
        tokio::select! {
            () = stopped.cancelled() => (),
            () = tasks.stopping().cancelled() => (),
            ((), ()) = async { tokio::join!(calls, streams) } => (),
        }
        Ok(())
    }
}
