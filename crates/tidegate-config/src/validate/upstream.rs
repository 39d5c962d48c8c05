//! Upstreams: names, and that each is of exactly one kind.

use std::collections::BTreeMap;

use super::{call_timeouts, http_upstream, section::Section, stdio_upstream};
use crate::{
    decode::{Context, Field},
    key::Key,
    model::Upstream,
    problem::Mismatch,
    raw::{Named, RawUpstream},
};

const MAX_NAME: usize = 63;

/// All names, good or bad, for routes to be checked against; and the upstreams if all are good.
pub(super) fn upstreams(
    context: &Context<'_>,
    raw: Field<Named<RawUpstream>>,
) -> (Option<Vec<String>>, Option<BTreeMap<String, Upstream>>) {
    let key = Key::of(&["upstreams"]);
    let Some(raw) = raw.optional() else { return (None, None) };
    let raw = raw.unwrap_or_default();
    if raw.is_empty() {
        let help = "name one under `upstreams`, or start with --upstream URL or -- COMMAND";
        context.refuse_key(&key, Mismatch::new("there is no upstream", help));
        return (None, None);
    }
    let names = raw.keys().cloned().collect();
    // Collected first: every upstream is checked, also behind a bad one.
    let checked: Vec<Option<(String, Upstream)>> = raw
        .into_iter()
        .map(|(name, field)| {
            let section = Section::new(context, key.child(&name));
            let good_name = check_name(&section, &name);
            let upstream = upstream(&section, field.optional()?.unwrap_or_default());
            good_name?;
            Some((name, upstream?))
        })
        .collect();
    (Some(names), checked.into_iter().collect())
}

fn check_name(section: &Section<'_>, name: &str) -> Option<()> {
    let good = (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if !good {
        let help = format!("use 1 to {MAX_NAME} letters, digits, _ and -");
        section.context.refuse_key(&section.key, Mismatch::new("not a name for an upstream", help));
    }
    good.then_some(())
}

fn upstream(section: &Section<'_>, raw: RawUpstream) -> Option<Upstream> {
    let RawUpstream { stdio, http, url, timeouts } = raw;
    let has_http = !matches!((&http, &url), (Field::Missing, Field::Missing));
    match (stdio, has_http) {
        (Field::Missing, false) => {
            let help = "write `stdio: { command: [PROGRAM, …] }` or `url: http://…`";
            let mismatch = Mismatch::new("it has neither a command nor a URL", help);
            section.context.refuse_key(&section.key, mismatch);
            None
        }
        (Field::Missing, true) => {
            let timeouts = call_timeouts::of_upstream(section, timeouts, true);
            http_upstream::check(section, http, url, timeouts).map(Upstream::Http)
        }
        (_, true) => {
            let mismatch = Mismatch::new(
                "it has both a command and a URL",
                "keep `stdio` or the URL; give the other a name of its own",
            );
            section.context.refuse_key(&section.key, mismatch);
            None
        }
        (stdio, false) => {
            let inner = Section::new(section.context, section.key.child("stdio"));
            let timeouts = call_timeouts::of_upstream(section, timeouts, false);
            stdio_upstream::check(&inner, stdio.optional()??, timeouts).map(Upstream::Stdio)
        }
    }
}
