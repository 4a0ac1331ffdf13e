//! What every handler is given.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use samovar::{ModelInfo, Origin, Runtime};
use samovar_core::model::reference::Scheme;
use samovar_core::{ErrorKind, Failure, ModelRef};

use crate::activity::ServerHandle;
use crate::chat::Chats;
use crate::config::{Limits, SettingsSource};
use crate::events::Feed;
use crate::keys::{Account, Keyring};
use crate::layer::Allowed;
use crate::ledger::Ledgers;
use crate::metrics::Metrics;
use crate::pulls::Pulls;
use crate::request_record::Ledger;
use crate::request_table::RequestTable;
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
    /// The key that the request was sent with; none at the Unix socket, and where no key is needed.
    pub(crate) account: Option<Arc<Account>>,
}

impl App {
    pub(crate) fn new(shared: &Arc<Shared>, surface: Surface) -> Self {
        Self { shared: Arc::clone(shared), surface, account: None }
    }

    /// The same for a request that was sent with this key.
    pub(crate) fn of(&self, account: Arc<Account>) -> Self {
        Self { account: Some(account), ..self.clone() }
    }

    /// The models that the request may name.
    pub(crate) async fn models(&self) -> Vec<ModelInfo> {
        let mut models = self.runtime.models().await;
        if let Some(account) = &self.account {
            models.retain(|model| account.allows_model(&model.name));
        }
        models
    }

    /// Refuses an order over TCP for a model that requests over TCP may not name, such as a file of this machine by its path.
    ///
    /// # Errors
    /// `Forbidden`, `NotFound`, or what else the name is refused with.
    pub(crate) async fn check_order(&self, name: &str) -> Result<(), Failure> {
        if self.surface == Surface::Local {
            return Ok(());
        }
        self.check_model(name)?;
        self.runtime.model(name, Origin::Network).await.map(drop)
    }

    /// Refuses an order over TCP that names a file of this machine, or an address that this machine can reach: a key that may manage
    /// models opens neither.
    ///
    /// # Errors
    /// `Forbidden`.
    pub(crate) fn check_source(&self, name: &str) -> Result<(), Failure> {
        check_source(self.surface.origin(), name)
    }

    /// Refuses an order for every model from a key that may use some alone.
    ///
    /// # Errors
    /// `Forbidden`.
    pub(crate) fn check_every_model(&self) -> Result<(), Failure> {
        self.account.as_ref().map_or(Ok(()), |account| account.check_every_model())
    }

    /// Refuses a model that the request's key may not use.
    ///
    /// # Errors
    /// `Forbidden`.
    pub(crate) fn check_model(&self, name: &str) -> Result<(), Failure> {
        self.account.as_ref().map_or(Ok(()), |account| account.check_model(name))
    }
}

/// The part that both listeners share.
pub(crate) struct Shared {
    pub(crate) runtime: Runtime,
    pub(crate) limits: Limits,
    pub(crate) allowed: Allowed,
    pub(crate) keys: Arc<Keyring>,
    /// The header that is believed to name the client.
    pub(crate) client_header: Option<HeaderName>,
    pub(crate) server: ServerHandle,
    pub(crate) metrics: Metrics,
    /// Where requests go that have ended.
    pub(crate) ledger: Arc<dyn Ledger>,
    /// The same, as what is kept in it.
    pub(crate) ledgers: Arc<Ledgers>,
    pub(crate) listen: Option<SocketAddr>,
    /// Whether that is served over TLS.
    pub(crate) has_tls: bool,
    pub(crate) socket: Option<PathBuf>,
    /// Changes when the same seed may give another text: with the versions of server and engine.
    pub(crate) fingerprint: String,
    /// When the listeners were opened, in milliseconds since 1970.
    pub(crate) started_unix_ms: u64,
    pub(crate) settings: Option<SettingsSource>,
    /// The requests that use a model.
    pub(crate) requests: Arc<RequestTable>,
    /// The fetches that the owner asked for.
    pub(crate) pulls: Arc<Pulls>,
    /// What was said in chats.
    pub(crate) chats: Chats,
    /// What happens, for those that listen.
    pub(crate) events: Arc<Feed>,
}

impl std::ops::Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

fn check_source(origin: Origin, name: &str) -> Result<(), Failure> {
    let is_place = match name.parse::<ModelRef>() {
        Ok(ModelRef::File(_)) => true,
        Ok(ModelRef::Remote(remote)) => remote.scheme() != Scheme::Ollama,
        _ => false,
    };
    if origin == Origin::Owner || !is_place {
        return Ok(());
    }
    Err(Failure::new(ErrorKind::Forbidden, "requests over the network may not name files and addresses")
        .with_param("model")
        .with_hint("name a model of the hub or of Ollama's registry, or give the address a name under [models.NAME] in samovar.toml"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_of_the_network_name_no_files_and_no_addresses() {
        for name in [
            "/etc/x.gguf",
            "./x.gguf",
            "file:///etc/x.gguf",
            "https://169.254.169.254/x.gguf",
            "http://localhost/x.gguf",
            "s3://b/x.gguf",
        ] {
            let refused = check_source(Origin::Network, name).expect_err("is refused");
            assert_eq!(refused.kind, ErrorKind::Forbidden, "{name}");
            assert!(check_source(Origin::Owner, name).is_ok(), "{name}");
        }
        for name in ["org/name:Q4_K_M", "ollama://qwen3:4b", "tiny", "demo"] {
            assert!(check_source(Origin::Network, name).is_ok(), "{name}");
        }
    }
}
