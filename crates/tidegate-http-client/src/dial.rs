//! Making a connection, all within one timeout.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs, pki_types::CertificateDer};
use socket2::{SockRef, TcpKeepalive};
use tidegate_pool::Expiry;
use tidegate_service::Tasks;
use tokio::{
    net::{self, TcpStream},
    time::{self, Instant},
};
use tokio_rustls::TlsConnector;
use tracing::debug;

use crate::{
    Params, SetupError,
    fault::Fault,
    io::{Io, Watch},
    link::{Http1, Http2, Link, Shared},
    params::{Http2 as Http2Wish, Target},
    sharing::{Sharing, Step, Turn},
    stats::{Counters, OpenConnection},
};

/// A silent peer is found dead after this long, then three probes. Streams have no other limit.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);

/// Makes connections to one server.
pub(crate) struct Dialer {
    target: Target,
    tls: Option<TlsConnector>,
    http2: Http2Wish,
    counters: Arc<Counters>,
    tasks: Tasks,
    /// When a shared connection takes no more calls. Its leases come and go.
    expiry: Expiry,
    /// The shared connections, one for each lane.
    calls: Sharing,
    streams: Sharing,
    /// The server has chosen HTTP/1.1 when it was last asked, so that it makes no sense to wait
    /// for a connection that could be shared.
    speaks_http1: AtomicBool,
}

/// What a connection is for. Streams without an end must not use up what calls need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// For a call, which ends.
    Calls,
    /// For a stream without an end.
    Streams,
}

/// A new connection, by what it speaks.
enum Fresh {
    Http1(Link),
    Http2(Shared),
}

impl Dialer {
    pub(crate) fn new(
        params: &Params,
        target: Target,
        counters: Arc<Counters>,
        tasks: Tasks,
    ) -> Result<Self, SetupError> {
        let http2 = params.http2;
        let tls = match target.server_name {
            Some(_) => Some(connector(params.ca_pem.as_deref(), http2)?),
            None => None,
        };
        let never = http2 == Http2Wish::Off || (tls.is_none() && http2 == Http2Wish::Auto);
        Ok(Self {
            target,
            tls,
            http2,
            counters,
            tasks,
            expiry: Expiry { idle: None, lifetime: params.max_lifetime, uses: params.max_uses },
            calls: Sharing::new(),
            streams: Sharing::new(),
            speaks_http1: AtomicBool::new(never),
        })
    }

    pub(crate) const fn target(&self) -> &Target {
        &self.target
    }

    /// Makes a connection within `limit` and no later than `cap`.
    ///
    /// # Cancel safety
    ///
    /// A dropped attempt leaves nothing open.
    pub(crate) async fn dial(
        &self,
        lane: Lane,
        limit: Duration,
        cap: Option<Instant>,
    ) -> Result<Link, Fault> {
        let now = Instant::now();
        let deadline = cap.map_or(now + limit, |cap| cap.min(now + limit));
        match time::timeout_at(deadline, self.connect(lane, deadline)).await {
            // An address may have had a part of the time only.
            Err(_) | Ok(Err(Fault::ConnectTimeout(_))) => {
                Err(Fault::ConnectTimeout(deadline.saturating_duration_since(now)))
            }
            Ok(outcome) => outcome,
        }
    }

    /// A place in a connection that there is, or a new connection.
    async fn connect(&self, lane: Lane, deadline: Instant) -> Result<Link, Fault> {
        let sharing = match lane {
            Lane::Calls => &self.calls,
            Lane::Streams => &self.streams,
        };
        loop {
            // Asked anew after each wait: who waited for somebody's connection may learn that it
            // cannot be shared.
            if self.speaks_http1.load(Relaxed) {
                return Ok(self.adopt(sharing, None, self.fresh(deadline).await?));
            }
            match sharing.step() {
                Step::Take(shared) => return Ok(self.share_used(shared)),
                Step::Wait(wait) => wait.over().await,
                Step::Dial(turn) => {
                    let fresh = self.fresh(deadline).await?;
                    return Ok(self.adopt(sharing, Some(turn), fresh));
                }
            }
        }
    }

