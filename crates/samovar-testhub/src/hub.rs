//! The hub as a test holds it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use samovar_core::Digest;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::content::Content;
use crate::count::{Counts, Listener, Seen, Sent};
use crate::repo::{FileSpec, Repo, Stored};
use crate::route::control;
use crate::rule::Rule;
use crate::serve;
use crate::state::{Addresses, Shared};

/// Threads that answer.
const THREADS: usize = 2;

/// A hub on ports of its own, which answers until this is dropped.
///
/// All its methods are short and may be called anywhere; it answers on threads of its own.
#[derive(Debug)]
pub struct Hub {
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

impl Hub {
    /// A hub for a test that is asynchronous; as [`start_blocking`](Self::start_blocking).
    ///
    /// # Panics
    /// When there is no port to be had.
    #[expect(clippy::unused_async, reason = "reads like the start of any other server")]
    pub async fn start() -> Self {
        Self::start_blocking()
    }

    /// A hub on ports that the system chooses.
    ///
    /// # Panics
    /// When there is no port to be had.
    pub fn start_blocking() -> Self {
        Self::bind(0).expect("the loopback interface has a free port")
    }

    /// A hub on this port of the loopback interface; its other hosts get ports that the system chooses.
    ///
    /// # Errors
    /// When the port is not to be had.
    pub fn bind(port: u16) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("testhub")
            .enable_all()
            .build()?;
        let (origin, origin_address) = listen(&runtime, port)?;
        let (cdn, cdn_address) = listen(&runtime, 0)?;
        let (elsewhere, elsewhere_address) = listen(&runtime, 0)?;
        let addresses = Addresses { origin: origin_address, cdn: cdn_address, elsewhere: elsewhere_address };
        let shared = Arc::new(Shared::new(addresses));
        for (socket, listener) in
            [(origin, Listener::Origin), (cdn, Listener::Cdn), (elsewhere, Listener::Elsewhere)]
        {
            runtime.spawn(serve::keep(socket, listener, Arc::clone(&shared)));
        }
        Ok(Self { shared, runtime: Some(runtime) })
    }

