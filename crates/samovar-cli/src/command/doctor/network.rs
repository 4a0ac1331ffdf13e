//! What a daemon that serves a network needs: files of TLS that fit together.

use super::Finding;
use crate::settings::Settings;

/// `None` where TLS is not configured.
pub(super) fn tls(settings: &Settings) -> Option<Finding> {
    let files = settings.tls.as_ref()?;
    let checked = files.check().map(|()| match &files.client_ca {
        Some(_) => "certificate, key and client authorities can be used".to_owned(),
        None => "certificate and key belong together".to_owned(),
    });
    Some(Finding::of("tls", checked.map_err(Into::into)))
}
