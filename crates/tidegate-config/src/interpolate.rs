//! `${NAME}` and `${file:PATH}` inside the strings of a file, so that secrets stay out of it.
//!
//! `$${` stands for a literal `${`; any other `$` is left alone. What was filled in is never looked
//! at again, so a secret that contains `${` stays as it is.

use std::path::Path;

use crate::{
    environment::Environment,
    layer::{read_text, reason},
    problem::Mismatch,
};

/// Largest file that `${file:…}` reads.
const MAX_SECRET: u64 = 64 * 1024;

/// A stretch of a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    Literal(&'a str),
    Variable(&'a str),
    File(&'a str),
}

/// Cuts `text` into its pieces.
pub(crate) fn pieces(text: &str) -> Result<Vec<Piece<'_>>, Mismatch> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(dollar) = rest.find("${") {
        let (before, from_dollar) = rest.split_at(dollar);
        if let Some(before) = before.strip_suffix('$') {
            pieces.extend([Piece::Literal(before), Piece::Literal("${")]);
            rest = from_dollar.get(2..).unwrap_or_default();
            continue;
        }
        let inside = from_dollar.get(2..).unwrap_or_default();
        let (name, after) = inside.split_once('}').ok_or_else(|| {
            Mismatch::new("a `${` is never closed", "write ${NAME}, or $${ for a literal ${")
        })?;
        pieces.extend([Piece::Literal(before), reference(name)?]);
        rest = after;
    }
    pieces.push(Piece::Literal(rest));
    pieces.retain(|piece| *piece != Piece::Literal(""));
    Ok(pieces)
}

fn reference(name: &str) -> Result<Piece<'_>, Mismatch> {
    if let Some(path) = name.strip_prefix("file:").map(str::trim)
        && !path.is_empty()
    {
        return Ok(Piece::File(path));
    }
    let named = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if named {
        return Ok(Piece::Variable(name));
    }
    Err(Mismatch::new(
        format!("`${{{name}}}` is not a reference"),
        "write ${NAME} for a variable, ${file:PATH} for a file, $${ for a literal ${",
    ))
}

/// Fills in `text`; relative files start at `directory`.
pub(crate) fn fill(text: &str, around: &Environment, directory: &Path) -> Result<String, Mismatch> {
    let mut filled = String::with_capacity(text.len());
    for piece in pieces(text)? {
        match piece {
            Piece::Literal(literal) => filled.push_str(literal),
            Piece::Variable(name) => filled.push_str(variable(name, around)?),
            Piece::File(path) => filled.push_str(&secret_file(&directory.join(path))?),
        }
    }
    Ok(filled)
}

/// `text` with a note in place of each secret, otherwise in the notation of the file.
pub(crate) fn mask(text: &str) -> String {
    let Ok(pieces) = pieces(text) else { return text.to_owned() };
    pieces
        .into_iter()
        .map(|piece| match piece {
            Piece::Literal(literal) => escape(literal),
            Piece::Variable(name) => format!("<secret from {name}>"),
            Piece::File(path) => format!("<secret from {path}>"),
        })
        .collect()
}

/// Writes text that is meant as it is in the notation of the file.
pub(crate) fn escape(text: &str) -> String {
    text.replace("${", "$${")
}

fn variable<'a>(name: &str, around: &'a Environment) -> Result<&'a str, Mismatch> {
    let value = around.get(name).ok_or_else(|| {
        Mismatch::new(
            format!("the variable {name} is not set"),
            format!("set {name}, or write $${{{name}}} if the text itself is meant"),
        )
    })?;
    value.to_str().ok_or_else(|| {
        Mismatch::new(format!("the variable {name} is not UTF-8"), "set it to UTF-8 text")
    })
}

/// The file without the newline that editors put at its end.
fn secret_file(path: &Path) -> Result<String, Mismatch> {
    let mut text = read_text(path, MAX_SECRET).map_err(|error| {
        Mismatch::new(
            format!("cannot read {}: {}", path.display(), reason(&error)),
            "give a readable text file; relative paths start at the directory of this file",
        )
    })?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Piece, fill, mask, pieces};
    use crate::environment::Environment;

    fn filled(text: &str) -> Result<String, String> {
        let around = Environment::new([("TOKEN", "s3cret"), ("LOOP", "${TOKEN}")], "/");
        fill(text, &around, Path::new("/")).map_err(|mismatch| mismatch.what)
    }

    #[test]
    fn references_are_filled_in_once() {
        assert_eq!(filled("Bearer ${TOKEN}!"), Ok("Bearer s3cret!".to_owned()));
        assert_eq!(filled("${LOOP}"), Ok("${TOKEN}".to_owned()));
        assert_eq!(filled("${TOKEN}${TOKEN}"), Ok("s3crets3cret".to_owned()));
    }

    #[test]
    fn dollars_that_are_no_references_stay() {
        assert_eq!(filled("$5, $HOME, 5$"), Ok("$5, $HOME, 5$".to_owned()));
        assert_eq!(filled("echo $${HOME} ${TOKEN}"), Ok("echo ${HOME} s3cret".to_owned()));
    }

    #[test]
    fn bad_references_are_refused() {
        for (text, what) in [
            ("${NOBODY}", "the variable NOBODY is not set"),
            ("${TOKEN", "a `${` is never closed"),
            ("${}", "`${}` is not a reference"),
            ("${TOKEN:-x}", "`${TOKEN:-x}` is not a reference"),
            ("${file:}", "`${file:}` is not a reference"),
            ("${file:/nowhere/x}", "cannot read /nowhere/x: it does not exist"),
        ] {
            assert_eq!(filled(text), Err(what.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_secret_file_loses_only_its_last_newline() {
        let folder = tempfile::tempdir().unwrap();
        for (content, value) in [("a\n\n", "a\n"), ("a\r\n", "a"), ("a", "a"), ("", "")] {
            std::fs::write(folder.path().join("secret"), content).unwrap();
            let filled = fill("<${file:secret}>", &Environment::default(), folder.path());
            assert_eq!(filled.unwrap(), format!("<{value}>"));
        }
    }

    #[test]
    fn masking_names_the_source_only() {
        assert_eq!(mask("Bearer ${TOKEN}"), "Bearer <secret from TOKEN>");
        assert_eq!(mask("${file: /run/x}"), "<secret from /run/x>");
        assert_eq!(mask("echo $${HOME} ${TOKEN}"), "echo $${HOME} <secret from TOKEN>");
        assert_eq!(pieces("$${a}").unwrap(), [Piece::Literal("${"), Piece::Literal("a}")]);
    }
}
