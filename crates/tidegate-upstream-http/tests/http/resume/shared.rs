//! Streams over HTTP/2: one of them breaks, or the connection with all of them.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::{StreamExt as _, future::join_all, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::TokioIo;
use tidegate_service::{OnError, Tasks};
use tidegate_upstream_http::{Http2, Params};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{answer, event, quick, transcript_of};
use crate::support::{World, events, next, soon};

#[derive(Clone)]
struct Run(Tasks);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Run {
    fn execute(&self, task: F) {
        self.0.spawn("stream", OnError::Log, async move {
            task.await;
            Ok(())
        });
    }
}

type Piece = Result<Frame<Bytes>, &'static str>;

/// Begins to answer a POST and, when told to, breaks off in the middle of an event; a GET gets the
/// rest.
fn respond(
    request: &Request<Incoming>,
    reset: CancellationToken,
) -> Response<UnsyncBoxBody<Bytes, &'static str>> {
    let piece = |text: String| -> Piece { Ok(Frame::data(text.into())) };
    let response = Response::builder().header("content-type", "text/event-stream");
    let body = if request.method() == "GET" {
        assert_eq!(request.headers()["last-event-id"], "1");
        BodyExt::boxed_unsync(StreamBody::new(stream::iter([piece(answer("2"))])))
    } else {
        let begun = [piece(event("1", "a")), piece("id: 2\ndata: not wh".to_owned())];
        let broken = async move {
            reset.cancelled().await;
            Err("reset")
        };
        BodyExt::boxed_unsync(StreamBody::new(
            stream::iter(begun).chain(stream::once(broken).boxed()),
        ))
    };
    response.body(body).unwrap()
}

/// A server that, when told to, resets its streams or closes its connection.
async fn serve(listener: TcpListener, resets: bool, cut: CancellationToken, tasks: Tasks) {
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let reset = if resets { cut.clone() } else { CancellationToken::new() };
        let service = service_fn(move |request| {
            let reset = reset.clone();
            async move { Ok::<_, Infallible>(respond(&request, reset)) }
        });
        let connection =
            http2::Builder::new(Run(tasks.clone())).serve_connection(TokioIo::new(socket), service);
        if resets || cut.is_cancelled() {
            drop(connection.await);
        } else {
            tokio::select! {
                _ = connection => (),
                () = cut.cancelled() => (),
            }
        }
    }
}

#[tokio::test]
async fn streams_over_http2_go_on_too() {
    for resets in [true, false] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let mut params = Params { http2: Http2::Always, ..Params::new("h2", url.parse().unwrap()) };
        quick(&mut params);
        let world = World::new(params);
        let (cut, tasks) = (CancellationToken::new(), Tasks::default());
        let readers = async {
            let mut streams = Vec::new();
            for _ in 0..3 {
                let mut stream = events(world.ping().await.unwrap());
                assert_eq!(next(&mut stream).await.unwrap().unwrap(), event("1", "a"));
                streams.push(stream);
            }
            cut.cancel();
            let rest = streams.into_iter().map(transcript_of);
            join_all(rest).await
        };
        let all = tokio::select! {
            all = soon(readers) => all,
            () = serve(listener, resets, cut.clone(), tasks.clone()) => unreachable!(),
        };
        for told in all {
            told.assert_whole(&[answer("2")]);
        }
        let stats = world.resumption();
        assert_eq!((stats.resumed, stats.given_up), (3, 0), "{resets}");
        world.end().await;
        soon(tasks.stop()).await;
    }
}
