//! Reading an event stream while it is being written.

use serde_json::Value;

use crate::http::Connection;

/// A response that is an event stream, its head read.
#[derive(Debug)]
pub struct Events {
    connection: Connection,
    read: Vec<u8>,
    end: Option<bool>,
    last_id: Option<String>,
}

impl Events {
    /// Sends a request and reads the head of the stream that answers it.
    pub async fn open(mut connection: Connection, request: &[u8]) -> Self {
        connection.send(request).await;
        Self::of(connection).await
    }

    /// Reads the head of a stream.
    pub async fn of(mut connection: Connection) -> Self {
        let (status, headers) = connection.head().await.expect("a head");
        let has = |name: &str, value: &str| {
            headers.iter().any(|(each, had)| each == name && had.starts_with(value))
        };
        assert!(status == 200 && has("content-type", "text/event-stream"), "{status} {headers:?}");
        assert!(has("cache-control", "no-cache") && has("x-accel-buffering", "no"), "{headers:?}");
        Self { connection, read: Vec::new(), end: None, last_id: None }
    }

    /// The next message; comments and events without data are passed over. `None` at the end.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            let event = self.event().await?;
            // The event that only carries an id has empty data.
            let data = event.lines().find_map(|line| line.strip_prefix("data: "));
            if let Some(data) = data.filter(|data| !data.is_empty()) {
                return Some(serde_json::from_str(data).unwrap());
            }
        }
    }

    /// The next event as it came. `None` at the end.
    pub async fn event(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.read.windows(2).position(|window| window == b"\n\n") {
                let event: Vec<u8> = self.read.drain(..end + 2).collect();
                let event = String::from_utf8(event).unwrap();
                if let Some(id) = event.lines().find_map(|line| line.strip_prefix("id: ")) {
                    self.last_id = Some(id.to_owned());
                }
                return Some(event);
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// The id of the last event that was read.
    pub fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    /// All further messages up to the end, which must be a clean one.
    pub async fn all(&mut self) -> Vec<Value> {
        let mut all = Vec::new();
        while let Some(message) = self.next().await {
            all.push(message);
        }
        assert_eq!(self.end, Some(true), "the stream was cut after {all:?}");
        all
    }

    /// The first event if it only carries an id, which is what a client gets that can come back.
    pub async fn primed(&mut self) -> String {
        while !self.read.windows(2).any(|window| window == b"\n\n") {
            assert!(self.more().await, "the stream ended: {:?}", self.read);
        }
        let end = self.read.windows(2).position(|window| window == b"\n\n").unwrap();
        let event: Vec<u8> = self.read.drain(..end + 2).collect();
        let event = String::from_utf8(event).unwrap();
        let id = event.strip_suffix("\nretry: 1000\ndata: \n\n").expect(&event);
        self.last_id = id.strip_prefix("id: ").map(ToOwned::to_owned);
        self.last_id.clone().expect("an id")
    }

    /// Exactly so many bytes as they came.
    pub async fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.read.len() < count {
            assert!(self.more().await, "the stream ended: {:?}", self.read);
        }
        self.read.drain(..count).collect()
    }

    /// Everything up to the end, and whether the end was a clean one.
    pub async fn rest(&mut self) -> (Vec<u8>, bool) {
        while self.more().await {}
        (std::mem::take(&mut self.read), self.end == Some(true))
    }

    /// Closes the connection with a reset.
    pub fn reset(self) {
        self.connection.reset();
    }

    async fn more(&mut self) -> bool {
        if self.end.is_some() {
            return false;
        }
        match self.connection.chunk().await {
            Ok(Some(chunk)) => self.read.extend_from_slice(&chunk),
            Ok(None) => self.end = Some(true),
            Err(_) => self.end = Some(false),
        }
        self.end.is_none()
    }
}
