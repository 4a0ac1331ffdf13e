//! Nothing may be written: a file system mounted read-only, immutable files, other users' files.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use samovar_store::{CollectOptions, Error, Store};

use crate::failing::{self, CHILD};
use crate::keeping::{assert_sound, bytes_of, config, try_put};
use crate::mount::{Mount, run};
use crate::scene::{self, judge, kept_opens, named, play, recovers};

/// What a store that can only be read must do.
pub(crate) fn serves_and_refuses(dir: &Path) {
    let store = Store::open(config(dir)).unwrap();
    let kept = named(&store, "kept").unwrap();
    kept_opens(&store, &kept).unwrap();
    let refusals = [
        try_put(&store, "new", &bytes_of("new", 10)).map(drop),
        store.set_pinned(&kept.key_digest, true),
        store.remove(&kept.key_digest).map(drop),
        store.collect(&CollectOptions::default()).map(drop),
        store.import(dir).map(drop),
    ];
    for refusal in refusals {
        let error = refusal.unwrap_err();
        assert!(matches!(error, Error::ReadOnly { .. }), "{error:?}");
        assert!(error.hint().is_some());
    }
    assert!(store.disk_use().unwrap().used_bytes > 0);
    assert!(store.stats().is_ok());
    kept_opens(&store, &kept).unwrap();
}

#[test]
fn a_read_only_file_system_serves_hits_and_refuses_the_rest() {
    let Some(mount) = Mount::new(8 << 20) else { return };
    drop(scene::prepare(mount.path()));
    mount.remount("ro").unwrap();
    serves_and_refuses(mount.path());
    mount.remount("rw").unwrap();
    recovers(mount.path(), &[]);
}

/// Makes something immutable; false and a word about it where that cannot be done.
fn freeze(path: &Path, recursive: bool) -> bool {
    let mut arguments = vec!["+i", path.to_str().unwrap()];
    if recursive {
        arguments.insert(0, "-R");
    }
    let frozen = run("chattr", &arguments);
    if let Err(reason) = &frozen {
        println!("skipped: nothing can be made immutable here: {reason}");
    }
    frozen.is_ok()
}

/// Makes it mutable again whatever happens, so that it can be removed.
struct Thaw<'a>(&'a Path);

impl Drop for Thaw<'_> {
    fn drop(&mut self) {
        let _ = run("chattr", &["-R", "-i", self.0.to_str().unwrap()]);
    }
}

#[test]
fn immutable_parts_fail_what_needs_them_and_nothing_else() {
    for part in ["manifests", "blobs/sha256", "tmp", "trash", "pins", "leases", "partial", "quarantine"] {
        let dir = tempfile::tempdir().unwrap();
        let store = scene::prepare(dir.path());
        let (kept, old) = (named(&store, "kept").unwrap(), named(&store, "old").unwrap());
        let part = dir.path().join("cache").join(part);
        let thaw = Thaw(dir.path());
        if !freeze(&part, true) {
            return;
        }
        let steps = play(&store, &kept, &old);
        judge(&steps);
        drop(store);
        drop(thaw);
        recovers(dir.path(), &steps);
    }
}

#[test]
fn a_blob_that_cannot_be_moved_stays_and_so_does_its_artifact() {
    let dir = tempfile::tempdir().unwrap();
    let store = scene::prepare(dir.path());
    let old = named(&store, "old").unwrap();
    let hex = old.files[0].digest.to_string();
    let path = dir.path().join("cache/blobs/sha256").join(&hex[..2]).join(&hex);
    let _thaw = Thaw(dir.path());
    if !freeze(&path, false) {
        return;
    }
    let error = store.remove(&old.key_digest).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error:?}");
    assert!(store.open_artifact(&old.key_digest).is_ok(), "it was put back whole");
    assert_eq!(store.list().unwrap().len(), 2);
    assert_sound(&store);
}

#[test]
fn another_user_s_cache_serves_hits_to_who_may_read_it() {
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: only an administrator can become another user");
    }
    let dir = tempfile::tempdir().unwrap();
    drop(scene::prepare(dir.path()));
    let child = |expected: &str| {
        let program = std::env::current_exe().unwrap();
        let output = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&program)
            .args(failing::ARGUMENTS)
            .env(CHILD, format!("{expected}\n{}", dir.path().display()))
            .output();
        match output {
            Ok(output) if output.status.success() => true,
            Ok(output) => {
                let words = String::from_utf8_lossy(&output.stderr).into_owned();
                let cannot_run =
                    words.contains("setpriv:") || words.contains("ermission denied: failed to execute");
                assert!(cannot_run, "{words}{}", String::from_utf8_lossy(&output.stdout));
                println!("skipped: no other user can run this program: {words}");
                false
            }
            Err(error) => {
                println!("skipped: setpriv: {error}");
                false
            }
        }
    };
    let readable =
        |path: &Path, mode| fs_err::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    readable(dir.path(), 0o755);
    if !child("refused") {
        return;
    }
    run("chmod", &["-R", "a+rX", dir.path().to_str().unwrap()]).unwrap();
    assert!(child("read"));
    recovers(dir.path(), &[]);
}
