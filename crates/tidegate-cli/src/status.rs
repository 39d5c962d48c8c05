//! `status`: find the proxies of this machine, ask each, print what they say.

mod page;

use std::{io, path::Path};

use anyhow::{Context as _, anyhow};
use serde_json::Value;
use tidegate_config::{Flags, state_dir};
use tidegate_gateway::{Answer, reports};

use crate::{
    args::StatusArgs,
    check::print,
    exit::{Exit, complain, refuse},
    runtime,
};

/// Prints a page for each proxy, or all reports as they came.
pub(crate) fn status(args: &StatusArgs) -> Exit {
    let directory = match state_dir(&Flags { config: args.config.clone(), ..Flags::default() }) {
        Ok(Some(directory)) => directory,
        Ok(None) => {
            return complain(&anyhow!(
                "state_dir is off, so a proxy that is configured like this cannot be asked; set it \
                 to a directory and start the proxy anew"
            ));
        }
        Err(report) => return refuse(&report),
    };
    match ask(&directory) {
        Ok(answers) => show(answers, args.json),
        Err(error) => complain(&error),
    }
}

/// The answers of all proxies; never none.
fn ask(directory: &Path) -> anyhow::Result<Vec<Answer>> {
    let place = directory.display();
    let answers = runtime::run(1, reports(directory)).and_then(|answers| answers);
    let answers = answers.map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => anyhow!(
            "{place} belongs to another user; run this as the user of the proxy, or name another \
             state_dir with --config or TIDEGATE__STATE_DIR"
        ),
        _ => anyhow!(error).context(format!("cannot look for proxies in {place}")),
    })?;
    if answers.is_empty() {
        return Err(anyhow!(
            "no proxy is running here: none has a socket in {place}. If one should be, run this as \
             its user and with its --config or TIDEGATE__STATE_DIR; else start one with `tidegate \
             serve`"
        ));
    }
    Ok(answers)
}

fn show(answers: Vec<Answer>, json: bool) -> Exit {
    let mut told = Vec::new();
    let mut silent = Vec::new();
    for Answer { path, report } in answers {
        let report = report.map_err(anyhow::Error::new).and_then(|text| read(&text));
        match report.with_context(|| format!("cannot ask the proxy at {}", path.display())) {
            Ok(report) => told.push(report),
            Err(error) => silent.push(error),
        }
    }
    let text = match json {
        true => format!("{:#}\n", Value::Array(told)),
        false => told.iter().map(page::text).collect::<Vec<String>>().join("\n"),
    };
    let printed = print(&text);
    silent.iter().map(complain).next_back().unwrap_or(printed)
}

fn read(text: &str) -> anyhow::Result<Value> {
    serde_json::from_str(text).context("its report cannot be read")
}
