//! Whether a model can draft for another one, by what the headers of both say.

use super::gguf;
use crate::error::Failure;
use crate::model::{Descriptor, Format, ModelFiles};

/// Why `draft` cannot say what `model` may say next, in words that follow its name; `None` = it can, as far as the headers say.
/// Both write text of the same vocabulary, tokens of both can be taken back, and the draft model is not the larger one. Reads
/// the vocabularies.
///
/// # Errors
/// What is wrong with a file.
pub fn cannot_draft(
    (draft, drafts): (&ModelFiles, &Descriptor),
    (model, writes): (&ModelFiles, &Descriptor),
) -> Result<Option<String>, Failure> {
    let by_shape = by_shape(drafts, writes);
    if by_shape.is_some() {
        return Ok(by_shape);
    }
    Ok(gguf::vocabularies_differ(model.main(), draft.main())?)
}

fn by_shape(drafts: &Descriptor, writes: &Descriptor) -> Option<String> {
    if drafts.format != Format::Gguf || writes.format != Format::Gguf {
        return Some("only GGUF models have drafts".to_owned());
    }
    for (descriptor, whose) in [(writes, "the model"), (drafts, "it")] {
        let architecture = &descriptor.architecture;
        if descriptor.is_encoder() || !descriptor.is_causal {
            return Some(format!("{whose} is of the architecture {architecture}, which writes no text"));
        }
        if descriptor.state_bytes > 0 {
            let why = "which keeps state of which no token can be taken back";
            return Some(format!("{whose} is of the architecture {architecture}, {why}"));
        }
    }
    let (own, others) = (drafts.parameters, writes.parameters);
    (own > others)
        .then(|| format!("it has {own} parameters and the model {others}: a draft model is the smaller one"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeEngine;
    use crate::testing::gguf::{LlamaShape, byte_pairs, llama};

    #[test]
    fn a_draft_model_writes_text_that_can_be_taken_back_and_is_not_the_larger_one() {
        let model = FakeEngine::descriptor("m", 1000);
        let same = model.clone();
        assert_eq!(by_shape(&same, &model), None, "a model may draft for itself");
        let small = FakeEngine::descriptor("s", 500);
        assert_eq!(by_shape(&small, &model), None);
        let of = |architecture: &str| Descriptor { architecture: architecture.to_owned(), ..small.clone() };
        for (drafts, writes, words) in [
            (of("bert"), &model, "it is of the architecture bert"),
            (small.clone(), &of("bert"), "the model is of the architecture bert"),
            (
                Descriptor { state_bytes: 1, ..small.clone() },
                &model,
                "it is of the architecture fake, which keeps",
            ),
            (
                small.clone(),
                &Descriptor { state_bytes: 1, ..model.clone() },
                "the model is of the architecture fake",
            ),
            (model.clone(), &small, "the smaller one"),
            (Descriptor { format: Format::Safetensors, ..small.clone() }, &model, "only GGUF"),
        ] {
            let why = by_shape(&drafts, writes).unwrap_or_default();
            assert!(why.contains(words), "{words}: {why}");
        }
    }

    #[test]
    fn the_vocabularies_are_compared() {
        let folder = tempfile::tempdir().unwrap();
        let model = |name: &str, bytes: Vec<u8>| {
            let path = folder.path().join(name);
            fs_err::write(&path, bytes).unwrap();
            let files = ModelFiles::of(path);
            let descriptor = super::super::inspect(&files).unwrap();
            (files, descriptor)
        };
        let (one, two) = (llama(LlamaShape::TINY), byte_pairs(LlamaShape::SMALLEST, "default", &[]));
        let (large, small) =
            (model("large", one.build()), model("small", llama(LlamaShape::SMALLEST).build()));
        let other = model("other", two.build());
        let why = |draft: &(ModelFiles, Descriptor)| {
            cannot_draft((&draft.0, &draft.1), (&large.0, &large.1)).unwrap()
        };
        assert_eq!(why(&small), None);
        assert!(why(&other).is_some_and(|why| why.contains("kind")));
    }
}
