//! The npm packages that stdio is compared with: pinned, installed once, started as their
//! documentation says.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};

use crate::plan::Peer;

/// One npm package at one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Package {
    /// Its name, which is that of its program too.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
}

const MCP_PROXY: Package = Package { name: "mcp-proxy", version: "6.7.19" };
const SUPERGATEWAY: Package = Package { name: "supergateway", version: "4.0.0" };

impl Package {
    /// The package of a peer, if it is one.
    #[must_use]
    pub fn of(peer: Peer) -> Option<Self> {
        match peer {
            Peer::McpProxy => Some(MCP_PROXY),
            Peer::Supergateway => Some(SUPERGATEWAY),
            Peer::Direct
            | Peer::Floor
            | Peer::FloorInline
            | Peer::Tidegate
            | Peer::Nginx
            | Peer::Haproxy => None,
        }
    }

    /// The start script, below the folder that tools are kept in.
    #[must_use]
    pub fn script(self, tools: &Path) -> PathBuf {
        self.folder(tools).join("node_modules/.bin").join(self.name)
    }

    fn folder(self, tools: &Path) -> PathBuf {
        tools.join(format!("npm-{}-{}", self.name, self.version))
    }

    /// Installs it into its folder, unless it is there.
    ///
    /// # Errors
    ///
    /// When npm is missing or fails.
    pub fn install(self, tools: &Path, say: &mut dyn FnMut(&str)) -> anyhow::Result<()> {
        if self.script(tools).exists() {
            return Ok(());
        }
        let folder = self.folder(tools);
        let Self { name, version } = self;
        say(&format!("installing npm {name} {version} into {}", folder.display()));
        fs::create_dir_all(&folder)?;
        let output = Command::new("npm")
            .args(["install", "--no-audit", "--no-fund", "--prefix"])
            .arg(&folder)
            .arg(format!("{name}@{version}"))
            .stdin(Stdio::null())
            .output()
            .context("npm")?;
        ensure!(output.status.success(), "npm: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// What it is told to serve `server` over Streamable HTTP on a port. The rest is its defaults,
    /// but for sessions: `supergateway` keeps them only when asked to, and starts a process for
    /// every call otherwise.
    ///
    /// # Errors
    ///
    /// When the package takes the command as one string and it cannot be written as one.
    pub fn arguments(self, port: u16, server: &[OsString]) -> anyhow::Result<Vec<OsString>> {
        let port = port.to_string();
        let mut words: Vec<OsString> = Vec::new();
        if self == SUPERGATEWAY {
            let plain: Option<Vec<&str>> = server.iter().map(|word| word.to_str()).collect();
            let plain = plain
                .filter(|words| {
                    words.iter().all(|word| !word.contains([' ', '\'', '"', '\\', '$']))
                })
                .context("the path of the fixture needs quoting")?;
            words.extend(["--stdio".into(), plain.join(" ").into()]);
            let rest = ["--outputTransport", "streamableHttp", "--stateful", "--logLevel", "none"];
            words.extend(rest.map(OsString::from));
            words.extend(["--port".into(), port.into()]);
        } else {
            let rest = ["--host", "127.0.0.1", "--server", "stream", "--port", &port, "--"];
            words.extend(rest.map(OsString::from));
            words.extend_from_slice(server);
        }
        Ok(words)
    }
}
