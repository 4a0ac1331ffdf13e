//! Artifacts over an air gap: out into a folder, checked with common tools, into another store; and folders that lie.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use crate::keeping;

use std::path::Path;
use std::process::Command;

use keeping::{Cache, assert_sound, bytes_of, put};
use samovar_core::Digest;
use samovar_store::{Artifact, Error, Manifest};

const KB: usize = 1_000;

/// A store with two artifacts that share a blob and one of its own, and a folder with all of them.
fn exported() -> (Cache, Vec<Artifact>, tempfile::TempDir) {
    let cache = Cache::new();
    let shared = bytes_of("shared", 30 * KB);
    let artifacts = vec![
        put(&cache.store, "one", &shared),
        put(&cache.store, "two", &shared),
        put(&cache.store, "three", &bytes_of("three", 20 * KB)),
    ];
    let folder = tempfile::tempdir().unwrap();
    let keys: Vec<_> = artifacts.iter().map(|artifact| artifact.key_digest).collect();
    let exported = cache.store.export(&keys, folder.path()).unwrap();
    assert_eq!((exported.artifacts, exported.blobs, exported.bytes), (3, 2, 50_000));
    (cache, artifacts, folder)
}

fn blob(folder: &Path, digest: &Digest) -> std::path::PathBuf {
    let hex = digest.to_string();
    folder.join("blobs/sha256").join(&hex[..2]).join(hex)
}

fn replace(path: &Path, bytes: &[u8]) {
    fs_err::remove_file(path).unwrap();
    fs_err::write(path, bytes).unwrap();
}

#[test]
fn common_tools_can_check_a_folder() {
    let (_cache, _, folder) = exported();
    let check = Command::new("sha256sum")
        .args(["--check", "--strict", "SHA256SUMS"])
        .current_dir(folder.path())
        .output();
    let Ok(check) = check else { return println!("skipped: there is no sha256sum here") };
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(check.status.success(), "{said}");
    assert_eq!(said.lines().count(), 2 + 3 + 1, "blobs, manifests, FORMAT");
}

#[test]
fn another_store_takes_in_the_same_artifacts() {
    let (_cache, artifacts, folder) = exported();
    let other = Cache::new();
    let imported = other.store.import(folder.path()).unwrap();
    assert_eq!((imported.references.len(), imported.blobs, imported.bytes), (3, 2, 50_000));
    for artifact in &artifacts {
        let there = other.store.artifact(&artifact.key_digest).unwrap().unwrap();
        assert_eq!(
            (&there.key, &there.files, &there.reference),
            (&artifact.key, &artifact.files, &artifact.reference)
        );
    }
    assert_sound(&other.store);
    let again = other.store.import(folder.path()).unwrap();
    assert_eq!((again.references.len(), again.blobs, again.bytes), (3, 0, 0));
    fs_err::remove_dir_all(folder.path()).unwrap();
    assert_sound(&other.store);
}

#[test]
fn a_folder_serves_as_a_read_only_store() {
    let (_cache, artifacts, folder) = exported();
    let reader = Cache::with(|config| config.read_only_dirs = vec![folder.path().to_owned()]);
    let opened = reader.store.open_artifact(&artifacts[2].key_digest).unwrap();
    assert_eq!(fs_err::read(&opened.weights()[0]).unwrap(), bytes_of("three", 20 * KB));
}

#[test]
fn a_second_export_adds_to_the_first_and_other_folders_are_left_alone() {
    let (cache, _, folder) = exported();
    let more = put(&cache.store, "more", &bytes_of("more", 10 * KB));
    let exported = cache.store.export(&[more.key_digest], folder.path()).unwrap();
    assert_eq!((exported.artifacts, exported.blobs), (1, 1));
    assert_eq!(Cache::new().store.import(folder.path()).unwrap().references.len(), 4);
    let home = tempfile::tempdir().unwrap();
    fs_err::write(home.path().join("letter.txt"), "mine").unwrap();
    let refused = cache.store.export(&[more.key_digest], home.path());
    assert!(matches!(refused, Err(Error::Unsupported { .. })));
    assert_eq!(fs_err::read_dir(home.path()).unwrap().count(), 1);
    assert!(matches!(cache.store.import(home.path()), Err(Error::Missing { .. })));
}

