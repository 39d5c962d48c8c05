//! The async runtime, sized by the configuration.

use std::{io, time::Duration};

use tokio::runtime::{Builder, Runtime};

/// How long stray blocking work may hold up the end of the process.
const LINGER: Duration = Duration::from_secs(1);

/// Runs `future` on `workers` threads and ends the runtime after it.
///
/// One worker means this very thread: a call then never crosses threads.
pub(crate) fn run<F: Future>(workers: usize, future: F) -> io::Result<F::Output> {
    let runtime = build(workers)?;
    let output = runtime.block_on(future);
    runtime.shutdown_timeout(LINGER);
    Ok(output)
}

fn build(workers: usize) -> io::Result<Runtime> {
    let mut builder = match workers {
        0 | 1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    builder.worker_threads(workers.max(1)).thread_name("tidegate").enable_all().build()
}
