//! Routes: their paths, and that they lead somewhere.

use std::{collections::BTreeMap, time::Duration};

use super::{
    call_timeouts,
    section::{Section, Zero},
};
use crate::{
    decode::{Context, Field, Size, Span, Text, Toggle},
    key::Key,
    model::{
        Forward, Limits, Progress, Replay, ReplayMode, Route, SlowClient, SlowPolicy, SsePaths,
        Upstream,
    },
    problem::{Mismatch, closest},
    raw::{List, RawForward, RawMatch, RawRoute, RawSse},
    units,
};

const KIB: u64 = 1 << 10;
const GIB: u64 = 1 << 30;
const REPLAY_MODES: [(&str, ReplayMode); 3] =
    [("auto", ReplayMode::Auto), ("on", ReplayMode::On), ("off", ReplayMode::Off)];
const PROGRESS: [(&str, Progress); 2] =
    [("client", Progress::Client), ("always", Progress::Always)];
const SLOW_POLICIES: [(&str, SlowPolicy); 2] =
    [("pause", SlowPolicy::Pause), ("end", SlowPolicy::End)];
const PATH_HELP: &str = "write an absolute path such as /mcp";

/// `names` are the upstreams there are; `None` if that could not be told. `upstreams` are there only
/// if all of them are good.
pub(super) fn routes(
    context: &Context<'_>,
    raw: Field<List<RawRoute>>,
    names: Option<&[String]>,
    upstreams: Option<&BTreeMap<String, Upstream>>,
) -> Option<Vec<Route>> {
    let key = Key::of(&["routes"]);
    let raw = raw.optional()?.unwrap_or_default();
    if raw.is_empty() {
        return missing(context, &key, names?);
    }
    let mut seen: Vec<(Key, String)> = Vec::new();
    let mut pairs = Vec::new();
    let mut routes = Some(Vec::new());
    for (index, field) in raw.into_iter().enumerate() {
        let section = Section::new(context, key.item(index));
        let route = field.optional().flatten().and_then(|mut raw| {
            pairs.push((index, std::mem::take(&mut raw.sse)));
            route(&section, raw, (names, upstreams), &mut seen)
        });
        match (route, &mut routes) {
            (Some(route), Some(routes)) => routes.push(route),
            _ => routes = None,
        }
    }
    // After all paths of routes are known, which come first.
    for (index, field) in pairs {
        let section = Section::new(context, key.item(index).child("sse"));
        let own = key.item(index).child("match").child("path");
        let pair = sse(&section, field, &own, &mut seen);
        match (pair, routes.as_mut().and_then(|routes| routes.get_mut(index))) {
            (Some(pair), Some(route)) => route.sse = pair,
            (Some(_), None) => (),
            (None, _) => routes = None,
        }
    }
    routes
}

/// `own` is the key of the route's path, which the stream may have too.
fn sse(
    section: &Section<'_>,
    field: Field<Option<RawSse>>,
    own: &Key,
    seen: &mut Vec<(Key, String)>,
) -> Option<Option<SsePaths>> {
    let Some(RawSse { path: stream, messages }) = field.optional()?.flatten() else {
        return Some(None);
    };
    let shares = |stream: &str| seen.iter().any(|(key, path)| key == own && path == stream);
    let stream = match section.text("path", stream, PATH_HELP) {
        Some(stream) if shares(&stream) => Some(stream),
        Some(stream) => free_path(section, "path", stream, seen),
        None => None,
    };
    let messages = section.text("messages", messages, PATH_HELP);
    let messages = messages.and_then(|path| free_path(section, "messages", path, seen));
    Some(Some(SsePaths { path: stream?, messages: messages? }))
}

