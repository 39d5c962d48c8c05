//! The tools, resources and prompts that the official conformance suite calls by name.
//!
//! Their names and the shape of what they return are the suite's
//! (`@modelcontextprotocol/conformance` 0.2.0-alpha.12). `content` has what returns fixed or
//! streamed content, `input` what asks the client, `resources` and `prompts` the rest.

mod content;
mod input;
mod prompts;
mod resources;

pub(crate) use self::{
    prompts::prompts,
    resources::{resources, templates},
};
use crate::catalogue::Tool;

/// A PNG of one red pixel.
const PIXEL: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==";

/// The tools.
pub(crate) fn tools() -> Vec<Tool> {
    let mut tools = content::tools();
    tools.extend(input::tools());
    tools
}