    /// Notes what the server speaks, before those hear of it who wait for the `turn` to end.
    fn adopt(&self, sharing: &Sharing, turn: Option<Turn<'_>>, fresh: Fresh) -> Link {
        self.speaks_http1.store(matches!(fresh, Fresh::Http1(_)), Relaxed);
        let link = match fresh {
            Fresh::Http1(link) => link,
            Fresh::Http2(shared) => {
                let shared = Arc::new(shared);
                sharing.add(&shared);
                self.share(shared)
            }
        };
        drop(turn);
        link
    }

    /// A share in a connection that may be about to end, without anybody knowing yet.
    fn share_used(&self, shared: Arc<Shared>) -> Link {
        let mut link = self.share(shared);
        link.set_aside();
        link
    }

    fn share(&self, shared: Arc<Shared>) -> Link {
        Link::Http2(Http2::new(shared, Arc::clone(&self.target.origin)))
    }

    async fn fresh(&self, deadline: Instant) -> Result<Fresh, Fault> {
        let socket = self.socket(deadline).await?;
        let open = OpenConnection::new(Arc::clone(&self.counters));
        let watch = Arc::new(Watch::new());
        let (io, is_http2) = match (&self.tls, &self.target.server_name) {
            (Some(tls), Some(name)) => {
                let stream = tls.connect(name.clone(), socket).await.map_err(Fault::Tls)?;
                let chosen = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                (Io::tls(stream, Arc::clone(&watch)), chosen)
            }
            _ => (Io::plain(socket, Arc::clone(&watch)), self.http2 == Http2Wish::Always),
        };
        if is_http2 {
            return Shared::new(io, open, self.expiry, &self.tasks).await.map(Fresh::Http2);
        }
        Http1::new(io, watch, open).await.map(Link::Http1).map(Fresh::Http1)
    }

    /// Tries the server's addresses one after the other.
    async fn socket(&self, deadline: Instant) -> Result<TcpStream, Fault> {
        let began = Instant::now();
        let addresses = self.resolve().await.map_err(Fault::Resolve)?;
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for (tried, address) in addresses.iter().enumerate() {
            // One address that swallows packets must not use up the time of the others.
            let left = deadline.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
            match time::timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(socket)) => {
                    configure(&socket).map_err(Fault::Connect)?;
                    return Ok(socket);
                }
                Ok(Err(error)) => last = error,
                Err(_elapsed) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        match last.kind() {
            io::ErrorKind::TimedOut => Err(Fault::ConnectTimeout(began.elapsed())),
            _ => Err(Fault::Connect(last)),
        }
    }

    async fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        let Target { host, port, .. } = &self.target;
        match host.parse::<IpAddr>() {
            Ok(address) => Ok(vec![SocketAddr::new(address, *port)]),
            Err(_) => Ok(net::lookup_host((host.as_str(), *port)).await?.collect()),
        }
    }
}

fn configure(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_EVERY)
        .with_retries(3);
    SockRef::from(socket).set_tcp_keepalive(&keepalive)
}

fn connector(ca_pem: Option<&[u8]>, http2: Http2Wish) -> Result<TlsConnector, SetupError> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in system.errors {
        debug!(%error, "a system certificate cannot be read");
    }
    let (_added, _ignored) = roots.add_parsable_certificates(system.certs);
    for certificate in CertificateDer::pem_slice_iter(ca_pem.unwrap_or_default()) {
        let certificate = certificate.map_err(|error| SetupError::CaPem(error.into()))?;
        roots.add(certificate).map_err(|error| SetupError::CaPem(error.into()))?;
    }
    if roots.is_empty() {
        return Err(SetupError::NoRoots);
    }
    // The provider is named, because with two of them in the binary rustls would not choose.
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(SetupError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let protocols: &[&[u8]] = match http2 {
        Http2Wish::Off => &[b"http/1.1"],
        Http2Wish::Auto => &[b"h2", b"http/1.1"],
        Http2Wish::Always => &[b"h2"],
    };
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Ok(TlsConnector::from(Arc::new(config)))
}
