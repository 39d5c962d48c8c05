//! The flag layer: what was typed after `tidegate serve`.

use std::path::PathBuf;

use figment::value::{Dict, Value};

use crate::key::{Key, Step};

/// What was given on the command line. All optional; [`Default`] is an empty command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--config`: the file to read.
    pub config: Option<PathBuf>,
    /// `--upstream`: the URL of the one upstream, then called `default`.
    pub upstream: Option<String>,
    /// `-- COMMAND…`: program and arguments of the one upstream, then called `default`.
    pub command: Vec<String>,
    /// Whether `command` was put there by `--demo`.
    pub demo: bool,
    /// `--listen`: addresses instead of those of the file.
    pub listen: Vec<String>,
    /// `--ops`: an address, or `off`.
    pub ops: Option<String>,
    /// `--workers`.
    pub workers: Option<usize>,
    /// `--log-level`: a filter such as `info,tidegate_gateway=debug`.
    pub log_level: Option<String>,
    /// `--log-format`: `text` or `json`.
    pub log_format: Option<String>,
}

/// The flags as a layer.
#[derive(Debug)]
pub(crate) struct FlagLayer {
    pub(crate) values: Dict,
    demo: bool,
}

impl FlagLayer {
    pub(crate) fn of(flags: &Flags) -> Self {
        let mut values = Dict::new();
        if !flags.listen.is_empty() {
            let listeners = flags.listen.iter().map(|text| table("address", text.as_str()));
            values.insert("listeners".to_owned(), listeners.collect::<Vec<Value>>().into());
        }
        if let Some(ops) = flags.ops.as_deref() {
            let ops = if ops == "off" { ops.into() } else { table("address", ops) };
            values.insert("ops".to_owned(), ops);
        }
        if let Some(workers) = flags.workers {
            values.insert("workers".to_owned(), workers.into());
        }
        let log = [("level", &flags.log_level), ("format", &flags.log_format)]
            .into_iter()
            .filter_map(|(name, text)| Some((name.to_owned(), Value::from(text.as_deref()?))))
            .collect::<Dict>();
        if !log.is_empty() {
            values.insert("log".to_owned(), log.into());
        }
        if let Some(upstream) = upstream(flags) {
            values.insert("upstreams".to_owned(), table("default", upstream));
        }
        Self { values, demo: flags.demo }
    }

    /// The flag that set `key`, or something below it.
    pub(crate) fn name(&self, key: &Key) -> Option<&'static str> {
        let mut names = key.steps().iter().filter_map(|step| match step {
            Step::Name(name) => Some(name.as_str()),
            Step::Index(_) => None,
        });
        let first = names.next()?;
        self.values.get(first)?;
        match (first, names.nth(usize::from(first == "upstreams"))) {
            ("listeners", _) => Some("--listen"),
            ("ops", _) => Some("--ops"),
            ("workers", _) => Some("--workers"),
            ("log", Some("format")) => Some("--log-format"),
            ("log", _) => Some("--log-level"),
            ("upstreams", Some("url")) => Some("--upstream"),
            ("upstreams", _) if self.demo => Some("--demo"),
            ("upstreams", Some("stdio")) => Some("-- COMMAND"),
            _ => None,
        }
    }
}

fn upstream(flags: &Flags) -> Option<Value> {
    let url = flags.upstream.as_deref().map(|url| ("url".to_owned(), Value::from(url)));
    let command: Vec<Value> = flags.command.iter().map(|part| part.as_str().into()).collect();
    let stdio = (!command.is_empty()).then(|| ("stdio".to_owned(), table("command", command)));
    let members: Dict = url.into_iter().chain(stdio).collect();
    (!members.is_empty()).then(|| members.into())
}

fn table(name: &str, value: impl Into<Value>) -> Value {
    Dict::from([(name.to_owned(), value.into())]).into()
}
