//! Which client meets which server, and how.

use std::fmt;
use std::path::Path;

use crate::servers::Demo;
use crate::tools::NpmFolder;

/// A server under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Everything,
    Filesystem,
    Memory,
    /// The built-in demo: the only one here that speaks the 2026-07-28 era.
    Demo,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Everything, Self::Filesystem, Self::Memory, Self::Demo];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Everything => "everything",
            Self::Filesystem => "filesystem",
            Self::Memory => "memory",
            Self::Demo => "demo",
        }
    }

    fn has_http(self) -> bool {
        matches!(self, Self::Everything | Self::Demo)
    }
}

/// How the client gets to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    DirectStdio,
    DirectHttp,
    ThroughStdio,
    ThroughHttp,
    /// Over HTTP+SSE (2024-11-05) to a server that speaks it.
    DirectSse,
    /// The same on both sides of the proxy.
    ThroughSse,
    /// Over HTTP+SSE to the proxy, with the server as a child.
    ThroughSseToStdio,
}

impl Way {
    pub(crate) const ALL: [Self; 7] = [
        Self::DirectStdio,
        Self::DirectHttp,
        Self::DirectSse,
        Self::ThroughStdio,
        Self::ThroughHttp,
        Self::ThroughSse,
        Self::ThroughSseToStdio,
    ];
    pub(crate) const DIRECT: [Self; 3] = [Self::DirectStdio, Self::DirectHttp, Self::DirectSse];

    /// The direct way that a way through the proxy is measured against.
    pub(crate) fn direct(self) -> Self {
        match self {
            Self::DirectStdio | Self::ThroughStdio => Self::DirectStdio,
            Self::DirectHttp | Self::ThroughHttp => Self::DirectHttp,
            Self::DirectSse | Self::ThroughSse | Self::ThroughSseToStdio => Self::DirectSse,
        }
    }

    /// Whether the client speaks HTTP+SSE.
    pub(crate) fn uses_sse(self) -> bool {
        self.direct() == Self::DirectSse
    }

    fn suits(self, kind: Kind) -> bool {
        match self.direct() {
            Self::DirectStdio => true,
            Self::DirectSse => kind == Kind::Everything,
            _ => kind.has_http(),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::DirectStdio => "direct-stdio",
            Self::DirectHttp => "direct-http",
            Self::ThroughStdio => "through-stdio",
            Self::ThroughHttp => "through-http",
            Self::DirectSse => "direct-sse",
            Self::ThroughSse => "through-sse",
            Self::ThroughSseToStdio => "through-sse-to-stdio",
        }
    }
}

/// One client, one server, one way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Job {
    pub(crate) kind: Kind,
    pub(crate) way: Way,
    pub(crate) client: String,
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.kind.name(), self.way.name(), self.client)
    }
}

/// Every job that is possible: a server without HTTP has only the stdio ways.
pub(crate) fn plan(clients: &[String], ways: &[Way], demo: bool) -> Vec<Job> {
    let mut jobs = Vec::new();
    for kind in Kind::ALL.into_iter().filter(|kind| demo || *kind != Kind::Demo) {
        for way in ways.iter().copied().filter(|way| way.suits(kind)) {
            jobs.extend(clients.iter().map(|client| Job { kind, way, client: client.clone() }));
        }
    }
    jobs
}

/// How the servers are started on stdio.
pub(crate) struct Commands {
    node: String,
    everything: String,
    filesystem: String,
    memory: String,
    demo: Vec<String>,
}

impl Commands {
    pub(crate) fn new(node: &Path, reference: &NpmFolder, binary: &Path) -> Self {
        let script = |name: &str| {
            let package = format!("@modelcontextprotocol/server-{name}");
            reference.file(&package, "dist/index.js").to_string_lossy().into_owned()
        };
        Self {
            node: node.to_string_lossy().into_owned(),
            everything: script("everything"),
            filesystem: script("filesystem"),
            memory: script("memory"),
            demo: Demo::Paged.command(binary),
        }
    }

    /// The words of the command; what a server keeps is kept in `workdir`.
    pub(crate) fn stdio(&self, kind: Kind, workdir: &Path) -> Vec<String> {
        let node = self.node.clone();
        match kind {
            Kind::Everything => vec![node, self.everything.clone(), "stdio".to_owned()],
            Kind::Filesystem => {
                let allowed = workdir.join("two").to_string_lossy().into_owned();
                vec![node, self.filesystem.clone(), allowed]
            }
            Kind::Memory => {
                let file = workdir.join("memory.jsonl");
                let variable = format!("MEMORY_FILE_PATH={}", file.display());
                // `env` sets it for a child of the proxy just as for a child of the client.
                vec!["env".to_owned(), variable, node, self.memory.clone()]
            }
            Kind::Demo => self.demo.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, Way, plan};

    #[test]
    fn servers_without_http_have_only_stdio_ways() {
        let clients = ["a".to_owned(), "b".to_owned()];
        let jobs = plan(&clients, &Way::ALL, true);
        assert_eq!(jobs.len(), 2 * (7 + 2 + 2 + 4));
        assert!(!jobs.iter().any(|job| job.kind == Kind::Memory && job.way == Way::ThroughHttp));
        assert_eq!(plan(&clients, &Way::DIRECT, false).len(), 2 * (3 + 1 + 1));
    }
}
