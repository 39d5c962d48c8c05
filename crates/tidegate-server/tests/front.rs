//! The front before an edge of the test's making, over real connections: what an edge may do to it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::{net::SocketAddr, time::Duration};

use futures_util::{StreamExt as _, stream};
use http::StatusCode;
use tidegate_server::{Front, Listener, Params, Timeouts};
use tidegate_service::{
    Body, Call, Error, EventStream, Frame, Kind, Origin, Reply, Retry, Tasks, Upstream,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tower::service_fn;

const PATIENCE: Duration = Duration::from_secs(10);

struct Running {
    address: SocketAddr,
    front: Front,
    drain: CancellationToken,
    tasks: Tasks,
}

/// Answers by the method that is called.
async fn edge(call: Call) -> Result<Reply, Error> {
    let envelope = call.envelope().cloned().ok_or_else(failed)?;
    let frames = match envelope.method().as_deref() {
        Some("panic") => panic!("on purpose"),
        Some("panic in the stream") => {
            let frame = Ok(Frame::Message(envelope));
            stream::iter([frame]).chain(stream::poll_fn(|_| panic!("on purpose"))).boxed()
        }
        Some("nothing") => return Ok(Reply::with(StatusCode::OK, Body::Empty)),
        Some("fail") => return Err(failed()),
        _ => return Ok(Reply::one(envelope)),
    };
    Ok(Reply::stream(EventStream::new(frames)))
}

fn failed() -> Error {
    let cause = std::io::Error::other("/etc/secret at 10.1.2.3");
    Error::new(Kind::Internal, Origin::Gateway, Retry::Never, "it failed").because(cause)
}

async fn start() -> Running {
    let drain = CancellationToken::new();
    let timeouts = Timeouts { keep_alive: Duration::from_millis(200), ..Timeouts::default() };
    let params = Params { timeouts, ..Params::default() };
    let front = Front::new(Upstream::new(service_fn(edge)), params, drain.clone());
    let listener = Listener::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let (address, tasks) = (listener.address(), Tasks::default());
    listener.serve(&front, &tasks);
    Running { address, front, drain, tasks }
}

impl Running {
    /// Calls a method on a connection of its own; returns all that comes.
    async fn call(&self, method: &str) -> String {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}"}}"#);
        let request = format!(
            "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        String::from_utf8(answer).unwrap()
    }

    async fn stop(self) {
        self.drain.cancel();
        timeout(PATIENCE, self.tasks.wait()).await.unwrap();
        let stats = self.front.stats();
        assert_eq!((stats.connections_open, stats.streams_open, stats.body_bytes), (0, 0, 0));
    }
}

#[tokio::test]
async fn a_panic_costs_its_request_and_no_other() {
    let running = start().await;
    let (broken, fine) = tokio::join!(running.call("panic"), running.call("echo"));
    assert!(broken.starts_with("HTTP/1.1 500 "), "{broken}");
    assert!(broken.contains(r#""code":-32603"#) && !broken.contains("on purpose"), "{broken}");
    assert!(fine.starts_with("HTTP/1.1 200 "), "{fine}");
    // In the middle of a body there is nothing left to say: the response is cut.
    let cut = running.call("panic in the stream").await;
    assert!(!cut.ends_with("0\r\n\r\n"), "{cut}");
    assert!(running.call("echo").await.starts_with("HTTP/1.1 200 "));
    running.stop().await;
}

#[tokio::test]
async fn what_a_cause_says_stays_inside() {
    let running = start().await;
    let answer = running.call("fail").await;
    let data = r#""kind":"internal","origin":"gateway","retryable":false"#;
    assert!(answer.contains("it failed") && answer.contains(data), "{answer}");
    assert!(!answer.contains("secret") && !answer.contains("10.1.2.3"), "{answer}");
    assert!(running.call("nothing").await.starts_with("HTTP/1.1 200 "));
    running.stop().await;
}
