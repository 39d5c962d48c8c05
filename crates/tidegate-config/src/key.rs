//! Where a value stands in the configuration: `upstreams.search.http.url`, `routes[0].match.path`.

use std::fmt;

/// The path of one value, from the root.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key(Vec<Step>);

/// One step of a [`Key`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Step {
    Name(String),
    Index(usize),
}

impl Key {
    /// The key made of these names.
    pub(crate) fn of(names: &[&str]) -> Self {
        Self(names.iter().map(|name| Step::Name((*name).to_owned())).collect())
    }

    /// The key of the member `name` of this mapping.
    pub(crate) fn child(&self, name: &str) -> Self {
        self.join(Step::Name(name.to_owned()))
    }

    /// The key of the item at `index` of this list.
    pub(crate) fn item(&self, index: usize) -> Self {
        self.join(Step::Index(index))
    }

    /// The key of the mapping or list that this one is in; `None` at the root.
    pub(crate) fn parent(&self) -> Option<Self> {
        self.0.split_last().map(|(_, rest)| Self(rest.to_vec()))
    }

    pub(crate) fn steps(&self) -> &[Step] {
        &self.0
    }

    /// Whether `other` is this key or lies below it.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }

    /// The names, where all steps are names.
    pub(crate) fn names(&self) -> Option<Vec<&str>> {
        self.0
            .iter()
            .map(|step| match step {
                Step::Name(name) => Some(name.as_str()),
                Step::Index(_) => None,
            })
            .collect()
    }

    fn join(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Name(name) => {
                    if position > 0 {
                        f.write_str(".")?;
                    }
                    if is_bare(name) {
                        f.write_str(name)?;
                    } else {
                        // Quoted, so that a dot in a name cannot be taken for a step.
                        write!(f, "{name:?}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn is_bare(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::Key;

    #[test]
    fn a_key_reads_as_people_write_it() {
        let key = Key::of(&["upstreams", "a.b"]).child("stdio").child("command").item(2);
        assert_eq!(key.to_string(), "upstreams.\"a.b\".stdio.command[2]");
        assert_eq!(Key::default().to_string(), "");
    }
}
