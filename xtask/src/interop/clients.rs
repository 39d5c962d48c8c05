//! The client SDKs under test: the newest release, and the newest of the line from before 2026.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::interop::jobs::Kind;
use crate::place::Place;
use crate::tools;

/// `mcp` on PyPI: the newest, and the newest 1.x.
const PYTHON: [(&str, &str); 2] = [("v2", "2.3.0"), ("v1", "1.30.0")];
/// On npm the SDK was split with 2.0, so the two lines have two names.
const TYPESCRIPT: [(&str, &str, &str); 2] = [
    ("sdk2", "@modelcontextprotocol/client", "2.4.0"),
    ("sdk1", "@modelcontextprotocol/sdk", "1.32.2"),
];

/// What it takes to run a server of the 2.x line over HTTP.
const TYPESCRIPT_2_SERVER: [&str; 2] =
    ["@modelcontextprotocol/server@2.4.0", "@modelcontextprotocol/node@2.1.2"];

/// A line of the TypeScript SDK, client and server.
pub(crate) struct Line {
    /// The name of its client.
    pub(crate) name: String,
    pub(crate) sdk: &'static str,
    /// The folder whose `node_modules` holds it.
    pub(crate) packages: PathBuf,
}

/// Installs both lines of the TypeScript SDK.
pub(crate) fn lines(place: &Place) -> anyhow::Result<Vec<Line>> {
    let mut lines = Vec::new();
    for (sdk, package, version) in TYPESCRIPT {
        let wanted = format!("{package}@{version}");
        // The older line is one package.
        let packages = if sdk == "sdk2" {
            let all: Vec<&str> = [wanted.as_str()].into_iter().chain(TYPESCRIPT_2_SERVER).collect();
            tools::npm(place, &format!("mcp-client-server-ts-{version}"), &all)?
        } else {
            tools::npm(place, &folder(package, version), &[&wanted])?
        };
        let packages = packages.path().to_path_buf();
        lines.push(Line { name: format!("typescript-{version}"), sdk, packages });
    }
    Ok(lines)
}

/// Where the tools cache has a package.
fn folder(package: &str, version: &str) -> String {
    format!("mcp-{}-ts-{version}", package.rsplit('/').next().unwrap_or(package))
}

/// An installed SDK with its scenario runner.
pub(crate) struct Client {
    pub(crate) name: String,
    /// The adapter of this SDK line beside the runner.
    sdk: &'static str,
    runtime: Runtime,
}

enum Runtime {
    Python { python: PathBuf },
    TypeScript { node: PathBuf, packages: PathBuf },
}

/// Installs all four.
pub(crate) fn install(place: &Place) -> anyhow::Result<Vec<Client>> {
    let mut clients = Vec::new();
    for (sdk, version) in PYTHON {
        let python = tools::python(place, "mcp", version)?;
        clients.push(Client {
            name: format!("python-{version}"),
            sdk,
            runtime: Runtime::Python { python },
        });
    }
    let node = tools::node(place)?;
    for (sdk, package, version) in TYPESCRIPT {
        let wanted = format!("{package}@{version}");
        let folder = tools::npm(place, &folder(package, version), &[&wanted])?;
        let runtime =
            Runtime::TypeScript { node: node.clone(), packages: folder.path().to_path_buf() };
        clients.push(Client { name: format!("typescript-{version}"), sdk, runtime });
    }
    Ok(clients)
}

impl Client {
    /// The runner's command, still without the target.
    pub(crate) fn command(&self, place: &Place, kind: Kind, workdir: &Path) -> Command {
        let scripts = place.root.join("interop");
        let mut command = match &self.runtime {
            Runtime::Python { python } => {
                let mut command = Command::new(python);
                command.arg("-B").arg(scripts.join("python/run.py"));
                command
            }
            Runtime::TypeScript { node, packages } => {
                let mut command = Command::new(node);
                command.arg(scripts.join("typescript/run.mjs")).arg("--packages").arg(packages);
                command
            }
        };
        command.args(["--sdk", self.sdk, "--kind", kind.name(), "--workdir"]).arg(workdir);
        command
    }
}
