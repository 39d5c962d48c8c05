//! A server that follows a script, frame by frame.

use std::time::Duration;

use tidegate_upstream_http::{Http2, Params};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{Conn, Peer, World, soon};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const DATA: u8 = 0;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// Why a stream or a connection ends.
pub(crate) const NO_ERROR: u32 = 0;
pub(crate) const INTERNAL_ERROR: u32 = 2;
pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const CANCEL: u32 = 8;

/// One accepted connection.
pub(crate) struct Raw(Conn);

pub(crate) fn world(peer: &Peer) -> World {
    world_with(peer, |_| ())
}

pub(crate) fn world_with(peer: &Peer, change: impl FnOnce(&mut Params)) -> World {
    peer.world_with(|params| {
        params.http2 = Http2::Always;
        // A broken test ends before its patience does.
        params.timeouts.request = Some(Duration::from_secs(5));
        change(params);
    })
}

impl Raw {
    /// Accepts a connection and says that it may be used.
    pub(crate) async fn accept(peer: &Peer) -> Self {
        Self::accept_with(peer, &[]).await
    }

    /// The same, and anything goes in the other direction.
    pub(crate) async fn accept_open(peer: &Peer) -> Self {
        let window = u32::try_from(i32::MAX).unwrap();
        let [a, b, c, d] = window.to_be_bytes();
        let mut raw = Self::accept_with(peer, &[0, 4, a, b, c, d]).await;
        raw.write(WINDOW_UPDATE, 0, 0, &(window - 65_535).to_be_bytes()).await;
        raw
    }

    async fn accept_with(peer: &Peer, settings: &[u8]) -> Self {
        let mut raw = Self(peer.accept().await);
        let mut preface = [0; PREFACE.len()];
        soon(raw.0.socket.read_exact(&mut preface)).await.unwrap();
        assert_eq!(preface, PREFACE);
        raw.write(SETTINGS, 0, 0, settings).await;
        raw
    }

    /// Waits for the head of the next request; says its stream.
    pub(crate) async fn request(&mut self) -> u32 {
        loop {
            let (kind, stream) = soon(self.read()).await.unwrap();
            if kind == HEADERS {
                return stream;
            }
        }
    }

    /// Reads until the client closes, and says how many requests came.
    pub(crate) async fn rest(mut self) -> usize {
        let mut requests = 0;
        soon(async {
            while let Some((kind, _)) = self.read().await {
                requests += usize::from(kind == HEADERS);
            }
        })
        .await;
        requests
    }

    /// Answers with the head of a stream of events.
    pub(crate) async fn events(&mut self, stream: u32) {
        self.head(stream, "text/event-stream").await;
    }

    /// Answers with a message.
    pub(crate) async fn message(&mut self, stream: u32, message: &str) {
        self.head(stream, "application/json").await;
        self.write(DATA, END_STREAM, stream, message.as_bytes()).await;
    }

    pub(crate) async fn data(&mut self, stream: u32, data: &str) {
        self.write(DATA, 0, stream, data.as_bytes()).await;
    }

    pub(crate) async fn end(&mut self, stream: u32) {
        self.write(DATA, END_STREAM, stream, b"").await;
    }

    pub(crate) async fn reset(&mut self, stream: u32, reason: u32) {
        self.write(RESET, 0, stream, &reason.to_be_bytes()).await;
    }

    /// Says that streams after `last` are none of its business.
    pub(crate) async fn go_away(&mut self, last: u32, reason: u32) {
        let [last, reason] = [last, reason].map(u32::to_be_bytes);
        self.write(GOAWAY, 0, 0, &[last, reason].concat()).await;
    }

    async fn head(&mut self, stream: u32, media: &str) {
        // `:status: 200` from the static table, then the name of `content-type` from there too.
        let mut block = vec![0x88, 0x0f, 0x10, u8::try_from(media.len()).unwrap()];
        block.extend_from_slice(media.as_bytes());
        self.write(HEADERS, END_HEADERS, stream, &block).await;
    }

    async fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend_from_slice(&[kind, flags]);
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        soon(self.0.socket.write_all(&frame)).await.unwrap();
    }

    /// The next frame; `None` if the client has closed.
    async fn read(&mut self) -> Option<(u8, u32)> {
        let mut head = [0; 9];
        self.0.socket.read_exact(&mut head).await.ok()?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap();
        self.0.socket.read_exact(&mut vec![0; length]).await.ok()?;
        if kind == SETTINGS && flags & ACK == 0 {
            self.write(SETTINGS, ACK, 0, b"").await;
        }
        Some((kind, u32::from_be_bytes(stream)))
    }
}
