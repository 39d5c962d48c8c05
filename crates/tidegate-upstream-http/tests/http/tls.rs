//! HTTPS with a certificate authority of the test's own.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::future::join_all;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tidegate_service::{Kind, Retry, Timeouts};
use tidegate_upstream_http::{Params, SetupError};
use tokio::{join, net::TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::support::{Conn, EVENTS_HEAD, PONG, Peer, World, chunk, events, json, message, next};

pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self { issuer: CertifiedIssuer::self_signed(params, key).unwrap() }
    }

    pub(crate) fn pem(&self) -> Vec<u8> {
        self.issuer.pem().into_bytes()
    }

    pub(crate) fn acceptor(&self, name: &str, protocols: &[&[u8]]) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

pub(crate) fn params(address: SocketAddr, ca_pem: Option<Vec<u8>>) -> Params {
    let url = format!("https://localhost:{}/mcp", address.port());
    Params { ca_pem, ..Params::new("secure", url.parse().unwrap()) }
}

async fn accept(
    peer: &Peer,
    acceptor: &TlsAcceptor,
) -> std::io::Result<Conn<TlsStream<TcpStream>>> {
    let socket = peer.accept().await.socket;
    Ok(Conn { socket: acceptor.accept(socket).await? })
}

#[tokio::test]
async fn a_trusted_server_is_called_and_its_connection_kept() {
    let (peer, authority) = (Peer::bind().await, Authority::new());
    let acceptor = authority.acceptor("localhost", &[b"http/1.1"]);
    let world = World::new(params(peer.address(), Some(authority.pem())));
    let big = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"a":"{}"}}}}"#, "x".repeat(1 << 20));
    let calls = async {
        assert_eq!(message(world.ping().await.unwrap()), PONG);
        assert_eq!(message(world.ping().await.unwrap()), big);
        let mut stream = events(world.ping().await.unwrap());
        assert_eq!(next(&mut stream).await.unwrap().unwrap(), "data: 1\n\n");
        assert!(next(&mut stream).await.is_none());
    };
    let server = async {
        let mut conn = accept(&peer, &acceptor).await.unwrap();
        assert_eq!(conn.socket.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        let seen = conn.answer(json(PONG)).await;
        assert!(seen.header("host").unwrap().starts_with("localhost:"), "{}", seen.head);
        conn.answer(json(&big)).await;
        conn.answer(format!("{EVENTS_HEAD}{}0\r\n\r\n", chunk("data: 1\n\n"))).await;
        conn
    };
    let ((), conn) = join!(calls, server);
    assert_eq!((world.stats().opened, world.stats().calls.reused), (1, 2));

    // The server goes away without a word; the next call does not suffer from it.
    drop(conn);
    let (reply, _conn) = join!(world.ping(), async {
        let mut conn = accept(&peer, &acceptor).await.unwrap();
        conn.answer(json(PONG)).await;
        conn
    });
    assert_eq!(message(reply.unwrap()), PONG);
    world.end().await;
}

#[tokio::test]
async fn calls_to_a_server_that_does_not_share_do_not_wait_for_each_others_handshakes() {
    let (peer, authority) = (Peer::bind().await, Authority::new());
    let acceptor = authority.acceptor("localhost", &[b"http/1.1"]);
    let world = World::new(params(peer.address(), Some(authority.pem())));
    let calls = join_all((0..4).map(|_| world.ping()));
    let server = async {
        // What the first finds out, the others know: they come all before any of them goes on.
        let mut first = accept(&peer, &acceptor).await.unwrap();
        let mut others = Vec::new();
        for _ in 0..3 {
            others.push(peer.accept().await.socket);
        }
        first.answer(json(PONG)).await;
        let mut served = vec![first];
        for socket in others {
            let mut conn = Conn { socket: acceptor.accept(socket).await.unwrap() };
            conn.answer(json(PONG)).await;
            served.push(conn);
        }
        served
    };
    let (replies, _served) = join!(calls, server);
    assert!(replies.into_iter().all(|reply| message(reply.unwrap()) == PONG));
    world.end().await;
}

#[tokio::test]
async fn servers_that_cannot_prove_who_they_are_get_no_request() {
    let (peer, authority) = (Peer::bind().await, Authority::new());
    let cases = [
        // The wrong name, an unknown authority, no common protocol.
        (authority.acceptor("other.example", &[]), authority.pem()),
        (authority.acceptor("localhost", &[]), Authority::new().pem()),
        (authority.acceptor("localhost", &[b"h3"]), authority.pem()),
    ];
    for (acceptor, ca_pem) in cases {
        let world = World::new(params(peer.address(), Some(ca_pem)));
        let (reply, accepted) = join!(world.ping(), accept(&peer, &acceptor));
        let error = reply.unwrap_err();
        assert_eq!((error.kind, error.retry), (Kind::Unreachable, Retry::NotSent));
        assert!(error.message().contains("TLS"), "{error}");
        assert!(accepted.is_err());
        world.end().await;
    }
}

#[tokio::test]
async fn a_handshake_that_hangs_is_part_of_connecting() {
    let (peer, authority) = (Peer::bind().await, Authority::new());
    let timeouts = Timeouts { connect: Duration::from_millis(100), ..Timeouts::default() };
    let world = World::new(Params { timeouts, ..params(peer.address(), Some(authority.pem())) });
    let (reply, _conn) = join!(world.ping(), peer.accept());
    let error = reply.unwrap_err();
    assert_eq!((error.kind, error.retry), (Kind::Timeout, Retry::NotSent));
    assert_eq!(error.message(), "waited 100ms to connect");
    world.end().await;
}

#[tokio::test]
async fn certificates_that_are_none_are_refused_at_set_up() {
    let peer = Peer::bind().await;
    let pem = b"-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----\n".to_vec();
    let tasks = tidegate_service::Tasks::default();
    let set_up =
        tidegate_upstream_http::HttpUpstream::new(params(peer.address(), Some(pem)), tasks);
    assert!(matches!(set_up.unwrap_err(), SetupError::CaPem(_)));
}
