//! Malformed models, handed to the native code by force: no gate looks at them, and the process that started the
//! workers outlives them all.
#![cfg(all(target_os = "linux", feature = "llama"))]

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use samovar::worker::{Timeouts, WorkerConfig, WorkerEngine};
use samovar_core::generation::{GenerationRequest, Prompt};
use samovar_core::port::{Engine, Instance, LoadControl, LoadRequest};
use samovar_core::testing::FakeEngine;
use samovar_core::testing::corpus::{self, Malformed};
use samovar_core::{Descriptor, Failure, LoadOptions, ModelFiles};

/// Longer than this, and one file could keep a worker for good.
const LIMIT: Duration = Duration::from_secs(12);
/// What none of these files, a few kilobytes each, may take.
const MEMORY_BYTES: u64 = 2 << 30;

#[test]
fn malformed_models_loaded_by_force_kill_no_one_but_their_workers() {
    let engine = engine();
    let folder = tempfile::tempdir().expect("a folder");
    let files = corpus::malformed();
    let fates = Mutex::new(Vec::new());
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let fate = fate(&engine, folder.path(), file);
                    fates.lock().expect("no panic").push((file.name, fate));
                }
            });
        }
    });
    let fates = fates.into_inner().expect("no panic");
    let count = |wanted: Fate| fates.iter().filter(|(_, fate)| *fate == wanted).count();
    let crashed: Vec<_> =
        fates.iter().filter(|(_, fate)| *fate == Fate::Crashed).map(|(name, _)| *name).collect();
    println!(
        "{} malformed models past the gate: {} refused by the native code, {} loaded by it, {} crashed it: {}",
        fates.len(),
        count(Fate::Refused),
        count(Fate::Loaded),
        crashed.len(),
        crashed.join(", ")
    );
    assert_eq!(fates.len(), files.len());
    assert_eq!(engine.stats().running, 0);
    // And the next sound one is served.
    let (_, sound) = corpus::valid().swap_remove(0);
    let path = folder.path().join("sound.gguf");
    fs_err::write(&path, sound).expect("a file");
    load(&engine, &path).expect("a sound model loads");
}

fn load(engine: &WorkerEngine, path: &Path) -> Result<Arc<dyn Instance>, Failure> {
    let (files, descriptor, control) = (ModelFiles::of(path), descriptor(), LoadControl::silent());
    engine.load(LoadRequest::new(&files, &descriptor, &options(), &control))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The native code said no.
    Refused,
    /// It saw nothing wrong.
    Loaded,
    /// It died of it, or had to be ended.
    Crashed,
}

fn fate(engine: &WorkerEngine, folder: &Path, file: &Malformed) -> Fate {
    let path = folder.join(format!("{}.gguf", file.name));
    fs_err::write(&path, &file.bytes).expect("a file");
    let began = Instant::now();
    let outcome = load(engine, &path);
    let fate = match outcome {
        Err(failure) if failure.message.contains("the model's worker") => Fate::Crashed,
        Err(_) => Fate::Refused,
        Ok(instance) => {
            let prompt = Prompt::Text { text: "Hello".to_owned(), add_special: true, parse_special: false };
            let request = GenerationRequest { max_tokens: Some(4), ..GenerationRequest::new(prompt) };
            if let Ok(mut generation) = instance.generate(request) {
                while generation.blocking_next().is_some() {}
            }
            Fate::Loaded
        }
    };
    assert!(began.elapsed() < LIMIT, "{} took {:?}", file.name, began.elapsed());
    fate
}

fn engine() -> WorkerEngine {
    let mut config = WorkerConfig::new(env!("CARGO_BIN_EXE_samovar"), ["worker", "--log", "error"]);
    config.environment.push(("GGML_NO_BACKTRACE".into(), "1".into()));
    config.memory_limit_bytes = Some(MEMORY_BYTES);
    config.timeouts =
        Timeouts { standstill: Duration::from_secs(4), step: Duration::from_secs(8), ..Timeouts::default() };
    WorkerEngine::new(samovar::default_engine().expect("an engine"), config).expect("workers")
}

/// What no header was asked for.
fn descriptor() -> Descriptor {
    Descriptor { architecture: "llama".to_owned(), ..FakeEngine::descriptor("made up", 1 << 20) }
}

fn options() -> LoadOptions {
    LoadOptions { context_tokens: 64, slots: 1, ..FakeEngine::options() }
}
