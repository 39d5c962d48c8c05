//! Starts a proxy in front of the fixture's streams, one worker each.
//!
//! nginx and haproxy are those of the system (Debian: `nginx-light`, `haproxy`), with what their
//! manuals say that event streams need: no buffering of responses, and time. Nothing is tuned.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};
use tempfile::TempDir;

use super::{
    hold::Held,
    plan::{Look, Plan, Shape},
};
use crate::{
    peers::{self, Process, Programs},
    plan::Peer,
};

/// The fixture, once with each protocol.
#[derive(Debug)]
pub struct Stage<'a> {
    programs: &'a Programs,
    http1: (Process, SocketAddr),
    http2: (Process, SocketAddr),
    folder: TempDir,
}

/// Why a peer cannot take part: what is missing, and how to have it.
///
/// # Errors
///
/// The words for whoever runs the bench.
pub fn installed(peer: Peer) -> Result<(), String> {
    let (program, package) = match peer {
        Peer::Nginx => ("nginx", "nginx-light"),
        Peer::Haproxy => ("haproxy", "haproxy"),
        _ => return Ok(()),
    };
    match find(program) {
        Some(_) => Ok(()),
        None => Err(format!(
            "{program} is not installed: apt-get install {package}, or leave it out with \
             --without {program}"
        )),
    }
}

/// What the peers that come with the system call themselves.
#[must_use]
pub fn versions(plan: &Plan) -> Vec<String> {
    let said = |program: &str| {
        let output = Command::new(find(program)?).arg("-v").output().ok()?;
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&text).lines().next().map(str::to_owned)
    };
    [(Peer::Nginx, "nginx"), (Peer::Haproxy, "haproxy")]
        .into_iter()
        .filter(|(peer, _)| !plan.without.contains(peer))
        .filter_map(|(_, program)| said(program))
        .collect()
}

/// Servers lie where not everybody's path leads.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

impl<'a> Stage<'a> {
    /// Starts the fixture.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub fn set(programs: &'a Programs) -> anyhow::Result<Self> {
        let folder = TempDir::new()?;
        let fixture = |name: &str, more: &[&str]| {
            let mut command = programs.own("fixture_upstream", Some(1));
            command.arg("streams").args(more);
            let log = folder.path().join(format!("{name}.log"));
            let (process, commands) = peers::announced_with(&mut command, &log)?;
            anyhow::Ok((process, commands.parse().context("the fixture's commands")?))
        };
        let (http1, http2) = (fixture("http1", &[])?, fixture("http2", &["--http2"])?);
        Ok(Self { programs, http1, http2, folder })
    }

    /// Takes one sample of a fresh process.
    ///
    /// # Errors
    ///
    /// When the peer does not start, or as [`super::hold::run`].
    pub fn sample(
        &self,
        plan: &Plan,
        (look, shape, peer): (Look, Shape, Peer),
    ) -> anyhow::Result<Held> {
        let (fixture, commands) = if shape.has_http2_server() { &self.http2 } else { &self.http1 };
        let proxy = self.start(peer, shape, fixture.target.address)?;
        let mut command = self.programs.own("hold", Some(1));
        command
            .arg(proxy.target.address.to_string())
            .args(["--path", &proxy.target.path])
            .args(["--commands", &commands.to_string()])
            .args(["--account", &proxy.pid().to_string()])
            .args(["--era", shape.era().as_str()])
            .args(["--burst", &plan.burst.to_string()]);
        if shape.has_http2_client() {
            command.arg("--http2");
        }
        match look {
            Look::Memory => command
                .args(["--streams", &plan.held.to_string(), "memory"])
                .args(["--busy-ms", &plan.busy_for.as_millis().to_string()])
                .args(["--rest-ms", &plan.rest.as_millis().to_string()]),
            Look::Events => command
                .args(["--streams", &plan.busy.to_string(), "events"])
                .args(["--window-ms", &plan.window.as_millis().to_string()]),
        };
        let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
        serde_json::from_slice(&output.stdout).context("the client gave no outcome")
    }

    fn start(&self, peer: Peer, shape: Shape, upstream: SocketAddr) -> anyhow::Result<Process> {
        let address = peers::free_address()?;
        let folder = self.folder.path();
        let log = folder.join(format!("{peer:?}.log"));
        let config = folder.join(format!("{peer:?}.conf"));
        let mut command = match peer {
            Peer::Floor | Peer::FloorInline => {
                let mut command = self.programs.own("floor_relay", Some(0));
                command.args(["--upstream", &upstream.to_string()]);
                command.args((peer == Peer::FloorInline).then_some("--inline"));
                return peers::announced(&mut command, &log);
            }
            Peer::Tidegate => {
                fs::write(&config, tidegate_config(shape, upstream))?;
                let config = yaml(&config)?;
                let mut command = peers::tidegate(self.programs, Some(0), address);
                command.arg("--config").arg(config);
                command
            }
            Peer::Nginx => {
                fs::write(&config, nginx_config(shape, address, upstream, folder))?;
                let mut command = self.system("nginx")?;
                command.arg("-c").arg(config).arg("-p").arg(folder);
                command
            }
            Peer::Haproxy => {
                fs::write(&config, haproxy_config(shape, address, upstream))?;
                let mut command = self.system("haproxy")?;
                command.args(["-db", "-q", "-f"]).arg(config);
                command
            }
            Peer::Direct | Peer::McpProxy | Peer::Supergateway => bail!("not a peer there"),
        };
        peers::polled(&mut command, address, &log).with_context(|| format!("cannot start {peer}"))
    }

    fn system(&self, program: &str) -> anyhow::Result<Command> {
        let path = find(program).with_context(|| format!("{program} is gone"))?;
        Ok(self.programs.command(path.as_os_str(), Some(0)))
    }
}