    /// Its address, as for `HF_ENDPOINT`: `http://127.0.0.1:port`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.shared.addresses.origin)
    }

    /// The address of one of its listeners.
    pub fn address(&self, listener: Listener) -> SocketAddr {
        self.shared.addresses.of(listener)
    }

    /// The address of a file in the plain area.
    pub fn plain_url(&self, path: &str) -> String {
        format!("{}/plain/{path}", self.endpoint())
    }

    /// A repository, empty when there was none of this name.
    pub fn add_repo(&self, id: &str) -> Repo {
        Repo::new(Arc::clone(&self.shared), id)
    }

    /// Puts a file in the plain area.
    ///
    /// # Panics
    /// When a file on disk cannot be read.
    pub fn add_plain(&self, path: &str, file: impl Into<FileSpec>) -> &Self {
        let stored = Stored::new(path, file.into()).expect("a file of the test hub can be read");
        self.shared.state().plain.insert(path.to_owned(), Arc::new(stored));
        self
    }

    /// Adds a model to the Ollama registry, named `namespace/name:tag`, of layers `(media type, content)`.
    /// Returns the digests of the layers.
    ///
    /// # Panics
    /// When a file on disk cannot be read.
    pub fn add_ollama(&self, name: &str, layers: &[(&str, Content)]) -> Vec<Digest> {
        let config = json!({"model_format": "gguf", "model_family": "llama", "os": "linux"});
        let (config, _) = self.add_blob(&Content::bytes(config.to_string()));
        let described: Vec<_> = layers
            .iter()
            .map(|(media_type, content)| {
                let (digest, size) = self.add_blob(content);
                (digest, json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": size}))
            })
            .collect();
        let (digests, layers): (Vec<_>, Vec<_>) = described.into_iter().unzip();
        let size = self.shared.state().blobs[&format!("sha256:{config}")].content.size_bytes();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": {
                "mediaType": "application/vnd.docker.container.image.v1+json",
                "digest": format!("sha256:{config}"), "size": size,
            },
            "layers": layers,
        });
        self.set_ollama_manifest(name, manifest);
        digests
    }

    /// Makes a tag of the Ollama registry name this manifest, true or not.
    pub fn set_ollama_manifest(&self, name: &str, manifest: serde_json::Value) {
        self.shared.state().ollama.insert(name.to_owned(), manifest);
    }

    fn add_blob(&self, content: &Content) -> (Digest, u64) {
        let spec = FileSpec::new(content.clone()).lfs(true);
        let stored = Stored::new("", spec).expect("a file of the test hub can be read");
        let digest = stored.lfs.expect("invariant: it was asked for");
        self.shared.state().blobs.insert(format!("sha256:{digest}"), Arc::new(stored));
        (digest, content.size_bytes())
    }

    /// Adds every file of `directory/organisation/name/…` to the repository `organisation/name`.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn add_directory(&self, directory: &Path) -> io::Result<()> {
        for organisation in folders(directory)? {
            for repo in folders(&organisation)? {
                let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let mut files = Vec::new();
                collect(&repo, "", &mut files)?;
                let files = files.iter().map(|(path, content)| (path.as_str(), content.clone().into()));
                self.add_repo(&format!("{}/{}", name(&organisation), name(&repo))).put_all(files);
            }
        }
        Ok(())
    }

    /// Tells this lie from now on, besides those it tells already.
    pub fn lie(&self, rule: impl Into<Rule>) -> &Self {
        let mut state = self.shared.state();
        let given = state.addresses_given;
        state.rules.add(rule.into(), given);
        drop(state);
        self
    }

    /// Tells the truth again.
    pub fn stop_lying(&self) {
        self.shared.state().rules.clear();
    }

    /// How many times each lie was told, in the order in which they were added.
    pub fn told(&self) -> Vec<u64> {
        self.shared.state().rules.told()
    }

    /// Lets so many more bytes of a file out, for any client, and then none until
    /// [`release`](Self::release). The file is named as in [`Sent`].
    pub fn hold_after(&self, file: &str, bytes: u64) {
        self.shared.gates.close(file, bytes);
    }

    /// Waits until a client wants more of a file than is let out. False when none does within a time that is
    /// long enough for any test.
    pub fn wait_until_held(&self, file: &str) -> bool {
        self.shared.gates.wait_until_reached(file, Duration::from_secs(30))
    }

    /// As [`wait_until_held`](Self::wait_until_held), on a thread that may be blocked.
    ///
    /// # Panics
    /// When the calling runtime is shutting down.
    pub async fn held(&self, file: &str) -> bool {
        let (shared, file) = (Arc::clone(&self.shared), file.to_owned());
        let wait = move || shared.gates.wait_until_reached(&file, Duration::from_secs(30));
        tokio::task::spawn_blocking(wait).await.expect("the runtime goes on")
    }

    /// Waits until no file is being sent or held, as after a client has gone. False when that takes longer than
    /// any test.
    ///
    /// # Panics
    /// When the calling runtime is shutting down.
    pub async fn quiet(&self) -> bool {
        let shared = Arc::clone(&self.shared);
        let wait = move || shared.gates.wait_until_quiet(Duration::from_secs(30));
        tokio::task::spawn_blocking(wait).await.expect("the runtime goes on")
    }

    /// Lets the rest of a file out.
    pub fn release(&self, file: &str) {
        self.shared.gates.open(file);
    }

    /// Lets everything out.
    pub fn release_all(&self) {
        self.shared.gates.open_all();
    }

    /// What went out so far.
    pub fn sent(&self) -> Sent {
        self.shared.state().counts.sent.clone()
    }

    /// The requests so far, the oldest first.
    pub fn requests(&self) -> Vec<Seen> {
        self.shared.state().counts.seen.iter().cloned().collect()
    }

    /// Requests that brought a token, or a cookie, to a host which it is not for.
    pub fn tokens_seen_elsewhere(&self) -> Vec<Seen> {
        let carries = |seen: &Seen| seen.authorization.is_some() || seen.cookie.is_some();
        self.requests()
            .into_iter()
            .filter(|seen| seen.listener != Listener::Origin && carries(seen))
            .collect()
    }

    /// Requests that brought this text to a host other than the hub, in whatever place.
    pub fn text_seen_elsewhere(&self, token: &str) -> Vec<Seen> {
        self.requests()
            .into_iter()
            .filter(|seen| seen.listener != Listener::Origin && seen.carries(token))
            .collect()
    }

    /// All that is counted.
    pub fn counts(&self) -> Counts {
        control::counts(&self.shared.state())
    }

    /// Forgets what was counted.
    pub fn forget(&self) {
        self.shared.state().counts = Counts::default();
    }

    /// Lists so many files on a page.
    pub fn set_page_entries(&self, entries: usize) {
        self.shared.state().page_entries = entries.max(1);
    }

    /// Whether large files come from another host, as on the real hub, or from this one.
    pub fn set_cdn(&self, has_cdn: bool) {
        self.shared.state().has_cdn = has_cdn;
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        // In the background, since a test may drop it on an event loop.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn listen(runtime: &Runtime, port: u16) -> io::Result<(TcpListener, SocketAddr)> {
    // Bound without waiting, since a test may start it on an event loop.
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let _inside = runtime.enter();
    Ok((TcpListener::from_std(listener)?, address))
}

fn folders(directory: &Path) -> io::Result<Vec<std::path::PathBuf>> {
    let paths = fs_err::read_dir(directory)?.map(|entry| Ok(entry?.path()));
    let mut paths = paths.collect::<io::Result<Vec<_>>>()?;
    paths.retain(|path| path.is_dir());
    paths.sort();
    Ok(paths)
}

fn collect(directory: &Path, prefix: &str, files: &mut Vec<(String, Content)>) -> io::Result<()> {
    for entry in fs_err::read_dir(directory)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            collect(&entry.path(), &format!("{name}/"), files)?;
        } else {
            files.push((name, Content::disk(&entry.path())?));
        }
    }
    Ok(())
}
