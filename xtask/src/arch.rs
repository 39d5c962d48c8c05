//! The rules of ARCHITECTURE.md that neither the compiler nor clippy checks.
//!
//! [`edges`] looks at who depends on whom, [`words`] at what a crate may mention, [`sizes`] at files
//! and crates; all three are pure and work on the [`workspace`] as data, read with [`source`].

mod edges;
mod sizes;
mod source;
mod words;
mod workspace;

use crate::place::Place;
use workspace::Workspace;

/// Prints every violation; true when there is none.
pub(crate) fn run(place: &Place) -> anyhow::Result<bool> {
    let workspace = Workspace::read(&place.root, &place.metadata)?;
    let violations = check(&workspace);
    for violation in &violations {
        println!("arch: {violation}");
    }
    let files: usize = workspace.packages.iter().map(|package| package.files.len()).sum();
    let lines: usize = workspace.packages.iter().map(workspace::Package::product_lines).sum();
    println!(
        "arch: {} packages, {files} files, {lines} lines without tests, {} violations",
        workspace.packages.len(),
        violations.len()
    );
    Ok(violations.is_empty())
}

fn check(workspace: &Workspace) -> Vec<String> {
    let mut violations = edges::check(&workspace.packages);
    for package in &workspace.packages {
        violations.extend(sizes::check(package));
        violations.extend(words::check(package));
    }
    violations.sort();
    violations
}
