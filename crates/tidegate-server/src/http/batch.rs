//! Batches, which only 2025-03-26 has: split into calls, answered together.
//!
//! The members run side by side. If every answer is a single message the response is an array;
//! if one is a stream, the response is a stream of them all.

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::{StreamExt as _, future::join_all, stream};
use http::{Response, StatusCode, header, request::Parts};
use tidegate_protocol::{Envelope, Era, Id, Kind as MessageKind, split_batch};
use tidegate_service::{Body, Call, Error, EventStream, Frame, Kind, Reply};

use super::{
    Front, JSON, OutBody, context, error::Rejection, legacy_version, stream::Listening, write,
};
use crate::stats::Refused;

/// One member's answer; `None` where it deserves none.
struct Answer {
    id: Option<Id>,
    reply: Result<Reply, Error>,
}

pub(super) async fn answer(
    front: &Front,
    head: Parts,
    bytes: &Bytes,
) -> Result<Response<OutBody>, Rejection> {
    let members = members(front, bytes)?;
    let version = legacy_version(&head.headers)?;
    let calls = members.into_iter().map(|envelope| {
        let id = envelope.id().filter(|_| envelope.kind() == MessageKind::Request);
        let mut cx = context(Era::Legacy, version, &head.uri, head.headers.clone());
        cx.batched = true;
        let call = front.0.edge.answer(Call::send(envelope, cx));
        async move { Answer { id, reply: call.await } }
    });
    let answers = join_all(calls).await;
    if let Some(error) = refusal_of_all(&answers) {
        return Err(Rejection::from_error(Era::Legacy, None, &error));
    }
    Ok(together(front, answers))
}

/// The members, each a valid message of the legacy era that may stand in a batch.
fn members(front: &Front, bytes: &Bytes) -> Result<Vec<Envelope>, Rejection> {
    let limits = front.json_limits();
    let parts = split_batch(bytes, &limits, front.params().limits.max_batch)
        .map_err(|error| Rejection::from_parse(&error))?;
    let members: Vec<Envelope> = parts
        .into_iter()
        .map(|part| Envelope::parse_with(part, &limits))
        .collect::<Result<_, _>>()
        .map_err(|error| Rejection::from_parse(&error))?;
    let is_answer =
        |each: &Envelope| matches!(each.kind(), MessageKind::Response | MessageKind::Error);
    let answers = members.iter().filter(|each| is_answer(each)).count();
    if answers != 0 && answers != members.len() {
        return Err(refused("a batch holds requests and notifications, or answers, not both"));
    }
    for member in &members {
        if member.meta_version().is_some() {
            return Err(refused("a message of 2026-07-28 cannot stand in a batch"));
        }
        if member.is_method("initialize") {
            return Err(refused("`initialize` cannot stand in a batch"));
        }
    }
    Ok(members)
}

/// Some failures are about the HTTP request as a whole: the session, or batches at all.
fn refusal_of_all(answers: &[Answer]) -> Option<Error> {
    answers.iter().find_map(|answer| match &answer.reply {
        Err(error)
            if matches!(
                error.kind,
                Kind::BadRequest | Kind::SessionMissing | Kind::SessionUnknown | Kind::NotRouted
            ) =>
        {
            Some(Error::refused(error.kind, error.message().to_owned()))
        }
        _ => None,
    })
}

fn together(front: &Front, answers: Vec<Answer>) -> Response<OutBody> {
    let has_stream =
        answers.iter().any(|each| matches!(&each.reply, Ok(Reply { body: Body::Stream(_), .. })));
    if has_stream {
        let slow = answers.iter().find_map(|each| match &each.reply {
            Ok(Reply { body: Body::Stream(frames), .. }) => frames.slow().cloned(),
            _ => None,
        });
        let streams = answers.into_iter().map(frames);
        let merged = EventStream::new(stream::select_all(streams)).read_by(slow);
        return write::reply(Reply::stream(merged), front, Era::Legacy, None, Listening::No);
    }
    let singles: Vec<Bytes> = answers.into_iter().filter_map(single).collect();
    if singles.is_empty() {
        return write::reply(Reply::accepted(), front, Era::Legacy, None, Listening::No);
    }
    let mut array = BytesMut::with_capacity(singles.iter().map(|each| each.len() + 1).sum());
    for (place, single) in singles.iter().enumerate() {
        array.put_u8(if place == 0 { b'[' } else { b',' });
        array.put_slice(single);
    }
    array.put_u8(b']');
    let mut response = Response::new(OutBody::full(array.freeze()));
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}

/// The one message that answers a member.
fn single(answer: Answer) -> Option<Bytes> {
    match answer.reply {
        Ok(Reply { body: Body::One(envelope), .. }) => Some(envelope.into_bytes()),
        Ok(_) => None,
        Err(error) => {
            let id = answer.id?;
            Some(Rejection::from_error(Era::Legacy, Some(id), &error).body())
        }
    }
}

/// A member's answer as frames. A member that breaks off is answered with an error, since cutting
/// the stream would take the others with it.
fn frames(answer: Answer) -> stream::BoxStream<'static, Result<Frame, Error>> {
    match answer {
        Answer { id, reply: Ok(Reply { body: Body::Stream(frames), .. }) } => frames
            .filter_map(move |frame| {
                let frame = frame.or_else(|error| failure(id.clone(), error));
                std::future::ready(frame.ok().map(Ok))
            })
            .boxed(),
        Answer { id, reply: Ok(Reply { body: Body::One(envelope), .. }) } => {
            drop(id);
            stream::iter([Ok(Frame::Message(envelope))]).boxed()
        }
        Answer { reply: Ok(_), .. } => stream::empty().boxed(),
        Answer { id, reply: Err(error) } => stream::iter(failure(id, error).ok().map(Ok)).boxed(),
    }
}

fn failure(id: Option<Id>, error: Error) -> Result<Frame, Error> {
    let Some(id) = id else { return Err(error) };
    let body = Rejection::from_error(Era::Legacy, Some(id), &error).body();
    Envelope::parse(body).map(Frame::Message).map_err(|_| error)
}

fn refused(what: &'static str) -> Rejection {
    Rejection::invalid(StatusCode::BAD_REQUEST, Refused::Message, what)
}
