//! Reuse of expensive things: exclusive leases with counters as data.
