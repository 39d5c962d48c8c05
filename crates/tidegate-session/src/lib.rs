//! Who is talking: legacy sessions, from `initialize` to their end.
//!
//! The proxy mints the session id that a client sees and keeps the session in a [`Store`];
//! [`ResolveLayer`] turns the session header of each call into the [`Session`] that the layers
//! below share. Modern calls have no session and pass through.
//!
//! This crate must not know how an upstream keeps its side of a session: it only hands out the
//! [`Session`] on which the upstream hangs its state, and tells the upstream when it is over.
//!
//! ```
//! use std::time::Duration;
//! use tidegate_service::{Call, Error, Reply, Upstream};
//! use tidegate_session::{ResolveLayer, Store, StoreParams};
//! use tower::{Layer as _, service_fn};
//!
//! let store = Store::new(StoreParams { max_sessions: 100, idle: Duration::from_secs(1800) });
//! let upstream = service_fn(async |_: Call| Ok::<_, Error>(Reply::accepted()));
//! let route = Upstream::new(ResolveLayer::new(&store, "/mcp").layer(Upstream::new(upstream)));
//! assert_eq!(store.stats().open, 0);
//! # drop(route);
//! ```
//!
//! The map: [`store`] owns the sessions, [`resolve`] is the layer, [`id`] mints ids; [`replay`] is
//! the layer behind it that keeps what clients may have missed of their streams.
//!
//! [`Session`]: tidegate_service::Session

pub mod id;
pub mod replay;
pub mod resolve;
pub mod store;

pub use crate::{
    replay::{Account, LogLimits, ReplayLayer, ReplayParams},
    resolve::{Resolve, ResolveLayer},
    store::{EndCause, Stats, Store, StoreParams},
};
