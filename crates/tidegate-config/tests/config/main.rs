//! A configuration through the public surface: what is refused and how, what wins, what is shown.

mod accepted;
mod accounts;
mod layers;
mod notations;
mod refused;
mod shown;
mod sse;
mod state;
mod timeouts;
mod world;