/// The same file under the ending that tells its language.
fn yaml(config: &Path) -> anyhow::Result<PathBuf> {
    let named = config.with_extension("yaml");
    fs::rename(config, &named)?;
    Ok(named)
}

/// Nothing but the server: limits are the defaults, save those on numbers of streams.
fn tidegate_config(shape: Shape, upstream: SocketAddr) -> String {
    let http2 = if shape.has_http2_server() { "always" } else { "off" };
    format!(
        "version: 1\nupstreams:\n  streams:\n    http:\n      url: http://{upstream}/mcp\n      \
         http2: {http2}\n      max_connections: 4096\n"
    )
}

fn nginx_config(shape: Shape, listen: SocketAddr, upstream: SocketAddr, folder: &Path) -> String {
    let http2 = if shape.has_http2_client() { " http2" } else { "" };
    let folder = folder.display();
    format!(
        "daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid;\n\
         worker_rlimit_nofile 16384; error_log stderr error;\n\
         events {{ worker_connections 8192; }}\n\
         http {{\n  access_log off; tcp_nodelay on;\n\
         client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n\
         fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;\n\
         scgi_temp_path {folder}/scgi;\n\
         server {{\n    listen {listen}{http2} reuseport;\n    location / {{\n\
         proxy_pass http://{upstream}; proxy_http_version 1.1;\n\
         proxy_set_header Connection \"\"; proxy_set_header Host $host;\n\
         proxy_buffering off; proxy_read_timeout 1h;\n    }}\n  }}\n}}\n"
    )
}

fn haproxy_config(shape: Shape, listen: SocketAddr, upstream: SocketAddr) -> String {
    let proto = |is_http2: bool| if is_http2 { " proto h2" } else { "" };
    let (client, server) = (proto(shape.has_http2_client()), proto(shape.has_http2_server()));
    format!(
        "global\n  nbthread 1\n  maxconn 8192\n\
         defaults\n  mode http\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n  \
         option http-no-delay\n\
         frontend clients\n  bind {listen}{client}\n  default_backend server\n\
         backend server\n  server one {upstream}{server}\n"
    )
}
