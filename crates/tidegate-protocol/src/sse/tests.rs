//! Any split gives the same events, and the bytes survive.
