//! The PEM files that TLS is served with: read within bounds, and checked against each other. Nothing is kept of them here.

use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use samovar_core::{ErrorKind, Failure, system_words};

use crate::file_stamp::FileStamp;

/// No certificate, and no list of authorities, is larger.
const FILE_MAX_BYTES: u64 = 1 << 20;
/// What clients may be asked to speak.
const HTTP_1_1: &[u8] = b"http/1.1";
/// The bit of a file's mode that lets every user of the machine read it.
const READ_BY_OTHERS: u32 = 0o004;

/// The files that TLS is served with, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, and those of its issuers after it.
    pub certificate: PathBuf,
    /// The private key of the server's certificate.
    pub key: PathBuf,
    /// Authorities: when they are given, a client must show a certificate that one of them issued.
    pub client_ca: Option<PathBuf>,
}

/// Why files of TLS cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct TlsError {
    kind: ErrorKind,
    message: String,
    hint: String,
}

impl TlsError {
    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What the owner can do about it.
    pub fn hint(&self) -> &str {
        &self.hint
    }

    /// A file that is there and not what it should be.
    fn unfit(message: String, hint: impl Into<String>) -> Self {
        Self { kind: ErrorKind::InvalidRequest, message, hint: hint.into() }
    }
}

impl From<TlsError> for Failure {
    fn from(error: TlsError) -> Self {
        Self::new(error.kind, error.message).with_hint(error.hint)
    }
}

/// What a file is for.
#[derive(Clone, Copy, Debug)]
struct Role {
    noun: &'static str,
    setting: &'static str,
}

const CERTIFICATE: Role = Role { noun: "TLS certificate", setting: "server.tls.certificate" };
const KEY: Role = Role { noun: "TLS key", setting: "server.tls.key" };
const CLIENT_CA: Role = Role { noun: "list of client authorities", setting: "server.tls.client_ca" };

/// What certificate, key and authorities were when they were looked at; `None` for a file that is not there.
pub(super) type Stamps = [Option<FileStamp>; 3];

impl TlsFiles {
    /// Whether a server could use them now.
    ///
    /// # Errors
    /// When one of them cannot be read or used, with its name.
    pub fn check(&self) -> Result<(), TlsError> {
        self.server_config().map(drop)
    }

    /// What the files are now.
    pub(super) fn stamps(&self) -> Stamps {
        [stamp(&self.certificate), stamp(&self.key), self.client_ca.as_deref().and_then(stamp)]
    }

