//! Where state is kept. Whoever keeps it creates the directory; here it must only not be something
//! else.

use std::path::PathBuf;

use super::section::Section;
use crate::{
    decode::{Context, Field, Text},
    problem::Mismatch,
};

/// The directory, absolute; `Some(None)` if it is off.
pub(crate) fn directory(
    context: &Context<'_>,
    field: Field<Option<Text>>,
) -> Option<Option<PathBuf>> {
    Section::root(context).unless_off("state_dir", field, |section, name, field| {
        const HELP: &str = "write the path of a directory, for example /run/tidegate";
        let text = section.text(name, field, HELP)?;
        if text.is_empty() || text.contains('\0') {
            return section.refuse(name, Mismatch::new("not a path", HELP));
        }
        let path = context.directory(&section.key.child(name)).join(text);
        if path.exists() && !path.is_dir() {
            return section.refuse(name, Mismatch::new("it is not a directory", HELP));
        }
        Some(path)
    })
}
