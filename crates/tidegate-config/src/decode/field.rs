//! One member of a mapping: missing, bad (and already reported), or good.

use std::{fmt, marker::PhantomData};

use serde::{Deserialize, Deserializer, de::Visitor};

/// A value that may be missing or bad without spoiling its neighbours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Field<T> {
    /// No layer has it.
    #[default]
    Missing,
    /// It was there and wrong; the problem is on record.
    Bad,
    /// It has the right shape.
    Good(T),
}

impl<T> Field<T> {
    /// `None` if bad, `Some(None)` if missing.
    pub(crate) fn optional(self) -> Option<Option<T>> {
        match self {
            Self::Missing => Some(None),
            Self::Bad => None,
            Self::Good(value) => Some(Some(value)),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct("Field", FieldVisitor(PhantomData))
    }
}

struct FieldVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for FieldVisitor<T> {
    type Value = Field<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Self::Value, D::Error> {
        // The node below has reported what was wrong; here it only must not spread.
        Ok(T::deserialize(inner).map_or(Field::Bad, Field::Good))
    }
}
