//! One connection, and the tasks that HTTP/2 makes of its streams.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper::{rt::Executor, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{net::TcpStream, sync::Notify, task::JoinSet};

use crate::http::{Front, Task, answer};

/// How long a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves one connection to its end.
///
/// # Cancel safety
///
/// Dropping the future closes the connection and ends its streams.
pub(crate) async fn serve(front: Arc<Front>, socket: TcpStream) {
    // Small messages should not wait for more; a socket that cannot do this still works.
    drop(socket.set_nodelay(true));
    let service = service_fn(|request| {
        let front = Arc::clone(&front);
        async move { Ok::<_, Infallible>(answer(&front, request).await) }
    });
    let spawned = Spawned::default();
    let mut builder = auto::Builder::new(spawned.clone());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(socket), service));
    let mut stopped = pin!(front.server.stopped());
    let (mut streams, mut stopping) = (JoinSet::new(), false);
    loop {
        tokio::select! {
            // A connection that breaks has nobody left to tell.
            _ = &mut serving => break,
            () = &mut stopped, if !stopping => {
                stopping = true;
                serving.as_mut().graceful_shutdown();
            }
            task = spawned.next() => drop(streams.spawn(task)),
            Some(_) = streams.join_next() => (),
        }
    }
}

/// The tasks that HTTP/2 wants to be run, at most one per open stream and a few per connection.
/// An executor that spawned them itself would detach them from their connection.
#[derive(Clone, Default)]
struct Spawned(Arc<(Mutex<VecDeque<Task>>, Notify)>);

impl Spawned {
    async fn next(&self) -> Task {
        let (queue, added) = &*self.0;
        loop {
            let task = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            match task {
                Some(task) => return task,
                // A permit is kept if something is added before this waits.
                None => added.notified().await,
            }
        }
    }
}

impl<F: Future + Send + 'static> Executor<F> for Spawned {
    fn execute(&self, task: F) {
        let (queue, added) = &*self.0;
        let task = async move { drop(task.await) };
        queue.lock().unwrap_or_else(PoisonError::into_inner).push_back(Box::pin(task));
        added.notify_one();
    }
}
