//! Gives one file of another program a name in the store, without a second copy where that can be.
//!
//! ```text
//!   reflink          the file system clones it: ours alone, and takes no room
//!   else hard link   the same file under a name of ours: survives its owner's deleting it
//!   else reference   used where it lies (another disk, a file system without links)
//!   else copy        only when asked for
//! ```
//!
//! A hard link or a reference shares the file with its owner. That is for files that no user but this
//! user, or the system, can write; a change by the owner is noticed by the file's stamp when it is opened.
//! Neither owner nor rights of the file are touched. Another user's file could be changed behind any
//! stamp: it is cloned or copied, never shared.

use std::fs::Metadata;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use fs_err::File;
use samovar_core::Digest;
use samovar_core::digest::Hasher;

use super::{FoundFile, Placement};
use crate::cache::blob::Elsewhere;
use crate::collect::room;
use crate::disk::durable;
use crate::disk::layout::Layout;
use crate::disk::lease::BlobLease;
use crate::disk::partial::PartialId;
use crate::ensure::ingest;
use crate::error::Error;
use crate::index::{BlobRow, Ownership, Stamp};
use crate::local::Local;
use crate::source::folder::{Bounds, clause};

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Why a file was not taken.
pub(super) enum Refusal {
    /// Something about the file; the others may go well.
    File(String),
    /// Something about the store; the others will fare no better.
    Store(Error),
}

/// A file that the store has now.
pub(super) struct Placed {
    pub(super) row: BlobRow,
    pub(super) how: Placement,
    /// Held until the artifact is committed, so that these bytes are not collected meanwhile.
    pub(super) _lease: BlobLease,
}

/// What came of making a second name.
enum Linked {
    /// It is there now.
    Now,
    /// Something has it.
    Occupied,
    /// The file system or the system's rules have none.
    Impossible,
}

/// Where files are put, and how far that may go.
pub(super) struct Placer<'a> {
    pub(super) local: &'a Local,
    pub(super) copies: bool,
    /// Is told of bytes that were read.
    pub(super) read: &'a dyn Fn(u64),
}

impl Placer<'_> {
    /// Takes one file over, after hashing it once.
    pub(super) fn place(&self, bounds: &Bounds, file: &FoundFile) -> Result<Placed, Refusal> {
        if let Some(claim) = file.claim {
            // Verified when it came, and leased before it was looked at.
            let lease = self.local.cache.leases.take(&[claim]).map_err(Refusal::Store)?;
            if let Some(row) = self.here(claim, file)? {
                return Ok(Placed { row, how: Placement::Here, _lease: lease });
            }
        }
        let mut source = bounds.open(&file.at).map_err(said)?;
        let metadata = source.metadata().map_err(said)?;
        if Stamp::of(&metadata) != file.stamp {
            return Err(changed());
        }
        if let Some(clone) = self.clone_of(&source).map_err(store)? {
            return self.publish_own(file, &clone, Placement::Reflink);
        }
        if let Err(reason) = is_steady(&metadata) {
            if !self.copies {
                return Err(Refusal::File(would_be_copied(reason)));
            }
            let subject = file.path.to_string();
            let id = PartialId::of_place("adopted", &file.at.to_string_lossy(), Some(file.stamp.size));
            let needs = [(id, file.stamp.size)];
            let _room = room::reserve(self.local, &subject, &needs).map_err(Refusal::Store)?;
            let copy = self.copy_of(&mut source)?;
            return self.publish_own(file, &copy, Placement::Copy);
        }
        let digest = self.hash(&mut source).map_err(said)?;
        check(file, digest)?;
        if Stamp::of(&source.metadata().map_err(said)?) != file.stamp {
            return Err(changed());
        }
        self.publish_shared(file, &source, digest)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "stands in map_err")]
fn said(error: io::Error) -> Refusal {
    Refusal::File(clause(&error))
}

fn store(error: io::Error) -> Refusal {
    Refusal::Store(Error::io("a file could not be adopted")(error))
}

fn changed() -> Refusal {
    Refusal::File("changed while it was looked at".to_owned())
}

fn check(file: &FoundFile, got: Digest) -> Result<(), Refusal> {
    match file.claim {
        Some(claim) if claim != got => {
            Err(Refusal::File(format!("is not what its name says: its bytes are {got}")))
        }
        _ => Ok(()),
    }
}

/// What [`Placer::place`] would do, as far as that shows without trying.
pub(super) fn foresee(layout: &Layout, file: &FoundFile, copies: bool) -> Result<Placement, String> {
    let metadata = fs_err::symlink_metadata(&file.at).map_err(|error| error.to_string())?;
    if let Err(reason) = is_steady(&metadata) {
        return if copies { Ok(Placement::Copy) } else { Err(would_be_copied(reason)) };
    }
    let is_same_disk = fs_err::metadata(layout.root()).is_ok_and(|root| root.dev() == metadata.dev());
    Ok(if is_same_disk { Placement::HardLink } else { Placement::Reference })
}

