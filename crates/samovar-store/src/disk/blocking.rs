//! Runs file work off the event loop.

use crate::error::Error;

/// Runs `work` on a thread that may block. What has begun is finished also when no caller waits for it any more.
///
/// # Errors
/// Whatever `work` says, and when the program is leaving.
pub(crate) async fn run<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(Error::io("the work was not begun")(std::io::Error::other("the program is leaving"))),
    }
}
