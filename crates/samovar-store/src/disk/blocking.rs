//! Runs file work off the event loop.

use std::any::Any;

use tokio::task::JoinHandle;

use crate::error::Error;

/// Work and what it returns, without their types: the compiler would make all of a task's code again for each.
type ErasedFileWork = Box<dyn FnOnce() -> Box<dyn Any + Send> + Send>;

/// Runs `work` on a thread that may block. What has begun is finished also when no caller waits for it any more.
///
/// # Errors
/// Whatever `work` says, and when the program is leaving.
pub(crate) async fn run<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let work: ErasedFileWork = Box::new(move || -> Box<dyn Any + Send> { Box::new(work()) });
    match begin(work).await {
        Ok(done) => *done.downcast::<Result<T, Error>>().expect("invariant: the work returns this"),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(Error::io("the work was not begun")(std::io::Error::other("the program is leaving"))),
    }
}

fn begin(work: ErasedFileWork) -> JoinHandle<Box<dyn Any + Send>> {
    tokio::task::spawn_blocking(work)
}
