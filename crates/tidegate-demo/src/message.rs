//! JSON-RPC 2.0 messages as MCP restricts them.
//!
//! Ids are kept as they were sent and echoed verbatim; they compare by type and value, so `1` and
//! `"1"` are different calls.

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, value::RawValue};

use crate::{
    json::{Object, Payload},
    version::Version,
};

/// A request id: the bytes that came, and what they mean.
#[derive(Clone, Debug)]
pub(crate) struct Id {
    raw: Box<RawValue>,
    key: IdKey,
}

/// What makes two ids the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum IdKey {
    /// The digits of an integer of any size.
    Integer(String),
    /// The string after unescaping.
    Text(String),
}

impl Id {
    /// Reads an id: a string or an integer. Anything else, `null` too, is none.
    pub(crate) fn parse(raw: &RawValue) -> Option<Self> {
        let json = raw.get();
        let key = if json.starts_with('"') {
            IdKey::Text(serde_json::from_str(json).ok()?)
        } else if json.trim_start_matches('-').bytes().all(|byte| byte.is_ascii_digit()) {
            IdKey::Integer(json.to_owned())
        } else {
            return None;
        };
        Some(Self { raw: raw.to_owned(), key })
    }

    /// What the id is compared by.
    pub(crate) fn key(&self) -> &IdKey {
        &self.key
    }

    /// The id as it was sent.
    pub(crate) fn raw(&self) -> &RawValue {
        &self.raw
    }
}

/// A JSON-RPC error.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RpcError {
    pub(crate) code: i64,
    pub(crate) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<Value>,
}

impl RpcError {
    pub(crate) const INVALID_REQUEST: i64 = -32600;
    pub(crate) const METHOD_NOT_FOUND: i64 = -32601;
    pub(crate) const INVALID_PARAMS: i64 = -32602;
    pub(crate) const INTERNAL: i64 = -32603;
    pub(crate) const PARSE: i64 = -32700;
    /// 2026-07-28: a mirrored header is missing, malformed or different from the body.
    pub(crate) const HEADER_MISMATCH: i64 = -32020;
    /// 2026-07-28: the call needs a capability that the client did not declare.
    pub(crate) const MISSING_CAPABILITY: i64 = -32021;
    /// 2026-07-28: the version is not served.
    pub(crate) const UNSUPPORTED_VERSION: i64 = -32022;

    /// An error without data.
    pub(crate) fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    /// The same error with data.
    pub(crate) fn with_data(self, data: Value) -> Self {
        Self { data: Some(data), ..self }
    }

    /// Invalid params.
    pub(crate) fn invalid_params(message: impl Into<String>) -> Self {
        Self::new(Self::INVALID_PARAMS, message)
    }

    /// Invalid request.
    pub(crate) fn invalid_request(message: impl Into<String>) -> Self {
        Self::new(Self::INVALID_REQUEST, message)
    }

    /// Method not found.
    pub(crate) fn method_not_found(method: &str) -> Self {
        Self::new(Self::METHOD_NOT_FOUND, format!("there is no method `{method}`"))
    }

    /// A version that is not served, with those that are.
    pub(crate) fn unsupported_version(requested: &str) -> Self {
        let supported = Version::ALL.map(Version::name);
        Self::new(Self::UNSUPPORTED_VERSION, "this protocol version is not served this way")
            .with_data(serde_json::json!({ "supported": supported, "requested": requested }))
    }
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) id: Id,
    pub(crate) method: String,
    pub(crate) params: Object,
}

/// A notification.
#[derive(Clone, Debug)]
pub(crate) struct Notification {
    pub(crate) method: String,
    pub(crate) params: Object,
}

/// The client's answer to a request of ours.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) id: Id,
    pub(crate) outcome: Result<Box<RawValue>, String>,
}

/// One message from a client.
#[derive(Clone, Debug)]
pub(crate) enum Incoming {
    Request(Request),
    Notification(Notification),
    Answer(Answer),
}

/// A message that cannot be acted on, with its id if it had a usable one.
#[derive(Clone, Debug)]
pub(crate) struct Malformed {
    pub(crate) id: Option<Id>,
    pub(crate) error: Box<RpcError>,
}

