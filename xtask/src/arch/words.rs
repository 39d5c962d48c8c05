//! What a crate may mention: each rule is a word and the crates that may use it.

use super::workspace::{Package, SourceFile};

/// Marks of unfinished work; written in halves, or this file would be its own first finding.
const MARKS: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];

/// A word that only some crates may have in their product code.
struct Reserved {
    words: &'static [&'static str],
    owners: &'static [&'static str],
    rule: &'static str,
}

const RESERVED: [Reserved; 5] = [
    Reserved {
        words: &["tokio::process", "process::Command"],
        // The pipes' types are tokio's, and upstream-stdio reads and writes them.
        owners: &["tidegate-process", "tidegate-preexec", "tidegate-upstream-stdio"],
        rule: "only process starts processes",
    },
    Reserved {
        words: &["env::var", "env::var_os", "env::vars", "env::vars_os"],
        owners: &["tidegate-config"],
        rule: "only config reads the environment",
    },
    Reserved {
        words: &["TcpListener"],
        owners: &["tidegate-server", "tidegate-demo", "tidegate-cli"],
        rule: "only server listens (and the demo, which cli runs)",
    },
    Reserved {
        words: &["UnixListener"],
        owners: &["tidegate-server"],
        rule: "only server listens",
    },
    Reserved {
        words: &["Serialize", "Deserialize"],
        owners: &["tidegate-config", "tidegate-protocol", "tidegate-tape", "tidegate-demo"],
        rule: "only config, protocol and tape derive serde",
    },
];

/// Prefix of a metric's name, in a string literal.
const METRIC: &str = "\"tidegate_";

pub(crate) fn check(package: &Package) -> Vec<String> {
    // The others check the product and are no part of it; the testkit is one of them.
    let product = package.name != "tidegate-testkit"
        && package.files.iter().any(|file| file.path.starts_with("crates/"));
    let mut violations = Vec::new();
    for file in &package.files {
        violations.extend(everywhere(file));
        if product && !file.is_test {
            violations.extend(reserved(&package.name, file));
            violations.extend(metrics(&package.name, file));
        }
    }
    violations
}

fn everywhere(file: &SourceFile) -> Vec<String> {
    let mut violations = Vec::new();
    for (number, line) in file.source.numbered() {
        if line.code.contains("crate::*") {
            violations.push(format!("{}:{number}: no glob import of the crate", file.path));
        }
        let mark = MARKS.iter().find(|mark| has_word(&line.comment, mark));
        if let Some(mark) = mark.filter(|_| !names_issue(&line.comment)) {
            violations.push(format!("{}:{number}: {mark} without an issue number", file.path));
        }
    }
    violations
}

fn reserved(package: &str, file: &SourceFile) -> Vec<String> {
    let rules = RESERVED.iter().filter(|reserved| !reserved.owners.contains(&package));
    rules
        .flat_map(|reserved| {
            let hit = |code: &str| reserved.words.iter().any(|word| has_word(code, word));
            let lines =
                file.source.numbered().filter(move |(_, line)| !line.is_test && hit(&line.code));
            lines.map(|(number, _)| format!("{}:{number}: {}", file.path, reserved.rule))
        })
        .collect()
}

fn metrics(package: &str, file: &SourceFile) -> Vec<String> {
    if package == "tidegate-telemetry" {
        return Vec::new();
    }
    let lines =
        file.source.numbered().filter(|(_, line)| !line.is_test && line.text.contains(METRIC));
    lines
        .map(|(number, _)| format!("{}:{number}: only telemetry names metrics", file.path))
        .collect()
}

/// `#12` somewhere in the text.
fn names_issue(text: &str) -> bool {
    text.split('#').skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// The word with no letter, digit or underscore on either side.
fn has_word(text: &str, word: &str) -> bool {
    let inside = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    text.match_indices(word).any(|(at, _)| {
        let before = text.get(..at).and_then(|text| text.chars().next_back());
        let after = text.get(at + word.len()..).and_then(|text| text.chars().next());
        !inside(before) && !inside(after)
    })
}

#[cfg(test)]
mod tests {
    use super::super::workspace::{Package, SourceFile};
    use super::check;

    fn violations(package: &str, text: &str) -> Vec<String> {
        let path = format!("crates/{package}/src/x.rs");
        let files = vec![SourceFile::new(&path, text)];
        check(&Package { name: package.to_owned(), dependencies: vec![], files })
    }

    #[test]
    fn reserved_words_are_free_to_their_owners_only() {
        for (owner, line) in [
            ("tidegate-process", "use std::process::Command;"),
            ("tidegate-config", "let home = std::env::var(\"HOME\");"),
            ("tidegate-server", "let listener = TcpListener::bind(a);"),
            ("tidegate-server", "let listener = UnixListener::bind(path);"),
            ("tidegate-tape", "#[derive(Debug, Serialize)]"),
            ("tidegate-telemetry", "const NAME: &str = \"tidegate_requests\";"),
        ] {
            assert!(violations(owner, line).is_empty(), "{owner}: {line}");
            assert_eq!(violations("tidegate-gateway", line).len(), 1, "{line}");
        }
    }

    #[test]
    fn comments_strings_and_tests_are_free() {
        let free = [
            "// tokio::process is upstream-stdio's.",
            "/* env::var */ fn a() {}",
            "let text = \"tokio::process\";",
            "#[cfg(test)]\nmod tests {\n    use tokio::process::Command;\n}",
            "let variables = my_env::variables();",
        ];
        for text in free {
            assert!(violations("tidegate-gateway", text).is_empty(), "{text}");
        }
    }

    #[test]
    fn unfinished_work_names_its_issue() {
        let mark = super::MARKS[0];
        assert_eq!(violations("tidegate-pool", &format!("// {mark}: later")).len(), 1);
        assert!(violations("tidegate-pool", &format!("// {mark}(#12): later")).is_empty());
        assert!(violations("tidegate-pool", &format!("let s = \"{mark}\";")).is_empty());
    }

    #[test]
    fn glob_imports_of_the_crate_fail_in_tests_too() {
        assert_eq!(
            violations("tidegate-pool", "#[cfg(test)]\nmod tests {\n    use crate::*;\n}").len(),
            1
        );
    }
}
