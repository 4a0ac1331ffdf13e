//! A server with an embedder, a reranker and the built-in chat model.

use samovar::ModelSettings;
use samovar_core::ModelRef;
use samovar_core::port::Capabilities;
use samovar_core::testing::fake::{Builder, FakeEngine};
use samovar_core::testing::gguf::{LlamaShape, Writer, bert, reranker};
use serde_json::Value;
use tempfile::TempDir;

use crate::fixture::Fixture;

/// Tokens of the longest input.
pub(crate) const CONTEXT: u32 = 64;
/// Numbers of a vector.
pub(crate) const WIDTH: u32 = 64;

pub(crate) struct Embedders {
    pub(crate) fixture: Fixture,
    _files: TempDir,
}

impl std::ops::Deref for Embedders {
    type Target = Fixture;

    fn deref(&self) -> &Fixture {
        &self.fixture
    }
}

impl Embedders {
    pub(crate) async fn new() -> Self {
        Self::on(FakeEngine::builder(), &["embedder"]).await
    }

    /// With embedders of these names.
    pub(crate) async fn on(engine: Builder, names: &[&str]) -> Self {
        Self::tuned(engine, names, |builder| builder).await
    }

    /// The same with a runtime that differs in something.
    pub(crate) async fn tuned(
        engine: Builder,
        names: &[&str],
        more: impl FnOnce(samovar::Builder) -> samovar::Builder,
    ) -> Self {
        let embeds = Capabilities { can_generate: false, can_rerank: false, ..FakeEngine::EMBEDS };
        let reranks = Capabilities { can_generate: false, can_embed: false, ..FakeEngine::EMBEDS };
        let engine = engine.capabilities_for("tiny bert", embeds).capabilities_for("tiny reranker", reranks);
        let files = tempfile::tempdir().expect("tempdir");
        let put = |name: &str, writer: &Writer| {
            let path = files.path().join(name);
            fs_err::write(&path, writer.build()).expect("writes");
            ModelRef::file(path)
        };
        let embedder = put("embedder.gguf", &bert(LlamaShape::TINY));
        let reranker = reranker(LlamaShape::TINY).text("general.name", "tiny reranker");
        let reranker = put("reranker.gguf", &reranker);
        let settings = ModelSettings::default().context_tokens(CONTEXT);
        let tune = |builder: samovar::Builder| {
            let builder = more(builder).alias("reranker", reranker, settings.clone());
            names
                .iter()
                .fold(builder, |builder, name| builder.alias(*name, embedder.clone(), settings.clone()))
        };
        let fixture = Fixture::built(engine, tune, |_| ()).await;
        Self { fixture, _files: files }
    }
}

/// The numbers of an array, in as many bits as they were computed in.
pub(crate) fn vector(array: &Value) -> Vec<f32> {
    let numbers = array.as_array().unwrap_or_else(|| panic!("an array: {array}"));
    numbers.iter().map(|number| number.as_f64().expect("a number") as f32).collect()
}

/// The vectors of an answer in OpenAI's form, whose places are in order.
pub(crate) fn vectors(answer: &Value) -> Vec<Vec<f32>> {
    let data = answer["data"].as_array().expect("data");
    let of = |(index, object): (usize, &Value)| {
        assert_eq!((&object["object"], &object["index"]), (&"embedding".into(), &index.into()));
        vector(&object["embedding"])
    };
    data.iter().enumerate().map(of).collect()
}
