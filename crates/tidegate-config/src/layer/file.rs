//! The file layer: read whole, at most 1 MiB, parsed, indexed.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use figment::value::Dict;

use super::Notation;
use crate::{
    environment::Environment,
    locate::{Index, Lost},
    problem::{Mismatch, Position},
};

/// Larger files are refused: a configuration is written by people.
pub(crate) const MAX_FILE: u64 = 1 << 20;

/// A file that was read and parsed.
#[derive(Debug)]
pub(crate) struct FileLayer {
    /// As it was named.
    pub(crate) name: String,
    /// Where it is, so that relative paths in it can be resolved.
    pub(crate) directory: PathBuf,
    pub(crate) values: Dict,
    pub(crate) index: Index,
}

impl FileLayer {
    /// Reads the file at `path`. An error concerns the file as a whole.
    pub(crate) fn read(path: &Path, around: &Environment) -> Result<Self, Lost> {
        let notation = Notation::of(path).ok_or_else(|| {
            lost("the name does not tell the notation", "name it .yaml, .toml or .json")
        })?;
        let full = around.directory().join(path);
        let text = read_text(&full, MAX_FILE).map_err(|error| cannot_read(&error))?;
        let values = notation.parse(&text)?;
        let index = Index::of(&text, notation)?;
        Ok(Self {
            name: path.display().to_string(),
            directory: full.parent().unwrap_or_else(|| Path::new("/")).to_owned(),
            values,
            index,
        })
    }

    /// Where to point when the whole file is meant.
    pub(crate) const START: Position = Position { line: 1, column: 1 };
}

/// Reads a file of text that may have at most `limit` bytes.
pub(crate) fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    let mut text = String::new();
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory"));
    }
    // One byte more than allowed tells a file that is too large, also one that lies about its size.
    file.take(limit + 1).read_to_string(&mut text)?;
    if text.len() as u64 > limit {
        let message = format!("it is larger than {} KiB", limit / 1024);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(text)
}

/// Why a file could not be read, in words that do not depend on the system.
pub(crate) fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "it does not exist".to_owned(),
        io::ErrorKind::PermissionDenied => "permission is denied".to_owned(),
        io::ErrorKind::InvalidData => "it is not UTF-8 text".to_owned(),
        _ => error.to_string(),
    }
}

fn cannot_read(error: &io::Error) -> Lost {
    let help = match error.kind() {
        io::ErrorKind::NotFound => "check the path; relative ones start at the working directory",
        io::ErrorKind::PermissionDenied => "let this user read it",
        io::ErrorKind::FileTooLarge => "split what it describes over several proxies",
        _ => "give the path of a readable text file",
    };
    lost(&format!("cannot read this file: {}", reason(error)), help)
}

fn lost(what: &str, help: &str) -> Lost {
    Lost { position: None, why: Mismatch::new(what, help) }
}
