//! Where stores of objects work: threads of their own. So a caller may wait for them on any
//! thread, also on one that its own runtime needs, and a busy runtime does not hold up transfers.

use std::future::Future;
use std::sync::OnceLock;
use std::sync::mpsc;

use tokio::runtime::{Builder, Handle, Runtime, RuntimeFlavor};
use tokio::task::JoinHandle;

use crate::error::{Error, Result};

const MAX_THREADS: usize = 4;

/// The runtime of storage. It is never ended.
pub(super) fn handle() -> Result<&'static Handle> {
    static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Builder::new_multi_thread()
            .worker_threads(processors.clamp(2, MAX_THREADS))
            .thread_name("storage")
            .enable_all()
            .build()
            .map_err(|error| error.to_string())
    });
    match runtime {
        Ok(runtime) => Ok(runtime.handle()),
        Err(problem) => Err(Error::new(format!(
            "could not start threads for storage: {problem}"
        ))),
    }
}

/// Does the work on storage's threads, for an async caller. Dropped, it ends the work.
pub(super) async fn on_own<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    struct Ends<T>(JoinHandle<T>);
    impl<T> Drop for Ends<T> {
        fn drop(&mut self) {
            self.0.abort();
        }
    }
    let mut task = Ends(handle()?.spawn(work));
    match (&mut task.0).await {
        Ok(result) => result,
        Err(error) => Err(Error::new(format!("a task of storage ended: {error}"))),
    }
}

/// Does the work on storage's threads, for a synchronous caller on any thread.
pub(super) fn wait<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let (sender, receiver) = mpsc::channel();
    handle()?.spawn(async move {
        // nobody waits any more
        let _ = sender.send(work.await);
    });
    match blocking(|| receiver.recv()) {
        Ok(result) => result,
        Err(_) => Err(Error::new("a task of storage ended before it was done")),
    }
}

/// Waits without a runtime's other tasks waiting too, where that is possible.
pub(super) fn blocking<T>(act: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|current| current.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(act),
        _ => act(),
    }
}
