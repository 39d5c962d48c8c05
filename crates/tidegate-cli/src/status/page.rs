//! A report as a page for people: a line for the proxy, a table of its upstreams, and what needs a
//! sentence. What a report does not say is a dash.

use serde_json::Value;

const COLUMNS: [&str; 8] =
    ["UPSTREAM", "KIND", "STATE", "SHARING", "HOLDS", "IN FLIGHT", "WAITING", "RESTARTS"];

/// Ends with a line break.
pub(super) fn text(report: &Value) -> String {
    let mut page = head(report);
    let upstreams = report.get("upstreams").and_then(Value::as_object);
    let upstreams: Vec<(&String, &Value)> = upstreams.into_iter().flatten().collect();
    let rows = upstreams.iter().map(|(name, upstream)| row(name, upstream));
    page.push('\n');
    page.push_str(&table(std::iter::once(COLUMNS.map(str::to_owned)).chain(rows).collect()));
    let notes: Vec<String> =
        upstreams.iter().flat_map(|(name, upstream)| notes(name, upstream)).collect();
    if !notes.is_empty() {
        page.push('\n');
    }
    for note in notes {
        page.push_str(&format!("  {note}\n"));
    }
    page
}

fn head(report: &Value) -> String {
    let listeners = report.get("listeners").and_then(Value::as_array);
    let addresses: Vec<String> = listeners
        .into_iter()
        .flatten()
        .map(plain)
        .chain(report.get("ops").and_then(Value::as_str).map(|ops| format!("ops {ops}")))
        .collect();
    format!(
        "tidegate {}, pid {}, {} for {}: {}\n  {}, {}, {}\n",
        at(report, "/version"),
        at(report, "/pid"),
        at(report, "/state"),
        number(report, "/uptime_s").map_or_else(|| "-".to_owned(), span),
        addresses.join(", "),
        counted(report, "connection"),
        counted(report, "stream"),
        counted(report, "session"),
    )
}

fn row(name: &str, upstream: &Value) -> [String; COLUMNS.len()] {
    [
        name.to_owned(),
        at(upstream, "/kind"),
        state(upstream).to_owned(),
        sharing(upstream),
        holds(upstream),
        at(upstream, "/in_flight"),
        at(upstream, "/waiting"),
        at(upstream, "/restarts"),
    ]
}

fn state(upstream: &Value) -> &'static str {
    match upstream.get("down") {
        None => "-",
        Some(Value::Null) => "up",
        Some(_) => "down",
    }
}

/// As configured, and what came of it where that is left to the proxy.
fn sharing(upstream: &Value) -> String {
    let configured = at(upstream, "/sharing/configured");
    match upstream.pointer("/sharing/now").and_then(Value::as_str) {
        Some(now) if now != configured => format!("{configured}: {now}"),
        _ => configured,
    }
}

/// Processes by what they do, or connections.
fn holds(upstream: &Value) -> String {
    let counts = |key: &str| {
        let members = upstream.get(key).and_then(Value::as_object)?;
        let some = members.iter().filter(|(name, count)| {
            count.as_u64().is_some_and(|count| count > 0) && *name != "max"
        });
        Some(some.map(|(name, count)| format!("{count} {}", name.replace('_', " "))).collect())
    };
    let held: Vec<String> =
        counts("processes").or_else(|| counts("connections")).unwrap_or_default();
    if held.is_empty() { "nothing".to_owned() } else { held.join(", ") }
}

/// What does not fit into a table.
fn notes(name: &str, upstream: &Value) -> Vec<String> {
    let ago =
        |pointer: &str| number(upstream, pointer).map_or_else(|| "some time".to_owned(), span);
    let mut notes = Vec::new();
    if number(upstream, "/sharing/moved_s").is_some() {
        let (moved, why) = (ago("/sharing/moved_s"), at(upstream, "/sharing/why"));
        notes.push(format!("{name}: moved to a process per session {moved} ago: {why}"));
    }
    if state(upstream) == "down" {
        let (since, next) = (ago("/down/for_s"), ago("/down/retry_in_s"));
        let why = at(upstream, "/down/why");
        notes.push(format!("{name}: down for {since}, tried again in {next}: {why}"));
    }
    if upstream.get("last_failure").is_some_and(Value::is_object) {
        let (when, why) = (ago("/last_failure/ago_s"), at(upstream, "/last_failure/why"));
        notes.push(format!("{name}: a start failed {when} ago: {why}"));
        let stderr = upstream.pointer("/last_failure/stderr").and_then(Value::as_array);
        notes.extend(stderr.into_iter().flatten().map(|line| format!("  | {}", plain(line))));
    }
    if let Some(count @ 1..) = number(upstream, "/start_failures") {
        let starts = if count == 1 { "1 start".to_owned() } else { format!("{count} starts") };
        notes.push(format!("{name}: {starts} failed since the proxy runs"));
    }
    notes
}

