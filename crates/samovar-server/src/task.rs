//! Starts tasks whose futures have one type: otherwise the compiler makes all of tokio's code for a task again for each future, and
//! for each of its schedulers. Nothing is decided here.

use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;

/// Runs a future to its end, also when no caller waits for it.
pub(crate) fn spawn(future: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(erased(future))
}

/// The future without its type, for a set of tasks.
pub(crate) fn erased(future: impl Future<Output = ()> + Send + 'static) -> BoxFuture<'static, ()> {
    Box::pin(future)
}
