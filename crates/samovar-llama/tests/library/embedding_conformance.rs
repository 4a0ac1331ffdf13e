//! The suite that every engine passes which makes vectors or scores, for an encoder, a reranker and a decoder.

use crate::support;

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use samovar_core::embedding::Pooling;
use samovar_core::format::gguf;
use samovar_core::testing::conformance::Subject;
use samovar_core::testing::gguf::{LlamaShape, Writer, bert, llama, reranker};
use samovar_core::{Descriptor, LoadOptions, ModelFiles};
use samovar_llama::LlamaEngine;

/// Sums are rounded in another order when the batch around a sequence differs.
const TIE_GAP: f32 = 0.1;

/// A model's file, which lives as long as the tests do.
struct Model {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Model {
    fn of(writer: &Writer) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.gguf");
        fs_err::write(&path, writer.build()).expect("writes");
        Self { _folder: folder, path }
    }

    fn subject(&self, pooling: Pooling) -> Subject {
        let descriptor = gguf::inspect(&self.path).expect("the gate lets it through");
        Subject {
            engine: Arc::new(LlamaEngine::new()),
            files: ModelFiles::of(&self.path),
            packed: None,
            // As an owner's setting says it of a file that says nothing.
            descriptor: Descriptor { pooling: Some(pooling), ..descriptor },
            options: LoadOptions { pooling: Some(pooling), ..support::options() },
            tie_gap: TIE_GAP,
        }
    }
}

static ENCODER: LazyLock<Model> = LazyLock::new(|| Model::of(&bert(LlamaShape::TINY)));
static RERANKER: LazyLock<Model> = LazyLock::new(|| Model::of(&reranker(LlamaShape::TINY)));
static DECODER: LazyLock<Model> = LazyLock::new(|| Model::of(&llama(LlamaShape::TINY)));

mod an_encoder {
    use super::*;
    samovar_core::engine_conformance!(embeddings: ENCODER.subject(Pooling::Mean));
}

mod a_reranker {
    use super::*;
    samovar_core::engine_conformance!(embeddings: RERANKER.subject(Pooling::Rank));
}

mod a_decoder {
    use super::*;
    samovar_core::engine_conformance!(embeddings: DECODER.subject(Pooling::Last));
}
