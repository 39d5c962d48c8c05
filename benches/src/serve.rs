//! One single-threaded runtime per worker, all accepting on one port.
//!
//! This is the cheapest arrangement that tokio offers for a proxy: no work stealing, no locks and
//! no wake-ups across threads. The fixture and the floor both use it.

use std::{
    future::Future,
    io,
    net::{SocketAddr, TcpListener as StdListener},
    rc::Rc,
    thread,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::LocalRuntime,
};
use tokio_util::task::TaskTracker;

const BACKLOG: i32 = 4096;

/// Opens a listening socket that other workers may share (`SO_REUSEPORT`).
///
/// # Errors
///
/// When the address cannot be bound.
pub fn listen(address: SocketAddr) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Runs `workers` threads that accept on `address`, and does not return while they live.
///
/// `state` is made once per worker; `serve` carries one connection to its end, and spawns what
/// else it needs on the tracker. `ready` is told the bound address once every worker listens.
///
/// # Errors
///
/// When the port cannot be bound or a runtime cannot be built.
pub fn run<S, M, C, F>(
    address: SocketAddr,
    workers: usize,
    state: M,
    serve: C,
    ready: impl FnOnce(SocketAddr),
) -> io::Result<()>
where
    S: 'static,
    M: Fn(usize, &TaskTracker) -> io::Result<S> + Send + Clone + 'static,
    C: Fn(Rc<S>, TaskTracker, TcpStream) -> F + Send + Clone + 'static,
    F: Future<Output = ()> + 'static,
{
    let first = listen(address)?;
    let bound = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..workers {
        listeners.push(listen(bound)?);
    }
    ready(bound);
    let threads: Vec<_> = listeners
        .into_iter()
        .enumerate()
        .map(|(number, listener)| {
            let (state, serve) = (state.clone(), serve.clone());
            thread::spawn(move || worker(number, listener, &state, &serve))
        })
        .collect();
    for thread in threads {
        thread.join().map_err(|_| io::Error::other("a worker panicked"))??;
    }
    Ok(())
}

fn worker<S, M, C, F>(number: usize, listener: StdListener, state: &M, serve: &C) -> io::Result<()>
where
    S: 'static,
    M: Fn(usize, &TaskTracker) -> io::Result<S>,
    C: Fn(Rc<S>, TaskTracker, TcpStream) -> F,
    F: Future<Output = ()> + 'static,
{
    let runtime = LocalRuntime::new()?;
    runtime.block_on(async {
        let tracker = TaskTracker::new();
        let state = Rc::new(state(number, &tracker)?);
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tracker.spawn_local(serve(Rc::clone(&state), tracker.clone(), stream));
        }
    })
}
