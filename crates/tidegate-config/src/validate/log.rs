//! What is logged: a filter that the logger will take, and a format.

use super::section::Section;
use crate::{
    decode::{Context, Field},
    key::Key,
    model::{Log, LogFormat},
    problem::{Mismatch, closest},
    raw::RawLog,
};

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
const HELP: &str = "write off, error, warn, info, debug or trace, or several parts such as \
                    info,tidegate_gateway=debug";

pub(super) fn log(context: &Context<'_>, raw: Field<RawLog>) -> Option<Log> {
    let section = Section::new(context, Key::of(&["log"]));
    let raw = raw.optional()?.unwrap_or_default();
    let level = section.text("level", raw.level, HELP).and_then(|text| {
        filter(&text).map_or_else(|mismatch| section.refuse("level", mismatch), |()| Some(text))
    });
    let format =
        section.text("format", raw.format, "write text or json").and_then(|text| {
            match text.as_str() {
                "text" => Some(LogFormat::Text),
                "json" => Some(LogFormat::Json),
                _ => section.refuse("format", Mismatch::new("not a format", "write text or json")),
            }
        });
    Some(Log { level: level?, format: format? })
}

/// Takes a part of what the logger takes: levels, and levels for a target. It reads everything else
/// in some way too, so a typing error would pass in silence.
fn filter(text: &str) -> Result<(), Mismatch> {
    for part in text.split(',') {
        let (target, level) = part.split_once('=').map_or(("all", part), |(t, l)| (t, l));
        let is_target = !target.is_empty()
            && target.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':' | b'-'));
        if !is_target {
            return Err(Mismatch::new("not a log filter", HELP));
        }
        let is_level = LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level));
        if !is_level {
            return Err(match closest(level, LEVELS) {
                Some(meant) => Mismatch::new("not a log level", format!("did you mean {meant}?")),
                None => Mismatch::new("not a log level", HELP),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::filter;

    #[test]
    fn filters_are_levels_and_targets() {
        for text in ["info", "WARN", "off", "info,tidegate_gateway=debug,hyper::proto=trace"] {
            assert_eq!(filter(text), Ok(()), "{text}");
        }
        for text in
            ["", "verbose", "info,", "info,=debug", "a b=info", "tidegate=loud", "info=info=info"]
        {
            assert!(filter(text).is_err(), "{text}");
        }
        assert_eq!(filter("wran").unwrap_err().help, "did you mean warn?");
    }
}
