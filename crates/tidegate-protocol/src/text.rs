//! JSON string contents: from the wire and back.

use std::borrow::Cow;

/// The text of a JSON string token, quotes included; borrowed where nothing is escaped.
///
/// `None` for other tokens, and for strings that do not follow the grammar.
pub(crate) fn unquote(token: &[u8]) -> Option<Cow<'_, str>> {
    let inner = token.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let inner = std::str::from_utf8(inner).ok()?;
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    let mut text = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some((plain, escape)) = rest.split_once('\\') {
        text.push_str(plain);
        let (char, length) = escaped_char(escape.as_bytes())?;
        text.push(char);
        rest = escape.get(length..)?;
    }
    text.push_str(rest);
    Some(Cow::Owned(text))
}

/// Whether a string token that the scanner has accepted says `text`.
///
/// Cheaper than to [`unquote`] and compare, as nothing is checked again.
pub(crate) fn says(token: &[u8], text: &str) -> bool {
    let Some(inner) = token.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")) else {
        return false;
    };
    if inner == text.as_bytes() {
        // An escape would stand for something else than what is written.
        return !inner.contains(&b'\\');
    }
    inner.len() > text.len()
        && inner.contains(&b'\\')
        && unquote(token).is_some_and(|unescaped| unescaped == text)
}

/// The contents of a string token that the scanner has accepted; `None` for other tokens.
///
/// Cheaper than [`unquote`], as nothing is checked again.
pub(crate) fn string_bytes(token: Option<&[u8]>) -> Option<Cow<'_, [u8]>> {
    let token = token?;
    let inner = token.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if inner.contains(&b'\\') {
        return Some(Cow::Owned(unquote(token)?.into_owned().into_bytes()));
    }
    Some(Cow::Borrowed(inner))
}

/// Unescapes string contents into `buffer`; `None` where they do not fit or break the grammar.
///
/// For keys: the names worth comparing with are short, so that a longer key equals none of them.
pub(crate) fn unescape_into<'b>(inner: &[u8], buffer: &'b mut [u8]) -> Option<&'b [u8]> {
    let mut length = 0;
    let mut rest = inner;
    while let Some((&first, tail)) = rest.split_first() {
        if first != b'\\' {
            *buffer.get_mut(length)? = first;
            length += 1;
            rest = tail;
            continue;
        }
        let (char, used) = escaped_char(tail)?;
        length += char.encode_utf8(buffer.get_mut(length..length + char.len_utf8())?).len();
        rest = tail.get(used..)?;
    }
    buffer.get(..length)
}

/// What the escape after a backslash stands for, and how many bytes it takes.
pub(crate) fn escaped_char(escape: &[u8]) -> Option<(char, usize)> {
    let plain = match escape.first()? {
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let high = hex4(escape.get(1..5)?)?;
            if !(0xD800..0xDC00).contains(&high) {
                // A low half on its own is no character, which `from_u32` says.
                return Some((char::from_u32(high)?, 5));
            }
            let low = hex4(escape.get(5..11)?.strip_prefix(b"\\u")?)?;
            if !(0xDC00..0xE000).contains(&low) {
                return None;
            }
            let code = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
            return Some((char::from_u32(code)?, 11));
        }
        _ => return None,
    };
    Some((plain, 1))
}

fn hex4(digits: &[u8]) -> Option<u32> {
    let mut value = 0;
    for &digit in digits {
        value = value << 4 | char::from(digit).to_digit(16)?;
    }
    Some(value)
}

/// Appends `text` as a JSON string token.
pub(crate) fn quote_into(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for char in text.chars() {
        match char {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\u{0}'..='\u{1f}' | '\u{7f}' => {
                out.extend_from_slice(format!("\\u{:04x}", u32::from(char)).as_bytes());
            }
            _ => out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}
