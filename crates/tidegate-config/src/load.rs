//! From a command line to a configuration or a report: the whole way, once.

use std::path::PathBuf;

use crate::{
    decode::Context,
    environment::Environment,
    key::Key,
    layer::{FileLayer, FlagLayer, Flags},
    locate::Lost,
    model::Config,
    problem::{Mismatch, Place, Problem, Report},
    show,
    sources::Sources,
    validate,
};

/// A valid configuration and where it came from.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    sources: Sources,
}

impl Loaded {
    /// The effective configuration in the notation of the file, each value with its source in a
    /// comment. Secrets are replaced by a note.
    pub fn show(&self) -> String {
        show::show(&self.sources)
    }
}

/// Reads the configuration that `flags` and the environment of this process describe.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(flags: &Flags) -> Result<Loaded, Report> {
    load_in(flags, &Environment::of_process())
}

/// [`load`], in an environment of the caller's making.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load_in(flags: &Flags, around: &Environment) -> Result<Loaded, Report> {
    let sources = sources(flags, around)?;
    let context = Context::new(&sources, around);
    refuse_duplicates(&context);
    refuse_variables(&context);
    let config = context.decode().and_then(|raw| validate::config(&context, raw));
    let problems = context.into_problems();
    match config {
        Some(config) if problems.is_empty() => Ok(Loaded { config, sources }),
        _ => Err(Report { problems }),
    }
}

/// Where a proxy that is started with `flags` in this environment keeps its state; `None` for
/// nowhere. Everything else may be missing or wrong: who asks only wants to find the proxy.
///
/// # Errors
/// What is wrong with this key, or with the file as a whole.
pub fn state_dir(flags: &Flags) -> Result<Option<PathBuf>, Report> {
    state_dir_in(flags, &Environment::of_process())
}

/// [`state_dir`], in an environment of the caller's making.
///
/// # Errors
/// What is wrong with this key, or with the file as a whole.
pub fn state_dir_in(flags: &Flags, around: &Environment) -> Result<Option<PathBuf>, Report> {
    let sources = sources(flags, around)?;
    let context = Context::new(&sources, around);
    let directory =
        context.decode().and_then(|raw| validate::state_directory(&context, raw.state_dir));
    let mut problems = context.into_problems();
    directory.ok_or_else(|| {
        problems.retain(|problem| problem.key == "state_dir");
        Report { problems }
    })
}

/// All layers. Without the file everything else would look wrong too.
fn sources(flags: &Flags, around: &Environment) -> Result<Sources, Report> {
    let file = flags.config.as_deref().map(|path| {
        FileLayer::read(path, around).map_err(|lost| unreadable(path.display().to_string(), lost))
    });
    Ok(Sources::merge(file.transpose()?, FlagLayer::of(flags), around))
}

fn unreadable(name: String, lost: Lost) -> Report {
    let Mismatch { what, help } = lost.why;
    let place = Place::File { name, position: lost.position };
    Report { problems: vec![Problem { place, key: String::new(), what, found: None, help }] }
}

fn refuse_duplicates(context: &Context<'_>) {
    let Some(file) = &context.sources.file else { return };
    for duplicate in &file.index.duplicates {
        let place = Place::File { name: file.name.clone(), position: Some(duplicate.second) };
        let what = format!("the key stands twice; first in line {}", duplicate.first.line);
        context.refuse_at(place, &duplicate.key, Mismatch::new(what, "keep one of them"));
    }
}

fn refuse_variables(context: &Context<'_>) {
    for (name, mismatch) in context.sources.bad_variables() {
        context.refuse_at(Place::Env(name.clone()), &Key::default(), mismatch.clone());
    }
}
