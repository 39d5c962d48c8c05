//! The kinds of single values: text, number, truth, size, duration, account.

use std::{fmt, marker::PhantomData, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};

use crate::{problem::Mismatch, units};

/// Text, with references filled in: it may hold a secret.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Text(pub(crate) String);

/// A whole number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count(pub(crate) u64);

/// `true` or `false`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Toggle(pub(crate) bool);

/// Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

/// A duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<text>")
    }
}

/// A user or group, by name or number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Account {
    Name(String),
    Id(u32),
}

/// A single value as it stands in a file.
pub(crate) enum Scalar {
    Text(String),
    Whole(u128),
    Number,
    Truth(bool),
    Nothing,
}

/// A type that is written as one value.
trait Leaf: Sized {
    fn read(scalar: Scalar) -> Result<Self, Mismatch>;
}

impl Leaf for Text {
    fn read(scalar: Scalar) -> Result<Self, Mismatch> {
        match scalar {
            Scalar::Text(text) => Ok(Self(text)),
            // Not turned into text here: 007 and 1.10 are read as 7 and 1.1.
            Scalar::Whole(_) | Scalar::Number => {
                Err(Mismatch::new("text is needed, not a number", "put it in quotes"))
            }
            Scalar::Truth(_) => {
                Err(Mismatch::new("text is needed, not a truth value", "put it in quotes"))
            }
            Scalar::Nothing => Err(nothing("text")),
        }
    }
}

impl Leaf for Count {
    fn read(scalar: Scalar) -> Result<Self, Mismatch> {
        match scalar {
            Scalar::Whole(whole) => whole.try_into().map(Self).map_err(|_| {
                Mismatch::new("this number is too large", "write a smaller whole number")
            }),
            Scalar::Text(_) | Scalar::Number | Scalar::Truth(_) => {
                Err(Mismatch::new("a whole number is needed", "write digits only, without quotes"))
            }
            Scalar::Nothing => Err(nothing("a whole number")),
        }
    }
}

impl Leaf for Toggle {
    fn read(scalar: Scalar) -> Result<Self, Mismatch> {
        match scalar {
            Scalar::Truth(truth) => Ok(Self(truth)),
            Scalar::Text(_) | Scalar::Whole(_) | Scalar::Number => {
                Err(Mismatch::new("a truth value is needed", "write true or false"))
            }
            Scalar::Nothing => Err(nothing("true or false")),
        }
    }
}

impl Leaf for Size {
    fn read(scalar: Scalar) -> Result<Self, Mismatch> {
        match scalar {
            Scalar::Text(text) => units::size(&text).map(Self),
            Scalar::Whole(_) => Err(units::size_without_unit()),
            Scalar::Number | Scalar::Truth(_) => Err(units::not_a_size()),
            Scalar::Nothing => Err(nothing("a size")),
        }
    }
}

impl Leaf for Span {
    fn read(scalar: Scalar) -> Result<Self, Mismatch> {
        match scalar {
            Scalar::Text(text) => units::duration(&text).map(Self),
            Scalar::Whole(_) => Err(units::duration_without_unit()),
            Scalar::Number | Scalar::Truth(_) => Err(units::not_a_duration()),
            Scalar::Nothing => Err(nothing("a duration")),
        }
    }
}

impl Leaf for Account {
    fn read(scalar: Scalar) -> Result<Self, Mismatch> {
        match scalar {
            Scalar::Text(text) => Ok(Self::Name(text)),
            // The highest number means "leave as it is" to the system.
            Scalar::Whole(whole) => match u32::try_from(whole) {
                Ok(id) if id < u32::MAX => Ok(Self::Id(id)),
                _ => Err(Mismatch::new("this number is too large", "write 0 to 4294967294")),
            },
            Scalar::Number | Scalar::Truth(_) => {
                Err(Mismatch::new("not a name or number", "write the name or the number of one"))
            }
            Scalar::Nothing => Err(nothing("a name or number")),
        }
    }
}

macro_rules! deserialize_leaf {
    ($($leaf:ty),+ $(,)?) => {$(
        impl<'de> Deserialize<'de> for $leaf {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(LeafVisitor(PhantomData))
            }
        }
    )+};
}

deserialize_leaf! { Text, Count, Toggle, Size, Span, Account }

struct LeafVisitor<T>(PhantomData<T>);

impl<T: Leaf> LeafVisitor<T> {
    fn read<E: Error>(scalar: Scalar) -> Result<T, E> {
        T::read(scalar).map_err(|mismatch| E::custom(pack(&mismatch)))
    }
}

impl<T: Leaf> Visitor<'_> for LeafVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a single value")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        Self::read(Scalar::Text(text.to_owned()))
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<T, E> {
        Self::read(Scalar::Truth(truth))
    }

    fn visit_u128<E: Error>(self, whole: u128) -> Result<T, E> {
        Self::read(Scalar::Whole(whole))
    }

    fn visit_f64<E: Error>(self, _real: f64) -> Result<T, E> {
        Self::read(Scalar::Number)
    }

    fn visit_unit<E: Error>(self) -> Result<T, E> {
        Self::read(Scalar::Nothing)
    }
}

/// A list or mapping stands where one value should.
pub(super) fn not_one_value() -> Mismatch {
    Mismatch::new("a single value is needed", "write one value after the colon")
}

fn nothing(wanted: &str) -> Mismatch {
    Mismatch::new(
        format!("{wanted} is needed"),
        "write a value after the colon, or leave the key out for its default",
    )
}

/// serde carries errors as text only; this keeps both halves of one.
pub(super) fn pack(mismatch: &Mismatch) -> String {
    format!("{}\n{}", mismatch.what, mismatch.help)
}

/// The reverse of [`pack`].
pub(super) fn unpack(message: &str) -> Mismatch {
    let (what, help) = message.split_once('\n').unwrap_or((message, "see the documentation"));
    Mismatch::new(what, help)
}
