//! The effective configuration as a file, each value with its source.

use figment::value::Value;

use crate::{
    interpolate,
    key::Key,
    layer::{Origin, inline},
    problem::Place,
    sources::{Part, Sources, text},
};

/// Keys in reading order; names of the user's choice come after them, by alphabet.
const ORDER: [&str; 104] = [
    "version",
    "listeners",
    "ops",
    "workers",
    "state_dir",
    "upstreams",
    "routes",
    "address",
    "match",
    "path",
    "messages",
    "upstream",
    "sse",
    "forward",
    "authorization",
    "cookies",
    "progress",
    "tools",
    "connect",
    "request",
    "idle",
    "total",
    "replay",
    "replay_window",
    "replay_max_events",
    "replay_max_bytes",
    "replay_prime_after",
    "replay_poll_after",
    "slow_client",
    "slow_client_buffer",
    "slow_client_after",
    "url",
    "stdio",
    "http",
    "limits",
    "timeouts",
    "security",
    "log",
    "command",
    "cwd",
    "env",
    "clear_env",
    "inherit_env",
    "user",
    "group",
    "rlimits",
    "nofile",
    "as",
    "cpu",
    "sharing",
    "max_processes",
    "start_timeout",
    "start_attempts",
    "down_for",
    "stop_grace",
    "transport",
    "idle_timeout",
    "pool_idle",
    "max_connection_age",
    "max_connection_requests",
    "min_idle_connections",
    "http2",
    "reconnect",
    "reconnect_stall",
    "reconnect_attempts",
    "reconnect_base",
    "reconnect_max",
    "reconnect_for",
    "reconnect_at_once",
    "reconnect_rate",
    "max_connections",
    "max_waiting",
    "acquire_timeout",
    "min_idle",
    "max_age",
    "max_calls",
    "max_rss",
    "max_line",
    "max_in_flight",
    "max_response",
    "ca_file",
    "max_body",
    "body_budget",
    "max_header_bytes",
    "max_header_value",
    "max_headers",
    "max_uri",
    "max_sessions",
    "max_depth",
    "max_batch",
    "replay_budget",
    "slow_client_budget",
    "first_byte",
    "headers",
    "body_idle",
    "keep_alive",
    "write_stall",
    "heartbeat",
    "session_idle",
    "drain",
    "allowed_hosts",
    "allowed_origins",
    "level",
    "format",
];

pub(super) fn show(sources: &Sources) -> String {
    let mut page = Page { sources, lines: Vec::new() };
    page.members(&Key::default(), &sources.merged.root, 0);
    page.finish()
}

/// Lines, each with the comment that goes behind it.
struct Page<'a> {
    sources: &'a Sources,
    lines: Vec<(String, Option<Place>)>,
}

impl Page<'_> {
    fn members(&mut self, key: &Key, value: &Value, depth: usize) {
        let Value::Dict(_, members) = value else { return };
        let mut members: Vec<(&String, &Value)> = members.iter().collect();
        members.sort_by_key(|(name, _)| {
            ORDER.iter().position(|known| known == name).unwrap_or(ORDER.len())
        });
        for (name, value) in members {
            self.member(&key.child(name), name, value, depth);
        }
    }

    fn member(&mut self, key: &Key, name: &str, value: &Value, depth: usize) {
        let head = format!("{}{}:", "  ".repeat(depth), plain_or_quoted(name));
        match value {
            Value::Dict(_, members) if !members.is_empty() => {
                self.lines.push((head, None));
                self.members(key, value, depth + 1);
            }
            Value::Array(_, items) if items.iter().any(|item| item.as_dict().is_some()) => {
                self.lines.push((head, None));
                for (index, item) in items.iter().enumerate() {
                    self.item(&key.item(index), item, depth + 1);
                }
            }
            value => {
                let line = format!("{head} {}", self.inline(key, value));
                self.lines.push((line, Some(self.sources.place(key, Part::Key))));
            }
        }
    }

    /// A mapping in a list: its first line carries the dash.
    fn item(&mut self, key: &Key, value: &Value, depth: usize) {
        let first = self.lines.len();
        self.members(key, value, depth + 1);
        if let Some((line, _)) = self.lines.get_mut(first) {
            let indent = "  ".repeat(depth);
            *line = format!("{indent}- {}", line.trim_start());
        }
    }

    fn inline(&self, key: &Key, value: &Value) -> String {
        match value {
            Value::Dict(..) => "{}".to_owned(),
            Value::Array(_, items) => {
                let items = items.iter().enumerate();
                let items: Vec<String> =
                    items.map(|(index, item)| self.inline(&key.item(index), item)).collect();
                format!("[{}]", items.join(", "))
            }
            Value::Num(..) | Value::Bool(..) => text(value),
            Value::Empty(..) => "null".to_owned(),
            Value::String(..) | Value::Char(..) => plain_or_quoted(&self.text(key, value)),
        }
    }

    /// The text to show, without secrets.
    fn text(&self, key: &Key, value: &Value) -> String {
        let text = text(value);
        if self.sources.merged.origin(value) == Origin::File && text.contains("${") {
            return interpolate::mask(&text);
        }
        self.sources.hidden(key).unwrap_or_else(|| interpolate::escape(&text))
    }

    /// The page, with the comments in one column.
    fn finish(self) -> String {
        let column = self.lines.iter().map(|(line, _)| line.chars().count()).max().unwrap_or(0);
        // Long commands would push every comment out of sight.
        let column = column.min(60);
        let mut page = String::new();
        for (line, place) in self.lines {
            match place {
                Some(place) => page.push_str(&format!("{line:column$}  # {}\n", short(&place))),
                None => page.push_str(&format!("{line}\n")),
            }
        }
        page
    }
}

/// A place without its column: a line is enough to find what was set.
fn short(place: &Place) -> String {
    match place {
        Place::File { name, position: Some(position) } => format!("{name}:{}", position.line),
        other => other.to_string(),
    }
}

/// Text as YAML reads it back: plain where that is safe, else in double quotes.
fn plain_or_quoted(text: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "_-./:@+=".contains(c);
    let reads_back = || matches!(inline(text), Some(Value::String(_, read)) if read == text);
    if !text.is_empty() && text.chars().all(safe) && reads_back() {
        return text.to_owned();
    }
    // JSON strings are YAML strings, but for a few characters that YAML does not take unescaped.
    let quoted = serde_json::to_string(text).unwrap_or_default();
    quoted
        .chars()
        .map(|c| match c {
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' => {
                format!("\\u{:04x}", u32::from(c))
            }
            c => c.to_string(),
        })
        .collect()
}