/// What one stream may have must fit into what all have, or its limit could never be reached.
pub(super) fn fit_into_budgets(context: &Context<'_>, routes: &[Route], limits: &Limits) {
    for (index, route) in routes.iter().enumerate() {
        let key = |name| Key::of(&["routes"]).item(index).child(name);
        if route.replay.max_bytes > limits.replay_budget {
            let text = units::size_text(limits.replay_budget as u64);
            let what = format!("it is larger than limits.replay_budget, which is {text}");
            let help = "lower replay_max_bytes or raise limits.replay_budget";
            context.refuse(&key("replay_max_bytes"), Mismatch::new(what, help));
        }
        // A stream has no more of it than it leaves to others.
        if route.slow_client.buffer > limits.slow_client_budget / 2 {
            let text = units::size_text(limits.slow_client_budget as u64);
            let what =
                format!("it is more than half of limits.slow_client_budget, which is {text}");
            let help = "lower slow_client_buffer or raise limits.slow_client_budget";
            context.refuse(&key("slow_client_buffer"), Mismatch::new(what, help));
        }
    }
}

/// A client that takes nothing for `write_stall` is dropped anyway.
pub(super) fn fit_into_stall(context: &Context<'_>, routes: &[Route], write_stall: Duration) {
    for (index, route) in routes.iter().enumerate() {
        let SlowClient { policy, after, .. } = route.slow_client;
        if policy == SlowPolicy::End && after > write_stall {
            let text = units::duration_text(write_stall);
            let what = format!("it is longer than timeouts.write_stall, which is {text}");
            let help = "lower slow_client_after or raise timeouts.write_stall";
            let key = Key::of(&["routes"]).item(index).child("slow_client_after");
            context.refuse(&key, Mismatch::new(what, help));
        }
    }
}

fn missing(context: &Context<'_>, key: &Key, names: &[String]) -> Option<Vec<Route>> {
    let example = names.first().map_or("NAME", String::as_str);
    let what = match names.len() {
        0 | 1 => "there is no route".to_owned(),
        count => format!("there are {count} upstreams and no route"),
    };
    let help = format!(
        "write one for each, for example `- {{ match: {{ path: /{example} }}, upstream: {example} }}`"
    );
    context.refuse_key(key, Mismatch::new(what, help));
    None
}

fn route(
    section: &Section<'_>,
    raw: RawRoute,
    (names, upstreams): (Option<&[String]>, Option<&BTreeMap<String, Upstream>>),
    seen: &mut Vec<(Key, String)>,
) -> Option<Route> {
    let help = "write `match: { path: /mcp }`";
    let path = section.need("match", raw.matches, help).and_then(|RawMatch { path: field }| {
        let inner = Section::new(section.context, section.key.child("match"));
        path(&inner, field, seen)
    });
    let upstream = upstream(section, raw.upstream, names);
    let behind = upstream.as_ref().and_then(|name| upstreams?.get(name)).map(Upstream::timeouts);
    let has_connections = behind.map(|timeouts| timeouts.connect.is_some());
    let changes = call_timeouts::of_route(section, raw.timeouts, raw.tools, has_connections);
    let progress = section.choice("progress", raw.progress, "not who asks for it", &PROGRESS);
    let forward = forward(raw.forward);
    let mode = section.choice("replay", raw.replay, "not a way to replay", &REPLAY_MODES);
    let window = section.duration("replay_window", raw.replay_window, Zero::Refused);
    let max_events = section.count("replay_max_events", raw.replay_max_events, 1..=1_000_000);
    let max_bytes = section.size("replay_max_bytes", raw.replay_max_bytes, KIB..=GIB);
    let prime_after = section.duration("replay_prime_after", raw.replay_prime_after, Zero::Allowed);
    let poll_after =
        section.unless_off("replay_poll_after", raw.replay_poll_after, |section, name, field| {
            section.duration(name, field, Zero::Refused)
        });
    let replay = Replay {
        mode: mode?,
        window: window?,
        max_events: max_events?,
        max_bytes: max_bytes?,
        prime_after: prime_after?,
        poll_after: poll_after?,
    };
    let slow_client =
        slow_client(section, (raw.slow_client, raw.slow_client_buffer, raw.slow_client_after));
    // Without an upstream there is a problem on record.
    let (timeouts, tools) = changes?.applied_to(*behind?);
    Some(Route {
        path: path?,
        upstream: upstream?,
        sse: None,
        forward: forward?,
        timeouts,
        tools,
        progress: progress?,
        replay,
        slow_client: slow_client?,
    })
}

