//! What processes do with a store, and what was there before them.

use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use rusqlite::{Connection, OpenFlags};
use samovar_store::Store;

use crate::call::Call;
use crate::check::blob_path;
use crate::program::{self, Step, config, parse};
use crate::scene::{FOX, OWL, Scene};
use crate::sweep::Life;
use crate::tracer::{self, Blow, Run};

/// The tables of the index in its first version, as they were.
const FIRST_VERSION: &str = include_str!("../../src/index/tests/version_1.sql");
/// What of an index goes into them.
const FIRST_COLUMNS: [(&str, &str); 4] = [
    ("blob", "digest, size, state, verified_ms, dev, ino, mtime_ns, origin, created_ms"),
    (
        "artifact",
        "id, key, source, model_id, commit_id, quant, modality, format, manifest_digest, reference, pinned, created_ms",
    ),
    ("artifact_file", "artifact_id, position, path, digest, role"),
    ("ref", "source, model_id, name, commit_id, checked_ms"),
];

/// Two models are fetched into a new store; the second shares a file with the first.
pub(crate) fn pull() -> Life {
    Life {
        name: "pull",
        before: |_, _| Ok(()),
        steps: vec![Step::Ensure(FOX.to_owned()), Step::Ensure(OWL.to_owned())],
        ..Life::default()
    }
}

/// State of prompts is saved: a longer one takes a shorter one's place, and the quota has room for two.
pub(crate) fn save_prefixes() -> Life {
    Life {
        name: "saving prompt state",
        before: |_, cache| {
            let store = Store::open(config(cache, "http://127.0.0.1:9", None))?;
            program::save_prefix(&store, 300)
        },
        quota_bytes: Some(20 * (100 << 10)),
        steps: vec![Step::SavePrefix(400), Step::SavePrefix(500)],
        ..Life::default()
    }
}

/// Weights are packed: two fit, so that a third takes the place of the first, and one is refused afterwards.
pub(crate) fn pack() -> Life {
    Life {
        name: "packing",
        before: |_, cache| {
            let store = Store::open(config(cache, "http://127.0.0.1:9", None))?;
            program::pack(&store, 1, None)
        },
        quota_bytes: Some(100_000),
        steps: vec![Step::Pack(2), Step::Pack(3), Step::Discard(2), Step::Collect],
        ..Life::default()
    }
}

/// Models are prepared, one in the place of one that broke off before.
pub(crate) fn prepare() -> Life {
    Life {
        name: "preparing",
        steps: vec![Step::Prepare(1), Step::Prepare(2), Step::Collect],
        ..Life::default()
    }
}

/// A collection with room for nothing takes all that is not pinned.
pub(crate) fn collect() -> Life {
    Life {
        name: "gc",
        before: |scene, cache| {
            let store = filled(scene, cache)?;
            let fox = store.find(&parse(FOX)?)?.context("it was brought")?;
            Ok(store.set_pinned(&fox.key_digest, true)?)
        },
        quota_bytes: Some(1),
        steps: vec![Step::Collect],
        keeps: vec![FOX],
        pins: vec![FOX],
        ..Life::default()
    }
}

/// A collection where another collection was killed half way: recovery may die too.
pub(crate) fn recovery() -> Life {
    Life {
        name: "recovery",
        before: |scene, cache| {
            let dry_run = cache.with_file_name("dry-run");
            let calls = killed(scene, &dry_run, None)?.calls;
            let moves = |call: &&Call| call.name.starts_with("rename") && call.path.starts_with("trash");
            let moves: Vec<_> = (1..).zip(&calls).filter(|(_, call)| moves(call)).map(|(at, _)| at).collect();
            let at = *moves.get(moves.len() / 2).context("a collection that moves nothing")?;
            killed(scene, cache, Some(Blow { at, is_torn: false }))?;
            fs_err::remove_dir_all(dry_run)?;
            is_broken_off(&cache.join("index.sqlite3"))
        },
        steps: vec![Step::Collect],
        keeps: vec![FOX],
        pins: vec![FOX],
        ..Life::default()
    }
}

/// A collection in a new store, killed at a call.
fn killed(scene: &Scene, cache: &Path, blow: Option<Blow>) -> Result<Run> {
    let life = collect();
    (life.before)(scene, cache)?;
    let order = life.order(scene, cache, cache.with_extension("said"));
    tracer::run(&order.command()?, cache, blow, || Ok(()))
}

