//! Positions in YAML, from the events of a parser that keeps them.

use saphyr_parser::{Event, Marker, Parser};

use super::{Index, Lost, Spot};
use crate::{
    key::Key,
    problem::{Mismatch, Position},
};

pub(super) fn index(text: &str) -> Result<Index, Lost> {
    let mut walk = Walk::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| Lost {
            position: Some(position(error.marker())),
            why: Mismatch::new(
                format!("not readable as YAML: {}", error.info()),
                "write it in plain block style, as in `key: value`",
            ),
        })?;
        walk.step(&event, position(&span.start))?;
    }
    Ok(walk.index)
}

/// The containers around the current event, outermost first.
#[derive(Default)]
struct Walk {
    index: Index,
    open: Vec<Container>,
}

enum Container {
    /// `member` is the key whose value comes next.
    Map {
        key: Key,
        member: Option<(String, Position)>,
    },
    List {
        key: Key,
        next: usize,
    },
}

impl Walk {
    fn step(&mut self, event: &Event<'_>, at: Position) -> Result<(), Lost> {
        match event {
            Event::Scalar(text, ..) => self.scalar(text, at),
            Event::Alias(_) => self.scalar("*", at),
            Event::MappingStart(..) => {
                let key = self.value(at)?;
                self.open.push(Container::Map { key, member: None });
            }
            Event::SequenceStart(..) => {
                let key = self.value(at)?;
                self.open.push(Container::List { key, next: 0 });
            }
            Event::MappingEnd | Event::SequenceEnd => {
                self.open.pop();
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => {}
        }
        Ok(())
    }

    /// A scalar is a key where a mapping waits for one, and a value elsewhere.
    fn scalar(&mut self, text: &str, at: Position) {
        if let Some(Container::Map { member: member @ None, .. }) = self.open.last_mut() {
            *member = Some((text.to_owned(), at));
        } else {
            self.note_value(at);
        }
    }

    /// A container begins; it has a key of its own unless it stands where a key should.
    fn value(&mut self, at: Position) -> Result<Key, Lost> {
        if matches!(self.open.last(), Some(Container::Map { member: None, .. })) {
            return Err(Lost {
                position: Some(at),
                why: Mismatch::new("a mapping or list stands as a key", "keys are plain words"),
            });
        }
        Ok(self.note_value(at))
    }

    fn note_value(&mut self, at: Position) -> Key {
        let (key, spot) = match self.open.last_mut() {
            Some(Container::Map { key, member }) => match member.take() {
                Some((name, key_at)) => (key.child(&name), Spot { key: key_at, value: at }),
                None => return key.clone(),
            },
            Some(Container::List { key, next }) => {
                *next += 1;
                (key.item(*next - 1), Spot { key: at, value: at })
            }
            None => return Key::default(),
        };
        self.index.note(key.clone(), spot);
        key
    }
}

fn position(mark: &Marker) -> Position {
    Position { line: mark.line(), column: mark.col() + 1 }
}
