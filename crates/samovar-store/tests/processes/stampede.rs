//! Many first callers and fresh homes: the bytes that a program brings enter once, and their name means one file ever after.
//!
//! What a worker may read is an inode. A second caller that renames equal bytes over the name takes the model away
//! from a worker that was just allowed to read the first file.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;

use samovar_store::{Artifact, ArtifactKey, Role, Store, StoreConfig};

const HOMES: usize = 40;
const CALLERS: usize = 32;
/// Handles of one home, which exclude each other as processes do.
const HANDLES: usize = 3;
const PROCESSES: usize = 6;
const PROCESS_HOMES: usize = 6;

/// The home of a child, in its environment.
const HOME: &str = "SAMOVAR_TEST_STAMPEDE";

fn store(home: &Path) -> Store {
    let mut config = StoreConfig::new(home.join("cache"), home.join("state"));
    config.min_free_bytes = 0;
    Store::open(config).unwrap()
}

fn bytes() -> Vec<u8> {
    (0..300_000u32).flat_map(u32::to_le_bytes).collect()
}

fn ingest(store: &Store, bytes: &[u8]) -> Artifact {
    let key = ArtifactKey {
        source: "built-in".parse().unwrap(),
        model: "demo".parse().unwrap(),
        commit: samovar_core::Digest::of_bytes(bytes).to_string().parse().unwrap(),
        quant: String::new(),
        modality: "text".to_owned(),
    };
    store.ingest(key, "demo", "demo.gguf".parse().unwrap(), Role::Weights, bytes).unwrap()
}

/// The file that the artifact's name means now, as a worker's rule would hold it.
fn inode(store: &Store, artifact: &Artifact) -> u64 {
    let opened = store.look_at(&artifact.key_digest).unwrap();
    let allowed = fs_err::metadata(&opened.weights()[0]).unwrap().ino();
    // What a load opens a moment later.
    std::thread::yield_now();
    assert_eq!(fs_err::File::open(&opened.weights()[0]).unwrap().metadata().unwrap().ino(), allowed);
    allowed
}

#[test]
fn many_first_callers_at_once_all_get_the_one_file() {
    let bytes = bytes();
    for _ in 0..HOMES {
        let home = tempfile::tempdir().unwrap();
        let stores: Vec<Store> = (0..HANDLES).map(|_| store(home.path())).collect();
        let start = Barrier::new(CALLERS);
        let inodes: BTreeSet<u64> = std::thread::scope(|scope| {
            let call = |at: usize| {
                let (store, start, bytes) = (&stores[at % HANDLES], &start, &bytes);
                scope.spawn(move || {
                    start.wait();
                    inode(store, &ingest(store, bytes))
                })
            };
            let callers: Vec<_> = (0..CALLERS).map(call).collect();
            callers.into_iter().map(|caller| caller.join().unwrap()).collect()
        });
        assert_eq!(inodes.len(), 1, "a name that is there is never given to another file");
        assert_eq!(stores[0].list().unwrap().len(), 1);
        assert!(fs_err::read_dir(home.path().join("cache/tmp")).unwrap().next().is_none());
    }
}

#[test]
#[ignore = "started by the other tests"]
#[allow(clippy::disallowed_methods, reason = "a child has no other settings")]
fn as_a_process_of_its_own() {
    let Ok(home) = std::env::var(HOME) else { return };
    let store = store(Path::new(&home));
    println!("\ninode {}", inode(&store, &ingest(&store, &bytes())));
}

#[test]
fn many_first_processes_at_once_all_get_the_one_file() {
    for _ in 0..PROCESS_HOMES {
        let home = tempfile::tempdir().unwrap();
        let start = |_| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "stampede::as_a_process_of_its_own", "--ignored", "--nocapture"])
                .env(HOME, home.path())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        };
        let children: Vec<Child> = (0..PROCESSES).map(start).collect();
        let inodes: BTreeSet<String> = children
            .into_iter()
            .map(|child| {
                let output = child.wait_with_output().unwrap();
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                let said = String::from_utf8(output.stdout).unwrap();
                said.lines().find_map(|line| line.strip_prefix("inode ")).unwrap().to_owned()
            })
            .collect();
        assert_eq!(inodes.len(), 1);
    }
}