/// Columns two spaces apart, each as wide as its widest cell.
fn table(rows: Vec<[String; COLUMNS.len()]>) -> String {
    let mut widths = [0; COLUMNS.len()];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("  {cell:width$}"));
        format!("{}\n", cells.collect::<String>().trim_end())
    });
    lines.collect()
}

/// The value there, for a person.
fn at(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).map_or_else(|| "-".to_owned(), plain)
}

fn number(value: &Value, pointer: &str) -> Option<u64> {
    value.pointer(pointer).and_then(Value::as_u64)
}

fn counted(report: &Value, one: &str) -> String {
    match number(report, &format!("/{one}s")) {
        Some(1) => format!("1 {one}"),
        Some(count) => format!("{count} {one}s"),
        None => format!("- {one}s"),
    }
}

/// Text without what a terminal would obey: a server chose the lines of its stderr.
fn plain(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let shown = text.chars().map(|c| match c {
        // Ends of lines, and what changes the direction in which the rest is read.
        '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            c.escape_default().to_string()
        }
        c if c.is_control() => c.escape_default().to_string(),
        c => c.to_string(),
    });
    shown.collect()
}

/// Seconds in at most two units.
fn span(seconds: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let mut parts = Vec::new();
    let mut rest = seconds;
    for (unit, length) in UNITS {
        let amount = rest / length;
        rest %= length;
        match amount {
            // A day and some seconds is a day.
            0 if parts.is_empty() => (),
            0 => break,
            amount => parts.push(format!("{amount}{unit}")),
        }
        if parts.len() == 2 {
            break;
        }
    }
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{span, text};

    #[test]
    fn a_page_says_all_that_a_report_says() {
        let report = json!({
            "version": "0.1.0",
            "pid": 42,
            "state": "serving",
            "uptime_s": 3_725,
            "listeners": ["127.0.0.1:8080", "[::1]:8080"],
            "ops": "127.0.0.1:9464",
            "connections": 1,
            "streams": 0,
            "sessions": 2,
            "upstreams": {
                "broken": {
                    "kind": "stdio",
                    "sharing": { "configured": "session" },
                    "processes": { "starting": 0 },
                    "in_flight": 0,
                    "waiting": 0,
                    "restarts": 9,
                    "start_failures": 1,
                    "down": { "for_s": 12, "retry_in_s": 18, "why": "5 starts failed in a row" },
                    "last_failure": {
                        "ago_s": 12,
                        "why": "it ended with status 1",
                        "stderr": ["no such file", "\u{1b}[31mred\u{7}\u{202e}\u{2028}"],
                    },
                },
                "files": {
                    "kind": "stdio",
                    "sharing": {
                        "configured": "auto",
                        "now": "session",
                        "moved_s": 90,
                        "why": "it asked its client for a sample",
                    },
                    "processes": { "serving": 2, "spare": 1, "stopping": 0 },
                    "in_flight": 3,
                    "waiting": 4,
                    "restarts": 0,
                    "start_failures": 0,
                    "down": null,
                },
                "search": {
                    "kind": "http",
                    "connections": { "idle": 1, "in_use": 2, "max": 1024 },
                    "in_flight": 2,
                    "waiting": 0,
                },
            },
        });
        let expected = "\
tidegate 0.1.0, pid 42, serving for 1h 2m: 127.0.0.1:8080, [::1]:8080, ops 127.0.0.1:9464
  1 connection, 0 streams, 2 sessions

  UPSTREAM  KIND   STATE  SHARING        HOLDS               IN FLIGHT  WAITING  RESTARTS
  broken    stdio  down   session        nothing             0          0        9
  files     stdio  up     auto: session  2 serving, 1 spare  3          4        0
  search    http   -      -              1 idle, 2 in use    2          0        -

  broken: down for 12s, tried again in 18s: 5 starts failed in a row
  broken: a start failed 12s ago: it ended with status 1
    | no such file
    | \\u{1b}[31mred\\u{7}\\u{202e}\\u{2028}
  broken: 1 start failed since the proxy runs
  files: moved to a process per session 1m 30s ago: it asked its client for a sample
";
        assert_eq!(text(&report), expected);
    }

    #[test]
    fn what_is_not_said_is_a_dash() {
        let page = text(&json!({ "upstreams": { "new": { "kind": "other" } } }));
        let rows: Vec<&str> = page.lines().filter(|line| line.contains("other")).collect();
        assert_eq!(rows, ["  new       other  -      -        nothing  -          -        -"]);
        assert!(text(&json!(7)).starts_with("tidegate -, pid -, - for -: \n"));
    }

    #[test]
    fn spans_have_two_units_at_most() {
        for (seconds, expected) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (3_599, "59m 59s"),
            (3_601, "1h"),
            (86_400 + 3_600 * 5 + 7, "1d 5h"),
        ] {
            assert_eq!(span(seconds), expected);
        }
    }
}
