//! How long a file and a crate may be, and that every file says what it is for.

use super::workspace::{Package, SourceFile};

const FILE_LINES: usize = 500;
const CRATE_LINES: usize = 8_000;

pub(crate) fn check(package: &Package) -> Vec<String> {
    let mut violations = Vec::new();
    let total = package.product_lines();
    if total > CRATE_LINES {
        violations
            .push(format!("{}: {total} lines without tests, at most {CRATE_LINES}", package.name));
    }
    for file in &package.files {
        let lines = file.product_lines();
        if lines > FILE_LINES {
            violations
                .push(format!("{}: {lines} lines without tests, at most {FILE_LINES}", file.path));
        }
        if !opens_with_doc(file) {
            violations.push(format!("{}: does not open with a `//!` doc", file.path));
        }
    }
    violations
}

/// Inner attributes may stand before the doc.
fn opens_with_doc(file: &SourceFile) -> bool {
    let first = file
        .source
        .lines
        .iter()
        .map(|line| line.raw.trim())
        .find(|line| !line.is_empty() && !line.starts_with("#!["));
    first.is_some_and(|line| line.starts_with("//!") && line.len() > 4)
}

#[cfg(test)]
mod tests {
    use super::super::workspace::{Package, SourceFile};
    use super::check;

    fn violations(text: &str) -> Vec<String> {
        let file = SourceFile::new("crates/a/src/x.rs", text);
        check(&Package { name: "a".to_owned(), dependencies: vec![], files: vec![file] })
    }

    #[test]
    fn test_lines_do_not_count() {
        let tests = "    #[test]\n    fn t() {}\n".repeat(400);
        let text = format!("//! Doc.\n\nfn a() {{}}\n\n#[cfg(test)]\nmod tests {{\n{tests}}}\n");
        assert!(violations(&text).is_empty());
    }

    #[test]
    fn a_long_file_and_a_missing_doc_fail() {
        assert_eq!(violations(&format!("//! Doc.\n{}", "fn a() {}\n".repeat(500))).len(), 1);
        assert_eq!(violations("fn a() {}\n").len(), 1);
        assert_eq!(violations("// a comment\n//! Late.\n").len(), 1);
        assert_eq!(violations("//!\nfn a() {}\n").len(), 1);
        assert!(violations("#![cfg(unix)]\n//! Doc.\n").is_empty());
    }

    #[test]
    fn a_long_crate_fails() {
        let files = (0..17).map(|n| {
            SourceFile::new(
                &format!("crates/a/src/{n}.rs"),
                &format!("//! Doc.\n{}", "fn a() {}\n".repeat(499)),
            )
        });
        let package =
            Package { name: "a".to_owned(), dependencies: vec![], files: files.collect() };
        assert_eq!(check(&package).len(), 1);
    }
}
