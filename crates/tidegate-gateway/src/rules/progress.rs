//! Progress that the proxy wants for itself: a server that tells of it shows that a call goes on.
//!
//! A tool call whose client wants no progress gets a token of ours, and what comes under such a
//! token ends here. Whose a token is can be seen by how it begins, so that nothing is remembered.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::{StreamExt as _, TryFutureExt as _, future::MapOk};
use tidegate_protocol::{Bytes, Envelope, sse};
use tidegate_service::{Call, Error, EventStream, Frame, Operation, Reply};
use tower::{Layer, Service};

/// Asks for progress on behalf of the proxy.
#[derive(Clone, Debug)]
pub(crate) struct ProgressLayer(Arc<Tokens>);

/// The service that does so.
#[derive(Clone, Debug)]
pub(crate) struct OwnProgress<S> {
    inner: S,
    tokens: Arc<Tokens>,
}

/// Tokens that no client and no other proxy has.
#[derive(Debug)]
struct Tokens {
    prefix: String,
    last: AtomicU64,
}

type Filter = Box<dyn FnOnce(Reply) -> Reply + Send>;

impl ProgressLayer {
    pub(crate) fn new() -> Self {
        let prefix = format!("tidegate-{:016x}-", rand::random::<u64>());
        Self(Arc::new(Tokens { prefix, last: AtomicU64::new(0) }))
    }
}

impl<S> Layer<S> for ProgressLayer {
    type Service = OwnProgress<S>;

    fn layer(&self, inner: S) -> OwnProgress<S> {
        OwnProgress { inner, tokens: Arc::clone(&self.0) }
    }
}

impl<S> Service<Call> for OwnProgress<S>
where
    S: Service<Call, Response = Reply, Error = Error>,
    S::Future: Future<Output = Result<Reply, Error>>,
{
    type Response = Reply;
    type Error = Error;
    type Future = MapOk<S::Future, Filter>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut call: Call) -> Self::Future {
        if let Operation::Send(message) = &mut call.operation
            && message.is_method("tools/call")
            && let Some(asking) = message.with_progress_token(self.tokens.mint().as_bytes())
        {
            *message = asking;
        }
        let tokens = Arc::clone(&self.tokens);
        // Also of streams that clients come back to.
        let filter: Filter = Box::new(move |reply| {
            reply.map_stream(|frames| {
                EventStream::new(frames.filter_map(move |frame| {
                    std::future::ready(match frame {
                        Ok(frame) => tokens.withhold(frame).map(Ok),
                        Err(error) => Some(Err(error)),
                    })
                }))
            })
        });
        self.inner.call(call).map_ok(filter)
    }
}

impl Tokens {
    /// A new one, as JSON.
    fn mint(&self) -> String {
        let number = self.last.fetch_add(1, Ordering::Relaxed);
        format!("\"{}{number}\"", self.prefix)
    }

    /// What the client gets of a frame.
    fn withhold(&self, frame: Frame) -> Option<Frame> {
        match frame {
            Frame::Message(message) => (!self.is_ours(&message)).then_some(Frame::Message(message)),
            Frame::Block(block) if !self.carries_ours(&block) => Some(Frame::Block(block)),
            // The client may come back with the id.
            Frame::Block(block) => block.id.map(|id| Frame::Block(bare_id(id))),
            Frame::Stamped { message, block } => {
                (!self.is_ours(&message)).then_some(Frame::Stamped { message, block })
            }
        }
    }

    fn carries_ours(&self, block: &sse::Block) -> bool {
        let Some(data) = &block.data else { return false };
        // Few events have the prefix anywhere, so few are parsed.
        memchr::memmem::find(data, self.prefix.as_bytes()).is_some()
            && Envelope::parse(data.clone()).is_ok_and(|message| self.is_ours(&message))
    }

    fn is_ours(&self, message: &Envelope) -> bool {
        message.is_method("notifications/progress")
            && message.notified_progress().is_some_and(|token| {
                token.as_text().is_some_and(|text| text.starts_with(&self.prefix))
            })
    }
}

