//! Runs the demo server by itself: `demo_server stdio` or `demo_server http 127.0.0.1:9400`, each
//! with `--conformance` to add what the official suite calls.
#![expect(clippy::print_stderr, reason = "a command line tool talks to its user")]

use std::{env, io, process::ExitCode};

use tidegate_demo::{Options, serve_http, serve_stdio};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> ExitCode {
    let mut args: Vec<String> = env::args().skip(1).collect();
    let all = args.len();
    args.retain(|arg| arg != "--conformance");
    let options = Options { conformance: args.len() < all, ..Options::default() };
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let served = match args.as_slice() {
        ["stdio"] => serve_stdio(options, tokio::io::stdin(), tokio::io::stdout()).await,
        ["http", address] => http(options, address).await,
        _ => {
            eprintln!("usage: demo_server (stdio | http ADDRESS) [--conformance]");
            return ExitCode::from(2);
        }
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo_server: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn http(options: Options, address: &str) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    eprintln!("serving http://{}/mcp", listener.local_addr()?);
    let interrupted = async {
        // Without the signal there is still the kill.
        drop(tokio::signal::ctrl_c().await);
    };
    serve_http(options, listener, interrupted).await
}
