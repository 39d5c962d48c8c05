//! How long calls may take: of an upstream, and what its routes and tools change about that.

use std::{collections::BTreeMap, time::Duration};

use super::section::{Section, Zero};
use crate::{
    decode::{Field, Span},
    model::CallTimeouts,
    problem::Mismatch,
    raw::{Named, RawCallTimeouts, RawTool},
};

/// What a route or a tool says, key by key; `Some(None)` is `off`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Changes {
    connect: Option<Duration>,
    request: Option<Option<Duration>>,
    idle: Option<Option<Duration>>,
    total: Option<Option<Duration>>,
}

/// What a route says, for all its calls and for those of some tools.
#[derive(Debug, Default)]
pub(super) struct RouteChanges {
    all: Changes,
    tools: BTreeMap<String, Changes>,
}

/// Of an upstream; the defaults have filled in what the file leaves out.
pub(super) fn of_upstream(
    outer: &Section<'_>,
    raw: Field<RawCallTimeouts>,
    has_connections: bool,
) -> Option<CallTimeouts> {
    let changes = changes(outer, raw, has_connections)?;
    let nothing = CallTimeouts { connect: None, request: None, idle: None, total: None };
    Some(changes.applied_to(nothing))
}

/// Of a route whose upstream has connections, or has none; `None` if that is not known.
pub(super) fn of_route(
    route: &Section<'_>,
    raw: Field<RawCallTimeouts>,
    tools: Field<Named<RawTool>>,
    has_connections: Option<bool>,
) -> Option<RouteChanges> {
    let has_connections = has_connections.unwrap_or(true);
    let all = changes(route, raw, has_connections);
    let tools = tools.optional().map(Option::unwrap_or_default);
    // Collected first: every tool is checked, also behind a bad one.
    let checked: Vec<Option<(String, Changes)>> = tools?
        .into_iter()
        .map(|(name, field)| {
            let tool = Section::new(route.context, route.key.child("tools").child(&name));
            let RawTool { timeouts } = field.optional()?.unwrap_or_default();
            Some((name, changes(&tool, timeouts, has_connections)?))
        })
        .collect();
    Some(RouteChanges { all: all?, tools: checked.into_iter().collect::<Option<_>>()? })
}

fn changes(
    outer: &Section<'_>,
    raw: Field<RawCallTimeouts>,
    has_connections: bool,
) -> Option<Changes> {
    let section = Section::new(outer.context, outer.key.child("timeouts"));
    let RawCallTimeouts { connect, request, idle, total } = raw.optional()?.unwrap_or_default();
    let connect = match connect {
        Field::Missing => Some(None),
        Field::Good(_) if !has_connections => section.refuse(
            "connect",
            Mismatch::new(
                "a server over stdio is started, not connected to",
                "leave it out; `start_timeout` and `acquire_timeout` under `stdio` are what it has",
            ),
        ),
        field => section.duration("connect", field, Zero::Refused).map(Some),
    };
    let request = limit(&section, "request", request);
    let idle = limit(&section, "idle", idle);
    let total = limit(&section, "total", total);
    Some(Changes { connect: connect?, request: request?, idle: idle?, total: total? })
}

fn limit(
    section: &Section<'_>,
    name: &str,
    field: Field<Option<Span>>,
) -> Option<Option<Option<Duration>>> {
    if matches!(field, Field::Missing) {
        return Some(None);
    }
    section
        .unless_off(name, field, |section, name, field| {
            section.duration(name, field, Zero::Refused)
        })
        .map(Some)
}

impl Changes {
    fn applied_to(self, base: CallTimeouts) -> CallTimeouts {
        CallTimeouts {
            connect: self.connect.or(base.connect),
            request: self.request.unwrap_or(base.request),
            idle: self.idle.unwrap_or(base.idle),
            total: self.total.unwrap_or(base.total),
        }
    }
}

impl RouteChanges {
    /// What holds on the route, and for its tools.
    pub(super) fn applied_to(
        self,
        upstream: CallTimeouts,
    ) -> (CallTimeouts, BTreeMap<String, CallTimeouts>) {
        let all = self.all.applied_to(upstream);
        let tools = self.tools.into_iter();
        (all, tools.map(|(name, changes)| (name, changes.applied_to(all))).collect())
    }
}
