//! Metrics, and the only place where one has a name.
