//! A Rust file taken apart just far enough to tell code, comments, strings and test code.
//!
//! It is a scanner, not a parser: it knows where comments, literals and braces are, and nothing else.

/// One line, in four readings.
#[derive(Default)]
pub(crate) struct Line {
    /// As it stands in the file.
    pub(crate) raw: String,
    /// Without comments and without what is inside of strings.
    pub(crate) code: String,
    /// Without comments.
    pub(crate) text: String,
    /// Comments only.
    pub(crate) comment: String,
    /// Inside of an item under `#[cfg(test)]`.
    pub(crate) is_test: bool,
}

pub(crate) struct Source {
    pub(crate) lines: Vec<Line>,
}

/// What the scanner is inside of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Code,
    LineComment,
    /// Block comments nest.
    BlockComment(usize),
    /// `raw` is the number of `#` of a raw string; `None` for one with escapes.
    Text {
        raw: Option<usize>,
    },
}

impl Source {
    pub(crate) fn parse(text: &str) -> Self {
        let mut scanner = Scanner { state: State::Code, lines: vec![] };
        for line in text.lines() {
            scanner.line(line);
        }
        let mut lines = scanner.lines;
        mark_tests(&mut lines);
        Self { lines }
    }

    /// Lines with their numbers, from 1.
    pub(crate) fn numbered(&self) -> impl Iterator<Item = (usize, &Line)> {
        (1..).zip(&self.lines)
    }
}

struct Scanner {
    state: State,
    lines: Vec<Line>,
}

impl Scanner {
    fn line(&mut self, raw: &str) {
        let mut line = Line { raw: raw.to_owned(), ..Line::default() };
        if self.state == State::LineComment {
            self.state = State::Code;
        }
        let mut rest = raw;
        while let Some(next) = rest.chars().next() {
            let taken = match self.state {
                State::Code => self.code(rest, &mut line),
                State::LineComment => take(rest, rest.len(), &mut [&mut line.comment]),
                State::BlockComment(depth) => self.block_comment(depth, rest, &mut line),
                State::Text { raw } => self.text(raw, rest, &mut line),
            };
            rest = rest.get(taken.max(next.len_utf8())..).unwrap_or_default();
        }
        self.lines.push(line);
    }

    fn code(&mut self, rest: &str, line: &mut Line) -> usize {
        if rest.starts_with("//") {
            self.state = State::LineComment;
            return take(rest, 2, &mut [&mut line.comment]);
        }
        if rest.starts_with("/*") {
            self.state = State::BlockComment(1);
            return take(rest, 2, &mut [&mut line.comment]);
        }
        if let Some(length) = char_literal(rest) {
            line.text.push_str(rest.get(..length).unwrap_or_default());
            return length;
        }
        if let Some((hashes, length)) = raw_string_start(rest, &line.code) {
            self.state = State::Text { raw: Some(hashes) };
            return take(rest, length, &mut [&mut line.code, &mut line.text]);
        }
        if rest.starts_with('"') {
            self.state = State::Text { raw: None };
        }
        let length = rest.chars().next().map_or(1, char::len_utf8);
        take(rest, length, &mut [&mut line.code, &mut line.text])
    }

    fn block_comment(&mut self, depth: usize, rest: &str, line: &mut Line) -> usize {
        if rest.starts_with("*/") {
            self.state = if depth == 1 { State::Code } else { State::BlockComment(depth - 1) };
            return take(rest, 2, &mut [&mut line.comment]);
        }
        if rest.starts_with("/*") {
            self.state = State::BlockComment(depth + 1);
            return take(rest, 2, &mut [&mut line.comment]);
        }
        let length = rest.chars().next().map_or(1, char::len_utf8);
        take(rest, length, &mut [&mut line.comment])
    }

    fn text(&mut self, raw: Option<usize>, rest: &str, line: &mut Line) -> usize {
        let end = match raw {
            Some(hashes) => format!("\"{}", "#".repeat(hashes)),
            None => "\"".to_owned(),
        };
        if rest.starts_with(&end) {
            self.state = State::Code;
            return take(rest, end.len(), &mut [&mut line.code, &mut line.text]);
        }
        let escaped = raw.is_none() && rest.starts_with('\\');
        let length = rest.chars().take(if escaped { 2 } else { 1 }).map(char::len_utf8).sum();
        take(rest, length, &mut [&mut line.text])
    }
}

