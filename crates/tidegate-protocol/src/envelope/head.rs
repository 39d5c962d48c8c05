//! What is remembered of a message, and the rules that make JSON a JSON-RPC message.

use super::{
    Kind, Limits, ParseError, ParseErrorKind,
    grammar::{Fault, Step},
    scan::{Scanner, Watch},
    span::Span,
};
use crate::{
    id::{self, Id},
    rpc::code,
    text,
};

const TOP: Watch<6> = Watch {
    names: ["jsonrpc", "id", "method", "params", "result", "error"],
    index: |key| match key {
        b"jsonrpc" => Some(0),
        b"id" => Some(1),
        b"method" => Some(2),
        b"params" => Some(3),
        b"result" => Some(4),
        b"error" => Some(5),
        _ => None,
    },
};
const PARAMS: Watch<8> = Watch {
    names: [
        "_meta",
        "name",
        "uri",
        "taskId",
        "arguments",
        "requestId",
        "progressToken",
        "protocolVersion",
    ],
    index: |key| match key {
        b"_meta" => Some(0),
        b"name" => Some(1),
        b"uri" => Some(2),
        b"taskId" => Some(3),
        b"arguments" => Some(4),
        b"requestId" => Some(5),
        b"progressToken" => Some(6),
        b"protocolVersion" => Some(7),
        _ => None,
    },
};
const RESULT: Watch<4> = Watch {
    names: ["_meta", "resultType", "isError", "protocolVersion"],
    index: |key| match key {
        b"_meta" => Some(0),
        b"resultType" => Some(1),
        b"isError" => Some(2),
        b"protocolVersion" => Some(3),
        _ => None,
    },
};
const ERROR: Watch<1> = Watch {
    names: ["code"],
    index: |key| match key {
        b"code" => Some(0),
        _ => None,
    },
};
const META: Watch<5> = Watch {
    names: [
        "progressToken",
        "io.modelcontextprotocol/protocolVersion",
        "io.modelcontextprotocol/clientCapabilities",
        "io.modelcontextprotocol/logLevel",
        "io.modelcontextprotocol/subscriptionId",
    ],
    index: |key| match key {
        b"progressToken" => Some(0),
        b"io.modelcontextprotocol/protocolVersion" => Some(1),
        b"io.modelcontextprotocol/clientCapabilities" => Some(2),
        b"io.modelcontextprotocol/logLevel" => Some(3),
        b"io.modelcontextprotocol/subscriptionId" => Some(4),
        _ => None,
    },
};

/// Which member [`super::Envelope::name`] reads.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum NameSource {
    #[default]
    None,
    Name,
    Uri,
    Task,
}

/// Where everything is. Small and `Copy`; an absent member is an empty span.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Head {
    pub(super) kind: Kind,
    pub(super) name_source: NameSource,
    pub(super) id: Span,
    pub(super) method: Span,
    pub(super) params: Span,
    pub(super) result: Span,
    pub(super) error: Span,
    pub(super) error_code: Span,
    pub(super) meta: Span,
    pub(super) name: Span,
    pub(super) uri: Span,
    pub(super) task_id: Span,
    pub(super) arguments: Span,
    pub(super) cancelled_request: Span,
    pub(super) notified_progress: Span,
    pub(super) param_version: Span,
    pub(super) result_version: Span,
    pub(super) result_type: Span,
    pub(super) is_error: Span,
    pub(super) progress_token: Span,
    pub(super) meta_version: Span,
    pub(super) capabilities: Span,
    pub(super) log_level: Span,
    pub(super) subscription_id: Span,
}

impl Head {
    /// Validates the message and finds its parts.
    pub(super) fn read(bytes: &bytes::Bytes, limits: &Limits) -> Result<Self, ParseError> {
        let mut scanner = Scanner::new(bytes, limits);
        let mut head = Self::default();
        let scanned = head.scan(&mut scanner);
        let fault = match (scanned, scanner.fault()) {
            (_, Some(fault)) => fault,
            (Ok(jsonrpc), None) => match head.conclude(bytes, jsonrpc) {
                Ok(()) => return Ok(head),
                Err(fault) => fault,
            },
            (Err(_), None) => Fault { kind: ParseErrorKind::Syntax, offset: scanner.offset() },
        };
        Err(head.error_at(bytes, fault))
    }

