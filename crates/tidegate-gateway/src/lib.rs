//! Compose the parts into a running proxy.
