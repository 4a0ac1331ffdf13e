//! Repositories: files under commits, branches that move, and who may read them.

use std::collections::BTreeMap;
use std::sync::Arc;

use samovar_core::Digest;
use sha1::{Digest as _, Sha1};

use crate::content::{Content, hexadecimal};
use crate::state::Shared;

/// From this size on a file is kept apart from git, whatever its name.
const LARGE_BYTES: u64 = 10 << 20;
/// Files that are kept apart from git, whatever their size.
const LARGE_SUFFIXES: [&str; 5] = [".gguf", ".safetensors", ".bin", ".pt", ".onnx"];

/// A file that is about to enter a repository.
#[derive(Clone, Debug)]
pub struct FileSpec {
    content: Content,
    is_lfs: Option<bool>,
    digest: Option<Digest>,
}

impl FileSpec {
    /// A file; by its name and size it is kept by git or apart from it, as the real hub would.
    pub fn new(content: impl Into<Content>) -> Self {
        Self { content: content.into(), is_lfs: None, digest: None }
    }

    /// Says whether the file is kept apart from git (LFS): then its SHA-256 is known, and it comes from the CDN.
    #[must_use]
    pub fn lfs(mut self, is_lfs: bool) -> Self {
        self.is_lfs = Some(is_lfs);
        self
    }

    /// States the digest, true or not, so that a very large pattern need not be hashed.
    #[must_use]
    pub fn with_digest(mut self, digest: Digest) -> Self {
        self.digest = Some(digest);
        self
    }
}

impl<C: Into<Content>> From<C> for FileSpec {
    fn from(content: C) -> Self {
        Self::new(content)
    }
}

/// A file as the hub keeps it.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) content: Content,
    /// Git's name for the file, or for its pointer.
    pub(crate) git_oid: String,
    /// The SHA-256 of a file kept apart from git.
    pub(crate) lfs: Option<Digest>,
}

impl Stored {
    pub(crate) fn new(path: &str, spec: FileSpec) -> std::io::Result<Self> {
        let size_bytes = spec.content.size_bytes();
        let by_itself =
            size_bytes > LARGE_BYTES || LARGE_SUFFIXES.iter().any(|suffix| path.ends_with(suffix));
        if !spec.is_lfs.unwrap_or(by_itself) {
            return Ok(Self { git_oid: spec.content.git_oid()?, content: spec.content, lfs: None });
        }
        let digest = match spec.digest {
            Some(digest) => digest,
            None => spec.content.digest()?,
        };
        let pointer = pointer(&digest, size_bytes);
        let git_oid = Content::from(pointer.as_str()).git_oid()?;
        Ok(Self { content: spec.content, git_oid, lfs: Some(digest) })
    }

    /// What the hub says in `ETag`, without quotes.
    pub(crate) fn etag(&self) -> String {
        self.lfs.map_or_else(|| self.git_oid.clone(), |digest| digest.to_string())
    }

    /// Bytes of the pointer that git keeps instead of a large file.
    pub(crate) fn pointer_bytes(&self) -> Option<usize> {
        self.lfs.map(|digest| pointer(&digest, self.content.size_bytes()).len())
    }
}

/// *Source:* the Git LFS specification, "The Pointer".
fn pointer(digest: &Digest, size_bytes: u64) -> String {
    format!("version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {size_bytes}\n")
}

/// The files of one commit, by path.
pub(crate) type Tree = BTreeMap<String, Arc<Stored>>;

/// Who may read a repository.
#[derive(Clone, Debug, Default)]
pub(crate) enum Access {
    #[default]
    Open,
    /// Its description is open, its files need this token.
    Gated(String),
    /// Only who has this token learns that it exists.
    Private(String),
}

/// What the hub knows of a repository.
#[derive(Debug, Default)]
pub(crate) struct Repository {
    pub(crate) access: Access,
    /// The files of each commit.
    commits: BTreeMap<String, Tree>,
    /// Branches and tags.
    refs: BTreeMap<String, String>,
}

impl Repository {
    /// The commit that a branch, a tag or a commit names.
    pub(crate) fn resolve(&self, revision: &str) -> Option<&str> {
        let named = self.refs.get(revision);
        named.or_else(|| self.commits.get_key_value(revision).map(|(commit, _)| commit)).map(String::as_str)
    }

