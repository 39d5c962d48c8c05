//! `check` and `config show`: load, print, done.

use std::{
    io::{self, Write as _},
    path::Path,
};

use tidegate_config::{Config, Flags, Loaded, Report, load};

use crate::{
    args::{CheckArgs, ServeArgs},
    exit::{Exit, complain, refuse},
};

/// Checks each file for itself; the worst result counts.
pub(crate) fn check(args: &CheckArgs) -> Exit {
    if args.config.is_empty() {
        return report("the environment", load(&Flags::default()));
    }
    let mut worst = Exit::Ok;
    for path in &args.config {
        let flags = Flags { config: Some(path.clone()), ..Flags::default() };
        if report(&name(path), load(&flags)) != Exit::Ok {
            worst = Exit::Config;
        }
    }
    worst
}

/// Prints the effective configuration.
pub(crate) fn show(args: &ServeArgs) -> Exit {
    match load(&args.flags(current_program)) {
        Ok(loaded) => print(&loaded.show()),
        Err(report) => refuse(&report),
    }
}

/// The path of this program, for the demo to start itself. Empty, hence refused with a reason,
/// where the system does not tell.
pub(crate) fn current_program() -> String {
    std::env::current_exe().map(|path| path.display().to_string()).unwrap_or_default()
}

/// Writes to stdout.
pub(crate) fn print(text: &str) -> Exit {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Exit::Ok,
        // Whoever reads, `head` for one, has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Ok,
        Err(error) => complain(&anyhow::Error::new(error).context("cannot write to stdout")),
    }
}

fn report(name: &str, result: Result<Loaded, Report>) -> Exit {
    match result {
        Ok(loaded) => print(&format!("{name}: ok, {}\n", summary(&loaded.config))),
        Err(report) => refuse(&report),
    }
}

fn summary(config: &Config) -> String {
    let count = |count: usize, one: &str| match count {
        1 => format!("1 {one}"),
        many => format!("{many} {one}s"),
    };
    [
        count(config.listeners.len(), "listener"),
        count(config.upstreams.len(), "upstream"),
        count(config.routes.len(), "route"),
    ]
    .join(", ")
}

fn name(path: &Path) -> String {
    path.display().to_string()
}
