//! The program as a user runs it: what it prints, and how it ends.

#[path = "cli/configuration.rs"]
mod configuration;
#[path = "cli/demo.rs"]
mod demo;
#[path = "cli/program.rs"]
mod program;
#[path = "cli/serve.rs"]
mod serve;
#[path = "cli/status.rs"]
mod status;
#[path = "cli/usage.rs"]
mod usage;