    /// Fills in the spans; returns that of the `jsonrpc` member.
    fn scan(&mut self, scanner: &mut Scanner<'_>) -> Step<Span> {
        let first = scanner.begin()?;
        if first != b'{' {
            let start = scanner.offset();
            scanner.skip_value(0)?;
            scanner.finish()?;
            let batch = first == b'[';
            scanner
                .note(if batch { ParseErrorKind::Array } else { ParseErrorKind::NotObject }, start);
            return Ok(Span::default());
        }
        let top = scanner.object(1, &TOP, |scanner, index| {
            let start = scanner.offset();
            match (index, scanner.peek()) {
                (1, _) => {
                    scanner.skip_value(1)?;
                    // Noted at once, so that an error further on can name the id.
                    self.id = Span::new(start, scanner.offset());
                    Ok(())
                }
                (3, Some(b'{')) => self.scan_params(scanner),
                (4, Some(b'{')) => self.scan_result(scanner),
                (5, Some(b'{')) => {
                    let [code] = scanner.object(2, &ERROR, |scanner, _| scanner.skip_value(2))?;
                    self.error_code = code;
                    Ok(())
                }
                _ => scanner.skip_value(1),
            }
        })?;
        let [jsonrpc, _, method, params, result, error] = top;
        (self.method, self.params, self.result, self.error) = (method, params, result, error);
        scanner.finish()?;
        Ok(jsonrpc)
    }

    fn scan_params(&mut self, scanner: &mut Scanner<'_>) -> Step<()> {
        let found = scanner.object(2, &PARAMS, |scanner, index| self.member(scanner, index))?;
        let [meta, name, uri, task_id, arguments, request, progress, version] = found;
        self.meta = meta;
        (self.name, self.uri, self.task_id) = (name, uri, task_id);
        self.arguments = arguments;
        (self.cancelled_request, self.notified_progress) = (request, progress);
        self.param_version = version;
        Ok(())
    }

    fn scan_result(&mut self, scanner: &mut Scanner<'_>) -> Step<()> {
        let found = scanner.object(2, &RESULT, |scanner, index| self.member(scanner, index))?;
        let [meta, result_type, is_error, version] = found;
        self.meta = meta;
        (self.result_type, self.is_error) = (result_type, is_error);
        self.result_version = version;
        Ok(())
    }

    /// Reads a watched member of params or result, of which `_meta` is the first.
    fn member(&mut self, scanner: &mut Scanner<'_>, index: usize) -> Step<()> {
        if (index, scanner.peek()) != (0, Some(b'{')) {
            return scanner.skip_value(2);
        }
        let found = scanner.object(3, &META, |scanner, _| scanner.skip_value(3))?;
        let [progress, version, capabilities, log_level, subscription] = found;
        self.progress_token = progress;
        (self.meta_version, self.capabilities) = (version, capabilities);
        self.log_level = log_level;
        self.subscription_id = subscription;
        Ok(())
    }

    /// Applies the rules of JSON-RPC and MCP, in the order in which a reader would want to hear.
    fn conclude(&mut self, bytes: &[u8], jsonrpc: Span) -> Result<(), Fault> {
        if text::string_bytes(jsonrpc.of(bytes)).as_deref() != Some(b"2.0") {
            return Err(bad("jsonrpc", jsonrpc));
        }
        if self.method.is_absent() {
            self.conclude_answer(bytes)
        } else {
            self.conclude_call(bytes)
        }
    }

    fn conclude_call(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        for (name, span) in [("result", self.result), ("error", self.error)] {
            if !span.is_absent() {
                return Err(bad(name, span));
            }
        }
        let Some(method) = text::string_bytes(self.method.of(bytes)) else {
            return Err(bad("method", self.method));
        };
        self.kind = if self.id.is_absent() { Kind::Notification } else { Kind::Request };
        if self.kind == Kind::Request && !is_token(bytes, self.id) {
            return Err(Fault { kind: ParseErrorKind::BadId, offset: self.id.start as usize });
        }
        optional_object(bytes, "params", &mut self.params)?;
        optional_object(bytes, "_meta", &mut self.meta)?;
        optional_token(bytes, "progressToken", &mut self.progress_token)?;
        optional_token(bytes, "subscriptionId", &mut self.subscription_id)?;
        // Elsewhere these names are the application's.
        match method.as_ref() {
            b"notifications/progress" => {
                optional_token(bytes, "progressToken", &mut self.notified_progress)?;
                self.cancelled_request = Span::default();
            }
            b"notifications/cancelled" => {
                optional_token(bytes, "requestId", &mut self.cancelled_request)?;
                self.notified_progress = Span::default();
            }
            _ => {
                self.cancelled_request = Span::default();
                self.notified_progress = Span::default();
            }
        }
        self.name_source = match method.as_ref() {
            b"tools/call" | b"prompts/get" => NameSource::Name,
            b"resources/read" => NameSource::Uri,
            method if method.starts_with(b"tasks/") => NameSource::Task,
            _ => NameSource::None,
        };
        Ok(())
    }

