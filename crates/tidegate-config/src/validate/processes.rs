//! How many children an upstream has, for how long, and what each may use.

use std::{num::NonZeroU32, time::Duration};

use nix::sys::resource::{Resource, getrlimit};

use super::section::{Section, Zero};
use crate::{
    decode::{Count, Field, Span, Text},
    model::{Processes, Rlimits, Sharing},
    problem::Mismatch,
    raw::{RawRlimits, RawStdio},
};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

pub(super) fn processes(section: &Section<'_>, raw: &mut RawStdio) -> Option<Processes> {
    let sharing = sharing(section, std::mem::take(&mut raw.sharing));
    let max_processes = positive(section, "max_processes", raw.max_processes, 100_000);
    let max_waiting = section.count("max_waiting", raw.max_waiting, 0..=1_000_000);
    let acquire_timeout = section.duration("acquire_timeout", raw.acquire_timeout, Zero::Refused);
    let min_idle = section.count("min_idle", raw.min_idle, 0..=100_000);
    let idle_timeout = section.unless_off("idle_timeout", raw.idle_timeout, above_zero);
    let max_age = section.unless_off("max_age", raw.max_age, above_zero);
    let max_calls = section.unless_off("max_calls", raw.max_calls, |section, name, field| {
        section.count(name, field, 1..=1_000_000_000_000)
    });
    let max_rss = section.unless_off("max_rss", raw.max_rss, |section, name, field| {
        section.size(name, field, MIB..=1024 * GIB)
    });
    let min_idle = spares(section, min_idle, max_processes, sharing);
    Some(Processes {
        sharing: sharing?,
        max_processes: max_processes?,
        max_waiting: max_waiting?,
        acquire_timeout: acquire_timeout?,
        min_idle: min_idle?,
        idle_timeout: idle_timeout?,
        max_age: max_age?,
        max_calls: max_calls?.map(|calls| calls as u64),
        max_rss: max_rss?.map(|bytes| bytes as u64),
    })
}

/// A count of at least one.
pub(super) fn positive(
    section: &Section<'_>,
    name: &str,
    field: Field<Count>,
    most: u32,
) -> Option<NonZeroU32> {
    let count = section.count(name, field, 1..=most.into())?;
    u32::try_from(count).ok().and_then(NonZeroU32::new)
}

/// What the kernel is told for each child.
pub(super) fn rlimits(section: &Section<'_>, field: Field<RawRlimits>) -> Option<Rlimits> {
    let raw = field.optional()?.unwrap_or_default();
    let section = Section::new(section.context, section.key.child("rlimits"));
    // A program needs some to start at all: its three streams, and libraries while they load.
    let open_files = section.unless_off("nofile", raw.nofile, |section, name, field| {
        section.count(name, field, 16..=1 << 30)
    });
    let address_space = section.unless_off("as", raw.address_space, |section, name, field| {
        section.size(name, field, 16 * MIB..=65_536 * GIB)
    });
    let cpu = section.unless_off("cpu", raw.cpu, whole_seconds);
    let open_files = open_files?.map(|count| count as u64);
    let address_space = address_space?.map(|bytes| bytes as u64);
    let cpu = cpu?;
    let all = [
        allowed(&section, "nofile", open_files, Resource::RLIMIT_NOFILE),
        allowed(&section, "as", address_space, Resource::RLIMIT_AS),
        allowed(&section, "cpu", cpu.map(|time| time.as_secs()), Resource::RLIMIT_CPU),
    ];
    all.into_iter().collect::<Option<()>>()?;
    Some(Rlimits { open_files, address_space, cpu })
}

/// Only root can give a child more than it may have itself, and of open files nobody can give more
/// than the system has. A start would fail on either.
fn allowed(
    section: &Section<'_>,
    name: &str,
    wanted: Option<u64>,
    resource: Resource,
) -> Option<()> {
    let root = section.context.around.user() == 0;
    let hard = getrlimit(resource).map_or(u64::MAX, |(_, hard)| hard);
    let system = match resource {
        Resource::RLIMIT_NOFILE => most_open_files().unwrap_or(u64::MAX),
        _ => u64::MAX,
    };
    let (most, whose) = match root || system < hard {
        true => (system, "the system allows"),
        false => (hard, "the proxy itself may use, and only root can give more"),
    };
    if wanted.is_none_or(|wanted| wanted <= most) {
        return Some(());
    }
    let what = format!("it is more than {most}, which is all that {whose}");
    section
        .refuse(name, Mismatch::new(what, "lower it, or raise the limit before the proxy starts"))
}

fn most_open_files() -> Option<u64> {
    std::fs::read_to_string("/proc/sys/fs/nr_open").ok()?.trim().parse().ok()
}

fn sharing(section: &Section<'_>, field: Field<Text>) -> Option<Sharing> {
    let choices =
        [("session", Sharing::Session), ("shared", Sharing::Shared), ("auto", Sharing::Auto)];
    section.choice("sharing", field, "not a way of sharing", &choices)
}

/// Spares are children, and only sessions of their own take one.
fn spares(
    section: &Section<'_>,
    min_idle: Option<usize>,
    max_processes: Option<NonZeroU32>,
    sharing: Option<Sharing>,
) -> Option<u32> {
    let min_idle = u32::try_from(min_idle?).ok()?;
    if min_idle > 0 && sharing == Some(Sharing::Shared) {
        let what = "spare processes serve sessions that have a process each, and with \
                    `sharing: shared` none has";
        let help = "write 0, or `sharing: session`, or `sharing: auto`";
        return section.refuse("min_idle", Mismatch::new(what, help));
    }
    match max_processes {
        Some(most) if min_idle > most.get() => section.refuse(
            "min_idle",
            Mismatch::new(
                format!("it is larger than max_processes, which is {most}"),
                "lower min_idle or raise max_processes",
            ),
        ),
        _ => Some(min_idle),
    }
}

fn above_zero(section: &Section<'_>, name: &str, field: Field<Span>) -> Option<Duration> {
    section.duration(name, field, Zero::Refused)
}

fn whole_seconds(section: &Section<'_>, name: &str, field: Field<Span>) -> Option<Duration> {
    let duration = above_zero(section, name, field)?;
    if duration.subsec_nanos() == 0 {
        return Some(duration);
    }
    let mismatch =
        Mismatch::new("the system counts whole seconds", "write whole seconds, for example 60s");
    section.refuse(name, mismatch)
}
