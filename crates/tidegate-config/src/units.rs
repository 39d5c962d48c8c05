//! Sizes and durations as people write them: `4MiB`, `250ms`. A bare number has no meaning here.

use std::time::Duration;

use crate::problem::Mismatch;

const SIZES: [(&str, u64); 7] = [
    ("B", 1),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

const MILLISECONDS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Reads a size, in bytes.
pub(crate) fn size(text: &str) -> Result<u64, Mismatch> {
    match split(text) {
        Some((_, "")) => Err(size_without_unit()),
        Some((number, unit)) => scaled(number, unit, &SIZES).ok_or_else(not_a_size),
        None => Err(not_a_size()),
    }
}

/// Reads a duration.
pub(crate) fn duration(text: &str) -> Result<Duration, Mismatch> {
    match split(text) {
        Some((_, "")) => Err(duration_without_unit()),
        Some((number, unit)) => scaled(number, unit, &MILLISECONDS)
            .map(Duration::from_millis)
            .ok_or_else(not_a_duration),
        None => Err(not_a_duration()),
    }
}

/// Writes a size in the largest unit that leaves no rest.
pub(crate) fn size_text(bytes: u64) -> String {
    text(bytes, &SIZES)
}

/// Writes a duration in the largest unit that leaves no rest.
pub(crate) fn duration_text(duration: Duration) -> String {
    text(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), &MILLISECONDS)
}

pub(crate) fn size_without_unit() -> Mismatch {
    Mismatch::new("a size needs a unit", SIZE_HELP)
}

pub(crate) fn not_a_size() -> Mismatch {
    Mismatch::new("not a size", SIZE_HELP)
}

pub(crate) fn duration_without_unit() -> Mismatch {
    Mismatch::new("a duration needs a unit", DURATION_HELP)
}

pub(crate) fn not_a_duration() -> Mismatch {
    Mismatch::new("not a duration", DURATION_HELP)
}

const SIZE_HELP: &str =
    "write a whole number and B, KB, MB, GB, KiB, MiB or GiB, for example 16MiB";
const DURATION_HELP: &str = "write a whole number and ms, s, m, h or d, for example 30s";

/// The digits in front and the unit behind them.
fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit.trim_start()))
}

fn scaled(number: u64, unit: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*factor)
}

fn text(amount: u64, units: &[(&str, u64)]) -> String {
    units
        .iter()
        .filter(|(_, factor)| amount.is_multiple_of(*factor) && (amount > 0 || *factor == 1))
        .max_by_key(|(_, factor)| factor)
        .map_or_else(|| amount.to_string(), |(unit, factor)| format!("{}{unit}", amount / factor))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{duration, duration_text, size, size_text};

    #[test]
    fn every_unit_of_size_is_read() {
        for (text, bytes) in [
            ("0B", 0),
            ("1B", 1),
            ("2KB", 2_000),
            ("3MB", 3_000_000),
            ("4GB", 4_000_000_000),
            ("5KiB", 5 * 1024),
            ("6MiB", 6 * 1024 * 1024),
            ("7GiB", 7 * 1024 * 1024 * 1024),
            (" 8 MiB ", 8 * 1024 * 1024),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn every_unit_of_duration_is_read() {
        for (text, milliseconds) in
            [("0s", 0), ("250ms", 250), ("30s", 30_000), ("5m", 300_000), ("2h", 7_200_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        assert_eq!(duration("1d"), Ok(Duration::from_secs(86_400)));
    }

    #[test]
    fn what_is_no_size_or_duration_is_refused() {
        for text in ["", "MiB", "1.5MiB", "-1MiB", "1mib", "1M", "16 EiB", "99999999999GiB", "1e3B"]
        {
            assert_eq!(size(text).unwrap_err().what, "not a size", "{text}");
        }
        for text in ["", "s", "1.5s", "-1s", "1min", "1S", "1m30s", "99999999999999999d"] {
            assert_eq!(duration(text).unwrap_err().what, "not a duration", "{text}");
        }
        assert_eq!(size("16").unwrap_err().what, "a size needs a unit");
        assert_eq!(duration("30").unwrap_err().what, "a duration needs a unit");
    }

    #[test]
    fn texts_read_back_as_the_same_value() {
        for bytes in [0, 1, 1000, 1024, 16 << 20, (16 << 20) + 1, 1 << 40] {
            assert_eq!(size(&size_text(bytes)), Ok(bytes));
        }
        for milliseconds in [0, 1, 250, 1000, 90_000, 86_400_000] {
            let value = Duration::from_millis(milliseconds);
            assert_eq!(duration(&duration_text(value)), Ok(value));
        }
        assert_eq!(size_text(16 << 20), "16MiB");
        assert_eq!(duration_text(Duration::from_secs(300)), "5m");
    }
}
