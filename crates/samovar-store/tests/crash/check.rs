//! What must be true of a cache directory after a crash.
//!
//! ```text
//!   as it was left      final names hold whole, right bytes; every name is explained; no lock is held
//!   opened again        each ready row has its blob; what the store said it has is there, also offline
//!   used again          everything can be had again; then the dead have left nothing behind
//! ```
//!
//! The first look knows the layout by itself and uses nothing of the store, so that the store does not
//! judge itself.

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rusqlite::{Connection, OpenFlags};
use rustix::fs::{FlockOperation, flock};
use samovar_core::Digest;
use samovar_store::{CollectOptions, KeyDigest, Manifest, Store};

use crate::program::{self, config, parse};
use crate::scene::Scene;

/// The code of a blob that is ready, as it is on disk.
const READY: i64 = 0;

/// What a crash may have left that is wrong.
#[derive(Debug, Default)]
pub(crate) struct Violations(pub(crate) Vec<String>);

impl Violations {
    fn say(&mut self, what: impl Into<String>) {
        self.0.push(what.into());
    }

    fn unless(&mut self, is_true: bool, what: impl FnOnce() -> String) {
        if !is_true {
            self.say(what());
        }
    }

    fn of(&mut self, what: &str, result: Result<()>) {
        if let Err(error) = result {
            self.say(format!("{what}: {error:#}"));
        }
    }
}

/// What a crash is judged by.
pub(crate) struct Judge<'a> {
    pub(crate) scene: &'a Scene,
    pub(crate) cache: &'a Path,
    /// References that the store had said it has, and that it was not asked to let go.
    pub(crate) promised: Vec<String>,
    /// Those of them that are pinned.
    pub(crate) pinned: &'a [&'static str],
    /// A blob that the test itself damaged.
    pub(crate) damaged: Option<Digest>,
}

