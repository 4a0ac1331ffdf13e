//! What an owner may set about serving, with the limits that hold when nothing is said.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::tls::TlsFiles;

/// How to serve. At least one of `listen` and `socket` must be given.
#[derive(Clone, Debug)]
pub struct ServeConfig {
    /// Where to listen for HTTP. An address that other machines reach is refused without a key, unless
    /// `insecure_no_auth` is set.
    pub listen: Option<SocketAddr>,
    /// The files that `listen` is served over TLS with; `None` = plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Where to listen besides, for clients of Ollama that know no other address; under the same conditions.
    pub ollama_listen: Option<SocketAddr>,
    /// The Unix socket of the owner; its directory is made (0700) when missing.
    pub socket: Option<PathBuf>,
    /// Serve other machines although there is no key. Where there is one, it is needed all the same.
    pub insecure_no_auth: bool,
    /// The file of keys ([`crate::KeyFile`]). Once a key is in it, requests over TCP need one.
    pub keys: Option<PathBuf>,
    /// Names by which clients may call this server in `Host`, besides those of this machine itself.
    pub allowed_hosts: Vec<String>,
    /// Web origins that may read answers, such as `https://chat.example.org`, besides those of this
    /// machine itself.
    pub allowed_origins: Vec<String>,
    /// The header in which a trusted program in front of this server names the client for whom it asks, such as
    /// `x-openwebui-user-id`; then `user` in a body counts as well. Without it clients are told apart by address.
    pub client_header: Option<String>,
    /// The file that gets a line for each request that has ended, if there is to be one.
    pub audit_log: Option<PathBuf>,
    /// The folder that keeps what each client used of each model, day by day; `None` = it is not counted.
    pub usage_dir: Option<PathBuf>,
    /// The file of conversations; `None` = none are kept.
    pub chats: Option<PathBuf>,
    /// Bounds on what clients send and how long they take.
    pub limits: Limits,
    /// How long running requests may take to end when the server leaves; then they end with what they have.
    pub drain: Duration,
    /// What `GET /admin/config` answers; `None` where the program around this server has no settings to show.
    pub settings: Option<SettingsSource>,
}

/// The settings in force as an object, with where each comes from and without secrets.
#[derive(Clone)]
pub struct SettingsSource(Arc<dyn Fn() -> Value + Send + Sync>);

impl SettingsSource {
    /// Settings that `read` tells whenever they are asked for; it may block for a file.
    pub fn new(read: impl Fn() -> Value + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    pub(crate) fn now(&self) -> Value {
        (self.0)()
    }
}

impl fmt::Debug for SettingsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SettingsSource").finish_non_exhaustive()
    }
}

impl Default for ServeConfig {
    /// Serves nowhere, and drains for 30 seconds.
    fn default() -> Self {
        Self {
            listen: None,
            tls: None,
            ollama_listen: None,
            socket: None,
            insecure_no_auth: false,
            keys: None,
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            client_header: None,
            audit_log: None,
            usage_dir: None,
            chats: None,
            limits: Limits::default(),
            drain: Duration::from_secs(30),
            settings: None,
        }
    }
}

/// Bounds on what clients send and how long they take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at the same time, for each listener.
    pub connections: usize,
    /// Connections of one address; `None` = a quarter of all for other machines, and all for this one.
    pub connections_per_address: Option<usize>,
    /// Time for which a connection is kept whose last request is answered.
    pub idle_timeout: Duration,
    /// Time for a client to send the head of a request.
    pub head_timeout: Duration,
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// Time for a client to send the body of a request.
    pub body_timeout: Duration,
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// Nesting of a JSON body.
    pub json_depth: usize,
    /// Time for a client to take any of the bytes that are ready for it.
    pub write_stall: Duration,
    /// No request over the network has a model leave sooner after its use, whatever it asks.
    pub keep_alive_floor: Duration,
    /// No request over the network has a model stay longer after its use, whatever it asks.
    pub keep_alive_ceiling: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            connections_per_address: None,
            idle_timeout: Duration::from_secs(75),
            head_timeout: Duration::from_secs(10),
            head_bytes: 32 << 10,
            body_timeout: Duration::from_secs(30),
            body_bytes: 4 << 20,
            json_depth: 64,
            write_stall: Duration::from_secs(30),
            keep_alive_floor: Duration::from_secs(60),
            keep_alive_ceiling: Duration::from_secs(60 * 60),
        }
    }
}
