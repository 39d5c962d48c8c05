//! The floor: the least that a proxy built on hyper can do.
//!
//! Neither relay looks at policy, sessions or eras. What Tidegate costs beyond them is what
//! Tidegate's own code costs.

pub mod http;
pub mod pipe;
