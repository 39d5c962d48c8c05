//! Protocol revisions, and the two eras they fall into.

use std::fmt;

/// How peers of a revision talk: with a handshake and sessions, or statelessly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Era {
    /// Revisions up to 2025-11-25: `initialize`, sessions, requests in both directions.
    Legacy,
    /// Revisions from 2026-07-28: every request carries its own `_meta`; no sessions.
    Modern,
}

/// A published protocol revision. Later revisions compare greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Version {
    /// 2024-11-05, the HTTP+SSE pair and stdio.
    V2024_11_05,
    /// 2025-03-26, the first Streamable HTTP; the only one with batches.
    V2025_03_26,
    /// 2025-06-18.
    V2025_06_18,
    /// 2025-11-25, the last one with sessions.
    V2025_11_25,
    /// 2026-07-28, the first stateless one.
    V2026_07_28,
}

impl Version {
    /// Every revision, oldest first.
    pub const ALL: [Self; 5] = [
        Self::V2024_11_05,
        Self::V2025_03_26,
        Self::V2025_06_18,
        Self::V2025_11_25,
        Self::V2026_07_28,
    ];

    /// The newest revision that has `initialize`.
    pub const LATEST_LEGACY: Self = Self::V2025_11_25;

    /// The newest revision.
    pub const LATEST: Self = Self::V2026_07_28;

    /// What a sessionless server assumes where a legacy request names no version.
    pub const ASSUMED: Self = Self::V2025_03_26;

    /// Reads the wire form, which is compared exactly; `None` for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.as_str() == text)
    }

    /// The wire form, such as `2025-11-25`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V2024_11_05 => "2024-11-05",
            Self::V2025_03_26 => "2025-03-26",
            Self::V2025_06_18 => "2025-06-18",
            Self::V2025_11_25 => "2025-11-25",
            Self::V2026_07_28 => "2026-07-28",
        }
    }

    /// The era this revision belongs to.
    #[must_use]
    pub const fn era(self) -> Era {
        match self {
            Self::V2024_11_05 | Self::V2025_03_26 | Self::V2025_06_18 | Self::V2025_11_25 => {
                Era::Legacy
            }
            Self::V2026_07_28 => Era::Modern,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::{Era, Version};

    #[test]
    fn revisions_round_trip_and_are_ordered() {
        for version in Version::ALL {
            assert_eq!(Version::parse(version.as_str()), Some(version));
        }
        assert!(Version::ALL.is_sorted());
        for odd in ["", "2025-11-2", "2025-11-25 ", "2026-07-29", "DRAFT", "2025-11-25\n"] {
            assert_eq!(Version::parse(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn the_era_changes_once() {
        assert_eq!(Version::LATEST_LEGACY.era(), Era::Legacy);
        assert_eq!(Version::LATEST.era(), Era::Modern);
        assert!(Version::ALL.map(Version::era).is_sorted());
    }
}