fn slow_client(
    section: &Section<'_>,
    (policy, buffer, after): (Field<Text>, Field<Size>, Field<Span>),
) -> Option<SlowClient> {
    let what = "not a way to treat a client that does not read";
    let policy = section.choice("slow_client", policy, what, &SLOW_POLICIES);
    let buffer = section.size("slow_client_buffer", buffer, 64 * KIB..=GIB);
    let after = section.duration("slow_client_after", after, Zero::Refused);
    Some(SlowClient { policy: policy?, buffer: buffer?, after: after? })
}

fn path(
    section: &Section<'_>,
    field: Field<Text>,
    seen: &mut Vec<(Key, String)>,
) -> Option<String> {
    let path = section.text("path", field, PATH_HELP)?;
    free_path(section, "path", path, seen)
}

/// A path that is sound and nobody else's.
fn free_path(
    section: &Section<'_>,
    name: &str,
    path: String,
    seen: &mut Vec<(Key, String)>,
) -> Option<String> {
    if let Err(mismatch) = check_path(&path) {
        return section.refuse(name, mismatch);
    }
    if let Some((first, _)) = seen.iter().find(|(_, other)| *other == path) {
        let what = format!("the path is taken by {first}");
        let help = "paths match exactly, so each leads to one upstream; change or remove one";
        return section.refuse(name, Mismatch::new(what, help));
    }
    seen.push((section.key.child(name), path.clone()));
    Some(path)
}

/// Only paths that can be written in one way, so that no two spellings reach different upstreams.
fn check_path(path: &str) -> Result<(), Mismatch> {
    let refuse = |what: &str| Err(Mismatch::new(what, PATH_HELP));
    if !path.starts_with('/') {
        return refuse("the path does not begin with /");
    }
    if path.contains('%') {
        return refuse("the path has a % in it");
    }
    if path.contains("//") {
        return refuse("the path has // in it");
    }
    if path.split('/').any(|segment| segment == "." || segment == "..") {
        return refuse("the path has a . or .. segment");
    }
    if path.len() > 1 && path.ends_with('/') {
        return refuse("the path ends with /");
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@".contains(&b);
    if !path.bytes().all(plain) {
        return refuse("the path has a character that URLs do not have in paths");
    }
    Ok(())
}

fn upstream(section: &Section<'_>, field: Field<Text>, names: Option<&[String]>) -> Option<String> {
    let name = section.text("upstream", field, "write the name of an upstream")?;
    let Some(names) = names else { return Some(name) };
    if names.contains(&name) {
        return Some(name);
    }
    let names = names.iter().map(String::as_str);
    let help = match closest(&name, names.clone()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("the upstreams are {}", names.collect::<Vec<&str>>().join(", ")),
    };
    section.refuse("upstream", Mismatch::new("there is no upstream of this name", help))
}

fn forward(raw: Field<RawForward>) -> Option<Forward> {
    let raw = raw.optional()?.unwrap_or_default();
    let truth = |field: Field<Toggle>| {
        field.optional().map(|toggle| toggle.is_some_and(|Toggle(truth)| truth))
    };
    let authorization = truth(raw.authorization);
    let cookies = truth(raw.cookies);
    Some(Forward { authorization: authorization?, cookies: cookies? })
}

#[cfg(test)]
mod tests {
    use super::check_path;

    #[test]
    fn paths_have_one_spelling() {
        for path in ["/", "/mcp", "/mcp/search", "/a.b/c-d_e~f:8", "/.well-known/x", "/..."] {
            assert_eq!(check_path(path), Ok(()), "{path}");
        }
        for (path, what) in [
            ("", "the path does not begin with /"),
            ("mcp", "the path does not begin with /"),
            ("/a%2Fb", "the path has a % in it"),
            ("/a//b", "the path has // in it"),
            ("/a/../b", "the path has a . or .. segment"),
            ("/.", "the path has a . or .. segment"),
            ("/mcp/", "the path ends with /"),
            ("/mcp?x=1", "the path has a character that URLs do not have in paths"),
            ("/mcp#x", "the path has a character that URLs do not have in paths"),
            ("/a b", "the path has a character that URLs do not have in paths"),
            ("/ä", "the path has a character that URLs do not have in paths"),
            ("/a\\b", "the path has a character that URLs do not have in paths"),
        ] {
            assert_eq!(check_path(path).unwrap_err().what, what, "{path}");
        }
    }
}
