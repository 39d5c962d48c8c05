//! The configuration file: layers, model, validation. Plain data out.
