//! The layers of a configuration: defaults < file < environment < flags.
//!
//! figment merges them and remembers which layer each value came from; every layer is a mapping of
//! plain values. What a value means is decided after merging (`decode`), so that a bad value under
//! a good one does no harm and all are judged by the same rules.

mod defaults;
mod env;
mod file;
mod flags;
mod format;

use figment::{
    Figment, Metadata, Profile, Provider,
    value::{Dict, Map, Value},
};

use crate::environment::Environment;

pub use self::flags::Flags;
pub(crate) use self::{
    env::EnvLayer,
    file::{FileLayer, MAX_FILE, read_text, reason},
    flags::FlagLayer,
    format::{Notation, inline},
};

/// Which layer a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Default,
    File,
    Env,
    Flag,
}

impl Origin {
    const ALL: [Self; 4] = [Self::Default, Self::File, Self::Env, Self::Flag];

    const fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::File => "file",
            Self::Env => "environment",
            Self::Flag => "flag",
        }
    }
}

/// The layers, merged.
#[derive(Debug)]
pub(crate) struct Merged {
    pub(crate) root: Value,
    figment: Figment,
}

impl Merged {
    /// Merges the layers, the later ones over the earlier.
    pub(crate) fn of(file: &Dict, env: &Dict, flags: &Dict, around: &Environment) -> Self {
        let given = Figment::new()
            .merge(Layer(Origin::File, file))
            .merge(Layer(Origin::Env, env))
            .merge(Layer(Origin::Flag, flags));
        // What an upstream or route starts from depends on what was given for it.
        let defaults = defaults::fitting(&given, around);
        let figment = given.join(Layer(Origin::Default, &defaults));
        // Fails only where a provider failed, and `Layer` cannot.
        let mut root = figment.find_value("").unwrap_or_else(|_| Dict::new().into());
        defaults::complete_routes(&mut root);
        Self { root, figment }
    }

    /// The layer that `value`, a part of the root, came from.
    pub(crate) fn origin(&self, value: &Value) -> Origin {
        let name = self.figment.get_metadata(value.tag()).map(|metadata| metadata.name.as_ref());
        Origin::ALL
            .into_iter()
            .find(|origin| Some(origin.name()) == name)
            .unwrap_or(Origin::Default)
    }
}

/// One layer, as figment wants it.
struct Layer<'a>(Origin, &'a Dict);

impl Provider for Layer<'_> {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.0.name())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.1.clone()))
    }
}
