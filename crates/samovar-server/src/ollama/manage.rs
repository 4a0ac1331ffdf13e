//! What would change the models of this machine: refused, for only its owner may, and says it to `samovar`.

use axum::extract::State;
use samovar::Origin;
use samovar_core::{ErrorKind, Failure};

use super::Refused;
use crate::app::App;

/// `POST /api/push`.
pub(crate) async fn push() -> Refused {
    let failure = Failure::new(ErrorKind::Unsupported, "models are not published from here");
    failure.with_hint("samovar export MODEL writes its file").into()
}

/// `POST /api/copy`.
pub(crate) async fn copy(State(app): State<App>) -> Refused {
    refused(&app, "copy a model", "give it another name under [models.NAME] in samovar.toml").into()
}

/// `POST /api/create`.
pub(crate) async fn create(State(app): State<App>) -> Refused {
    refused(&app, "create a model", "write its settings under [models.NAME] in samovar.toml").into()
}

/// `DELETE /api/delete`.
pub(crate) async fn delete(State(app): State<App>) -> Refused {
    refused(&app, "delete a model", "samovar rm MODEL").into()
}

/// The network may not, and the owner has a command for it.
pub(super) fn refused(app: &App, what: &str, hint: &str) -> Failure {
    if app.surface.origin() == Origin::Network {
        let message = format!("requests over the network may not {what}");
        return Failure::new(ErrorKind::Forbidden, message).with_hint(format!("the owner can: {hint}"));
    }
    Failure::new(ErrorKind::Unsupported, format!("this route does not {what}")).with_hint(hint)
}