#[test]
fn a_folder_with_other_bytes_than_it_says_is_refused() {
    let (_cache, artifacts, folder) = exported();
    let digest = artifacts[2].files[0].digest;
    let path = blob(folder.path(), &digest);
    let mut bytes = bytes_of("three", 20 * KB);
    bytes[5_000] ^= 1;
    replace(&path, &bytes);
    let other = Cache::new();
    assert!(matches!(other.store.import(folder.path()), Err(Error::Mismatch { .. })));
    assert!(other.store.artifact(&artifacts[2].key_digest).unwrap().is_none());
    assert!(!other.blob(&digest).exists());
    assert_sound(&other.store);
    for bytes in [bytes[..10].to_vec(), vec![0; 30_000]] {
        replace(&path, &bytes);
        let fresh = Cache::new();
        assert!(matches!(fresh.store.import(folder.path()), Err(Error::Mismatch { .. })));
        assert_eq!(fresh.store.list().unwrap(), [], "sizes are checked before anything is taken in");
    }
    fs_err::remove_file(&path).unwrap();
    assert!(matches!(Cache::new().store.import(folder.path()), Err(Error::Mismatch { .. })));
}

#[test]
fn symlinks_in_a_folder_lead_nowhere() {
    let (_cache, artifacts, folder) = exported();
    let path = blob(folder.path(), &artifacts[2].files[0].digest);
    let away = folder.path().join("away");
    fs_err::rename(&path, &away).unwrap();
    fs_err::os::unix::fs::symlink(&away, &path).unwrap();
    let other = Cache::new();
    assert!(matches!(other.store.import(folder.path()), Err(Error::Io { .. })), "even to the right bytes");
    assert_eq!(other.store.list().unwrap(), []);
    fs_err::rename(&away, &path).unwrap();
    let manifest = folder.path().join(format!("manifests/{}.json", artifacts[2].key_digest));
    fs_err::remove_file(&manifest).unwrap();
    fs_err::os::unix::fs::symlink("/etc/hostname", &manifest).unwrap();
    assert!(matches!(other.store.import(folder.path()), Err(Error::Io { .. })));
}

#[test]
fn manifests_that_mislead_are_refused_before_anything_is_taken_in() {
    let (_cache, artifacts, folder) = exported();
    let key = artifacts[2].key_digest;
    let path = folder.path().join(format!("manifests/{key}.json"));
    let text = fs_err::read_to_string(&path).unwrap();
    let right: Manifest = serde_json::from_str(&text).unwrap();
    let misleading = [
        text.replace("model.gguf", "../../../etc/cron.d/x"),
        text.replace("model.gguf", "/etc/passwd"),
        text.replace("model.gguf", "a\\u0000b"),
        text.replace("\"three\"", "\"someone else\""),
        text.replace("\"format\": 1", "\"format\": 99"),
        text.replace("\"quant\": \"\"", "\"quant\": \"\\u001b[2J\""),
        text.replace("sha256:", "md5:").replace(&right.files[0].digest.to_string(), "../../../../etc/shadow"),
        format!("{{\"surprise\": 1, {}", &text[1..]),
        "[".repeat(100_000),
        format!("{text}{}", " ".repeat(5 << 20)),
        String::new(),
    ];
    let other = Cache::new();
    for misleading in misleading {
        assert_ne!(misleading, text);
        fs_err::write(&path, &misleading).unwrap();
        let refused = other.store.import(folder.path());
        assert!(refused.is_err(), "{}", &misleading[..misleading.len().min(300)]);
        assert_eq!(other.store.list().unwrap(), []);
        assert_eq!(other.store.disk_use().unwrap().used_bytes, 0);
    }
    fs_err::write(&path, text).unwrap();
    assert_eq!(other.store.import(folder.path()).unwrap().references.len(), 3);
}

#[test]
fn what_is_damaged_is_not_exported() {
    let cache = Cache::new();
    let artifact = put(&cache.store, "m", &bytes_of("m", KB));
    replace(&cache.blob(&artifact.files[0].digest), &bytes_of("n", KB));
    let folder = tempfile::tempdir().unwrap();
    let refused = cache.store.export(&[artifact.key_digest], folder.path());
    assert!(matches!(refused, Err(Error::Damaged { .. })), "{refused:?}");
    assert!(!folder.path().join("SHA256SUMS").exists());
}
