//! Waiting for what seldom comes, beside what comes all the time.
//!
//! A task that waits for several things polls all of them whenever one moves. A connection moves
//! twice per call, while the end of its idle time or a stop of the proxy comes once in its life;
//! asking a timer and a cancellation token each time costs more than routing the call does.

use std::future::{Future, pending};

use futures_util::{StreamExt as _, stream::FuturesUnordered};

/// The same future, polled only when it was woken itself.
///
/// # Cancel safety
///
/// As safe as `future`, which is dropped with it.
pub(super) async fn aside<F: Future>(future: F) -> F::Output {
    // A set of one: sets give each member a waker of its own.
    let mut alone = FuturesUnordered::from_iter([future]);
    match alone.next().await {
        Some(output) => output,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use tokio::task::yield_now;
    use tokio_util::sync::CancellationToken;

    use super::aside;

    #[tokio::test]
    async fn what_stands_aside_is_asked_once_and_still_heard() {
        let (asked, stop) = (AtomicUsize::new(0), CancellationToken::new());
        let mut cancelled = std::pin::pin!(stop.cancelled());
        let watched = poll_fn(|cx| {
            asked.fetch_add(1, Ordering::Relaxed);
            cancelled.as_mut().poll(cx)
        });
        let busy = async {
            for _ in 0..100 {
                yield_now().await;
            }
            stop.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = aside(watched) => (),
            () = busy => (),
        }
        assert_eq!(asked.load(Ordering::Relaxed), 2, "at first, and when it was woken");
    }
}
