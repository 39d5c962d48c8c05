//! A POST: one message of either era, or a batch of the one version that had them.

use bytes::Bytes;
use http::{Response, request::Parts};
use hyper::body::Incoming;
use tidegate_protocol::{Envelope, Era, Id, Kind as MessageKind, Limits, classify};
use tidegate_service::{Call, Reply};

use super::{
    Front, OutBody, batch, context, error::Rejection, late, legacy_version, read, read::Held,
};
use super::{stream::Listening, write};
use crate::connection::Entered;

impl Front {
    pub(super) async fn post(
        &self,
        head: Parts,
        body: Incoming,
        entered: &Entered,
    ) -> Result<Response<OutBody>, Rejection> {
        read::negotiable(&head.headers)?;
        // The memory is given back when the reply is there: by then the message has been sent on.
        let (bytes, held) = read::body(body, self.params(), &self.0.budget).await?;
        if bytes.trim_ascii_start().first() == Some(&b'[') {
            return batch::answer(self, head, &bytes).await;
        }
        self.message(head, bytes, held, entered).await
    }

    async fn message(
        &self,
        head: Parts,
        bytes: Bytes,
        held: Held,
        entered: &Entered,
    ) -> Result<Response<OutBody>, Rejection> {
        let envelope = Envelope::parse_with(bytes, &self.json_limits())
            .map_err(|error| Rejection::from_parse(&error))?;
        let id = envelope.id().filter(|_| envelope.kind() == MessageKind::Request);
        let era = match classify(&head.headers, &envelope) {
            Ok(era) => era,
            Err(refusal) => return Err(Rejection::from_refusal(refusal, id)),
        };
        let version = match era {
            Era::Modern => envelope.known_version(),
            // Classification has refused a version that it must refuse; on `initialize` the header
            // means nothing yet.
            Era::Legacy => legacy_version(&head.headers).unwrap_or_default(),
        };
        let listening = Listening::of(era, &envelope);
        let cx = context(era, version, &head.uri, head.headers);
        // The head of the answer to a handshake has the session's id.
        let may_begin = id.as_ref().filter(|_| !envelope.is_method("initialize"));
        let answer = self.0.edge.answer(Call::send(envelope, cx));
        let replied = match may_begin {
            Some(id) => late::reply(answer, entered.patience(), era, id, held).await,
            None => answer.await,
        };
        match replied {
            Ok(reply) => Ok(self.written(reply, era, id, listening)),
            Err(error) => Err(Rejection::from_error(era, id, &error)),
        }
    }

    pub(super) fn json_limits(&self) -> Limits {
        Limits { max_depth: self.0.params.limits.max_depth }
    }

    fn written(
        &self,
        reply: Reply,
        era: Era,
        id: Option<Id>,
        listening: Listening,
    ) -> Response<OutBody> {
        write::reply(reply, self, era, id, listening)
    }
}