impl From<RpcError> for Malformed {
    fn from(error: RpcError) -> Self {
        Self { id: None, error: Box::new(error) }
    }
}

/// What one line or one body holds.
#[derive(Clone, Debug)]
pub(crate) enum Parsed {
    One(Incoming),
    /// A batch (2025-03-26 only); never empty.
    Batch(Vec<Result<Incoming, Malformed>>),
}

/// Every member that a JSON-RPC message can have. `null` counts as present.
#[derive(Deserialize)]
struct Wire {
    #[serde(default, deserialize_with = "present")]
    jsonrpc: Option<Box<RawValue>>,
    #[serde(default, deserialize_with = "present")]
    id: Option<Box<RawValue>>,
    #[serde(default, deserialize_with = "present")]
    method: Option<Box<RawValue>>,
    #[serde(default, deserialize_with = "present")]
    params: Option<Box<RawValue>>,
    #[serde(default, deserialize_with = "present")]
    result: Option<Box<RawValue>>,
    #[serde(default, deserialize_with = "present")]
    error: Option<Box<RawValue>>,
}

fn present<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(input).map(Some)
}

/// Reads one line or one body.
///
/// # Errors
///
/// What to answer when it is not a message: parse error, invalid request or invalid params.
pub(crate) fn parse(bytes: &[u8]) -> Result<Parsed, Malformed> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| RpcError::new(RpcError::PARSE, "the message is not UTF-8"))?;
    let raw: &RawValue = serde_json::from_str(text)
        .map_err(|error| RpcError::new(RpcError::PARSE, format!("not JSON: {error}")))?;
    if !raw.get().starts_with('[') {
        return parse_one(raw.get()).map(Parsed::One);
    }
    let items: Vec<&RawValue> = serde_json::from_str(raw.get())
        .map_err(|error| RpcError::new(RpcError::PARSE, format!("not JSON: {error}")))?;
    if items.is_empty() {
        return Err(RpcError::invalid_request("a batch must not be empty").into());
    }
    Ok(Parsed::Batch(items.into_iter().map(|item| parse_one(item.get())).collect()))
}

fn parse_one(text: &str) -> Result<Incoming, Malformed> {
    let wire: Wire = serde_json::from_str(text)
        .map_err(|error| RpcError::invalid_request(format!("not a JSON-RPC message: {error}")))?;
    let id = wire.id.as_deref().map(Id::parse);
    let refuse = |message: &str| Malformed {
        id: id.clone().flatten(),
        error: Box::new(RpcError::invalid_request(message)),
    };
    if wire.jsonrpc.as_deref().map(RawValue::get) != Some("\"2.0\"") {
        return Err(refuse("`jsonrpc` must be \"2.0\""));
    }
    if matches!(id, Some(None)) {
        return Err(refuse("an id must be a string or an integer"));
    }
    let Some(method) = wire.method else {
        let id = id.clone().flatten().ok_or_else(|| refuse("neither a method nor an id"))?;
        return match (wire.result, wire.error) {
            (Some(result), None) => Ok(Incoming::Answer(Answer { id, outcome: Ok(result) })),
            (None, Some(error)) => {
                Ok(Incoming::Answer(Answer { id, outcome: Err(error.get().to_owned()) }))
            }
            _ => Err(refuse("a response has either a result or an error")),
        };
    };
    let method =
        serde_json::from_str(method.get()).map_err(|_| refuse("`method` must be a string"))?;
    let params = match wire.params.as_deref().map(|raw| serde_json::from_str(raw.get())) {
        None => Object::default(),
        Some(Ok(params)) => params,
        Some(Err(_)) => {
            let error = RpcError::invalid_params("`params` must be an object");
            return Err(Malformed { id: id.flatten(), error: Box::new(error) });
        }
    };
    Ok(match id.flatten() {
        Some(id) => Incoming::Request(Request { id, method, params }),
        None => Incoming::Notification(Notification { method, params }),
    })
}

#[derive(Serialize)]
struct Response<'a> {
    jsonrpc: &'static str,
    id: &'a RawValue,
    result: &'a Payload,
}

#[derive(Serialize)]
struct Failed<'a> {
    jsonrpc: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a RawValue>,
    error: &'a RpcError,
}

