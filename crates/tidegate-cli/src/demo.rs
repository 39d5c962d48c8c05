//! `demo-server`: the built-in MCP server, as a process of its own.

use std::{future::pending, net::SocketAddr};

use anyhow::Context as _;
use tidegate_demo::{Options, serve_http, serve_stdio};
use tokio::net::TcpListener;

use crate::{
    args::DemoArgs,
    check::print,
    exit::{Exit, complain},
    runtime,
    serve::Signals,
};

/// Serves until stdin ends, or over HTTP until a signal comes.
pub(crate) fn serve(args: &DemoArgs) -> Exit {
    let options =
        Options { conformance: args.conformance, page_size: args.page_size, ..Options::default() };
    let done = runtime::run(1, async {
        match args.http {
            Some(address) => over_http(options, address).await,
            None => serve_stdio(options, tokio::io::stdin(), tokio::io::stdout())
                .await
                .context("cannot serve over stdin and stdout"),
        }
    });
    match done.context("cannot start the runtime").flatten() {
        Ok(()) => Exit::Ok,
        Err(error) => complain(&error),
    }
}

async fn over_http(options: Options, address: SocketAddr) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    // Port 0 is chosen by the system, so say which it was.
    print(&format!("http://{}/mcp\n", listener.local_addr()?));
    let stop = async move {
        if signals.next().await.is_none() {
            pending::<()>().await;
        }
    };
    serve_http(options, listener, stop).await.context("cannot serve over HTTP")
}
