//! Taking values out of one mapping of the file, with their ranges.

use std::{ops::RangeInclusive, time::Duration};

use crate::{
    decode::{Context, Count, Field, Size, Span, Text},
    key::Key,
    problem::{Mismatch, closest},
    units,
};

/// The longest duration that is taken for one: a year.
const MAX_DURATION: Duration = Duration::from_secs(365 * 86_400);

/// Whether a duration of zero makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Zero {
    Allowed,
    Refused,
}

/// One mapping and its key.
#[derive(Debug)]
pub(super) struct Section<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) key: Key,
    /// Whether `off` would be taken too, which a report then says.
    or_off: bool,
}

impl<'a> Section<'a> {
    pub(super) const fn new(context: &'a Context<'a>, key: Key) -> Self {
        Self { context, key, or_off: false }
    }

    pub(super) fn root(context: &'a Context<'a>) -> Self {
        Self::new(context, Key::default())
    }

    /// The value of a key that must be there.
    pub(super) fn need<T>(&self, name: &str, field: Field<T>, help: &str) -> Option<T> {
        let value = field.optional()?;
        if value.is_none() {
            let key = self.key.child(name);
            self.context.refuse_key(&key, Mismatch::new("the key is missing", help));
        }
        value
    }

    /// A value that can be `off`, which is `Some(None)`.
    pub(super) fn unless_off<T, U>(
        &self,
        name: &str,
        field: Field<Option<T>>,
        read: impl FnOnce(&Self, &str, Field<T>) -> Option<U>,
    ) -> Option<Option<U>> {
        let Some(value) = self.need(name, field, "write a value, or off")? else {
            return Some(None);
        };
        let this = Self { context: self.context, key: self.key.clone(), or_off: true };
        read(&this, name, Field::Good(value)).map(Some)
    }

    /// A number of bytes.
    pub(super) fn size(
        &self,
        name: &str,
        field: Field<Size>,
        range: RangeInclusive<u64>,
    ) -> Option<usize> {
        let Size(bytes) = self.need(name, field, "write a size, for example 16MiB")?;
        self.within(name, bytes, range, units::size_text)
    }

    /// A number of things.
    pub(super) fn count(
        &self,
        name: &str,
        field: Field<Count>,
        range: RangeInclusive<u64>,
    ) -> Option<usize> {
        let Count(count) = self.need(name, field, "write a whole number")?;
        self.within(name, count, range, |count| count.to_string())
    }

    /// A duration of at most a year.
    pub(super) fn duration(&self, name: &str, field: Field<Span>, zero: Zero) -> Option<Duration> {
        let Span(duration) = self.need(name, field, "write a duration, for example 30s")?;
        let longest = units::duration_text(MAX_DURATION);
        if duration.is_zero() && zero == Zero::Refused {
            let never = if self.or_off { "" } else { "; it cannot be off" };
            let help = format!("write a duration above zero, at most {longest}{never}");
            return self.refuse(name, Mismatch::new("it cannot be zero", help));
        }
        if duration > MAX_DURATION {
            let help = format!("write at most {longest}");
            return self.refuse(name, Mismatch::new("the duration is too long", help));
        }
        Some(duration)
    }

    /// Text as it is.
    pub(super) fn text(&self, name: &str, field: Field<Text>, help: &str) -> Option<String> {
        self.need(name, field, help).map(|Text(text)| text)
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(
        &self,
        name: &str,
        field: Field<Text>,
        what: &'static str,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let help = match words.split_last() {
            Some((last, others)) => format!("write {} or {last}", others.join(", ")),
            None => String::new(),
        };
        let text = self.text(name, field, &help)?;
        if let Some((_, chosen)) = choices.iter().find(|(word, _)| *word == text) {
            return Some(*chosen);
        }
        let meant = closest(&text, words);
        let help =
            meant.map_or_else(|| help.clone(), |meant| format!("did you mean {meant}? {help}"));
        self.refuse(name, Mismatch::new(what, help))
    }

    /// The value of `name` is wrong.
    pub(super) fn refuse<T>(&self, name: &str, mismatch: Mismatch) -> Option<T> {
        let mismatch = if self.or_off { mismatch.or_off() } else { mismatch };
        self.context.refuse(&self.key.child(name), mismatch);
        None
    }

    fn within(
        &self,
        name: &str,
        amount: u64,
        range: RangeInclusive<u64>,
        write: fn(u64) -> String,
    ) -> Option<usize> {
        if range.contains(&amount) {
            return usize::try_from(amount).ok();
        }
        let what = if amount < *range.start() { "it is too small" } else { "it is too large" };
        let help = format!("write {} to {}", write(*range.start()), write(*range.end()));
        self.refuse(name, Mismatch::new(what, help))
    }
}
