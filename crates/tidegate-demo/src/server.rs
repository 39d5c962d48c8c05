//! What all peers of one server share: the catalogue, the watchers, the seal, the clock.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};

use crate::{
    Options,
    catalogue::Catalogue,
    demo,
    hub::{Change, Hub},
    seal::Seal,
    version::Version,
};

/// One server, whatever its transport.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) options: Options,
    pub(crate) catalogue: Catalogue,
    pub(crate) hub: Hub,
    pub(crate) seal: Seal,
    /// Whether the tool that comes and goes is there.
    extra_tool: AtomicBool,
    /// Whether the prompt that comes and goes is there.
    extra_prompt: AtomicBool,
    started: Instant,
    stop: watch::Sender<bool>,
}

impl Server {
    pub(crate) fn new(options: Options) -> Arc<Self> {
        Arc::new(Self {
            catalogue: Catalogue::new(options.conformance),
            options,
            hub: Hub::default(),
            seal: Seal::default(),
            extra_tool: AtomicBool::new(false),
            extra_prompt: AtomicBool::new(false),
            started: Instant::now(),
            stop: watch::Sender::new(false),
        })
    }

    /// Who this server says it is.
    pub(crate) fn info() -> Value {
        json!({
            "name": "tidegate-demo",
            "title": "Tidegate demo server",
            "version": env!("CARGO_PKG_VERSION"),
        })
    }

    /// What this server can do, in the words of `version`.
    pub(crate) fn capabilities(&self, version: Version) -> Value {
        // Lists change only where a tool exists that changes them.
        let changing = self.options.conformance;
        let mut capabilities = json!({
            "tools": { "listChanged": changing },
            "prompts": { "listChanged": changing },
            "resources": { "subscribe": true, "listChanged": false },
            "logging": {},
        });
        if version >= Version::V2025_03_26
            && let Some(map) = capabilities.as_object_mut()
        {
            map.insert("completions".to_owned(), json!({}));
        }
        capabilities
    }

    /// How a client should use this server.
    pub(crate) const INSTRUCTIONS: &'static str =
        "A demo: call `echo` or `add`, watch `slow` report progress, let `ask` ask you something.";

    /// Whole seconds since the start.
    pub(crate) fn uptime(&self) -> u64 {
        self.started.elapsed().as_secs()
    }

    /// Lets the clock resource change.
    pub(crate) fn tick(&self) {
        self.hub.publish(&Change::Resource(demo::CLOCK));
    }

    /// Whether a tool or prompt that comes and goes is there now.
    pub(crate) fn shows(&self, change: &Change) -> bool {
        match change {
            Change::Tools => self.extra_tool.load(Ordering::Relaxed),
            Change::Prompts => self.extra_prompt.load(Ordering::Relaxed),
            Change::Resource(_) => true,
        }
    }

    /// Changes a list, or says that a resource changed, and tells the watchers.
    pub(crate) fn change(&self, change: &Change) {
        match change {
            Change::Tools => drop(self.extra_tool.fetch_not(Ordering::Relaxed)),
            Change::Prompts => drop(self.extra_prompt.fetch_not(Ordering::Relaxed)),
            Change::Resource(_) => (),
        }
        self.hub.publish(change);
    }

    /// Ends everything that would wait for ever.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Resolves when the server stops.
    pub(crate) async fn stopped(&self) {
        // The sender lives in `self`, so the channel cannot close first.
        drop(self.stop.subscribe().wait_for(|stop| *stop).await);
    }
}
