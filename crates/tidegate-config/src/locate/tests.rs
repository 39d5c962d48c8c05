//! Positions of random trees, written in each notation, point at the keys; no text does harm.

use proptest::{collection::vec, prelude::*};

use super::Index;
use crate::{key::Key, layer::Notation, problem::Position};

/// A tree whose mapping keys are unique, since they are numbered when written.
#[derive(Clone, Debug)]
enum Tree {
    Leaf,
    Map(Vec<Self>),
    List(Vec<Self>),
}

fn trees() -> impl Strategy<Value = Tree> {
    Just(Tree::Leaf).prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 1..4).prop_map(Tree::Map),
            vec(inner, 1..4).prop_map(Tree::List),
        ]
    })
}

/// The names of the members of any mapping. They need quotes in no notation.
const NAMES: [&str; 4] = ["alpha", "b", "c-3", "delta_4"];

/// Every member of a mapping and its name.
fn members(tree: &Tree, key: &Key, found: &mut Vec<(Key, &'static str)>) {
    match tree {
        Tree::Leaf => {}
        Tree::Map(inner) => {
            for (name, tree) in NAMES.iter().zip(inner) {
                found.push((key.child(name), name));
                members(tree, &key.child(name), found);
            }
        }
        Tree::List(inner) => {
            for (index, tree) in inner.iter().enumerate() {
                members(tree, &key.item(index), found);
            }
        }
    }
}

/// Block style: containers below, leaves behind the colon.
fn block(tree: &Tree, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    match tree {
        Tree::Leaf => text.push_str(&format!("{indent}'x: y'\n")),
        Tree::Map(inner) => {
            for (name, tree) in NAMES.iter().zip(inner) {
                text.push_str(&format!("{indent}{name}: # z: 1\n"));
                block(tree, depth + 1, text);
            }
        }
        Tree::List(inner) => {
            for tree in inner {
                text.push_str(&format!("{indent}-\n"));
                block(tree, depth + 1, text);
            }
        }
    }
}

/// Flow style, which is JSON.
fn flow(tree: &Tree) -> String {
    let join = |parts: Vec<String>| parts.join(",\n ");
    match tree {
        Tree::Leaf => "\"x, } \\\" y\"".to_owned(),
        Tree::Map(inner) => {
            let members = NAMES.iter().zip(inner);
            let members = members.map(|(name, tree)| format!("\"{name}\" : {}", flow(tree)));
            format!("{{ {} }}", join(members.collect()))
        }
        Tree::List(inner) => format!("[{}]", join(inner.iter().map(flow).collect())),
    }
}

/// What stands at `position`, without a quote in front.
fn at(text: &str, position: Position) -> &str {
    let line = text.lines().nth(position.line - 1).unwrap();
    let (offset, _) = line.char_indices().nth(position.column - 1).unwrap();
    line[offset..].trim_start_matches('"')
}

fn check(tree: &Tree, text: &str, notation: Notation) {
    let index = Index::of(text, notation).unwrap();
    let mut expected = Vec::new();
    members(tree, &Key::default(), &mut expected);
    for (key, name) in expected {
        let spot = index.get(&key).unwrap_or_else(|| panic!("{key} is lost in {text}"));
        assert!(at(text, spot.key).starts_with(name), "{key} in {text}");
        assert!(spot.key < spot.value, "{key} in {text}");
    }
    assert!(index.duplicates.is_empty(), "{text}");
}

proptest! {
    #[test]
    fn positions_point_at_keys(inner in vec(trees(), 1..4)) {
        let tree = Tree::Map(inner);
        let mut text = "# a comment\n".to_owned();
        block(&tree, 0, &mut text);
        check(&tree, &text, Notation::Yaml);
        check(&tree, &flow(&tree), Notation::Yaml);
        check(&tree, &flow(&tree), Notation::Json);
        // JSON inside a TOML array of one keeps its shape; its mappings are inline tables.
        let toml = flow(&tree).replace("\" : ", "\" = ").replace(",\n ", ", ");
        check_toml(&tree, &toml);
    }

    #[test]
    fn no_text_does_harm(text in "[ \\n\\t:,\\[\\]{}&*#'\"|>!%@a-c0-9-]{0,64}") {
        for notation in [Notation::Yaml, Notation::Toml, Notation::Json] {
            if notation.parse(&text).is_ok() {
                drop(Index::of(&text, notation));
            }
        }
    }
}

/// The whole tree stands under one key, since a TOML document is no inline table itself.
fn check_toml(tree: &Tree, inline: &str) {
    let root = Tree::Map(vec![tree.clone()]);
    check(&root, &format!("alpha = {inline}\n"), Notation::Toml);
}
