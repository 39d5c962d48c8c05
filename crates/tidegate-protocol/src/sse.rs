//! Server-sent events: cut a byte stream into blocks without changing it, and write blocks.
//!
//! A relay passes [`Block::raw`] on and looks at the rest; so the stream leaves with the bytes it
//! came with, comments included. [`encode`] and its siblings write blocks that the proxy makes.

mod decode;
mod encode;
#[cfg(test)]
mod tests;

pub use self::{
    decode::{Block, Decoder, TooLong},
    encode::{BadField, comment, encode, encode_event, encode_with_id, priming},
};
