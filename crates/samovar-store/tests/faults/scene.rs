//! What is done to a store while its disk fails, and what must be true afterwards.
//!
//! ```text
//!   there before: kept, old        done: open kept ─► prepare ─► put new ─► pack ─► unpin kept ─► remove old ─► collect ─► open kept
//! ```

use std::os::unix::fs::FileExt as _;
use std::path::Path;

use samovar_core::ErrorKind;
use samovar_store::{Artifact, CollectOptions, Error, Make, Store};

use crate::keeping::{assert_sound, bytes_of, config, put, try_put};

pub(crate) const SIZE: usize = 100_000;

/// Fills a store below `dir` with what is there before.
pub(crate) fn prepare(dir: &Path) -> Store {
    let store = Store::open(config(dir)).unwrap();
    for name in ["kept", "old"] {
        let artifact = put(&store, name, &bytes_of(name, SIZE));
        // Pinned, so that it is not taken to make room.
        store.set_pinned(&artifact.key_digest, true).unwrap();
    }
    store
}

pub(crate) fn named(store: &Store, name: &str) -> Option<Artifact> {
    store.list().unwrap().into_iter().find(|artifact| artifact.reference == name)
}

/// Whether what is there can be opened and is right.
pub(crate) fn kept_opens(store: &Store, artifact: &Artifact) -> Result<(), Error> {
    let opened = store.open_artifact(&artifact.key_digest)?;
    let read =
        fs_err::read(&opened.weights()[0]).map_err(Error::io("the test could not read what it opened"))?;
    assert!(read == bytes_of("kept", SIZE), "other bytes than were put there");
    Ok(())
}

/// Makes a packed file unless it is there, and holds what is there against what was put there.
fn pack(store: &Store) -> Result<(), Error> {
    let fail = || Error::io("the test could not use what it packs");
    if let Make::Begun(making) = store.packed().make("weights", "engine 1", SIZE as u64, None)? {
        making.file().write_all_at(&bytes_of("packed", SIZE), 0).map_err(fail())?;
        drop(making.commit()?);
    }
    if let Some(opened) = store.packed().find("weights", "engine 1")? {
        let read = fs_err::read(opened.path()).map_err(fail())?;
        assert!(read == bytes_of("packed", SIZE), "other bytes than were packed");
    }
    Ok(())
}

/// Prepares a model unless it is there, in another file that takes the place of the first, and holds what is there against what was
/// put there.
fn prepare_model(store: &Store) -> Result<(), Error> {
    let fail = || Error::io("the test could not use what it prepares");
    if let Make::Begun(making) = store.prepared().make("a model", "F16", 2 * SIZE as u64, None)? {
        let converted = making.dir().join("converted.gguf");
        fs_err::write(&converted, bytes_of("prepared", SIZE)).map_err(fail())?;
        fs_err::rename(&converted, making.path()).map_err(fail())?;
        drop(making.commit()?);
    }
    if let Some(opened) = store.prepared().find("a model", "F16")? {
        let read = fs_err::read(opened.path()).map_err(fail())?;
        assert!(read == bytes_of("prepared", SIZE), "other bytes than were prepared");
    }
    Ok(())
}

/// A step of the scene, and how it ended.
pub(crate) type Step = (&'static str, Result<(), Error>);

/// Does all that can fail. `entries` was looked up before.
pub(crate) fn play(store: &Store, kept: &Artifact, old: &Artifact) -> Vec<Step> {
    vec![
        ("open", kept_opens(store, kept)),
        // First, because it may take the room of what was fetched and is not pinned.
        ("prepare", prepare_model(store)),
        ("put", try_put(store, "new", &bytes_of("new", SIZE)).map(drop)),
        ("pack", pack(store)),
        ("unpin", store.set_pinned(&kept.key_digest, false)),
        ("remove", store.remove(&old.key_digest).map(drop)),
        ("collect", store.collect(&CollectOptions::default()).map(drop)),
        ("disk use", store.disk_use().map(drop)),
        ("open again", kept_opens(store, kept)),
    ]
}

/// Whether an error says that the disk failed or is full.
pub(crate) fn is_of_storage(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Storage | ErrorKind::InsufficientStorage)
}

/// What must be true of every ending while the disk failed: errors have a meaning, and what is there opens.
pub(crate) fn judge(steps: &[Step]) {
    for (step, ending) in steps {
        let Err(error) = ending else { continue };
        assert!(is_of_storage(error.kind()), "{step}: {error:?}, of {steps:?}");
        assert!(!step.starts_with("open"), "what is there does not open: {steps:?}");
    }
}

/// What must be true once the disk is well again: nothing was lost, nothing is half there, and all can be done.
pub(crate) fn recovers(dir: &Path, steps: &[Step]) {
    let store = Store::open(config(dir)).unwrap();
    assert_sound(&store);
    let kept = named(&store, "kept").expect("what was there is there");
    let ended_well = |name: &str| steps.iter().any(|(step, ending)| *step == name && ending.is_ok());
    if ended_well("put") {
        assert!(named(&store, "new").is_some(), "what was said to be there is there");
    }
    if ended_well("unpin") {
        assert!(!kept.is_pinned);
    }
    if ended_well("remove") {
        assert!(named(&store, "old").is_none());
    }
    if ended_well("pack") {
        assert!(store.packed().find("weights", "engine 1").unwrap().is_some());
    }
    let old = named(&store, "old").unwrap_or_else(|| put(&store, "old", &bytes_of("old", SIZE)));
    for (step, ending) in play(&store, &kept, &old) {
        assert!(ending.is_ok(), "{step} does not recover: {:?}", ending.err());
    }
    assert!(named(&store, "new").is_some() && named(&store, "old").is_none());
    assert!(store.prepared().find("a model", "F16").unwrap().is_some());
    let packing = fs_err::read_dir(store.dir().join("packing")).into_iter().flatten().count();
    assert_eq!(packing, 0, "something is left of what was being made");
    assert_sound(&store);
}
