//! A serde deserializer over one merged value that reports its own problems.

use std::fmt;

use figment::value::{Num, Value};
use serde::{
    Deserializer, de,
    de::{DeserializeSeed, MapAccess, SeqAccess, Visitor, value::StrDeserializer},
    forward_to_deserialize_any,
};

use super::{Context, leaf};
use crate::{
    interpolate,
    key::Key,
    layer::Origin,
    problem::{Mismatch, closest},
    raw,
    sources::text,
};

/// One value and its key.
pub(super) struct Node<'a> {
    context: &'a Context<'a>,
    value: &'a Value,
    key: Key,
    /// Whether `off` would be taken too, which a report then says.
    or_off: bool,
}

/// Why decoding a value ended.
#[derive(Debug)]
pub(super) enum Fault {
    /// The problem is on record already.
    Reported,
    /// Said by a type; the node that called it puts it on record.
    New(Mismatch),
}

impl<'a> Node<'a> {
    pub(super) const fn new(context: &'a Context<'a>, value: &'a Value, key: Key) -> Self {
        Self { context, value, key, or_off: false }
    }

    fn origin(&self) -> Origin {
        self.context.sources.merged.origin(self.value)
    }

    /// Puts a new fault on record.
    fn report<T>(&self, result: Result<T, Fault>) -> Result<T, Fault> {
        if let Err(Fault::New(mismatch)) = result {
            let mismatch = if self.or_off { mismatch.or_off() } else { mismatch };
            self.context.refuse(&self.key, mismatch);
            return Err(Fault::Reported);
        }
        result
    }

    fn filled(&self, text: &str) -> Result<String, Fault> {
        if self.origin() != Origin::File {
            return Ok(text.to_owned());
        }
        let directory = self.context.directory(&self.key);
        interpolate::fill(text, self.context.around, directory).map_err(Fault::New)
    }

    fn visit_scalar<'de, V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, Fault> {
        match self.value {
            Value::String(_, text) => visitor.visit_string(self.filled(text)?),
            Value::Char(_, character) => visitor.visit_string(character.to_string()),
            Value::Bool(_, truth) => visitor.visit_bool(*truth),
            Value::Num(_, number) => match whole(*number) {
                Some(whole) => visitor.visit_u128(whole),
                None => visitor.visit_f64(number.to_f64().unwrap_or_default()),
            },
            Value::Empty(..) => visitor.visit_unit(),
            Value::Dict(..) | Value::Array(..) => Err(Fault::New(leaf::not_one_value())),
        }
    }

    fn visit_members<'de, V: Visitor<'de>>(
        &self,
        known: Option<&'static [&'static str]>,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let Value::Dict(_, members) = self.value else {
            return Err(Fault::New(not_a_mapping(known)));
        };
        let mut taken = Vec::with_capacity(members.len());
        for (name, value) in members {
            if known.is_none_or(|known| known.contains(&name.as_str())) {
                taken.push((name.as_str(), value));
            } else {
                let mismatch = unknown_key(name, known.unwrap_or_default());
                self.context.refuse_key(&self.key.child(name), mismatch);
            }
        }
        visitor.visit_map(Members { parent: self, members: taken.into_iter(), next: None })
    }

    fn visit_items<'de, V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, Fault> {
        let Value::Array(_, items) = self.value else {
            return Err(Fault::New(not_a_list(self.value)));
        };
        visitor.visit_seq(Items { parent: self, items: items.iter().enumerate() })
    }

    fn at(&self, value: &'a Value, key: Key) -> Self {
        Self::new(self.context, value, key)
    }
}

impl<'de> Deserializer<'de> for Node<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.report(self.visit_scalar(visitor))
    }

    /// `off` is nothing, everything else is something.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value {
            Value::String(_, text) if text == "off" => visitor.visit_none(),
            _ => visitor.visit_some(Self { or_off: true, ..self }),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.report(self.visit_items(visitor))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.report(self.visit_members(None, visitor))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.report(self.visit_members(Some(fields), visitor))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct tuple tuple_struct enum identifier ignored_any
    }
}

struct Members<'n, 'a> {
    parent: &'n Node<'a>,
    members: std::vec::IntoIter<(&'a str, &'a Value)>,
    next: Option<(&'a str, &'a Value)>,
}

impl<'de> MapAccess<'de> for Members<'_, '_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        self.next = self.members.next();
        let Some((name, _)) = self.next else { return Ok(None) };
        seed.deserialize(StrDeserializer::new(name)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        let Some((name, value)) = self.next.take() else { return Err(Fault::Reported) };
        seed.deserialize(self.parent.at(value, self.parent.key.child(name)))
    }
}

struct Items<'n, 'a> {
    parent: &'n Node<'a>,
    items: std::iter::Enumerate<std::slice::Iter<'a, Value>>,
}

impl<'de> SeqAccess<'de> for Items<'_, '_> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Fault> {
        let Some((index, value)) = self.items.next() else { return Ok(None) };
        seed.deserialize(self.parent.at(value, self.parent.key.item(index))).map(Some)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reported => f.write_str("already reported"),
            Self::New(mismatch) => f.write_str(&mismatch.what),
        }
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    /// Types of ours pass a [`Mismatch`] through `leaf::pack`.
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::New(leaf::unpack(&message.to_string()))
    }
}

/// A number without sign and fraction. TOML reads all whole numbers as signed.
fn whole(number: Num) -> Option<u128> {
    number.to_u128().or_else(|| number.to_i128()?.try_into().ok())
}

fn unknown_key(name: &str, known: &[&'static str]) -> Mismatch {
    let what = "unknown key";
    if name == "<<" {
        return Mismatch::new(what, "merge keys are not supported; write the members out");
    }
    if let Some(now) = raw::renamed(name) {
        return Mismatch::new(what, format!("it is `{now}` now"));
    }
    if let Some(meant) = closest(name, known.iter().copied()) {
        return Mismatch::new(what, format!("did you mean `{meant}`?"));
    }
    if let Some(elsewhere) = raw::home_of(name) {
        return Mismatch::new(what, format!("did you mean `{elsewhere}`?"));
    }
    Mismatch::new(what, format!("the keys here are {}", known.join(", ")))
}

fn not_a_mapping(known: Option<&[&'static str]>) -> Mismatch {
    let help = match known {
        Some(known) => {
            format!("write `key: value` pairs below it; the keys are {}", known.join(", "))
        }
        None => "write `name: value` pairs below it, or leave the key out".to_owned(),
    };
    Mismatch::new("a mapping is needed", help)
}

fn not_a_list(value: &Value) -> Mismatch {
    let help = match value {
        Value::String(_, _) | Value::Num(..) | Value::Bool(..) | Value::Char(..) => {
            let words: Vec<String> = text(value).split_whitespace().map(str::to_owned).collect();
            format!("write it as a list: [{}]", words.join(", "))
        }
        Value::Empty(..) | Value::Dict(..) | Value::Array(..) => {
            "write a list, one `- item` a line or [item, item]".to_owned()
        }
    };
    Mismatch::new("a list is needed", help)
}