/// Copies `length` bytes to each reading; returns `length`.
fn take(rest: &str, length: usize, readings: &mut [&mut String]) -> usize {
    for reading in readings {
        reading.push_str(rest.get(..length).unwrap_or_default());
    }
    length
}

/// The length of a char or byte literal; a lifetime is none.
fn char_literal(rest: &str) -> Option<usize> {
    let inner = rest.strip_prefix('\'')?;
    if inner.starts_with('\\') {
        // The escaped character itself may be a quote.
        let after = inner.char_indices().nth(2)?.0;
        return inner.get(after..)?.find('\'').map(|end| 1 + after + end + 1);
    }
    let (_, character) = inner.char_indices().next()?;
    let after = character.len_utf8();
    inner.get(after..)?.starts_with('\'').then_some(1 + after + 1)
}

/// Hashes and length of `r"`, `r#"`, `br"` …; an identifier that ends in `r` is none.
fn raw_string_start(rest: &str, before: &str) -> Option<(usize, usize)> {
    if before.ends_with(|c: char| c.is_alphanumeric() || c == '_') {
        return None;
    }
    let body = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r'))?;
    let hashes = body.chars().take_while(|c| *c == '#').count();
    let quoted = body.get(hashes..)?.starts_with('"');
    quoted.then(|| (hashes, rest.len() - body.len() + hashes + 1))
}

/// Marks every item under `#[cfg(test)]`: to its closing brace, or to its semicolon.
fn mark_tests(lines: &mut [Line]) {
    let mut inside: Option<i64> = None;
    for line in lines {
        let attribute = line.code.find("#[cfg(test)]").or_else(|| line.code.find("#[cfg(all(test"));
        let start = match (inside, attribute) {
            (Some(_), _) => 0,
            (None, Some(at)) => {
                inside = Some(0);
                // Past the attribute, whose own brackets are not the item's.
                line.code
                    .get(at..)
                    .and_then(|code| code.find(']'))
                    .map_or(line.code.len(), |end| at + end + 1)
            }
            (None, None) => continue,
        };
        line.is_test = true;
        for character in line.code.get(start..).unwrap_or_default().chars() {
            let Some(depth) = inside else { break };
            inside = match character {
                '{' => Some(depth + 1),
                '}' if depth <= 1 => None,
                '}' => Some(depth - 1),
                ';' if depth == 0 => None,
                _ => Some(depth),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Source;

    fn code(text: &str) -> String {
        Source::parse(text).lines.iter().map(|line| line.code.clone()).collect::<Vec<_>>().join("|")
    }

    #[test]
    fn comments_and_strings_are_not_code() {
        assert_eq!(code("a // b \"c\nd"), "a |d");
        assert_eq!(code("a /* b /* c */ d */ e"), "a  e");
        assert_eq!(code("f(\"x // y\", 1)"), "f(\"\", 1)");
        assert_eq!(code(r#"f("a \" b", c)"#), "f(\"\", c)");
        assert_eq!(code("f(r#\"a \" b\"#, c)"), "f(r#\"\"#, c)");
        assert_eq!(code("\"one\ntwo\" x"), "\"|\" x");
    }

    #[test]
    fn char_literals_are_not_strings_and_lifetimes_are_not_literals() {
        assert_eq!(code("f('\"', b'\\'', x)"), "f(, b, x)");
        assert_eq!(
            code("fn f<'a>(x: &'a str) -> &'a str { x }"),
            "fn f<'a>(x: &'a str) -> &'a str { x }"
        );
        assert_eq!(code("var\"x\""), "var\"\"");
    }

    fn tests_of(text: &str) -> Vec<usize> {
        Source::parse(text)
            .numbered()
            .filter(|(_, line)| line.is_test)
            .map(|(number, _)| number)
            .collect()
    }

    #[test]
    fn test_items_end_with_their_brace_or_semicolon() {
        assert_eq!(tests_of("a();\n#[cfg(test)]\nmod tests {\n  fn t() {}\n}\nb();"), [2, 3, 4, 5]);
        assert_eq!(tests_of("#[cfg(test)]\nmod tests;\nb();"), [1, 2]);
        assert_eq!(tests_of("#[cfg(test)]\nuse a::{b, c};\nd();"), [1, 2]);
        assert_eq!(
            tests_of("#[cfg(test)]\nmod t {\n  const S: &str = \"}\";\n}\nb();"),
            [1, 2, 3, 4]
        );
        assert_eq!(tests_of("#[cfg(feature = \"x\")]\nmod m {}\n"), Vec::<usize>::new());
    }
}
