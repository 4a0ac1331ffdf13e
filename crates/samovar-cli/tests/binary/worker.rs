//! llama.cpp in workers of the real binary: the suite that every engine passes, and what the suite does not ask.

use std::path::Path;
use std::sync::Arc;

use samovar::worker::{WorkerConfig, WorkerEngine};
use samovar_core::footprint::KvType;
use samovar_core::format::gguf;
use samovar_core::port::{Engine, LoadControl, ModelFiles};
use samovar_core::testing::conformance::Subject;
use samovar_core::{Descriptor, ErrorKind, Layout, LoadOptions};

use crate::home::{Home, MODEL_FILE};

/// Sums are rounded in another order when the batch around a sequence differs.
const TIE_GAP: f32 = 0.1;

fn engine() -> WorkerEngine {
    let config = WorkerConfig::new(env!("CARGO_BIN_EXE_samovar"), ["worker", "--log", "warn"]);
    WorkerEngine::new(samovar::default_engine().expect("an engine"), config).expect("workers")
}

fn demo() -> Descriptor {
    gguf::inspect(Path::new(MODEL_FILE)).expect("the demo model passes the gate")
}

fn options() -> LoadOptions {
    LoadOptions {
        context_tokens: 512,
        slots: 4,
        layout: Layout::Mapped,
        kv_type: KvType::F16,
        threads: 1,
        lock_memory: false,
    }
}

fn subject() -> Subject {
    Subject {
        engine: Arc::new(engine()),
        path: MODEL_FILE.into(),
        packed: None,
        descriptor: demo(),
        options: options(),
        tie_gap: TIE_GAP,
    }
}

samovar_core::engine_conformance!(subject());

#[test]
fn a_file_that_is_no_model_fails_its_load_and_nothing_else() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("broken.gguf");
    let engine = engine();
    let whole = fs_err::read(MODEL_FILE).expect("the demo model");
    for bytes in [0, 4, 1000, whole.len() / 2] {
        fs_err::write(&path, &whole[..bytes]).expect("a file");
        // The gate would refuse it; the engine is asked all the same, with the facts of another file.
        let outcome = engine.load(ModelFiles::of(&path), &demo(), &options(), &LoadControl::silent());
        let failure = outcome.map(|_| ()).expect_err("half a model");
        let kinds = [ErrorKind::InvalidModel, ErrorKind::EngineFailed];
        assert!(kinds.contains(&failure.kind), "{bytes} bytes: {failure:?}");
    }
    let instance =
        engine.load(ModelFiles::of(Path::new(MODEL_FILE)), &demo(), &options(), &LoadControl::silent());
    instance.expect("the whole model loads").probe().expect("and answers");
}

#[test]
fn without_a_daemon_a_worker_says_so() {
    let done = Home::new().run(&["worker"]);
    assert_ne!(done.code, 0);
    assert!(done.stderr.contains("daemon"), "{done:?}");
}
