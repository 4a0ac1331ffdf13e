//! The backends of this crate: all answer alike.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use samovar::{ModelSettings, Runtime};
use samovar_chat::{ChatBackend, UnpooledBackend, conformance};
use samovar_core::ModelRef;
use samovar_core::testing::fake::FakeEngine;
use samovar_core::testing::gguf::{LlamaShape, llama};

/// A runtime on this engine with the model `tiny`.
pub(crate) fn runtime(engine: &FakeEngine, folder: &Path, context_tokens: u32) -> Runtime {
    let file: PathBuf = folder.join("tiny-model.gguf");
    if !file.exists() {
        fs_err::write(&file, llama(LlamaShape::TINY).build()).expect("writes");
    }
    let settings = ModelSettings::default().slots(2).context_tokens(context_tokens);
    Runtime::builder()
        .cache_dir(folder.join("cache"))
        .alias("tiny", ModelRef::file(file), settings.clone())
        .defaults(settings)
        .engine(Arc::new(engine.clone()))
        .build()
        .expect("builds")
}

#[tokio::test]
async fn a_pooled_and_an_unpooled_runtime_say_the_same() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let engine = FakeEngine::new();
    let pooled: Arc<dyn ChatBackend> = Arc::new(runtime(&engine, folder.path(), 512));
    let said = conformance::check(pooled, "tiny").await;
    assert_eq!(engine.counts().loads_started, 1, "one load for all of it");
    let other = FakeEngine::new();
    let (made, place) = (other.clone(), folder.path().to_owned());
    let unpooled = UnpooledBackend::new(move || Ok(runtime(&made, &place, 512)));
    assert_eq!(conformance::check(Arc::new(unpooled), "tiny").await, said);
    assert!(other.counts().loads_started > 3, "a load for each request: {:?}", other.counts());
}