    fn conclude_answer(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        if !self.params.is_absent() {
            return Err(bad("params", self.params));
        }
        let failed = !self.error.is_absent();
        if failed != self.result.is_absent() {
            // Both or neither: the latter is most often a call that lacks its method.
            return Err(if failed { bad("error", self.error) } else { bad("method", self.method) });
        }
        self.kind = if failed { Kind::Error } else { Kind::Response };
        if failed && self.id.of(bytes) == Some(b"null") {
            self.id = Span::default();
        }
        let anonymous = failed && self.id.is_absent();
        if !anonymous && !is_token(bytes, self.id) {
            return Err(Fault { kind: ParseErrorKind::BadId, offset: self.id.start as usize });
        }
        if failed && !starts_object(bytes, self.error) {
            return Err(bad("error", self.error));
        }
        optional_object(bytes, "_meta", &mut self.meta)?;
        optional_token(bytes, "subscriptionId", &mut self.subscription_id)?;
        // A result asks for nothing; whatever has this name here is the application's.
        self.progress_token = Span::default();
        Ok(())
    }

    /// Completes a fault with the id, where the message has a usable one.
    fn error_at(&self, bytes: &bytes::Bytes, fault: Fault) -> ParseError {
        let known = fault.kind.code() != code::PARSE_ERROR
            && fault.kind != ParseErrorKind::Duplicate("id")
            && is_token(bytes, self.id);
        let token = self.id.of(bytes).filter(|_| known);
        let id = token.map(|token| Id::trusted(bytes.slice_ref(token)));
        ParseError { kind: fault.kind, offset: fault.offset, id }
    }
}

const fn bad(name: &'static str, span: Span) -> Fault {
    Fault { kind: ParseErrorKind::BadShape(name), offset: span.start as usize }
}

/// An object stays, a null becomes absent, anything else is a fault.
fn optional_object(bytes: &[u8], name: &'static str, span: &mut Span) -> Result<(), Fault> {
    if span.of(bytes) == Some(b"null") {
        *span = Span::default();
    }
    if span.is_absent() || starts_object(bytes, *span) { Ok(()) } else { Err(bad(name, *span)) }
}

/// A string or integer stays, a null becomes absent, anything else is a fault: a peer that reads
/// `1.0` as `1` would otherwise be told of somebody else's request.
fn optional_token(bytes: &[u8], name: &'static str, span: &mut Span) -> Result<(), Fault> {
    if span.of(bytes) == Some(b"null") {
        *span = Span::default();
    }
    if span.is_absent() || is_token(bytes, *span) { Ok(()) } else { Err(bad(name, *span)) }
}

fn starts_object(bytes: &[u8], span: Span) -> bool {
    span.of(bytes).is_some_and(|raw| raw.starts_with(b"{"))
}

/// Whether the span is a string or integer of acceptable length. The grammar is already checked.
fn is_token(bytes: &[u8], span: Span) -> bool {
    span.of(bytes).is_some_and(|token| {
        token.len() <= id::MAX_LEN && (token.starts_with(b"\"") || id::is_integer(token))
    })
}

#[cfg(test)]
mod tests {
    use super::{ERROR, META, PARAMS, RESULT, TOP};

    #[test]
    fn names_and_indices_agree() {
        let check = |names: &[&str], index: fn(&[u8]) -> Option<usize>| {
            for (at, name) in names.iter().enumerate() {
                assert_eq!(index(name.as_bytes()), Some(at), "{name}");
                assert!(name.len() <= 64, "longer names are not unescaped");
            }
        };
        check(&TOP.names, TOP.index);
        check(&PARAMS.names, PARAMS.index);
        check(&RESULT.names, RESULT.index);
        check(&ERROR.names, ERROR.index);
        check(&META.names, META.index);
    }
}
