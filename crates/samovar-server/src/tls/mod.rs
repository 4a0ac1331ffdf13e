//! TLS on the network port: certificate and key from the owner's files, which are read again when they change.
//!
//! ```text
//!   connection ─► first byte ─┬ of a handshake ─► rustls ─► HTTP/1.1, as on a plain port
//!                             ├ a letter ───────► plain HTTP: 400, with the hint to use https
//!                             └ else ───────────► closed
//!
//!   files ─► at the start: what is wrong is an error
//!      └ changed ─► read again before the next handshake; what is wrong is logged, and what was in force stays
//! ```
//!
//! A connection keeps the certificate that it began with. Nothing here reads HTTP, and no key is logged.

mod files;
mod first_byte;
mod handshake;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustls::ServerConfig;

use crate::metrics::Metrics;
use files::Stamps;
pub use files::{TlsError, TlsFiles};

/// How often the files are looked at, at most; without handshakes never.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a handshake waits for that look, since a disk may be stuck.
const LOOK_LIMIT: Duration = Duration::from_secs(1);

/// What handshakes are made with. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    files: TlsFiles,
    look_every: Duration,
    metrics: Metrics,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// What is in force.
    config: Arc<ServerConfig>,
    /// The files as they were when they were read.
    stamps: Stamps,
    looked: Instant,
    /// One look at a time: they would pile up on a disk that is stuck.
    is_looking: bool,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// When one of them cannot be read or used, with its name.
    pub(crate) fn read(files: TlsFiles, metrics: Metrics) -> Result<Self, TlsError> {
        Self::with(files, metrics, LOOK_EVERY)
    }

    fn with(files: TlsFiles, metrics: Metrics, look_every: Duration) -> Result<Self, TlsError> {
        // Before they are read: what is written meanwhile is read the next time.
        let stamps = files.stamps();
        let config = Arc::new(files.server_config()?);
        files.warn_of_readers();
        let state = State { config, stamps, looked: Instant::now(), is_looking: false };
        Ok(Self { inner: Arc::new(Inner { files, look_every, metrics, state: Mutex::new(state) }) })
    }

    /// What the next handshake is made with.
    async fn current(&self) -> Arc<ServerConfig> {
        if self.inner.begins_look() {
            let inner = Arc::clone(&self.inner);
            let look = tokio::task::spawn_blocking(move || inner.look());
            // A look that takes longer is not waited for: what was in force serves on.
            let _ = tokio::time::timeout(LOOK_LIMIT, look).await;
        }
        Arc::clone(&self.inner.state().config)
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the caller is to look at the files.
    fn begins_look(&self) -> bool {
        let mut state = self.state();
        let is_due = !state.is_looking && state.looked.elapsed() >= self.look_every;
        if is_due {
            (state.is_looking, state.looked) = (true, Instant::now());
        }
        is_due
    }

    /// Reads the files again if they have changed.
    fn look(&self) {
        let stamps = self.files.stamps();
        let has_changed = std::mem::replace(&mut self.state().stamps, stamps) != stamps;
        if has_changed {
            match self.files.server_config() {
                Ok(config) => {
                    self.state().config = Arc::new(config);
                    tracing::info!(certificate = %self.files.certificate.display(), "read the changed TLS files");
                    self.files.warn_of_readers();
                }
                Err(error) => tracing::warn!(
                    hint = error.hint(),
                    "the changed TLS files are not used, the certificate in force stays: {error}"
                ),
            }
        }
        self.state().is_looking = false;
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::files::tests::{SERVER, SERVER_2, write_pair};
    use super::*;

    fn tls(folder: &Path) -> Tls {
        Tls::with(write_pair(folder, SERVER), Metrics::new(), Duration::ZERO).expect("reads")
    }

    #[tokio::test]
    async fn changed_files_are_used_from_the_next_handshake_on() {
        let folder = tempfile::tempdir().expect("tempdir");
        let tls = tls(folder.path());
        let first = tls.current().await;
        assert!(Arc::ptr_eq(&first, &tls.current().await), "nothing has changed");
        write_pair(folder.path(), SERVER_2);
        let second = tls.current().await;
        assert!(!Arc::ptr_eq(&first, &second));
        assert!(Arc::ptr_eq(&second, &tls.current().await));
    }

    #[tokio::test]
    async fn damaged_files_leave_the_certificate_in_force_until_they_are_whole() {
        let folder = tempfile::tempdir().expect("tempdir");
        let tls = tls(folder.path());
        let first = tls.current().await;
        let [certificate, key] = SERVER_2;
        // Half of a renewal: the new certificate with the old key.
        fs_err::write(folder.path().join("server.pem"), certificate).expect("writes");
        assert!(Arc::ptr_eq(&first, &tls.current().await));
        fs_err::remove_file(folder.path().join("server.key.pem")).expect("removes");
        assert!(Arc::ptr_eq(&first, &tls.current().await));
        fs_err::write(folder.path().join("server.key.pem"), key).expect("writes");
        assert!(!Arc::ptr_eq(&first, &tls.current().await));
    }

    #[tokio::test]
    async fn the_files_are_looked_at_once_in_a_while() {
        let folder = tempfile::tempdir().expect("tempdir");
        let files = write_pair(folder.path(), SERVER);
        let tls = Tls::with(files, Metrics::new(), Duration::from_secs(3_600)).expect("reads");
        let first = tls.current().await;
        write_pair(folder.path(), SERVER_2);
        assert!(Arc::ptr_eq(&first, &tls.current().await), "an hour has not passed");
    }
}
