//! The log level that a client asked for in its session.

use tidegate_protocol::Envelope;

/// The levels of `logging/setLevel`, from the one that says most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Level {
    Debug = 1,
    Info,
    Notice,
    Warning,
    Error,
    Critical,
    Alert,
    Emergency,
}

impl Level {
    fn parse(word: &[u8]) -> Option<Self> {
        Some(match word {
            b"debug" => Self::Debug,
            b"info" => Self::Info,
            b"notice" => Self::Notice,
            b"warning" => Self::Warning,
            b"error" => Self::Error,
            b"critical" => Self::Critical,
            b"alert" => Self::Alert,
            b"emergency" => Self::Emergency,
            _ => return None,
        })
    }
}

/// The level that a `logging/setLevel` asks for.
pub(crate) fn level_of(request: &Envelope) -> Option<Level> {
    Level::parse(member(request.params()?, b"level")?)
}

/// The text of a member of an object, which is valid JSON. Escapes are left as they are: none of
/// the words that are looked for needs one.
fn member<'a>(object: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (mut depth, mut at) = (0_u32, 0);
    let mut key: Option<&[u8]> = None;
    while let Some(byte) = object.get(at) {
        at += 1;
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' => key = None,
            b'"' => {
                let text = string(object.get(at..)?)?;
                at += text.len() + 1;
                match key {
                    _ if depth != 1 => (),
                    None => key = Some(text),
                    Some(key) if key == name => return Some(text),
                    Some(_) => (),
                }
            }
            _ => (),
        }
    }
    None
}

/// What stands before the quote that ends a string.
fn string(rest: &[u8]) -> Option<&[u8]> {
    let mut at = 0;
    loop {
        match rest.get(at)? {
            b'"' => return rest.get(..at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_protocol::Envelope;

    use super::{Level, level_of};

    #[test]
    fn the_level_is_found_where_it_belongs() {
        let cases = [
            (r#"{"level":"debug"}"#, Some(Level::Debug)),
            (r#"{ "level" : "warning" }"#, Some(Level::Warning)),
            (r#"{"_meta":{"level":"debug"},"level":"error"}"#, Some(Level::Error)),
            (r#"{"a":["level","debug"],"level":"emergency"}"#, Some(Level::Emergency)),
            (r#"{"x":"\"level\":\"debug\"","level":"info"}"#, Some(Level::Info)),
            (r#"{"x":"level","y":"debug"}"#, None),
            (r#"{"level":7}"#, None),
            (r#"{"level":{"level":"info"}}"#, None),
            (r#"{"level":"loud"}"#, None),
            (r"{}", None),
        ];
        for (params, expected) in cases {
            let text = format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{params}}}"#
            );
            let request = Envelope::parse(text.into()).unwrap();
            assert_eq!(level_of(&request), expected, "{params}");
        }
        assert!(Level::Notice < Level::Warning && Level::Warning < Level::Error);
    }
}
