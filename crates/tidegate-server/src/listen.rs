//! Accepting connections.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::FutureExt as _;
use tidegate_service::{OnError, Tasks};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{connection, http::Front, stats::Counters};

/// How long the accept loop rests when the process is out of descriptors; doubles up to a second.
const FIRST_REST: Duration = Duration::from_millis(10);
const LONGEST_REST: Duration = Duration::from_secs(1);

/// A bound socket that nobody has asked yet.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Binds. Port 0 takes a free one; [`Listener::address`] tells which.
    ///
    /// # Errors
    ///
    /// Those of `bind` and `listen`; address in use among them.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = std::net::TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        let socket = TcpListener::from_std(socket)?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address })
    }

    /// The address that clients reach.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts accepting for `front`, until the front drains. The tasks end when the last
    /// connection has.
    pub fn serve(self, front: &Front, tasks: &Tasks) {
        let front = front.for_listener(self.address, tasks);
        let intake = front.intake();
        self.accept_with(intake, tasks, move |stream, tasks| {
            let front = Arc::clone(&front);
            async move { connection::serve(stream, &front, &tasks).await }
        });
    }

    /// Starts a task that accepts connections, and one more for each of them.
    pub(crate) fn accept_with<S, F, E>(self, intake: Intake, tasks: &Tasks, serve: S)
    where
        S: Fn(TcpStream, Tasks) -> F + Send + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: fmt::Display,
    {
        let each = tasks.clone();
        tasks.spawn("accept", OnError::Stop, async move {
            while let Some((stream, peer)) = intake.next(&self.socket).await {
                let Some(place) = intake.admit(&stream) else { continue };
                // Adapters hold the future once, an async block twice.
                let served = serve(stream, each.clone()).map(move |served| {
                    if let Err(error) = served {
                        debug!(%peer, %error, "connection ended");
                    }
                    drop(place);
                    Ok(())
                });
                each.spawn("connection", OnError::Log, served);
            }
            Ok(())
        });
    }
}

/// What decides over a new connection.
#[derive(Debug)]
pub(crate) struct Intake {
    pub(crate) places: Arc<Semaphore>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) drain: CancellationToken,
}

impl Intake {
    /// The next connection; `None` once the proxy drains.
    async fn next(&self, socket: &TcpListener) -> Option<(TcpStream, SocketAddr)> {
        let mut rest = FIRST_REST;
        loop {
            let accepted = tokio::select! {
                accepted = socket.accept() => accepted,
                () = self.drain.cancelled() => return None,
            };
            match accepted {
                Ok(connection) => return Some(connection),
                Err(error) if is_about_one_connection(&error) => debug!(%error, "lost at accept"),
                Err(error) => {
                    // Out of descriptors or memory: trying again at once would only burn the CPU.
                    warn!(%error, rest_ms = rest.as_millis(), "cannot accept, resting");
                    tokio::select! {
                        () = time::sleep(rest) => rest = (rest * 2).min(LONGEST_REST),
                        () = self.drain.cancelled() => return None,
                    }
                }
            }
        }
    }

    /// A place for the connection, if there is one; it is closed unheard otherwise.
    fn admit(&self, stream: &TcpStream) -> Option<OwnedSemaphorePermit> {
        self.counters.connections_accepted.fetch_add(1, Ordering::Relaxed);
        // An event must leave at once, not when the kernel has collected a segment.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "no TCP_NODELAY");
        }
        if let Err(error) = keep_little_unsent(stream) {
            debug!(%error, "no TCP_NOTSENT_LOWAT");
        }
        let place = Arc::clone(&self.places).try_acquire_owned().ok();
        if place.is_none() {
            self.counters.connections_refused.fetch_add(1, Ordering::Relaxed);
        }
        place
    }
}

/// How much the kernel takes of what a client is not ready for.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 128 << 10;

/// Has the kernel take more for a client whenever it has sent a little, not only when it has sent a
/// third of some megabytes. So it shows soon that a slow client does take something, and its megabytes
/// wait where they are counted.
#[cfg(target_os = "linux")]
fn keep_little_unsent(stream: &TcpStream) -> io::Result<()> {
    socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT)
}

#[cfg(not(target_os = "linux"))]
fn keep_little_unsent(_: &TcpStream) -> io::Result<()> {
    Ok(())
}

fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
