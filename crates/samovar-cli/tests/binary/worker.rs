//! llama.cpp in workers of the real binary: the suite that every engine passes, and what the suite does not ask.
#![cfg(all(target_os = "linux", feature = "llama"))]

use std::path::Path;
use std::sync::Arc;

use samovar::worker::{WorkerConfig, WorkerEngine};
use samovar_core::footprint::KvType;
use samovar_core::format::gguf;
use samovar_core::generation::Sampling;
use samovar_core::port::{Engine, Instance, LoadControl, LoadRequest};
use samovar_core::testing::conformance::Subject;
use samovar_core::testing::gguf::{LlamaShape, llama, lora};
use samovar_core::{
    Adapter, Descriptor, Digest, DraftModel, ErrorKind, Failure, GenerationRequest, Layout, LoadOptions,
    ModelFiles, Prompt, TokenEvent, WeightsId,
};

use crate::home::{Home, MODEL_FILE};

/// Sums are rounded in another order when the batch around a sequence differs.
const TIE_GAP: f32 = 0.1;

pub(crate) fn engine() -> WorkerEngine {
    let config = WorkerConfig::new(env!("CARGO_BIN_EXE_samovar"), ["worker", "--log", "warn"]);
    WorkerEngine::new(samovar::default_engine().expect("an engine"), config).expect("workers")
}

fn demo() -> Descriptor {
    gguf::inspect(Path::new(MODEL_FILE)).expect("the demo model passes the gate")
}

pub(crate) fn options() -> LoadOptions {
    LoadOptions {
        context_tokens: 512,
        slots: 4,
        layout: Layout::Mapped,
        kv_type: KvType::F16,
        threads: 1,
        lock_memory: false,
        pooling: None,
        draft: None,
    }
}

pub(crate) fn subject() -> Subject {
    Subject {
        engine: Arc::new(engine()),
        files: ModelFiles::of(MODEL_FILE),
        packed: None,
        descriptor: demo(),
        options: options(),
        tie_gap: TIE_GAP,
    }
}

samovar_core::engine_conformance!(subject());

/// Loads the file at `path` as the demo model.
fn load(engine: &dyn Engine, path: &Path) -> Result<Arc<dyn Instance>, Failure> {
    let (files, control) = (ModelFiles::of(path), LoadControl::silent());
    engine.load(LoadRequest::new(&files, &demo(), &options(), &control))
}

/// A greedy answer of `instance`, with an adapter of this file and scale if one is given.
pub(crate) fn answer(instance: &dyn Instance, adapter: Option<(&Path, f32)>) -> String {
    let adapters = adapter.map(|(path, scale)| Adapter { path: path.to_owned(), scale });
    let mut generation = instance
        .generate(GenerationRequest {
            sampling: Sampling::greedy(),
            max_tokens: Some(24),
            ignore_eos: true,
            adapters: adapters.into_iter().collect(),
            ..GenerationRequest::new(Prompt::Tokens((60..80).collect()))
        })
        .expect("starts");
    let mut text = String::new();
    loop {
        match generation.blocking_next() {
            Some(TokenEvent::Token { text: more, .. }) => text.push_str(&more),
            Some(TokenEvent::Prefilling { .. } | TokenEvent::Prefilled { .. } | TokenEvent::Embedded(_)) => {}
            Some(TokenEvent::Done(_)) => return text,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_adapter_does_in_a_worker_what_it_does_in_this_process() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let adapters = [2, 3].map(|rank| {
        let path = folder.path().join(format!("{rank}.gguf"));
        fs_err::write(&path, lora(&demo(), rank).build()).expect("a file");
        path
    });
    let here = samovar::default_engine().expect("an engine");
    let load = |engine: &dyn Engine| load(engine, Path::new(MODEL_FILE)).expect("loads");
    let (here, there) = (load(&*here), load(&engine()));
    let base = answer(&*here, None);
    assert_eq!(answer(&*there, None), base);
    for (adapter, scale) in [(&adapters[0], 0.5), (&adapters[1], 0.5), (&adapters[0], 0.25)] {
        let adapted = answer(&*here, Some((adapter, scale)));
        assert_ne!(adapted, base, "it does something");
        assert_eq!(answer(&*there, Some((adapter, scale))), adapted, "{adapter:?} at {scale}");
    }
    assert_eq!(answer(&*there, Some((&adapters[0], 0.0))), base, "a scale of 0 is no adapter");
    // Another file under the same name is another adapter, also for a worker that has the first.
    fs_err::copy(&adapters[1], &adapters[0]).expect("replaced");
    let expected = answer(&*here, Some((&adapters[1], 0.5)));
    assert_eq!(answer(&*there, Some((&adapters[0], 0.5))), expected);
    assert_eq!(answer(&*there, None), base);
}

#[test]
fn a_draft_model_is_read_by_the_worker_of_its_model() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (draft, other) = (folder.path().join("draft.gguf"), folder.path().join("other.gguf"));
    fs_err::copy(MODEL_FILE, &draft).expect("a copy");
    fs_err::write(&other, llama(LlamaShape::TINY).build()).expect("a file");
    let engine = engine();
    let drafted = |draft: &Path| {
        let facts = gguf::inspect(draft).expect("the gate lets it through");
        let draft = DraftModel::new(WeightsId::File(Digest::of_bytes(b"a draft model")), &facts);
        LoadOptions { slots: 1, draft: Some(Box::new(draft)), ..options() }
    };
    let load_with = |draft: &Path| {
        let files = ModelFiles::of(MODEL_FILE).with_draft(&ModelFiles::of(draft));
        engine.load(LoadRequest::new(&files, &demo(), &drafted(draft), &LoadControl::silent()))
    };
    let both = load_with(&draft).expect("loads");
    let alone = load(&engine, Path::new(MODEL_FILE)).expect("loads");
    assert_eq!(answer(&*both, None), answer(&*alone, None));
    both.park().expect("parks");
    both.resume(&drafted(&draft)).expect("resumes");
    both.probe().expect("answers");
    let failure = load_with(&other).map(|_| ()).expect_err("its vocabulary is another");
    assert_eq!(failure.kind, ErrorKind::InvalidRequest, "{failure:?}");
    assert!(failure.message.contains("draft model") && failure.hint.is_some(), "{failure:?}");
}

#[test]
fn a_file_that_is_no_model_fails_its_load_and_nothing_else() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("broken.gguf");
    let engine = engine();
    let whole = fs_err::read(MODEL_FILE).expect("the demo model");
    for bytes in [0, 4, 1000, whole.len() / 2] {
        fs_err::write(&path, &whole[..bytes]).expect("a file");
        // The gate would refuse it; the engine is asked all the same, with the facts of another file.
        let outcome = load(&engine, &path);
        let failure = outcome.map(|_| ()).expect_err("half a model");
        let kinds = [ErrorKind::InvalidModel, ErrorKind::EngineFailed];
        assert!(kinds.contains(&failure.kind), "{bytes} bytes: {failure:?}");
    }
    load(&engine, Path::new(MODEL_FILE)).expect("the whole model loads").probe().expect("and answers");
}

#[test]
fn without_a_daemon_a_worker_says_so() {
    let done = Home::new().run(&["worker"]);
    assert_ne!(done.code, 0);
    assert!(done.stderr.contains("daemon"), "{done:?}");
}
