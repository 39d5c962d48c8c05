//! How streams that break are taken up again.

use std::{num::NonZeroU32, time::Duration};

use super::{Section, Zero};
use crate::{
    decode::{Count, Field, Span, Text},
    model::Reconnect,
    problem::Mismatch,
    units,
};

const KEYS: [&str; 8] = [
    "reconnect",
    "reconnect_stall",
    "reconnect_attempts",
    "reconnect_base",
    "reconnect_max",
    "reconnect_for",
    "reconnect_at_once",
    "reconnect_rate",
];

/// The keys, without what they begin with.
#[derive(Debug)]
pub(super) struct Fields {
    pub(super) on: Field<Text>,
    pub(super) stall: Field<Span>,
    pub(super) attempts: Field<Count>,
    pub(super) base: Field<Span>,
    pub(super) max: Field<Span>,
    pub(super) window: Field<Span>,
    pub(super) at_once: Field<Count>,
    pub(super) rate: Field<Count>,
}

/// Where it is off, the other keys are checked all the same.
pub(super) fn check(section: &Section<'_>, fields: Fields) -> Option<Option<Reconnect>> {
    let on = section.choice(
        "reconnect",
        fields.on,
        "neither on nor off",
        &[("on", true), ("off", false)],
    );
    let stall = section.duration("reconnect_stall", fields.stall, Zero::Refused);
    let attempts = section.count("reconnect_attempts", fields.attempts, 1..=1_000_000);
    let max = section.duration("reconnect_max", fields.max, Zero::Refused);
    let base = section.duration("reconnect_base", fields.base, Zero::Refused);
    let base = base.and_then(|base| first_pause(section, base, max));
    let window = section.duration("reconnect_for", fields.window, Zero::Refused);
    let at_once = section.count("reconnect_at_once", fields.at_once, 1..=1_000_000);
    let rate = section.count("reconnect_rate", fields.rate, 1..=1_000_000);
    let reconnect = Reconnect {
        stall: stall?,
        attempts: above_zero(attempts?)?,
        base: base?,
        max: max?,
        window: window?,
        at_once: at_once?,
        per_second: above_zero(rate?)?,
    };
    Some(on?.then_some(reconnect))
}

/// For HTTP+SSE, where a stream that breaks is the end of its session: nobody may think otherwise.
pub(super) fn without(section: &Section<'_>) -> Option<Option<Reconnect>> {
    let mut is_good = true;
    for name in KEYS {
        if section.context.is_set(&section.key.child(name)) {
            let help = "leave it out, or set `transport: http`";
            let what = "an HTTP+SSE server cannot be reconnected to: its stream is its session";
            let refused: Option<()> = section.refuse(name, Mismatch::new(what, help));
            is_good &= refused.is_some();
        }
    }
    is_good.then_some(None)
}

fn first_pause(section: &Section<'_>, base: Duration, max: Option<Duration>) -> Option<Duration> {
    match max {
        Some(max) if base > max => section.refuse(
            "reconnect_base",
            Mismatch::new(
                format!("it is longer than reconnect_max, which is {}", units::duration_text(max)),
                "lower reconnect_base or raise reconnect_max",
            ),
        ),
        _ => Some(base),
    }
}

/// The range was checked.
fn above_zero(count: usize) -> Option<NonZeroU32> {
    u32::try_from(count).ok().and_then(NonZeroU32::new)
}