impl Judge<'_> {
    /// All that is wrong; nothing, if all is well. Uses the cache.
    pub(crate) fn judge(&self) -> Vec<String> {
        let mut found = Violations::default();
        self.left(&mut found);
        let opened = self.opened(&mut found);
        found.of("after the crash", opened);
        let used = self.used(&mut found);
        found.of("using it again", used);
        self.left(&mut found);
        self.tidy(&mut found);
        found.0
    }

    /// The directory as it is.
    fn left(&self, found: &mut Violations) {
        for path in files_below(self.cache) {
            let name = path.strip_prefix(self.cache).expect("it was found there").to_owned();
            let parts: Vec<&str> = name.iter().filter_map(|part| part.to_str()).collect();
            match self.is_right(&path, &parts) {
                Ok(true) => (),
                Ok(false) => found.say(format!("nothing explains {}", name.display())),
                Err(error) => found.say(format!("{}: {error:#}", name.display())),
            }
        }
    }

    /// Whether a file has any business here; an error when it is not what its name says.
    fn is_right(&self, path: &Path, parts: &[&str]) -> Result<bool> {
        match parts {
            ["CACHEDIR.TAG"] => {
                let text = fs_err::read_to_string(path)?;
                anyhow::ensure!(
                    text.starts_with("Signature: 8a477f597d28d172789f06886806bc55\n"),
                    "not whole"
                );
                anyhow::ensure!(text.ends_with(".\n"), "not whole");
            }
            ["FORMAT"] => anyhow::ensure!(fs_err::read_to_string(path)?.trim() == "1", "not whole"),
            ["blobs", "sha256", shard, name] => self.blob(path, shard, name)?,
            ["manifests", name] => manifest(path, name)?,
            ["pins", name] => anyhow::ensure!(KeyDigest::parse(name).is_some(), "not a key"),
            ["prefixes", _, _, _, "facts.json"] => prefix(path)?,
            // Judged with its facts, which must be there.
            ["prefixes", _, _, _, "state"] | ["packed" | "prepared", _, _, "data"] => {
                fs_err::metadata(path.with_file_name("facts.json"))?;
            }
            ["packed" | "prepared", _, _, "facts.json"] => derived(path)?,
            ["snapshots", _, ..] => {
                fs_err::metadata(path).context("leads nowhere")?;
            }
            ["index.sqlite3.lock"]
            | ["locks", "gc.lock" | "ballast"]
            | ["locks", "blob" | "artifact", _]
            | ["leases", _] => unlocked(path)?,
            ["quarantine", name] => {
                let is_damaged = self.damaged.is_some_and(|digest| name.starts_with(&digest.to_string()));
                anyhow::ensure!(is_damaged, "set aside though it was not damaged");
            }
            ["partial", _, "data" | "state.json" | "state.new"]
            | ["packing", _, "data" | "bytes" | "facts.json" | "converted.gguf"]
            | ["tmp" | "trash", ..] => (),
            [name] => {
                // `.broken-*` is an index that was set aside.
                let companion = name
                    .strip_prefix("index.sqlite3")
                    .map(|rest| rest.split_at(rest.find('-').unwrap_or(0)).0);
                return Ok(companion.is_some_and(|companion| matches!(companion, "" | ".broken")));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn blob(&self, path: &Path, shard: &str, name: &str) -> Result<()> {
        let digest: Digest = name.parse().context("no digest")?;
        anyhow::ensure!(name.starts_with(shard), "in the wrong place");
        let facts = fs_err::metadata(path)?;
        let mode = facts.permissions().mode() & 0o777;
        // A file with another name besides is another program's, and keeps the rights that it gave it.
        anyhow::ensure!(mode == 0o444 || facts.nlink() > 1, "its mode is {mode:o}");
        let is_right = Digest::of_file(path)? == digest || self.damaged == Some(digest);
        anyhow::ensure!(is_right, "does not have the bytes of its name");
        Ok(())
    }

    /// What a store says of it that has just been opened.
    fn opened(&self, found: &mut Violations) -> Result<()> {
        // No server listens there: what is found is found without any source.
        let store =
            Store::open(config(self.cache, "http://127.0.0.1:9", None)).context("it cannot be opened")?;
        self.rows(found)?;
        for artifact in store.list()? {
            // What was found damaged is listed and not found.
            if store.artifact(&artifact.key_digest)?.is_none() {
                continue;
            }
            for file in &artifact.files {
                let blob = blob_path(self.cache, &file.digest);
                let size = fs_err::metadata(&blob).map(|facts| facts.len()).unwrap_or_default();
                found.unless(size == file.size, || {
                    format!("{} is there, but its {} has {size} bytes", artifact.reference, file.path)
                });
            }
        }
        for reference in &self.promised {
            let there = store.find(&parse(reference)?)?;
            found.unless(there.is_some(), || format!("{reference} was there, and is not any more"));
            let is_pinned = there.is_none_or(|artifact| artifact.is_pinned);
            found.unless(is_pinned || !self.pinned.contains(&reference.as_str()), || {
                format!("{reference} was pinned, and is not any more")
            });
        }
        Ok(())
    }

    /// Each ready row has its blob, with its size and digest.
    fn rows(&self, found: &mut Violations) -> Result<()> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
        let index = Connection::open_with_flags(self.cache.join("index.sqlite3"), flags)?;
        let verdict: String = index.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
        found.unless(verdict == "ok", || format!("the index is damaged: {verdict}"));
        let mut rows = index.prepare("SELECT lower(hex(digest)), size FROM blob WHERE state = ?1")?;
        let rows = rows.query_map([READY], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
        for row in rows {
            let (digest, size) = row?;
            let digest: Digest = digest.parse()?;
            let path = blob_path(self.cache, &digest);
            let there = fs_err::metadata(&path).map(|facts| facts.len()).ok();
            found.unless(there == Some(size as u64), || {
                format!("the index has {digest} ready with {size} bytes; on disk: {there:?}")
            });
            let is_right =
                there.is_none() || Digest::of_file(&path)? == digest || self.damaged == Some(digest);
            found.unless(is_right, || format!("the ready blob {digest} has other bytes"));
        }
        Ok(())
    }

    /// Everything can be had again, with the right bytes, and collected.
    fn used(&self, found: &mut Violations) -> Result<()> {
        let store = Store::open(config(self.cache, &self.scene.endpoint(), None))?;
        if self.damaged.is_some() {
            program::repair(&store)?;
        }
        for reference in self.scene.references() {
            let artifact =
                program::ensure(&store, reference).with_context(|| format!("{reference} cannot be had"))?;
            let got = artifact.files.iter().map(|file| (file.path.to_string(), file.digest)).collect();
            found.unless(self.scene.files(reference) == got, || format!("{reference} is {got:?}"));
            let opened = store.open_artifact(&artifact.key_digest)?;
            for file in &artifact.files {
                let path = opened.path_of(&file.path).context("a file without a path")?;
                found.unless(Digest::of_file(path)? == file.digest, || {
                    format!("{reference}: {} is wrong", file.path)
                });
            }
        }
        for weights in 1..=3 {
            program::pack(&store, weights, None).context("it cannot be packed")?;
            program::prepare(&store, weights).context("it cannot be prepared")?;
        }
        let collected = store.collect(&CollectOptions::default()).context("it cannot be collected")?;
        found.unless(collected.removed.is_empty(), || format!("collection took {:?}", collected.removed));
        Ok(())
    }

    /// Nothing of the dead lies about once a collection has run, except what may be taken up again for days
    /// (`partial`) and what a process may be writing for all that can be known (`tmp`).
    fn tidy(&self, found: &mut Violations) {
        let left: BTreeSet<PathBuf> = ["trash", "leases", "packing"]
            .iter()
            .flat_map(|name| files_below(&self.cache.join(name)))
            .collect();
        found.unless(left.is_empty(), || format!("left lying about: {left:?}"));
    }
}

/// Where the bytes of a digest lie.
pub(crate) fn blob_path(cache: &Path, digest: &Digest) -> PathBuf {
    let name = digest.to_string();
    cache.join("blobs/sha256").join(&name[..2]).join(name)
}

fn manifest(path: &Path, name: &str) -> Result<()> {
    let manifest: Manifest = serde_json::from_slice(&fs_err::read(path)?).context("not whole")?;
    let key = name.strip_suffix(".json").and_then(KeyDigest::parse).context("not the name of a manifest")?;
    anyhow::ensure!(manifest.key.digest() == key, "of another key");
    anyhow::ensure!(!manifest.files.is_empty(), "empty");
    Ok(())
}

/// A prompt's state is the one that its facts speak of.
fn prefix(path: &Path) -> Result<()> {
    let facts: serde_json::Value = serde_json::from_slice(&fs_err::read(path)?).context("not whole")?;
    let digest = Digest::of_file(&path.with_file_name("state"))?.to_string();
    anyhow::ensure!(facts["digest"] == digest.as_str(), "its state has other bytes");
    Ok(())
}

/// A packed or prepared file is the one that its facts speak of, and it is not writable.
fn derived(path: &Path) -> Result<()> {
    let facts: serde_json::Value = serde_json::from_slice(&fs_err::read(path)?).context("not whole")?;
    let data = path.with_file_name("data");
    anyhow::ensure!(
        facts["digest"] == Digest::of_file(&data)?.to_string().as_str(),
        "its data has other bytes"
    );
    anyhow::ensure!(fs_err::metadata(&data)?.permissions().readonly(), "its data may be written");
    Ok(())
}

/// No lock outlives its holder.
fn unlocked(path: &Path) -> Result<()> {
    let file = fs_err::File::open(path)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).context("still locked")
}

/// Every file below a directory, symlinks included.
fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let Ok(entries) = fs_err::read_dir(directory) else { return files };
    for entry in entries {
        let entry = entry.expect("the directory can be read");
        if entry.file_type().expect("the directory can be read").is_dir() {
            files.extend(files_below(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files.sort();
    files
}
