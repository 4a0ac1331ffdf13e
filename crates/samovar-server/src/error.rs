//! Why a server does not start or cannot go on.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use samovar_core::{ErrorKind, Failure, system_words};

use crate::keys::KeyFileError;
use crate::port_holder::PortHolder;
use crate::tls::TlsError;

/// Why a server does not start or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither an address nor a socket was given.
    #[error("there is nowhere to listen")]
    Nowhere,
    /// Other machines would reach a server that authenticates no client.
    #[error("refusing to listen on {0}: other machines could use this server without a key")]
    Exposed(SocketAddr),
    /// The keys cannot be read.
    #[error("refusing to listen: {0}")]
    Keys(#[from] KeyFileError),
    /// The address is not to be had.
    #[error("cannot listen on {address}: {}", system_words(source))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The files of TLS cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The audit log cannot be written.
    #[error("cannot write the audit log {path}: {}", system_words(source))]
    AuditLog {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another program has the address at which Ollama's clients look.
    #[error("cannot listen on {address} for Ollama's clients: {holder}")]
    OllamaAddress {
        /// The address.
        address: SocketAddr,
        /// Who has it.
        holder: PortHolder,
    },
    /// The name of the header that names clients can not be one.
    #[error("{0:?} is not the name of a header")]
    ClientHeader(String),
    /// Another daemon has the socket.
    #[error("another daemon already serves {0}")]
    AlreadyServed(PathBuf),
    /// Others could replace the socket.
    #[error("refusing to put the socket into {0}: other users may write there")]
    OpenDirectory(PathBuf),
    /// Another user could replace the socket.
    #[error("refusing to put the socket into {path}: it belongs to user {owner}")]
    StrangersDirectory {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// What is at the lock's path is a link, or another user's.
    #[error("{0} is not a lock file of this user's")]
    NotALock(PathBuf),
    /// What is at the socket's path is something else.
    #[error("{0} is there, and it is not a socket")]
    NotASocket(PathBuf),
    /// The socket is not to be had.
    #[error("cannot listen on the socket {path}: {}", system_words(source))]
    Socket {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Nowhere | Self::ClientHeader(_) => ErrorKind::InvalidRequest,
            Self::Tls(error) => error.kind(),
            Self::Exposed(_)
            | Self::OpenDirectory(_)
            | Self::StrangersDirectory { .. }
            | Self::NotALock(_) => ErrorKind::Forbidden,
            Self::Keys(error) => error.kind(),
            Self::AlreadyServed(_) | Self::OllamaAddress { .. } => ErrorKind::Busy,
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => ErrorKind::Busy,
            Self::Listen { .. } => ErrorKind::Unavailable,
            Self::NotASocket(_) | Self::Socket { .. } | Self::AuditLog { .. } => ErrorKind::Storage,
        }
    }

    /// What the owner can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Nowhere => "give an address or a socket path".to_owned(),
            Self::Exposed(address) => format!(
                "make a key with `samovar key add NAME`, listen on 127.0.0.1:{}, or say --insecure-no-auth if everyone who reaches it may use it",
                address.port()
            ),
            Self::Keys(error) => error.hint(),
            Self::OllamaAddress { holder, .. } => holder.hint().to_owned(),
            Self::ClientHeader(_) => "write a name such as x-openwebui-user-id".to_owned(),
            Self::Tls(error) => error.hint().to_owned(),
            Self::AuditLog { .. } => {
                "check the path that `server.audit_log` names, and who may write there".to_owned()
            }
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                "another program has this port: choose another one with --port or `server.listen`, or 0 for any that is free"
                    .to_owned()
            }
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrNotAvailable => {
                "this machine has no such address: listen on 127.0.0.1".to_owned()
            }
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "ports below 1024 are the system's: choose a higher one with --port".to_owned()
            }
            Self::Listen { .. } => "check the address".to_owned(),
            Self::AlreadyServed(_) => {
                "use the daemon that runs, or end it with `samovar shutdown`".to_owned()
            }
            Self::OpenDirectory(path) => {
                format!("run `chmod go-w {}`, or set SAMOVAR_HOME to a directory of your own", path.display())
            }
            Self::StrangersDirectory { .. } => "set SAMOVAR_HOME to a directory of your own".to_owned(),
            Self::NotALock(_) => {
                "remove it, or set SAMOVAR_HOME to a directory that only you may write".to_owned()
            }
            Self::NotASocket(_) => "move that file away, or choose another socket path".to_owned(),
            Self::Socket { source, .. } if source.kind() == io::ErrorKind::InvalidInput => {
                "a socket's path may have about 100 bytes; set SAMOVAR_HOME to a shorter one".to_owned()
            }
            Self::Socket { .. } => "check the permissions, or set SAMOVAR_HOME".to_owned(),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(error.kind(), error.to_string()).with_hint(error.hint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_offered_where_an_address_is_not_to_be_had_can_be_had() {
        let hint = |kind: io::ErrorKind| {
            let address = SocketAddr::from(([127, 0, 0, 1], 7266));
            Error::Listen { address, source: io::Error::from(kind) }.hint()
        };
        let taken = hint(io::ErrorKind::AddrInUse);
        assert!(taken.contains("--port") && taken.contains("server.listen"), "{taken}");
        // Listening on all networks is refused at the next start.
        assert!(!hint(io::ErrorKind::AddrNotAvailable).contains("0.0.0.0"));
    }
}