    pub(crate) fn tree(&self, commit: &str) -> Option<&Tree> {
        self.commits.get(commit)
    }

    fn head(&self) -> Option<&str> {
        self.refs.get("main").map(String::as_str)
    }

    /// Makes a commit of these files and moves `main` to it.
    fn commit(&mut self, repo: &str, tree: Tree) -> String {
        let mut hasher = Sha1::new();
        hasher.update(format!("{repo} {} {}\n", self.commits.len(), self.head().unwrap_or("")));
        for (path, file) in &tree {
            hasher.update(format!("{path}\0{}\n", file.git_oid));
        }
        let commit = hexadecimal(&hasher.finalize());
        self.commits.insert(commit.clone(), tree);
        self.refs.insert("main".to_owned(), commit.clone());
        commit
    }
}

/// A repository on the hub. Cheap to clone; whatever it is told holds from the next request on.
#[derive(Clone, Debug)]
pub struct Repo {
    shared: Arc<Shared>,
    id: String,
}

impl Repo {
    pub(crate) fn new(shared: Arc<Shared>, id: &str) -> Self {
        let repo = Self { shared, id: id.to_owned() };
        repo.with(|_| ());
        repo
    }

    /// `organisation/name`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Puts a file on `main`, with a commit of its own.
    ///
    /// # Panics
    /// When a file on disk cannot be read.
    pub fn put(&self, path: &str, file: impl Into<FileSpec>) -> &Self {
        self.put_all([(path, file.into())])
    }

    /// Puts files on `main` with one commit.
    ///
    /// # Panics
    /// When a file on disk cannot be read.
    pub fn put_all<'a>(&self, files: impl IntoIterator<Item = (&'a str, FileSpec)>) -> &Self {
        let stored: Tree = files
            .into_iter()
            .map(|(path, spec)| {
                let stored = Stored::new(path, spec).expect("a file of the test hub can be read");
                (path.to_owned(), Arc::new(stored))
            })
            .collect();
        self.with(|repository| {
            let head = repository.head().and_then(|head| repository.tree(head));
            let mut tree = head.cloned().unwrap_or_default();
            tree.extend(stored);
            repository.commit(&self.id, tree);
        });
        self
    }

    /// Takes a file off `main`.
    pub fn remove(&self, path: &str) -> &Self {
        self.with(|repository| {
            let head = repository.head().and_then(|head| repository.tree(head));
            let mut tree = head.cloned().unwrap_or_default();
            tree.remove(path);
            repository.commit(&self.id, tree);
        });
        self
    }

    /// The commit that `main` is at.
    ///
    /// # Panics
    /// When there is none yet.
    pub fn head(&self) -> String {
        self.with(|repository| repository.head().map(str::to_owned)).expect("something was put there")
    }

    /// Makes a branch or a tag name this commit, or moves it there.
    pub fn set_branch(&self, name: &str, commit: &str) -> &Self {
        self.with(|repository| repository.refs.insert(name.to_owned(), commit.to_owned()));
        self
    }

    /// From now on its files need this token, as after a licence is accepted.
    pub fn gated(&self, token: &str) -> &Self {
        self.with(|repository| repository.access = Access::Gated(token.to_owned()));
        self
    }

    /// From now on only this token learns that it exists.
    pub fn private(&self, token: &str) -> &Self {
        self.with(|repository| repository.access = Access::Private(token.to_owned()));
        self
    }

    /// From now on any client may read it.
    pub fn open(&self) -> &Self {
        self.with(|repository| repository.access = Access::Open);
        self
    }

    /// The SHA-256 of a file on `main`.
    ///
    /// # Panics
    /// When there is no such file, or it cannot be read.
    pub fn digest(&self, path: &str) -> Digest {
        let content = self.with(|repository| {
            let tree = repository.head().and_then(|head| repository.tree(head));
            tree.and_then(|tree| tree.get(path)).map(|file| file.content.clone())
        });
        content.expect("the file was put there").digest().expect("a file of the test hub can be read")
    }

    /// The name under which [`Sent::of`](crate::Sent::of) counts a file.
    pub fn key(&self, path: &str) -> String {
        format!("{}/{path}", self.id)
    }

    fn with<T>(&self, act: impl FnOnce(&mut Repository) -> T) -> T {
        act(self.shared.state().repos.entry(self.id.clone()).or_default())
    }
}
