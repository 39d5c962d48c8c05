//! What a process says on stderr: always read, logged within bounds, the end of it remembered.

use std::time::Duration;

use tokio::time::Instant;

use crate::stats::Counters;

/// How much of the end is kept for the report of a death.
const TAIL: usize = 4 * 1024;

/// How much of one line is logged.
const MAX_LINE: usize = 1024;

/// How many lines are logged per [`WINDOW`].
const MAX_LINES: u32 = 50;
const WINDOW: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Log {
    tail: Vec<u8>,
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
    window: Option<Instant>,
    logged: u32,
    dropped: u64,
}

impl Log {
    /// Takes in what was read. `sink` gets the lines to log, without control characters.
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        now: Instant,
        counters: &Counters,
        mut sink: impl FnMut(&str),
    ) {
        self.keep_tail(bytes);
        self.renew(now, &mut sink);
        let mut rest = bytes;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            if self.logged >= MAX_LINES {
                // Too much: only count, which is cheap enough to keep up with any process.
                let lines = memchr::memchr_iter(b'\n', rest).count() as u64;
                counters.stderr_lines.add(lines);
                counters.stderr_dropped.add(lines);
                self.dropped += lines;
                self.line.clear();
                return;
            }
            counters.stderr_lines.increment();
            self.extend_line(rest.get(..end).unwrap_or_default());
            sink(&printable(&self.line));
            self.line.clear();
            self.logged += 1;
            rest = rest.get(end + 1..).unwrap_or_default();
        }
        self.extend_line(rest);
    }

    /// The last of what was said.
    pub(super) fn tail(&self) -> String {
        let text = String::from_utf8_lossy(&self.tail);
        text.trim().to_owned()
    }

    fn renew(&mut self, now: Instant, sink: &mut impl FnMut(&str)) {
        if self.window.is_some_and(|start| now < start + WINDOW) {
            return;
        }
        self.window = Some(now);
        self.logged = 0;
        if self.dropped > 0 {
            sink(&format!("[{} lines were left out]", self.dropped));
            self.dropped = 0;
        }
    }

    fn extend_line(&mut self, part: &[u8]) {
        let room = MAX_LINE.saturating_sub(self.line.len());
        self.line.extend_from_slice(part.get(..room).unwrap_or(part));
    }

    fn keep_tail(&mut self, bytes: &[u8]) {
        let news = bytes.get(bytes.len().saturating_sub(TAIL)..).unwrap_or_default();
        let surplus = (self.tail.len() + news.len()).saturating_sub(TAIL);
        self.tail.drain(..surplus.min(self.tail.len()));
        self.tail.extend_from_slice(news);
    }
}

/// The line as text that cannot forge another log line or drive a terminal.
fn printable(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    text.trim_end().chars().map(|char| if is_plain(char) { char } else { '\u{fffd}' }).collect()
}

/// Whether a character is shown as itself, where it stands: some that are no controls end a line as
/// well, or change the direction in which the rest of it is read.
fn is_plain(char: char) -> bool {
    !char.is_control()
        && !matches!(char, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Log, MAX_LINES, TAIL};
    use crate::stats::Counters;

    #[test]
    fn lines_are_joined_cleaned_and_cut() {
        let (mut log, counters, now) = (Log::default(), Counters::default(), Instant::now());
        let mut seen = Vec::new();
        let odd = "a\u{2028}b\u{2029}c\u{202e}d\u{2067}e\u{85}f \u{e9}\u{1f600}\n";
        for part in ["one\nt", "wo\u{1b}[31m\r\n", odd, &"x".repeat(3000), "\n"] {
            log.take(part.as_bytes(), now, &counters, |line| seen.push(line.to_owned()));
        }
        let cleaned = "a\u{fffd}b\u{fffd}c\u{fffd}d\u{fffd}e\u{fffd}f \u{e9}\u{1f600}";
        let expected = ["one", "two\u{fffd}[31m", cleaned, &"x".repeat(1024)];
        assert_eq!(seen, expected);
        assert_eq!(counters.snapshot().stderr_lines, 4);
    }

    #[test]
    fn a_flood_is_counted_reported_once_and_its_end_is_kept() {
        let (mut log, counters, start) = (Log::default(), Counters::default(), Instant::now());
        let mut seen = Vec::new();
        for _ in 0..100 {
            log.take(b"a line\n".repeat(100).as_slice(), start, &counters, |line| {
                seen.push(line.to_owned());
            });
        }
        assert_eq!(seen.len(), MAX_LINES as usize);
        assert_eq!(counters.snapshot().stderr_lines, 10_000);
        assert_eq!(counters.snapshot().stderr_dropped, 10_000 - u64::from(MAX_LINES));
        assert!(log.tail().len() <= TAIL && log.tail().ends_with("a line"));
        let later = start + Duration::from_secs(1);
        log.take(b"calm\n", later, &counters, |line| seen.push(line.to_owned()));
        assert_eq!(seen[MAX_LINES as usize..], ["[9950 lines were left out]", "calm"]);
    }
}