/// An event that is nothing but its id.
fn bare_id(id: Bytes) -> sse::Block {
    let raw = [b"id: ", id.as_ref(), b"\n\n"].concat().into();
    sse::Block { raw, data: None, id: Some(id), event: None, retry: None }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use futures_util::{StreamExt as _, stream};
    use serde_json::{Value, json};
    use tidegate_protocol::{Envelope, Era, sse};
    use tidegate_service::{Body, Call, Cx, EventStream, Frame, Reply, Upstream};
    use tower::{Layer as _, service_fn};

    use super::ProgressLayer;

    fn message(value: &Value) -> Envelope {
        Envelope::parse(value.to_string().into()).unwrap()
    }

    fn progress(token: &Value) -> Value {
        json!({"jsonrpc": "2.0", "method": "notifications/progress",
            "params": {"progressToken": token, "progress": 1}})
    }

    fn block(id: &str, data: &Value) -> sse::Block {
        let mut decoder = sse::Decoder::new(1 << 20);
        decoder.push(format!("id: {id}\ndata: {data}\n\n").into());
        decoder.next().unwrap().unwrap()
    }

    /// What reached the server, and the frames that came back from one that tells of progress under
    /// the token it was given, as messages and as events, and of other things.
    async fn exchange(request: &Value) -> (Value, Vec<String>) {
        let seen = Arc::new(Mutex::new(Value::Null));
        let server = {
            let seen = Arc::clone(&seen);
            service_fn(move |call: Call| {
                let asked: Value =
                    serde_json::from_slice(call.envelope().unwrap().bytes()).unwrap();
                let token = asked["params"]["_meta"]["progressToken"].clone();
                *seen.lock().unwrap() = asked;
                let note = progress(&token);
                let frames = [
                    Frame::Message(message(&note)),
                    Frame::Block(block("7", &note)),
                    Frame::Message(message(&progress(&json!("a client's")))),
                    Frame::Block(block("8", &json!({"jsonrpc": "2.0", "id": 1, "result": {}}))),
                ];
                let stream = EventStream::new(stream::iter(frames.map(Ok)));
                async move { Ok(Reply::stream(stream)) }
            })
        };
        let service = Upstream::new(ProgressLayer::new().layer(server));
        let reply = service.answer(Call::send(message(request), Cx::new(Era::Legacy))).await;
        let Body::Stream(frames) = reply.unwrap().body else { panic!("expected a stream") };
        let told = frames.map(|frame| match frame.unwrap() {
            Frame::Message(message) => String::from_utf8(message.bytes().to_vec()).unwrap(),
            Frame::Block(block) | Frame::Stamped { block, .. } => {
                String::from_utf8(block.raw.to_vec()).unwrap()
            }
        });
        let told = told.collect().await;
        let seen = seen.lock().unwrap().clone();
        (seen, told)
    }

    #[tokio::test]
    async fn a_call_without_a_token_gets_one_and_its_client_hears_nothing_of_it() {
        let shapes = [
            json!({"name": "x"}),
            json!({"name": "x", "_meta": {}}),
            json!({"_meta": {"a/b": [1]}, "name": "x", "arguments": {"n": 12}}),
        ];
        for params in shapes {
            let request =
                json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
            let (seen, told) = exchange(&request).await;
            let token = seen["params"]["_meta"]["progressToken"].as_str().unwrap();
            assert!(token.starts_with("tidegate-"), "{token}");
            let mut without = seen.clone();
            let meta = without["params"]["_meta"].as_object_mut().unwrap();
            meta.remove("progressToken");
            if meta.is_empty() && request["params"].get("_meta").is_none() {
                without["params"].as_object_mut().unwrap().remove("_meta");
            }
            assert_eq!(without, request, "nothing else has changed");
            assert_eq!(told.len(), 3, "{told:?}");
            assert_eq!(told[0], "id: 7\n\n", "the client can come back with it");
            assert!(told[1].contains("a client's") && told[2].contains("result"), "{told:?}");
        }
    }

    #[tokio::test]
    async fn who_has_a_token_keeps_it_and_nobody_else_is_asked() {
        let token = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": {"name": "x", "_meta": {"progressToken": 5}}});
        let other = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
        for request in [token, other] {
            let (seen, told) = exchange(&request).await;
            assert_eq!(seen, request);
            assert_eq!(told.len(), 4, "{told:?}");
        }
    }
}
