//! The workspace as data: packages, their dependencies, their files.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;

use super::source::Source;

/// Folders of a package that hold Rust.
const FOLDERS: [&str; 4] = ["src", "tests", "benches", "examples"];

pub(crate) struct Workspace {
    pub(crate) packages: Vec<Package>,
}

pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) dependencies: Vec<Edge>,
    pub(crate) files: Vec<SourceFile>,
}

/// One entry of a manifest's dependency tables.
pub(crate) struct Edge {
    pub(crate) name: String,
    pub(crate) kind: Use,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Normal,
    Dev,
    Build,
}

pub(crate) struct SourceFile {
    /// Relative to the repository.
    pub(crate) path: String,
    /// The whole file is test code.
    pub(crate) is_test: bool,
    pub(crate) source: Source,
}

impl Workspace {
    /// Reads what `cargo metadata --no-deps` named.
    pub(crate) fn read(root: &Path, metadata: &Value) -> anyhow::Result<Self> {
        let packages = metadata
            .get("packages")
            .and_then(Value::as_array)
            .context("no packages in the metadata")?;
        let packages = packages.iter().map(|package| Package::read(root, package));
        Ok(Self { packages: packages.collect::<anyhow::Result<_>>()? })
    }
}

impl Package {
    fn read(root: &Path, package: &Value) -> anyhow::Result<Self> {
        let name = package
            .get("name")
            .and_then(Value::as_str)
            .context("a package has no name")?
            .to_owned();
        let manifest = package
            .get("manifest_path")
            .and_then(Value::as_str)
            .context("a package has no manifest")?;
        let folder = Path::new(manifest).parent().context("a manifest has no folder")?;
        let dependencies =
            package.get("dependencies").and_then(Value::as_array).into_iter().flatten();
        let dependencies = dependencies
            .filter_map(|dependency| {
                let kind = match dependency.get("kind").and_then(Value::as_str) {
                    None => Use::Normal,
                    Some("dev") => Use::Dev,
                    Some(_) => Use::Build,
                };
                Some(Edge {
                    name: dependency.get("name").and_then(Value::as_str)?.to_owned(),
                    kind,
                })
            })
            .collect();
        let mut paths = Vec::new();
        for source in FOLDERS {
            collect(&folder.join(source), &mut paths)?;
        }
        paths.sort();
        let mut files = Vec::new();
        for path in paths {
            let text = fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            let relative = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            files.push(SourceFile::new(&relative, &text));
        }
        Ok(Self { name, dependencies, files })
    }

    /// Lines of all files that are not test code.
    pub(crate) fn product_lines(&self) -> usize {
        self.files.iter().map(SourceFile::product_lines).sum()
    }
}

impl SourceFile {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), is_test: is_test_path(path), source: Source::parse(text) }
    }

    pub(crate) fn product_lines(&self) -> usize {
        if self.is_test { 0 } else { self.source.lines.iter().filter(|line| !line.is_test).count() }
    }
}

/// `tests.rs` and `tests/…`, the package of end-to-end tests among them; a crate's benches and
/// examples too, since no product code can reach them.
fn is_test_path(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    let in_crate = parts.first() == Some(&"crates");
    parts.iter().any(|part| {
        matches!(*part, "tests" | "tests.rs") || in_crate && matches!(*part, "benches" | "examples")
    })
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in
        fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?
    {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}
