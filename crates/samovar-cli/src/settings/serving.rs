//! Settings of serving to a network, in the server's own types.

use samovar_core::{ErrorKind, Failure};
use samovar_server::TlsFiles;

use super::values::{Values, path};

const CERTIFICATE: &str = "server.tls.certificate";
const KEY: &str = "server.tls.key";
const CLIENT_CA: &str = "server.tls.client_ca";

/// The files of TLS, if there are any. They are not looked at here.
///
/// # Errors
/// `InvalidRequest` where one is named and another one that belongs to it is not.
pub(super) fn tls(values: &Values) -> Result<Option<TlsFiles>, Failure> {
    let [certificate, key, client_ca] = [CERTIFICATE, KEY, CLIENT_CA].map(|name| path(values, name));
    match (certificate, key) {
        (Some(certificate), Some(key)) => Ok(Some(TlsFiles { certificate, key, client_ca })),
        (Some(_), None) => Err(lonely(values, CERTIFICATE, KEY)),
        (None, Some(_)) => Err(lonely(values, KEY, CERTIFICATE)),
        (None, None) if client_ca.is_some() => Err(lonely(values, CLIENT_CA, CERTIFICATE)),
        (None, None) => Ok(None),
    }
}

fn lonely(values: &Values, named: &str, missing: &str) -> Failure {
    let place = values.get(named).map(|(_, provenance)| format!("{provenance}: ")).unwrap_or_default();
    Failure::new(ErrorKind::InvalidRequest, format!("{place}`{named}` is set, and `{missing}` is not"))
        .with_hint(
            "TLS needs a certificate and its key, each in a PEM file; without TLS, remove these settings",
        )
}