    /// Reads and checks them.
    ///
    /// # Errors
    /// When one of them cannot be read or used, with its name.
    pub(super) fn server_config(&self) -> Result<ServerConfig, TlsError> {
        let chain = certificates(CERTIFICATE, &self.certificate)?;
        let key = private_key(&self.key)?;
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("invariant: ring has the ciphers of TLS 1.2 and 1.3");
        let builder = match &self.client_ca {
            Some(path) => builder.with_client_cert_verifier(verifier(path, provider)?),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|error| self.refused(&error))?;
        config.alpn_protocols = vec![HTTP_1_1.to_vec()];
        if self.client_ca.is_some() {
            // A session that goes on would not show its certificate again, and one that has expired would be good for ever.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(config)
    }

    /// Says it when every user of the machine can read the key.
    pub(super) fn warn_of_readers(&self) {
        let key = self.key.display();
        if fs_err::metadata(&self.key).is_ok_and(|facts| facts.mode() & READ_BY_OTHERS != 0) {
            tracing::warn!(hint = format!("run `chmod o-r {key}`"), "other users can read the TLS key {key}");
        }
    }

    /// Why the certificate and the key cannot be used together.
    fn refused(&self, error: &rustls::Error) -> TlsError {
        let (certificate, key) = (self.certificate.display(), self.key.display());
        match error {
            rustls::Error::InconsistentKeys(_) => TlsError::unfit(
                format!("the TLS key {key} is not that of the first certificate in {certificate}"),
                "name the key that the certificate was requested with; the server's own certificate comes first in its file",
            ),
            rustls::Error::InvalidCertificate(_) => TlsError::unfit(
                format!("the first certificate in {certificate} cannot be used: {error}"),
                "the server's own certificate comes first, those of its issuers after it",
            ),
            _ => TlsError::unfit(
                format!("the TLS key {key} cannot be used: {error}"),
                "use an RSA key of 2048 bits or more, ECDSA with P-256 or P-384, or Ed25519, in PEM",
            ),
        }
    }
}

fn stamp(path: &Path) -> Option<FileStamp> {
    fs_err::metadata(path).ok().as_ref().map(FileStamp::of)
}

/// Asks each client for a certificate of one of these authorities.
fn verifier(
    path: &Path,
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let unusable = |error: &dyn fmt::Display| {
        TlsError::unfit(
            format!("a certificate in {} cannot be used as a client authority: {error}", path.display()),
            "name a PEM file with the certificates of the authorities that issue client certificates",
        )
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(CLIENT_CA, path)? {
        roots.add(certificate).map_err(|error| unusable(&error))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
    verifier.map_err(|error| unusable(&error))
}

/// The certificates in a file; at least one.
fn certificates(role: Role, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(role, path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let Ok(found) = found else {
        return Err(TlsError::unfit(
            format!("the {} {} is a damaged PEM file", role.noun, path.display()),
            format!("write the file again, or name another one by `{}`", role.setting),
        ));
    };
    if found.is_empty() {
        return Err(TlsError::unfit(
            format!("there is no certificate in {}", path.display()),
            format!(
                "`{}` names a PEM file with a part that begins with -----BEGIN CERTIFICATE-----",
                role.setting
            ),
        ));
    }
    Ok(found)
}

/// The key in a file. What is wrong with it is told without any of its text.
fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let bytes = read(KEY, path)?;
    let name = path.display();
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| {
        if is_encrypted(&bytes) {
            return TlsError::unfit(
                format!("the TLS key {name} is encrypted"),
                format!("write it without a password: `openssl pkey -in {name} -out …`"),
            );
        }
        TlsError::unfit(
            format!("there is no private key in {name}"),
            "`server.tls.key` names a PEM file with a part that begins with -----BEGIN PRIVATE KEY-----",
        )
    })
}

fn is_encrypted(pem: &[u8]) -> bool {
    String::from_utf8_lossy(pem).lines().any(|line| line.starts_with("-----BEGIN ENCRYPTED"))
}

fn read(role: Role, path: &Path) -> Result<Vec<u8>, TlsError> {
    let Role { noun, setting } = role;
    let name = path.display();
    let unreadable = |error: io::Error| TlsError {
        kind: ErrorKind::Storage,
        message: format!("cannot read the {noun} {name}: {}", system_words(&error)),
        hint: match error.kind() {
            io::ErrorKind::PermissionDenied => {
                format!("let the user of the daemon read it, or name another file by `{setting}`")
            }
            _ => format!("check the path that `{setting}` names"),
        },
    };
    let facts = fs_err::metadata(path).map_err(unreadable)?;
    if !facts.is_file() {
        return Err(TlsError::unfit(
            format!("the {noun} {name} is not a file"),
            format!("name a PEM file by `{setting}`"),
        ));
    }
    if facts.len() > FILE_MAX_BYTES {
        return Err(TlsError::unfit(
            format!("the {noun} {name} has {} bytes, {FILE_MAX_BYTES} is the limit", facts.len()),
            format!("name a PEM file by `{setting}`"),
        ));
    }
    fs_err::read(path).map_err(unreadable)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A certificate and its key.
    pub(crate) const SERVER: [&str; 2] = [
        include_str!("../../tests/certificates/server.pem"),
        include_str!("../../tests/certificates/server.key.pem"),
    ];
    /// Another certificate of the same authority, and its key.
    pub(crate) const SERVER_2: [&str; 2] = [
        include_str!("../../tests/certificates/server2.pem"),
        include_str!("../../tests/certificates/server2.key.pem"),
    ];
    const CA: &str = include_str!("../../tests/certificates/ca.pem");

    /// Writes a certificate and its key into files.
    pub(crate) fn write_pair(folder: &Path, [certificate, key]: [&str; 2]) -> TlsFiles {
        let files = TlsFiles {
            certificate: folder.join("server.pem"),
            key: folder.join("server.key.pem"),
            client_ca: None,
        };
        for (path, text) in [(&files.certificate, certificate), (&files.key, key)] {
            // As another file: pairs are of one size, and many kernels tell the time of a change to a few milliseconds.
            let new = folder.join("new.pem");
            fs_err::write(&new, text).expect("writes");
            fs_err::rename(&new, path).expect("renames");
        }
        files
    }

    /// What is said of files that cannot be used.
    fn refusal(pair: [&str; 2], client_ca: Option<&str>) -> (String, String) {
        let folder = tempfile::tempdir().expect("tempdir");
        let mut files = write_pair(folder.path(), pair);
        files.client_ca = client_ca.map(|text| {
            let path = folder.path().join("ca.pem");
            fs_err::write(&path, text).expect("writes");
            path
        });
        let error = files.server_config().expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::InvalidRequest);
        (error.to_string(), error.hint().to_owned())
    }

    #[test]
    fn a_chain_is_read_and_http_1_1_is_what_clients_are_offered() {
        let folder = tempfile::tempdir().expect("tempdir");
        let chain = format!("{}{CA}", SERVER[0]);
        let mut files = write_pair(folder.path(), [&chain, SERVER[1]]);
        assert_eq!(files.server_config().expect("reads").alpn_protocols, [HTTP_1_1.to_vec()]);
        files.client_ca = Some(files.certificate.clone());
        assert!(files.server_config().is_ok());
    }

    #[test]
    fn each_thing_that_is_wrong_names_the_file_and_the_remedy() {
        let [certificate, key] = SERVER;
        let (message, hint) = refusal([SERVER_2[0], key], None);
        assert!(message.contains("server.key.pem is not that of the first certificate"), "{message}");
        assert!(hint.contains("requested with"), "{hint}");
        let (message, hint) = refusal(["hello", key], None);
        assert!(message.starts_with("there is no certificate in ") && message.ends_with("server.pem"));
        assert!(hint.contains("server.tls.certificate") && hint.contains("BEGIN CERTIFICATE"), "{hint}");
        let torn = &certificate[..certificate.len() / 2];
        assert!(refusal([torn, key], None).0.contains("server.pem is a damaged PEM file"));
        let (message, hint) = refusal([certificate, certificate], None);
        assert!(message.contains("no private key in"), "{message}");
        assert!(hint.contains("server.tls.key"), "{hint}");
        let locked = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        let (message, hint) = refusal([certificate, &locked], None);
        assert!(message.ends_with("is encrypted") && hint.contains("openssl pkey -in"), "{message}: {hint}");
        let nonsense = "-----BEGIN PRIVATE KEY-----\naGVsbG8=\n-----END PRIVATE KEY-----\n";
        let (message, hint) = refusal([certificate, nonsense], None);
        assert!(message.contains("server.key.pem cannot be used") && hint.contains("ECDSA"), "{message}");
        let junk = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
        assert!(refusal([junk, key], None).0.contains("server.pem cannot be used"));
        assert!(refusal(SERVER, Some(junk)).0.contains("ca.pem cannot be used as a client authority"));
        assert!(refusal(SERVER, Some("")).1.contains("server.tls.client_ca"));
    }

    #[test]
    fn no_text_of_a_key_is_told() {
        let [certificate, key] = SERVER;
        let secret = key.lines().nth(1).expect("a line of the key");
        for broken in
            [key.replace("-----END", "----END"), key.replace('M', "*"), key.replace("BEGIN", "BEGI")]
        {
            let (message, hint) = refusal([certificate, &broken], None);
            assert!(!message.contains(&secret[..16]) && !hint.contains(&secret[..16]), "{message}: {hint}");
        }
    }

    #[test]
    fn a_missing_file_and_a_folder_are_told_apart() {
        let folder = tempfile::tempdir().expect("tempdir");
        let mut files = write_pair(folder.path(), SERVER);
        files.key = folder.path().join("gone.pem");
        let error = files.server_config().expect_err("it is not there");
        assert_eq!(error.kind(), ErrorKind::Storage);
        assert!(error.to_string().contains("gone.pem: no such file"), "{error}");
        assert!(error.hint().contains("server.tls.key"));
        files.key = folder.path().to_owned();
        assert!(files.server_config().expect_err("a folder").to_string().ends_with("is not a file"));
        let file = fs_err::File::create(&files.certificate).expect("creates");
        file.set_len(FILE_MAX_BYTES + 1).expect("grows");
        let message = files.server_config().expect_err("too large").to_string();
        assert!(message.contains("1048577 bytes, 1048576 is the limit"), "{message}");
    }
}
