//! Streams on a virtual clock: what a client reads, and when.

use std::{future::poll_fn, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tidegate_protocol::{Envelope, Era, Id, sse::Decoder};
use tidegate_service::{Error, EventStream, Frame, Kind, Origin, Retry};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Broken, Listening, Params, StreamBody};
use crate::stats::Counters;

const NOTE: &str = r#"{"jsonrpc":"2.0","method":"m"}"#;

fn note() -> Frame {
    Frame::Message(Envelope::parse(Bytes::from_static(NOTE.as_bytes())).unwrap())
}

fn block(text: &'static str) -> Frame {
    let mut decoder = Decoder::new(1 << 20);
    decoder.push(Bytes::from_static(text.as_bytes()));
    Frame::Block(decoder.next().unwrap().unwrap())
}

fn params(era: Era, listening: Listening) -> Params {
    let id = Some(Id::from_u64(7));
    Params { era, id, listening, heartbeat: Duration::from_secs(15) }
}

fn body(frames: EventStream, params: Params, drain: &CancellationToken) -> StreamBody {
    StreamBody::new(frames, params, drain, &Arc::new(Counters::default()))
}

/// The next piece as text; `None` at the end.
async fn next(body: &mut StreamBody) -> Option<Result<String, Broken>> {
    let piece = poll_fn(|cx| body.poll_bytes(cx)).await?;
    Some(piece.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap()))
}

#[tokio::test(start_paused = true)]
async fn silence_is_filled_with_comments_and_events_put_them_off() {
    let frames = EventStream::new(
        stream::iter([20, 10, 40])
            .then(|wait| async move {
                sleep(Duration::from_secs(wait)).await;
                Ok(note())
            })
            .chain(stream::pending()),
    );
    let mut body = body(frames, params(Era::Legacy, Listening::No), &CancellationToken::new());
    let began = Instant::now();
    // Events at 20, 30 and 70 s; a comment after each 15 s of silence.
    for (at, is_comment) in [
        (15, true),
        (20, false),
        (30, false),
        (45, true),
        (60, true),
        (70, false),
        (85, true),
        (100, true),
    ] {
        let piece = next(&mut body).await.unwrap().unwrap();
        assert_eq!(piece.starts_with(": "), is_comment, "{piece}");
        assert!(piece.ends_with("\n\n"));
        assert_eq!(began.elapsed().as_secs(), at, "{piece}");
    }
}

#[tokio::test(start_paused = true)]
async fn frames_that_are_ready_leave_together_and_none_is_held_back() {
    let (sender, receiver) = tokio::sync::mpsc::channel(8);
    let frames = EventStream::new(stream::unfold(receiver, |mut receiver| async move {
        let frame: Frame = receiver.recv().await?;
        Some((Ok(frame), receiver))
    }));
    let mut body = body(frames, params(Era::Modern, Listening::No), &CancellationToken::new());
    sender.send(block("id: 1\n\n")).await.unwrap();
    assert_eq!(next(&mut body).await.unwrap().unwrap(), "id: 1\n\n");
    sender.send(block("id: 2\n\n")).await.unwrap();
    sender.send(block(": c\n\n")).await.unwrap();
    assert_eq!(next(&mut body).await.unwrap().unwrap(), "id: 2\n\n: c\n\n");
    let nothing = timeout(Duration::from_secs(1), next(&mut body)).await;
    assert!(nothing.is_err());
    drop(sender);
    assert!(next(&mut body).await.is_none());
    assert!(next(&mut body).await.is_none(), "and it stays at its end");
}

#[tokio::test(start_paused = true)]
async fn a_broken_stream_is_cut_for_those_who_can_recover_and_told_to_the_others() {
    let died = Kind::Died;
    for (era, has_event_ids, kind, is_listening, is_cut) in [
        (Era::Modern, false, died, false, true),
        (Era::Legacy, false, died, false, false),
        (Era::Legacy, true, died, false, true),
        (Era::Legacy, false, died, true, true),
        (Era::Modern, false, Kind::Timeout, false, false),
        (Era::Legacy, true, Kind::Timeout, false, false),
        (Era::Legacy, true, Kind::Timeout, true, true),
        // A client that resumed would meet the same again.
        (Era::Legacy, true, Kind::Protocol, false, false),
        (Era::Legacy, true, Kind::TooLarge, false, false),
        (Era::Legacy, true, Kind::SessionUnknown, false, false),
        (Era::Legacy, true, Kind::Unsupported, false, false),
        (Era::Legacy, true, Kind::Draining, false, true),
        (Era::Modern, false, Kind::Protocol, false, true),
    ] {
        let first = if has_event_ids { block("id: 1\n\n") } else { note() };
        let error = Error::new(kind, Origin::Upstream, Retry::Never, "gone");
        let frames = EventStream::new(stream::iter([Ok(first), Err(error)]));
        let mut params = params(era, Listening::No);
        params.id = params.id.filter(|_| !is_listening);
        let mut body = body(frames, params, &CancellationToken::new());
        let mut text = String::new();
        let end = loop {
            match next(&mut body).await {
                Some(Ok(piece)) => text.push_str(&piece),
                end => break end,
            }
        };
        assert_eq!(matches!(end, Some(Err(Broken))), is_cut, "{era:?} {has_event_ids} {kind:?}");
        assert_eq!(text.contains(r#""id":7,"error""#), !is_cut, "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_what_would_never_end_and_nothing_else() {
    let id = Id::from_str("s");
    for (listening, goodbye) in [
        (Listening::ToSession, Some("retry: ")),
        (
            Listening::ToSubscription(id),
            Some("event: message\ndata: {\"jsonrpc\":\"2.0\",\"id\":\"s\",\"result\":"),
        ),
        (Listening::No, None),
    ] {
        let drain = CancellationToken::new();
        let frames = EventStream::new(stream::iter([Ok(note())]).chain(stream::pending()));
        let mut body = body(frames, params(Era::Legacy, listening), &drain);
        drain.cancel();
        // What is ready goes out first.
        assert!(next(&mut body).await.unwrap().unwrap().contains(NOTE));
        let last = timeout(Duration::from_secs(10), next(&mut body)).await;
        match goodbye {
            Some(goodbye) => {
                let last = last.unwrap().unwrap().unwrap();
                assert!(last.starts_with(goodbye) && last.ends_with("\n\n"), "{last}");
                assert!(next(&mut body).await.is_none());
            }
            None => assert!(last.is_err(), "a call is waited for"),
        }
    }
}
