//! Where each test stands: a hub, a store with something in it, and what must hold after every lie.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use samovar_core::model::ArtifactRef;
use samovar_core::{Digest, ErrorKind};
use samovar_store::config::Secret;
use samovar_store::{Artifact, Error, RetryConfig, SourceConfig, Store, StoreConfig};
use samovar_testhub::{Content, Hub, Repo, Rule, Sent};
use tempfile::TempDir;

/// Sent to the hub and to no other server, ever.
pub(crate) const TOKEN: &str = "hf_never_to_be_seen_elsewhere";
/// A model that is asked for in one piece.
pub(crate) const SMALL: u64 = 300_000;
/// A model that is asked for in several pieces, by several connections.
pub(crate) const LARGE: u64 = (26 << 20) + 12_345;
/// Both, for lies that may matter differently.
pub(crate) const SIZES: [u64; 2] = [SMALL, LARGE];

/// The model that is lied about.
pub(crate) const MODEL: &str = "tiny.Q4_K_M.gguf";
pub(crate) const REFERENCE: &str = "hf://acme/tiny:Q4_K_M";
/// The model that is in the cache before.
const KEPT: &str = "hf://acme/kept:Q8_0";

/// Longer than anything takes that ends at all.
const DEADLINE: Duration = Duration::from_secs(60);
/// How long the store waits for a byte.
pub(crate) const STALL: Duration = Duration::from_secs(1);
/// Characters of an error that a person reads.
const MESSAGE_CHARS: usize = 2_000;

/// A hub, a store, and a directory around it in which nothing may appear.
pub(crate) struct Fixture {
    pub(crate) hub: Hub,
    pub(crate) repo: Repo,
    pub(crate) store: Store,
    home: TempDir,
    /// What there was outside of the cache.
    outside: BTreeMap<PathBuf, String>,
}

impl Fixture {
    /// With a model of this size at the hub, and another one in the cache.
    pub(crate) async fn of(size_bytes: u64) -> Self {
        Self::with_token(size_bytes, Some(TOKEN)).await
    }

    pub(crate) async fn with_token(size_bytes: u64, token: Option<&str>) -> Self {
        let hub = Hub::start().await;
        let repo = hub.add_repo("acme/tiny");
        repo.put(MODEL, Content::pattern(size_bytes, 1));
        hub.add_repo("acme/kept").put("kept.Q8_0.gguf", Content::pattern(50_000, 2));
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(config(&home, &hub, token)).unwrap();
        store.ensure(&reference(KEPT), None).await.unwrap();
        let outside = outside(&home);
        let fixture = Self { hub, repo, store, home, outside };
        fixture.hub.forget();
        fixture.is_sound().await;
        fixture
    }

    pub(crate) fn tell(&self, rule: impl Into<Rule>) -> &Self {
        self.hub.lie(rule);
        self
    }

    /// Asks for the model.
    pub(crate) async fn ensure(&self) -> Result<Artifact, Error> {
        self.ensure_as(REFERENCE).await
    }

    /// Asks for something else.
    pub(crate) async fn ensure_as(&self, text: &str) -> Result<Artifact, Error> {
        let reference = reference(text);
        let outcome = tokio::time::timeout(DEADLINE, self.store.ensure(&reference, None));
        outcome.await.expect("every lie ends, one way or the other")
    }

    /// Asks for the model, which must fail in this way and leave nothing behind.
    pub(crate) async fn refused(&self, kind: ErrorKind) -> Error {
        self.refused_as(REFERENCE, kind).await
    }

    pub(crate) async fn refused_as(&self, text: &str, kind: ErrorKind) -> Error {
        let error = self.ensure_as(text).await.expect_err("the lie was believed");
        let message = error.to_string();
        assert_eq!(error.kind(), kind, "{message}");
        let hint = error.hint().unwrap_or_else(|| panic!("no hint says what to do: {message}"));
        for said in [&message, &hint] {
            assert!(!said.contains(TOKEN), "{said}");
            assert!(!said.chars().any(char::is_control), "a terminal would obey: {said:?}");
            assert!(!said.is_empty() && said.chars().count() < MESSAGE_CHARS, "{said}");
        }
        assert!(self.store.find(&reference(text)).unwrap().is_none(), "what failed is not there");
        self.is_sound().await;
        error
    }

    /// Asks for the model, which must come all the same. Returns what that took.
    pub(crate) async fn comes(&self) -> Sent {
        let before = self.hub.sent();
        let artifact = self.ensure().await.unwrap();
        self.is_what_the_hub_has(&artifact);
        self.is_sound().await;
        self.hub.sent().since(&before)
    }

    /// The hub tells the truth again: the model comes, and the second time nothing is sent for it, also not by a
    /// store that was opened later. Returns what the first time took.
    pub(crate) async fn recovers(&self) -> Sent {
        self.hub.stop_lying();
        self.hub.release_all();
        assert!(self.hub.quiet().await, "no connection reads any more what was refused");
        let sent = self.comes().await;
        self.repeats_nothing().await;
        sent
    }

    /// Asking again sends nothing, and asking another store of the same cache neither.
    pub(crate) async fn repeats_nothing(&self) {
        assert!(self.hub.quiet().await, "no connection reads any more what was refused");
        let before = self.hub.sent();
        self.ensure().await.unwrap();
        let again = Store::open(config(&self.home, &self.hub, Some(TOKEN))).unwrap();
        again.ensure(&reference(REFERENCE), None).await.unwrap();
        let pulled = again.pull(&reference(REFERENCE), None).await.unwrap();
        assert_eq!(self.hub.sent().since(&before).files, BTreeMap::new(), "bytes are sent once");
        assert_eq!(pulled.fetched_bytes, 0);
        self.is_sound().await;
    }

