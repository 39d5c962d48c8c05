//! Making a connection, all within one timeout.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs, pki_types::CertificateDer};
use socket2::{SockRef, TcpKeepalive};
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
    link::Link,
    params::Target,
    stats::{Counters, OpenConnection},
};

/// A silent peer is found dead after this long, then three probes. Streams have no other limit.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);

/// Makes connections to one server.
pub(crate) struct Dialer {
    target: Target,
    tls: Option<TlsConnector>,
    timeout: Duration,
    counters: Arc<Counters>,
}

impl Dialer {
    pub(crate) fn new(
        params: &Params,
        target: Target,
        counters: Arc<Counters>,
    ) -> Result<Self, SetupError> {
        let tls = match target.server_name {
            Some(_) => Some(connector(params.ca_pem.as_deref())?),
            None => None,
        };
        Ok(Self { target, tls, timeout: params.connect_timeout, counters })
    }

    pub(crate) const fn target(&self) -> &Target {
        &self.target
    }

    /// Makes a connection, no later than `cap`.
    ///
    /// # Cancel safety
    ///
    /// A dropped attempt leaves nothing open.
    pub(crate) async fn dial(&self, cap: Option<Instant>) -> Result<Link, Fault> {
        let now = Instant::now();
        let deadline = cap.map_or(now + self.timeout, |cap| cap.min(now + self.timeout));
        match time::timeout_at(deadline, self.connect(deadline)).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => Err(Fault::ConnectTimeout(deadline.saturating_duration_since(now))),
        }
    }

    async fn connect(&self, deadline: Instant) -> Result<Link, Fault> {
        let socket = self.socket(deadline).await?;
        let open = OpenConnection::new(Arc::clone(&self.counters));
        let watch = Arc::new(Watch::new());
        let io = match (&self.tls, &self.target.server_name) {
            (Some(tls), Some(name)) => {
                let stream = tls.connect(name.clone(), socket).await.map_err(Fault::Tls)?;
                Io::tls(stream, Arc::clone(&watch))
            }
            _ => Io::plain(socket, Arc::clone(&watch)),
        };
        Link::new(io, watch, open).await
    }

    /// Tries the server's addresses one after the other.
    async fn socket(&self, deadline: Instant) -> Result<TcpStream, Fault> {
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
            io::ErrorKind::TimedOut => Err(Fault::ConnectTimeout(self.timeout)),
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

fn connector(ca_pem: Option<&[u8]>) -> Result<TlsConnector, SetupError> {
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
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}