/// Whether a collection was in the middle of something.
fn is_broken_off(index: &Path) -> Result<()> {
    let index = Connection::open_with_flags(index, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let marked: i64 = index.query_row("SELECT count(*) FROM blob WHERE state = 1", [], |row| row.get(0))?;
    anyhow::ensure!(marked > 0, "nothing was about to leave");
    Ok(())
}

/// One of two models is removed.
pub(crate) fn remove() -> Life {
    Life {
        name: "rm",
        before: |scene, cache| {
            let store = filled(scene, cache)?;
            let owl = store.find(&parse(OWL)?)?.context("it was brought")?;
            program::pack(&store, 1, Some(owl.key_digest))
        },
        steps: vec![Step::Remove(OWL.to_owned())],
        keeps: vec![FOX],
        ..Life::default()
    }
}

/// The index is gone, and is built again from the manifests.
pub(crate) fn rebuild() -> Life {
    Life {
        name: "rebuild",
        before: |scene, cache| {
            drop(filled(scene, cache)?);
            for name in ["index.sqlite3", "index.sqlite3-wal", "index.sqlite3-shm"] {
                let _ = fs_err::remove_file(cache.join(name));
            }
            Ok(())
        },
        keeps: vec![FOX, OWL],
        ..Life::default()
    }
}

/// The index is no database any more, and is set aside for a new one.
pub(crate) fn broken_index() -> Life {
    Life {
        name: "broken index",
        before: |scene, cache| {
            drop(filled(scene, cache)?);
            let index = fs_err::OpenOptions::new().write(true).open(cache.join("index.sqlite3"))?;
            Ok(index.file().write_all_at(&[0x55; 8192], 0)?)
        },
        keeps: vec![FOX, OWL],
        ..Life::default()
    }
}

/// The index is one of the first version, and is brought up to date with the first change.
pub(crate) fn migrate() -> Life {
    Life {
        name: "migration",
        before: |scene, cache| {
            drop(filled(scene, cache)?);
            into_first_version(&cache.join("index.sqlite3"))
        },
        steps: vec![Step::Ensure(FOX.to_owned()), Step::Collect],
        keeps: vec![FOX, OWL],
        ..Life::default()
    }
}

/// Leaves what the first version of the index could say.
fn into_first_version(index: &Path) -> Result<()> {
    let newer = index.with_extension("newer");
    fs_err::rename(index, &newer)?;
    let connection = Connection::open(index)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.execute_batch(FIRST_VERSION)?;
    connection.execute("ATTACH ?1 AS newer", [newer.to_str().context("a path in UTF-8")?])?;
    for (table, columns) in FIRST_COLUMNS {
        connection.execute(
            &format!("INSERT INTO main.{table} ({columns}) SELECT {columns} FROM newer.{table}"),
            [],
        )?;
    }
    connection.close().map_err(|(_, error)| error)?;
    Ok(fs_err::remove_file(newer)?)
}

/// Bytes have rotted; they are found, set aside and fetched again.
pub(crate) fn repair() -> Life {
    Life {
        name: "repair",
        before: |scene, cache| {
            drop(filled(scene, cache)?);
            let blob = blob_path(cache, &scene.weights(FOX));
            fs_err::set_permissions(&blob, std::fs::Permissions::from_mode(0o644))?;
            let file = fs_err::OpenOptions::new().write(true).open(&blob)?;
            file.file().write_all_at(b"rot", 100)?;
            Ok(fs_err::set_permissions(&blob, std::fs::Permissions::from_mode(0o444))?)
        },
        steps: vec![Step::Repair],
        keeps: vec![OWL],
        damages: Some(|scene| scene.weights(FOX)),
        ..Life::default()
    }
}

/// Models come from a folder that another store exported.
pub(crate) fn import() -> Life {
    Life {
        name: "import",
        before: |scene, cache| {
            let elsewhere = cache.with_file_name("elsewhere");
            let store = filled(scene, &elsewhere)?;
            let keys: Vec<_> = store.list()?.iter().map(|artifact| artifact.key_digest).collect();
            store.export(&keys, &program::beside(cache))?;
            drop(store);
            Ok(fs_err::remove_dir_all(elsewhere)?)
        },
        steps: vec![Step::Import],
        ..Life::default()
    }
}

/// Models are taken over from another program, as second names of its files.
pub(crate) fn adopt() -> Life {
    Life {
        name: "adopt",
        before: |scene, cache| {
            [FOX, OWL].iter().try_for_each(|it| scene.lay_out(it, &program::beside(cache)))
        },
        steps: vec![Step::Adopt],
        ..Life::default()
    }
}

/// A store that has both models.
fn filled(scene: &Scene, cache: &Path) -> Result<Store> {
    let store = Store::open(config(cache, &scene.endpoint(), None))?;
    for reference in [FOX, OWL] {
        program::ensure(&store, reference)?;
    }
    Ok(store)
}
