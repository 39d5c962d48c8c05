//! A start that fails leaves nothing running.

use std::net::TcpListener;

use tidegate_gateway::{Gateway, StartError};
use tidegate_testkit::procs;
use tidegate_tests::{config, stdio_upstream};
use tokio::runtime::Handle;

/// An upstream that wants a process at once, and a route to it.
fn eager() -> String {
    stdio_upstream(&[], ", min_idle: 1") + "routes: [{ match: { path: /mcp }, upstream: it }]\n"
}

#[tokio::test]
async fn what_began_before_the_failure_ends_with_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let unbound = config(&format!("listeners: [{{ address: '{address}' }}]\n{}", eager()));
    let mut unrouted = config(&eager());
    unrouted.routes.first_mut().unwrap().upstream = "another".into();

    let tasks = || Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let error = Gateway::start_alone(unbound).await.unwrap_err();
    assert!(matches!(error, StartError::Bind { .. }), "{error}");
    assert_eq!(tasks(), before, "nobody could bind");

    for error in [
        Gateway::start_alone(unrouted.clone()).await.unwrap_err(),
        Gateway::start(unrouted).await.unwrap_err(),
    ] {
        assert!(matches!(error, StartError::Route { .. }), "{error}");
        assert_eq!(tasks(), before, "a route led nowhere");
    }
    assert!(procs::children().is_empty() && procs::zombies().is_empty());
}
