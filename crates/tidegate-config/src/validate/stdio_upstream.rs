//! A child process: its command, environment and working directory.

use std::{collections::BTreeMap, ffi::OsStr, path::PathBuf};

use super::{
    account, processes, program,
    section::{Section, Zero},
};
use crate::{
    Secret,
    decode::{Field, Text, Toggle},
    model::{CallTimeouts, StdioUpstream},
    problem::Mismatch,
    raw::{List, Named, RawStdio},
};

/// What a child inherits unless `clear_env`: enough for launchers such as npx and uvx, no secrets.
const INHERITED: [&str; 8] = ["PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "USER", "SHELL", "TERM"];

const COMMAND_HELP: &str =
    "write the program and its arguments, for example [npx, -y, some-server]";

pub(super) fn check(
    section: &Section<'_>,
    mut raw: RawStdio,
    timeouts: Option<CallTimeouts>,
) -> Option<StdioUpstream> {
    let processes = processes::processes(section, &mut raw);
    let rlimits = processes::rlimits(section, raw.rlimits);
    let account = account::check(section, raw.user, raw.group);
    let env = environment(section, raw.clear_env, raw.inherit_env, raw.env);
    let cwd = directory(section, raw.cwd);
    let command = command(section, raw.command);
    let found = match (&command, &env, &cwd) {
        (Some(command), Some(env), Some(cwd)) => program(section, command, env, cwd.as_ref()),
        _ => None,
    };
    let start_timeout = section.duration("start_timeout", raw.start_timeout, Zero::Refused);
    let start_attempts = processes::positive(section, "start_attempts", raw.start_attempts, 1000);
    let down_for = section.duration("down_for", raw.down_for, Zero::Refused);
    let stop_grace = section.duration("stop_grace", raw.stop_grace, Zero::Allowed);
    let max_line = section.size("max_line", raw.max_line, 1024..=1 << 30);
    let max_in_flight = section.count("max_in_flight", raw.max_in_flight, 1..=1_000_000);
    let (user, group) = account?;
    Some(StdioUpstream {
        program: found?,
        args: command?.into_iter().skip(1).collect(),
        env: env?,
        cwd: cwd?,
        user,
        group,
        rlimits: rlimits?,
        processes: processes?,
        start_timeout: start_timeout?,
        start_attempts: start_attempts?,
        down_for: down_for?,
        stop_grace: stop_grace?,
        max_line: max_line?,
        max_in_flight: max_in_flight?,
        timeouts: timeouts?,
    })
}

fn command(section: &Section<'_>, field: Field<List<Text>>) -> Option<Vec<String>> {
    let parts = section.need("command", field, COMMAND_HELP)?;
    if parts.is_empty() {
        return section.refuse("command", Mismatch::new("the command is empty", COMMAND_HELP));
    }
    let key = section.key.child("command");
    let parts: Option<Vec<String>> =
        parts.into_iter().map(|part| part.optional()?.map(|Text(text)| text)).collect();
    let parts = parts?;
    if let Some(index) = parts.iter().position(|part| part.contains('\0')) {
        section.context.refuse(
            &key.item(index),
            Mismatch::new("it contains a zero byte", "arguments of a program cannot"),
        );
        return None;
    }
    Some(parts)
}

fn program(
    section: &Section<'_>,
    command: &[String],
    env: &BTreeMap<String, Secret>,
    cwd: Option<&PathBuf>,
) -> Option<PathBuf> {
    let search = env.get("PATH").map(|path| OsStr::new(path.expose()));
    let directory = cwd.map_or_else(|| section.context.around.directory(), PathBuf::as_path);
    let name = command.first()?;
    program::find(name, search, directory)
        .map_err(|mismatch| {
            section.context.refuse(&section.key.child("command").item(0), mismatch);
        })
        .ok()
}

/// The whole environment of the child.
fn environment(
    section: &Section<'_>,
    clear: Field<Toggle>,
    inherit: Field<List<Text>>,
    own: Field<Named<Text>>,
) -> Option<BTreeMap<String, Secret>> {
    let clear = section.need("clear_env", clear, "write true or false");
    let named = inherited_names(section, inherit);
    let own = own_variables(section, own);
    let Toggle(clear) = clear?;
    let mut env = BTreeMap::new();
    let around = section.context.around;
    let basic: &[&str] = if clear { &[] } else { &INHERITED };
    for name in basic.iter().map(|name| (*name).to_owned()).chain(named?) {
        // A variable that is not set, or that is no text, is not there to be inherited.
        if let Some(value) = around.get(&name).and_then(OsStr::to_str) {
            env.insert(name, Secret::new(value.to_owned()));
        }
    }
    env.extend(own?);
    Some(env)
}

fn inherited_names(section: &Section<'_>, field: Field<List<Text>>) -> Option<Vec<String>> {
    let key = section.key.child("inherit_env");
    let items = section.need("inherit_env", field, "write a list of names")?;
    let names: Vec<Option<String>> = items
        .into_iter()
        .enumerate()
        .map(|(index, item)| {
            let Text(name) = item.optional()??;
            if is_variable(&name) {
                return Some(name);
            }
            section.context.refuse(&key.item(index), not_a_variable());
            None
        })
        .collect();
    names.into_iter().collect()
}

fn own_variables(
    section: &Section<'_>,
    field: Field<Named<Text>>,
) -> Option<Vec<(String, Secret)>> {
    let key = section.key.child("env");
    let members = section.need("env", field, "write `NAME: value` pairs")?;
    let variables: Vec<Option<(String, Secret)>> = members
        .into_iter()
        .map(|(name, value)| {
            let key = key.child(&name);
            let good_name = is_variable(&name);
            if !good_name {
                section.context.refuse_key(&key, not_a_variable());
            }
            let Text(value) = value.optional()??;
            if value.contains('\0') {
                let mismatch = Mismatch::new("it contains a zero byte", "variables cannot");
                section.context.refuse(&key, mismatch);
                return None;
            }
            good_name.then(|| (name, Secret::new(value)))
        })
        .collect();
    variables.into_iter().collect()
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0'])
}

fn not_a_variable() -> Mismatch {
    Mismatch::new("not a name for a variable", "a name is not empty and has no = in it")
}

/// The working directory, absolute.
fn directory(section: &Section<'_>, field: Field<Text>) -> Option<Option<PathBuf>> {
    let Some(Text(text)) = field.optional()? else { return Some(None) };
    let key = section.key.child("cwd");
    let path = section.context.directory(&key).join(text);
    if path.is_dir() {
        return Some(Some(path));
    }
    let what = if path.exists() { "it is not a directory" } else { "there is no such directory" };
    section.refuse("cwd", Mismatch::new(what, format!("create {}, or correct it", path.display())))
}
