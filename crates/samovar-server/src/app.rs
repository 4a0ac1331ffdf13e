//! What every handler is given.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use samovar::{Origin, Runtime};

use crate::activity::ServerHandle;
use crate::config::Limits;
use crate::layer::Allowed;
use crate::metrics::Metrics;
use axum::http::HeaderName;

/// Which listener a request came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Surface {
    /// A TCP port: anyone who reaches it.
    Network,
    /// The Unix socket: the owner.
    Local,
}

impl Surface {
    pub(crate) const fn origin(self) -> Origin {
        match self {
            Self::Network => Origin::Network,
            Self::Local => Origin::Owner,
        }
    }
}

/// What every handler is given: the runtime, the bounds, and the listener that the request came through.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) shared: Arc<Shared>,
    pub(crate) surface: Surface,
}

/// The part that both listeners share.
pub(crate) struct Shared {
    pub(crate) runtime: Runtime,
    pub(crate) limits: Limits,
    pub(crate) allowed: Allowed,
    /// The header that is believed to name the client.
    pub(crate) client_header: Option<HeaderName>,
    pub(crate) server: ServerHandle,
    pub(crate) metrics: Metrics,
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) socket: Option<PathBuf>,
    /// Changes when the same seed may give another text: with the versions of server and engine.
    pub(crate) fingerprint: String,
}

impl std::ops::Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}
