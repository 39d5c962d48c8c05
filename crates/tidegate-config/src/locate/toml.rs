//! Positions in TOML, from the spans of its own parser, which also refuses duplicates.

use toml::de::{DeTable, DeValue};

use super::{Index, Lost, Spot};
use crate::{
    key::Key,
    problem::{Lines, Mismatch},
};

pub(super) fn index(text: &str) -> Result<Index, Lost> {
    let lines = Lines::of(text);
    let table = DeTable::parse(text).map_err(|error| Lost {
        position: error.span().map(|span| lines.position(span.start)),
        why: Mismatch::new(error.message(), "see https://toml.io for the notation"),
    })?;
    let mut index = Index::default();
    members(&lines, &Key::default(), table.get_ref(), &mut index);
    Ok(index)
}

fn members(lines: &Lines<'_>, parent: &Key, table: &DeTable<'_>, index: &mut Index) {
    for (name, value) in table {
        let key = parent.child(name.get_ref());
        let spot = Spot {
            key: lines.position(name.span().start),
            value: lines.position(value.span().start),
        };
        index.note(key.clone(), spot);
        descend(lines, &key, value.get_ref(), index);
    }
}

fn descend(lines: &Lines<'_>, key: &Key, value: &DeValue<'_>, index: &mut Index) {
    match value {
        DeValue::Table(table) => members(lines, key, table, index),
        DeValue::Array(items) => {
            for (position, item) in items.iter().enumerate() {
                let key = key.item(position);
                let at = lines.position(item.span().start);
                index.note(key.clone(), Spot { key: at, value: at });
                descend(lines, &key, item.get_ref(), index);
            }
        }
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => {}
    }
}