fn would_be_copied(reason: &str) -> String {
    format!("{reason}, so it would have to be copied")
}

/// Whether no user but this one and the system can change a file in place. An error is a clause.
fn is_steady(metadata: &Metadata) -> Result<(), &'static str> {
    let me = rustix::process::geteuid().as_raw();
    let my_group = rustix::process::getegid().as_raw();
    if metadata.uid() != me && metadata.uid() != 0 {
        Err("belongs to another user, who could change it")
    } else if metadata.mode() & 0o002 != 0 {
        Err("may be written by all users")
    } else if metadata.mode() & 0o020 != 0 && metadata.gid() != my_group && metadata.gid() != 0 {
        Err("may be written by other users of its group")
    } else {
        Ok(())
    }
}

/// A file of ours below `tmp/`, hashed; removed unless it is published.
struct Draft {
    path: PathBuf,
    file: File,
    digest: Digest,
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Gone already when it was published; else rubbish that collection sweeps too.
        let _ = fs_err::remove_file(&self.path);
    }
}

impl Placer<'_> {
    /// A clone of the file, if the file system makes any. The clone is hashed, not its source, so that
    /// nothing can change in between.
    fn clone_of(&self, source: &File) -> io::Result<Option<Draft>> {
        let path = self.local.cache.layout.tmp().join(durable::random_name());
        let file = durable::create_new(&path)?;
        let mut draft = Draft { path, file, digest: Digest::of_bytes(b"") };
        if reflink_copy::reflink_file(source.file(), draft.file.file()).is_err() {
            return Ok(None);
        }
        let mut reader = File::open(&draft.path)?;
        draft.digest = self.hash(&mut reader)?;
        Ok(Some(draft))
    }

    fn copy_of(&self, source: &mut File) -> Result<Draft, Refusal> {
        let path = self.local.cache.layout.tmp().join(durable::random_name());
        let file = durable::create_new(&path).map_err(store)?;
        let mut draft = Draft { path, file, digest: Digest::of_bytes(b"") };
        let mut hasher = Hasher::new();
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let count = source.read(&mut chunk).map_err(said)?;
            if count == 0 {
                draft.digest = hasher.finish();
                return Ok(draft);
            }
            hasher.update(&chunk[..count]);
            draft.file.write_all(&chunk[..count]).map_err(store)?;
            (self.read)(count as u64);
        }
    }

    fn hash(&self, file: &mut File) -> io::Result<Digest> {
        let mut hasher = Hasher::new();
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            match file.read(&mut chunk) {
                Ok(0) => return Ok(hasher.finish()),
                Ok(count) => {
                    hasher.update(&chunk[..count]);
                    (self.read)(count as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) => return Err(error),
            }
        }
    }

    /// Publishes bytes that are ours alone.
    fn publish_own(&self, file: &FoundFile, draft: &Draft, how: Placement) -> Result<Placed, Refusal> {
        check(file, draft.digest)?;
        let lease = self.local.cache.leases.take(&[draft.digest]).map_err(Refusal::Store)?;
        if let Some(row) = self.here(draft.digest, file)? {
            return Ok(Placed { row, how: Placement::Here, _lease: lease });
        }
        let row = ingest::publish(&self.local.cache.layout, &draft.file, &draft.path, &draft.digest);
        Ok(Placed { row: row.map_err(Refusal::Store)?, how, _lease: lease })
    }

    /// Publishes bytes that stay the other program's too.
    fn publish_shared(&self, file: &FoundFile, source: &File, digest: Digest) -> Result<Placed, Refusal> {
        let lease = self.local.cache.leases.take(&[digest]).map_err(Refusal::Store)?;
        if let Some(row) = self.here(digest, file)? {
            return Ok(Placed { row, how: Placement::Here, _lease: lease });
        }
        // Their program may not have seen to it, and a name of ours stands for bytes that last.
        source.sync_all().map_err(said)?;
        let path = self.local.cache.layout.blob(&digest);
        let shard = path.parent().expect("invariant: a blob lies in a directory");
        durable::create_private_dir(shard).map_err(store)?;
        match self.link(file, &path)? {
            Linked::Now => {
                let facts = fs_err::symlink_metadata(&path).map_err(store)?;
                let row = ingest::row(&digest, &facts, Ownership::HardLink);
                return Ok(Placed { row, how: Placement::HardLink, _lease: lease });
            }
            // Another process brought the bytes since the look above.
            Linked::Occupied => {
                let row = self.here(digest, file)?.ok_or_else(changed)?;
                return Ok(Placed { row, how: Placement::Here, _lease: lease });
            }
            Linked::Impossible => (),
        }
        let elsewhere = Elsewhere::of(file.at.clone(), file.stamp);
        elsewhere.write(&self.local.cache.layout, &digest).map_err(store)?;
        let facts = source.metadata().map_err(said)?;
        let row = ingest::row(&digest, &facts, Ownership::Reference);
        Ok(Placed { row, how: Placement::Reference, _lease: lease })
    }

    /// The bytes, if the store has them.
    fn here(&self, digest: Digest, file: &FoundFile) -> Result<Option<BlobRow>, Refusal> {
        self.local.cache.here(&digest, Some(file.stamp.size)).map_err(Refusal::Store)
    }

    /// Makes the second name, and never replaces what has it.
    fn link(&self, file: &FoundFile, path: &Path) -> Result<Linked, Refusal> {
        let tmp = self.local.cache.layout.tmp().join(durable::random_name());
        if fs_err::hard_link(&file.at, &tmp).is_err() {
            return Ok(Linked::Impossible);
        }
        let linked = fs_err::symlink_metadata(&tmp).and_then(|facts| {
            let is_same = Stamp::of(&facts) == file.stamp;
            if is_same { durable::publish_new(&tmp, path).map(Some) } else { Ok(None) }
        });
        // Renamed away, or not wanted any more.
        let _ = fs_err::remove_file(&tmp);
        match linked {
            Ok(Some(true)) => Ok(Linked::Now),
            Ok(Some(false)) => Ok(Linked::Occupied),
            Ok(None) => Err(changed()),
            Err(error) => Err(store(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::manifest::Role;
    use crate::config::StoreConfig;
    use crate::store::Store;

    /// A store, a folder beside it with a file in it, and the file as it was found.
    fn found() -> (tempfile::TempDir, Store, Bounds, FoundFile) {
        let dir = tempfile::tempdir().unwrap();
        let store =
            Store::open(StoreConfig::new(dir.path().join("store"), dir.path().join("state"))).unwrap();
        fs_err::create_dir(dir.path().join("models")).unwrap();
        let path = dir.path().join("models/x.gguf");
        fs_err::write(&path, "bytes").unwrap();
        let bounds = Bounds::of(&dir.path().join("models")).unwrap();
        let (at, metadata) = bounds.file(&path).unwrap();
        let path = "x.gguf".parse().unwrap();
        let file = FoundFile { path, role: Role::Weights, at, stamp: Stamp::of(&metadata), claim: None };
        (dir, store, bounds, file)
    }

    fn refusal(store: &Store, bounds: &Bounds, file: &FoundFile) -> String {
        let placer = Placer { local: &store.0.local, copies: true, read: &|_| () };
        match placer.place(bounds, file) {
            Err(Refusal::File(reason)) => reason,
            Err(Refusal::Store(error)) => panic!("{error}"),
            Ok(placed) => panic!("placed as {:?}", placed.how),
        }
    }

    #[test]
    fn a_file_that_changed_since_it_was_found_is_refused() {
        let (_dir, store, bounds, file) = found();
        fs_err::write(&file.at, "other bytes").unwrap();
        assert_eq!(refusal(&store, &bounds, &file), "changed while it was looked at");
    }

    #[test]
    fn a_file_that_vanished_or_became_a_link_is_refused() {
        let (dir, store, bounds, file) = found();
        fs_err::remove_file(&file.at).unwrap();
        assert_eq!(refusal(&store, &bounds, &file), "is not there, or a link to nothing");
        fs_err::write(dir.path().join("secret"), "bytes").unwrap();
        fs_err::os::unix::fs::symlink(dir.path().join("secret"), &file.at).unwrap();
        assert!(!refusal(&store, &bounds, &file).is_empty());
        assert!(
            fs_err::read_dir(store.0.local.cache.layout.tmp()).unwrap().next().is_none(),
            "nothing stays behind"
        );
    }

    #[test]
    fn a_file_that_changes_while_it_is_read_is_refused() {
        let (_dir, store, bounds, file) = found();
        let at = file.at.clone();
        let placer = Placer {
            local: &store.0.local,
            copies: false,
            read: &|_| fs_err::write(&at, "other bytes").unwrap(),
        };
        match placer.place(&bounds, &file) {
            Err(Refusal::File(reason)) => assert_eq!(reason, "changed while it was looked at"),
            // Cloned before it changed.
            Ok(placed) => assert_eq!(placed.how, Placement::Reflink),
            Err(Refusal::Store(error)) => panic!("{error}"),
        }
    }
}
