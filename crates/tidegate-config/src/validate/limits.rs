//! Limits and timeouts: numbers with ranges.

use super::section::{Section, Zero};
use crate::{
    decode::{Context, Field},
    key::Key,
    model::{Limits, Timeouts},
    problem::Mismatch,
    raw::{RawLimits, RawTimeouts},
    units,
};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const MANY: u64 = 10_000_000;

pub(super) fn limits(context: &Context<'_>, raw: Field<RawLimits>) -> Option<Limits> {
    let section = Section::new(context, Key::of(&["limits"]));
    let raw = section_of(raw)?;
    let max_body = section.size("max_body", raw.max_body, 1..=GIB);
    // The HTTP library cannot read heads into less than 8 KiB.
    let max_header_bytes = section.size("max_header_bytes", raw.max_header_bytes, 8 * KIB..=MIB);
    let max_header_value = section.size("max_header_value", raw.max_header_value, 1..=MIB);
    let max_headers = section.count("max_headers", raw.max_headers, 1..=4096);
    let max_uri = section.size("max_uri", raw.max_uri, 1..=64 * KIB - 2);
    let max_connections = section.count("max_connections", raw.max_connections, 1..=MANY);
    let body_budget = section.size("body_budget", raw.body_budget, MIB..=1024 * GIB);
    let max_sessions = section.count("max_sessions", raw.max_sessions, 1..=MANY);
    let max_depth = section.count("max_depth", raw.max_depth, 1..=128);
    let max_batch = section.count("max_batch", raw.max_batch, 1..=10_000);
    let replay_budget = section.size("replay_budget", raw.replay_budget, MIB..=1024 * GIB);
    let slow_client_budget =
        section.size("slow_client_budget", raw.slow_client_budget, MIB..=1024 * GIB);
    at_most(&section, ("max_body", max_body), ("body_budget", body_budget));
    at_most(
        &section,
        ("max_header_value", max_header_value),
        ("max_header_bytes", max_header_bytes),
    );
    at_most(&section, ("max_uri", max_uri), ("max_header_bytes", max_header_bytes));
    Some(Limits {
        max_body: max_body?,
        max_header_bytes: max_header_bytes?,
        max_header_value: max_header_value?,
        max_headers: max_headers?,
        max_uri: max_uri?,
        max_connections: max_connections?,
        body_budget: body_budget?,
        max_sessions: max_sessions?,
        max_depth: max_depth?,
        max_batch: max_batch?,
        replay_budget: replay_budget?,
        slow_client_budget: slow_client_budget?,
    })
}

pub(super) fn timeouts(context: &Context<'_>, raw: Field<RawTimeouts>) -> Option<Timeouts> {
    let section = Section::new(context, Key::of(&["timeouts"]));
    let raw = section_of(raw)?;
    let first_byte = section.duration("first_byte", raw.first_byte, Zero::Refused);
    let headers = section.duration("headers", raw.headers, Zero::Refused);
    let body_idle = section.duration("body_idle", raw.body_idle, Zero::Refused);
    let keep_alive = section.duration("keep_alive", raw.keep_alive, Zero::Refused);
    let write_stall = section.duration("write_stall", raw.write_stall, Zero::Refused);
    let heartbeat = section.duration("heartbeat", raw.heartbeat, Zero::Refused);
    let session_idle = section.duration("session_idle", raw.session_idle, Zero::Refused);
    let drain = section.duration("drain", raw.drain, Zero::Allowed);
    Some(Timeouts {
        first_byte: first_byte?,
        headers: headers?,
        body_idle: body_idle?,
        keep_alive: keep_alive?,
        write_stall: write_stall?,
        heartbeat: heartbeat?,
        session_idle: session_idle?,
        drain: drain?,
    })
}

/// A section that has defaults; without them its keys are reported one by one.
fn section_of<T: Default>(raw: Field<T>) -> Option<T> {
    raw.optional().map(Option::unwrap_or_default)
}

/// The smaller limit must fit into the larger, or it could never be reached.
fn at_most(
    section: &Section<'_>,
    (small, amount): (&str, Option<usize>),
    (large, bound): (&str, Option<usize>),
) {
    if let (Some(amount), Some(bound)) = (amount, bound)
        && amount > bound
    {
        let text = units::size_text(bound as u64);
        let mismatch = Mismatch::new(
            format!("it is larger than {large}, which is {text}"),
            format!("lower {small} or raise {large}"),
        );
        section.context.refuse(&section.key.child(small), mismatch);
    }
}
