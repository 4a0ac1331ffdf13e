//! Where artifacts come from (L3): one port, an implementation a kind of place.
//!
//! ```text
//!   resolve(reference) ─► Listing: key, files with sizes and promised digests
//!   fetch(file, range) ─► Body: a stream of bytes, and what the server said of them
//! ```
//!
//! A source tells; the store decides. What a source says of names, sizes and digests is a claim until
//! the bytes were hashed.

mod answer;
#[cfg(test)]
mod conformance;
pub(crate) mod folder;
mod http;
mod hub;
mod object;
pub(crate) mod ollama;
pub(crate) mod origin;
pub(crate) mod select;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use samovar_core::Digest;
use samovar_core::model::ArtifactRef;
use samovar_core::model::reference::Scheme;

use crate::artifact::key::ArtifactKey;
use crate::artifact::manifest::Role;
use crate::artifact::name::{Commit, FilePath};
use crate::config::SourceConfig;
use crate::error::Error;

/// A place that artifacts come from.
pub trait Source: Send + Sync + 'static {
    /// What a reference means there now. Fetches no model bytes.
    ///
    /// # Errors
    /// Whatever the place says, told apart: missing, gated, no such revision, no such file, no such
    /// quantization, unreachable.
    fn resolve<'a>(&'a self, reference: &'a ArtifactRef) -> BoxFuture<'a, Result<Listing, Error>>;

    /// Every form in which the place has what a reference leaves open, each with a reference of its own; of one that leaves
    /// nothing open, that one. Fetches no model bytes.
    ///
    /// # Errors
    /// As [`Source::resolve`].
    fn variants<'a>(&'a self, reference: &'a ArtifactRef) -> BoxFuture<'a, Result<Vec<Listing>, Error>> {
        Box::pin(async move { Ok(vec![self.resolve(reference).await?]) })
    }

    /// Bytes of a file from `range.start` on; up to `range.end`, unless the server ignores ranges and
    /// says so in [`Body::start`].
    ///
    /// # Errors
    /// As [`Source::resolve`]; an answer that is not the file is an error, never a body.
    fn fetch<'a>(&'a self, file: &'a RemoteFile, range: Range<u64>) -> BoxFuture<'a, Result<Body, Error>>;
}

/// What a reference means at a source.
#[derive(Clone, Debug)]
pub struct Listing {
    /// The artifact.
    pub key: ArtifactKey,
    /// The moving name that was followed (`main`, a tag), if one was.
    pub revision: Option<String>,
    /// The canonical text by which users name it.
    pub reference: String,
    /// Its files; weights in the order of their parts.
    pub files: Vec<RemoteFile>,
}

/// A file at a source.
#[derive(Clone, Debug)]
pub struct RemoteFile {
    /// Its place inside the artifact.
    pub path: FilePath,
    /// What it is for.
    pub role: Role,
    /// Bytes, when the source says so.
    pub size: Option<u64>,
    /// What the source says of its content.
    pub promise: Promise,
    /// Where the source finds it: a URL, a key. Never a path of ours.
    pub locator: String,
    /// What the server calls this version of the bytes; a resume must meet the same.
    pub etag: Option<String>,
    /// The file itself, where the source is a folder on this machine: copied or cloned rather than read.
    pub local: Option<PathBuf>,
}

/// What a source says of a file's content beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// SHA-256.
    Sha256(Digest),
    /// The SHA-1 that git gives a blob of these bytes.
    GitSha1([u8; 20]),
    /// Nothing.
    Unknown,
}

/// Bytes on their way.
pub struct Body {
    /// The bytes.
    pub stream: BoxStream<'static, Result<Bytes, Error>>,
    /// Where in the file the stream begins: the asked start, or 0 when the server ignored the range.
    pub start: u64,
    /// Bytes of the whole file, when the server said so.
    pub size: Option<u64>,
    /// The etag of these bytes, when the server said so.
    pub etag: Option<String>,
    /// Whether the server gave the whole file, whatever part of it was asked for.
    pub is_whole: bool,
}

/// The commit of content that is fixed by a digest: of its bytes, or of what its source says of them.
pub(crate) fn commit_of(digest: Digest) -> Commit {
    digest.to_string().parse().expect("invariant: a digest is a commit")
}

/// The sources of a store.
pub(crate) struct Sources {
    is_offline: bool,
    hub: hub::Hub,
    http: http::Http,
    ollama: ollama::Ollama,
    object: object::Object,
    folder: folder::Folder,
}

impl Sources {
    /// Makes them. Connects to nothing.
    ///
    /// # Errors
    /// An address in the settings that is none.
    pub(crate) fn new(config: &SourceConfig) -> Result<Self, Error> {
        let client = Arc::new(origin::Client::new(config));
        Ok(Self {
            is_offline: config.is_offline,
            http: http::Http::new(Arc::clone(&client), config),
            ollama: ollama::Ollama::new(Arc::clone(&client), config)?,
            object: object::Object::new(config),
            folder: folder::Folder,
            hub: hub::Hub::new(client, config)?,
        })
    }

    /// The source that a reference names.
    ///
    /// # Errors
    /// When nothing may be asked of it.
    pub(crate) fn of(&self, reference: &ArtifactRef) -> Result<&dyn Source, Error> {
        let source: &dyn Source = match reference {
            ArtifactRef::Hub(_) => &self.hub,
            ArtifactRef::Remote(remote) => match remote.scheme() {
                // No network is needed for what this machine can read.
                Scheme::File => return Ok(&self.folder),
                Scheme::Http | Scheme::Https => &self.http,
                Scheme::S3 | Scheme::Gs | Scheme::Az => &self.object,
                Scheme::Ollama => &self.ollama,
            },
        };
        if self.is_offline {
            return Err(Error::Offline { subject: reference.to_string() });
        }
        Ok(source)
    }
}
