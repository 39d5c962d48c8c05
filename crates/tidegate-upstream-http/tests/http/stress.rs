//! Many callers on two threads: no answer goes astray, no wake is lost, nothing is left.

use std::time::Duration;

use futures_util::StreamExt as _;
use tidegate_protocol::{Envelope, Kind as MessageKind, rpc, sse};
use tidegate_service::{Body, Kind};
use tokio::{
    io::AsyncWriteExt as _,
    task::{JoinSet, yield_now},
};

use crate::support::{Conn, EVENTS_HEAD, Peer, World, chunk, json, send, soon};

const CALLERS: u64 = 32;
const ROUNDS: u64 = 100;

/// Answers in a way that depends on the id of the request, and says whether to go on.
async fn answer(conn: &mut Conn, id: u64, body: &str) -> std::io::Result<bool> {
    let event = sse::encode(body.as_bytes());
    let event = std::str::from_utf8(&event).unwrap();
    match id % 6 {
        0 | 1 => conn.socket.write_all(json(body).as_bytes()).await?,
        2 => {
            let whole = json(body);
            for piece in whole.as_bytes().chunks(40) {
                conn.socket.write_all(piece).await?;
                yield_now().await;
            }
        }
        3 => {
            let head = format!("{EVENTS_HEAD}{}", chunk(": soon\n\n"));
            conn.socket.write_all(head.as_bytes()).await?;
            for _ in 0..3 {
                yield_now().await;
                conn.socket.write_all(chunk("data: {\"x\":1}\n\n").as_bytes()).await?;
            }
            conn.socket.write_all(format!("{}0\r\n\r\n", chunk(event)).as_bytes()).await?;
        }
        4 => {
            let last = json(body).replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n");
            conn.socket.write_all(last.as_bytes()).await?;
            return Ok(false);
        }
        // Closed without a warning.
        _ => {
            conn.socket.write_all(json(body).as_bytes()).await?;
            return Ok(false);
        }
    }
    Ok(true)
}

async fn serve(peer: Peer) {
    let mut conns = JoinSet::new();
    loop {
        let mut conn = peer.accept().await;
        conns.spawn(async move {
            while let Some(seen) = conn.try_request().await {
                let asked = Envelope::parse(seen.body.into()).unwrap();
                let id = asked.id().unwrap();
                let body = rpc::result(&id, "{}");
                let body = std::str::from_utf8(&body).unwrap();
                if !matches!(answer(&mut conn, id.as_u64().unwrap(), body).await, Ok(true)) {
                    return;
                }
            }
        });
    }
}

/// One call; whether it was answered. The answer must be its own.
async fn call(world: &World, id: u64) -> bool {
    let call = send(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"x"}}"#));
    let reply = match world.call(call).await {
        Ok(reply) => reply,
        Err(error) => {
            // The server closed at the very moment the request was written.
            assert_eq!(error.kind, Kind::Died, "{}", error.chain());
            return false;
        }
    };
    let answer = match reply.body {
        Body::One(envelope) => envelope,
        Body::Stream(stream) => {
            let frames: Vec<_> = soon(stream.collect()).await;
            let last = frames.into_iter().next_back().unwrap().unwrap();
            let tidegate_service::Frame::Block(block) = last else { panic!("not a block") };
            Envelope::parse(block.data.unwrap()).unwrap()
        }
        Body::Empty => panic!("no answer"),
    };
    assert_eq!(answer.kind(), MessageKind::Response);
    assert_eq!(answer.id().and_then(|id| id.as_u64()), Some(id));
    true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_finds_its_caller() {
    let peer = Peer::bind().await;
    let world = peer.world_with(|params| {
        params.max_connections = 8;
        params.acquire_timeout = Duration::from_secs(30);
    });
    let world = std::sync::Arc::new(world);
    let mut servers = JoinSet::new();
    servers.spawn(serve(peer));
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let world = std::sync::Arc::clone(&world);
        callers.spawn(async move {
            let mut answered = 0;
            for round in 0..ROUNDS {
                answered += u64::from(call(&world, caller * ROUNDS + round).await);
                if round % 10 == 3 {
                    // One that leaves early, in between.
                    let early = Duration::from_micros(round * 7);
                    drop(tokio::time::timeout(early, call(&world, round)).await);
                }
            }
            answered
        });
    }
    let answered: u64 = callers.join_all().await.into_iter().sum();
    let stats = world.stats();
    assert!(answered > CALLERS * ROUNDS * 9 / 10, "{answered}: {stats:?}");
    assert_eq!((stats.calls.in_use, stats.calls.waiting, stats.open_streams), (0, 0, 0));
    assert_eq!(stats.attempts.total(), CALLERS * (ROUNDS + ROUNDS / 10), "{stats:?}");
    std::sync::Arc::into_inner(world).unwrap().end().await;
    servers.shutdown().await;
}