#[derive(Serialize)]
struct Outgoing<'a, P> {
    jsonrpc: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    method: &'a str,
    params: &'a P,
}

/// A result.
pub(crate) fn response(id: &Id, result: &Payload) -> Bytes {
    encode(&Response { jsonrpc: "2.0", id: id.raw(), result })
}

/// An error. Without an id the member is left out, as the newer schemas want it.
pub(crate) fn error(id: Option<&Id>, error: &RpcError) -> Bytes {
    encode(&Failed { jsonrpc: "2.0", id: id.map(Id::raw), error })
}

/// A notification of ours.
pub(crate) fn notification(method: &str, params: &Payload) -> Bytes {
    encode(&Outgoing { jsonrpc: "2.0", id: None, method, params })
}

/// A request of ours to a legacy client.
pub(crate) fn request(id: u64, method: &str, params: &impl Serialize) -> Bytes {
    encode(&Outgoing { jsonrpc: "2.0", id: Some(id), method, params })
}

/// The array that answers a batch.
pub(crate) fn array(messages: &[Bytes]) -> Bytes {
    let mut array = vec![b'['];
    for (index, message) in messages.iter().enumerate() {
        if index > 0 {
            array.push(b',');
        }
        array.extend_from_slice(message);
    }
    array.push(b']');
    array.into()
}

fn encode(message: &impl Serialize) -> Bytes {
    // Serializing these types into memory cannot fail: string keys, no IO.
    let mut json = serde_json::to_vec(message).unwrap_or_default();
    // A raw value from a pretty-printed body may have line ends between its tokens, where they
    // mean nothing; both framings end a message at them.
    for byte in &mut json {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    json.into()
}

#[cfg(test)]
mod tests {
    use super::{IdKey, Incoming, Parsed, RpcError, parse, response};
    use crate::json::Payload;

    fn id_of(text: &str) -> Option<(String, IdKey)> {
        match parse(text.as_bytes()) {
            Ok(Parsed::One(Incoming::Request(request))) => {
                Some((request.id.raw().get().to_owned(), request.id.key().clone()))
            }
            _ => None,
        }
    }

    #[test]
    fn ids_keep_their_bytes_and_compare_by_type_and_value() {
        let id = |raw: &str| {
            id_of(&format!(r#"{{"jsonrpc":"2.0","id":{raw},"method":"ping"}}"#)).unwrap()
        };
        let huge = "123456789012345678901234567890";
        assert_eq!(id(huge).0, huge);
        assert_eq!(id(r#""\u0031""#).0, r#""\u0031""#);
        assert_eq!(id(r#""\u0031""#).1, id(r#""1""#).1);
        assert_ne!(id("1").1, id(r#""1""#).1);
        let Ok(Parsed::One(Incoming::Request(request))) =
            parse(format!(r#"{{"jsonrpc":"2.0","id":{huge},"method":"ping"}}"#).as_bytes())
        else {
            panic!("not a request");
        };
        let answer = response(&request.id, &Payload::default());
        assert_eq!(answer, format!(r#"{{"jsonrpc":"2.0","id":{huge},"result":{{}}}}"#));
    }

    #[test]
    fn what_is_no_message_is_refused_with_the_fitting_code() {
        for (text, code) in [
            ("", RpcError::PARSE),
            ("{", RpcError::PARSE),
            ("nonsense", RpcError::PARSE),
            ("[]", RpcError::INVALID_REQUEST),
            ("3", RpcError::INVALID_REQUEST),
            (r#"{"id":1,"method":"ping"}"#, RpcError::INVALID_REQUEST),
            (r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, RpcError::INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, RpcError::INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#, RpcError::INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#, RpcError::INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","id":1}"#, RpcError::INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","id":1,"method":7}"#, RpcError::INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","id":1,"method":"a","method":"b"}"#, RpcError::INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}"#, RpcError::INVALID_PARAMS),
        ] {
            let refused = parse(text.as_bytes()).expect_err(text);
            assert_eq!(refused.error.code, code, "{text}");
        }
        assert_eq!(
            parse(b"{\"jsonrpc\":\"\xff\"}").expect_err("UTF-8").error.code,
            RpcError::PARSE
        );
    }
}
