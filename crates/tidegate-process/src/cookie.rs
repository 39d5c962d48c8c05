//! The mark that every process of a tree inherits: a variable in its environment.
//!
//! `TIDEGATE_PROCESS=<instance>-<number>` tells which tree of which [`crate::Spawner`] a process
//! belongs to, also when its parents are gone and it has left the group and the session.

use std::{
    fmt,
    hash::{BuildHasher as _, RandomState},
};

/// The variable's name.
pub(crate) const VARIABLE: &str = "TIDEGATE_PROCESS";

/// Names one spawner among all of this machine, now and later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Instance(String);

impl Instance {
    /// A new name: it only has to be unique, so the keys of the standard hasher are random enough.
    pub(crate) fn new() -> Self {
        let pid = std::process::id();
        Self(format!("{pid:x}.{:016x}", RandomState::new().hash_one(pid)))
    }

    /// A name that was written down; `None` if it cannot be one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (pid, random) = text.split_once('.')?;
        let hex = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let fits = (1..=8).contains(&pid.len()) && random.len() == 16 && hex(pid) && hex(random);
        fits.then(|| Self(text.to_owned()))
    }

    /// The cookie of one tree.
    pub(crate) fn cookie(&self, number: u64) -> String {
        format!("{self}-{number}")
    }

    /// The number of the tree, if the cookie is one of this instance.
    pub(crate) fn number(&self, cookie: &[u8]) -> Option<u64> {
        let number = cookie.strip_prefix(self.0.as_bytes())?.strip_prefix(b"-")?;
        std::str::from_utf8(number).ok()?.parse().ok()
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The cookie in an environment, as `/proc` shows one.
pub(crate) fn find(environ: &[u8]) -> Option<&[u8]> {
    environ
        .split(|byte| *byte == 0)
        .find_map(|variable| variable.strip_prefix(VARIABLE.as_bytes())?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests {
    use super::{Instance, find};

    #[test]
    fn a_cookie_tells_the_tree_to_its_own_instance_only() {
        let (ours, other) = (Instance::new(), Instance::new());
        let cookie = ours.cookie(17);
        assert_eq!(ours.number(cookie.as_bytes()), Some(17));
        assert_eq!(other.number(cookie.as_bytes()), None);
        for wrong in ["", "-", "-x", "-1x", "1"] {
            assert_eq!(ours.number(format!("{ours}{wrong}").as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn a_name_that_was_written_down_is_read_again() {
        let ours = Instance::new();
        assert_eq!(Instance::parse(&ours.to_string()), Some(ours));
        for wrong in
            ["", ".", "1.2", "../../etc/passwd", "1.00000000000000zz", "1.0000000000000000a"]
        {
            assert_eq!(Instance::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_cookie_is_found_among_other_variables() {
        for (environ, found) in [
            (&b"A=1\0TIDEGATE_PROCESS=x-1\0B=2\0"[..], Some(&b"x-1"[..])),
            (b"TIDEGATE_PROCESS=x-1", Some(b"x-1")),
            (b"A=TIDEGATE_PROCESS=x-1\0", None),
            (b"TIDEGATE_PROCESSES=x-1\0", None),
            (b"", None),
        ] {
            assert_eq!(find(environ), found);
        }
    }
}