    /// Bytes of the model that went out since the test began.
    pub(crate) fn sent(&self) -> u64 {
        self.hub.sent().of(&self.repo.key(MODEL))
    }

    fn is_what_the_hub_has(&self, artifact: &Artifact) {
        let opened = self.store.open_artifact(&artifact.key_digest).unwrap();
        let digest = Digest::of_file(&opened.weights()[0]).unwrap();
        assert_eq!(digest, self.repo.digest(MODEL));
    }

    /// What must hold whatever the hub said.
    pub(crate) async fn is_sound(&self) {
        let blobs = blobs_are_true(&self.cache());
        assert!(blobs > 0, "there is something to check");
        links_stay_inside(&self.cache());
        assert_eq!(outside(&self.home), self.outside, "nothing appears outside of the cache");
        self.nobody_else_saw_the_token();
        self.kept_model_opens().await;
    }

    pub(crate) fn nobody_else_saw_the_token(&self) {
        assert_eq!(self.hub.tokens_seen_elsewhere(), []);
        assert_eq!(self.hub.text_seen_elsewhere(TOKEN), []);
    }

    async fn kept_model_opens(&self) {
        let sent = || self.hub.sent().of("acme/kept/kept.Q8_0.gguf");
        let before = sent();
        let artifact = self.store.ensure(&reference(KEPT), None).await.unwrap();
        let opened = self.store.open_artifact(&artifact.key_digest).unwrap();
        let bytes = fs_err::read(&opened.weights()[0]).unwrap();
        assert!(bytes == Content::pattern(50_000, 2).to_vec().unwrap(), "the kept model is what it was");
        assert_eq!(sent(), before);
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.home.path().join(CACHE)
    }
}

/// Deep, so that `../../..` still ends in the test's own directory.
const CACHE: &str = "a/b/c/d/e/f/g/h/cache";

fn config(home: &TempDir, hub: &Hub, token: Option<&str>) -> StoreConfig {
    StoreConfig {
        min_free_bytes: 0,
        sources: SourceConfig {
            hub_endpoint: Some(hub.endpoint()),
            hub_token: token.map(Secret::new),
            ollama_endpoint: Some(hub.endpoint()),
            retry: RetryConfig {
                tries: 4,
                first_wait: Duration::from_millis(5),
                longest_wait: Duration::from_millis(100),
            },
            stall: STALL,
            ..SourceConfig::default()
        },
        ..StoreConfig::new(home.path().join(CACHE), home.path().join("state"))
    }
}

pub(crate) fn reference(text: &str) -> ArtifactRef {
    text.parse().unwrap()
}

/// All that lies around the cache, and where evil names would lead on this machine.
fn outside(home: &TempDir) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    walk(home.path(), &mut |path, metadata| {
        let is_ours = path == home.path().join(CACHE) || path == home.path().join("state");
        if !is_ours {
            found.insert(path.to_owned(), format!("{:?} {}", metadata.file_type(), size_of(metadata)));
        }
        !is_ours
    });
    // What is made with a path that is not absolute would stand here.
    for directory in [PathBuf::from("."), PathBuf::from("/"), std::env::temp_dir()] {
        for entry in fs_err::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.to_string_lossy().contains("escaped") || path.to_string_lossy().contains("gguf") {
                found.insert(path, "beside".to_owned());
            }
        }
    }
    found
}

fn size_of(metadata: &std::fs::Metadata) -> u64 {
    if metadata.is_dir() { 0 } else { metadata.len() }
}

/// Visits everything below a directory; the visitor says whether to go down.
fn walk(directory: &Path, visit: &mut impl FnMut(&Path, &std::fs::Metadata) -> bool) {
    for entry in fs_err::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs_err::symlink_metadata(&path).unwrap();
        if visit(&path, &metadata) && metadata.is_dir() {
            walk(&path, visit);
        }
    }
}

/// Every file among the blobs has the content that its name says, and is not writable.
fn blobs_are_true(cache: &Path) -> usize {
    let mut count = 0;
    walk(&cache.join("blobs"), &mut |path, metadata| {
        if metadata.is_dir() {
            return true;
        }
        let name = path.file_name().unwrap().to_str().unwrap();
        let digest: Digest = name.parse().unwrap_or_else(|_| panic!("{name} is no blob"));
        assert!(metadata.is_file() && path.parent().unwrap().ends_with(&name[..2]), "{}", path.display());
        assert_eq!(Digest::of_file(path).unwrap(), digest, "a poisoned blob");
        assert_eq!(metadata.mode() & 0o777, 0o444, "{}", path.display());
        count += 1;
        true
    });
    count
}

/// Links are for engines alone, and lead to blobs.
fn links_stay_inside(cache: &Path) {
    let cache = fs_err::canonicalize(cache).unwrap();
    walk(&cache, &mut |path, metadata| {
        if metadata.is_symlink() {
            assert!(path.starts_with(cache.join("snapshots")), "{}", path.display());
            assert!(
                fs_err::canonicalize(path).unwrap().starts_with(cache.join("blobs")),
                "{}",
                path.display()
            );
        }
        assert!(!path.to_string_lossy().contains("escaped"), "{}", path.display());
        true
    });
}
