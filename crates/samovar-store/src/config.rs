//! How a store is set up. Values come from the settings of the program around it.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

/// Settings of a [`crate::Store`].
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The cache directory; created when missing.
    pub cache_dir: PathBuf,
    /// Where the index lies when the cache directory is on a network file system.
    pub state_dir: PathBuf,
    /// Stores that are only read, searched in this order before anything is fetched.
    pub read_only_dirs: Vec<PathBuf>,
    /// Folders of other programs on this machine that models are taken from, without a second copy, before anything is
    /// fetched: caches of the hub's package, and stores of Ollama.
    pub neighbours: Vec<AdoptRoot>,
    /// Bytes that artifacts may take; `None` = 100 GB or 70 % of the free disk, whichever is less.
    pub max_size_bytes: Option<u64>,
    /// An artifact that was not used for so long may be collected; zero = no limit of age.
    pub max_age: Duration,
    /// Bytes of the disk that stay free whatever is fetched.
    pub min_free_bytes: u64,
    /// Prompt state that is kept over evictions and restarts.
    pub prefixes: PrefixConfig,
    /// The sources.
    pub sources: SourceConfig,
}

/// A folder of another program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdoptRoot {
    /// Where it lies.
    pub path: PathBuf,
    /// Whose it is.
    pub kind: AdoptKind,
}

/// Whose folder it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AdoptKind {
    /// The cache of the hub's Python package.
    HuggingFace,
    /// Ollama's store.
    Ollama,
    /// LM Studio's folder of models.
    LmStudio,
    /// Any folder with GGUF files in it.
    Folder,
}

/// Settings of saved prefixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixConfig {
    /// Bytes that they may take together; `None` = a twentieth of the cache's quota, at most 10 GB; 0 = none are
    /// saved or restored.
    pub quota_bytes: Option<u64>,
    /// Prompts of fewer tokens are computed again rather than kept.
    pub min_tokens: u32,
}

impl PrefixConfig {
    /// Whether prefixes are saved and restored at all.
    pub fn is_on(&self) -> bool {
        self.quota_bytes != Some(0)
    }
}

impl Default for PrefixConfig {
    fn default() -> Self {
        Self { quota_bytes: None, min_tokens: 256 }
    }
}

/// Settings of the sources.
#[derive(Clone, Debug)]
pub struct SourceConfig {
    /// The hub's address; `None` = its public one.
    pub hub_endpoint: Option<String>,
    /// The token that is sent to the hub's address, and nowhere else.
    pub hub_token: Option<Secret>,
    /// Nothing is asked of any source.
    pub is_offline: bool,
    /// Connections of one download.
    pub connections: u32,
    /// How failures that may pass are tried again.
    pub retry: RetryConfig,
    /// Without a byte for so long, a connection is given up.
    pub stall: Duration,
    /// Address of an Ollama registry; `None` = its public one.
    pub ollama_endpoint: Option<String>,
    /// Settings of object stores by the names that their programs use (`aws_access_key_id`, `aws_endpoint`, …).
    pub object_options: Vec<(String, Secret)>,
    /// Let http:// addresses be used for other machines than this one.
    pub allows_plain_http: bool,
}

/// How failures that may pass are tried again.
#[derive(Clone, Copy, Debug)]
pub struct RetryConfig {
    /// Tries in all, the first included.
    pub tries: u32,
    /// The first wait; each further one doubles.
    pub first_wait: Duration,
    /// The longest wait, also when the server asks for more.
    pub longest_wait: Duration,
}

/// Text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text` from being printed.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the header that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

impl StoreConfig {
    /// The defaults, below these directories.
    pub fn new(cache_dir: impl Into<PathBuf>, state_dir: impl Into<PathBuf>) -> Self {
        Self {
            cache_dir: cache_dir.into(),
            state_dir: state_dir.into(),
            read_only_dirs: Vec::new(),
            neighbours: Vec::new(),
            max_size_bytes: None,
            max_age: Duration::from_secs(30 * 24 * 3600),
            min_free_bytes: 1 << 30,
            prefixes: PrefixConfig::default(),
            sources: SourceConfig::default(),
        }
    }
}

impl Default for SourceConfig {
    fn default() -> Self {
        Self {
            hub_endpoint: None,
            hub_token: None,
            is_offline: false,
            connections: 4,
            retry: RetryConfig::default(),
            stall: Duration::from_secs(30),
            ollama_endpoint: None,
            object_options: Vec::new(),
            allows_plain_http: false,
        }
    }
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self { tries: 5, first_wait: Duration::from_millis(500), longest_wait: Duration::from_secs(60) }
    }
}
