//! Whether two models have the same vocabulary, as far as one that drafts for the other must have it.
//!
//! *Source:* the test of llama.cpp for draft models, in `common/speculative.cpp`.

use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Seek};
use std::path::Path;

use super::error::{Error, Fault};
use super::limits;
use super::metadata::Metadata;
use super::reader::Reader;
use super::tokenizer::{self, ADD_EOS, BOS, EOS, MODEL, TOKENS};
use super::value::ValueType;

/// Tokens that one vocabulary may have more than the other: some are padded.
const SIZES_APART: usize = 128;
/// Tokens before this one may have other texts: they are control tokens.
const FIRST_COMPARED: usize = 5;

/// In what the vocabulary of `other` differs from that of `one`, in words that follow the name of `other`; `None` = in nothing
/// that matters to drafts: both are of one kind, have the same tokens at the begin and the end of texts, at most 128 tokens more or
/// fewer, and the same texts from the sixth token on. Of a split model, the file is the first part.
///
/// # Errors
/// [`Error`], which names the file that is not sound.
pub fn vocabularies_differ(one: &Path, other: &Path) -> Result<Option<String>, Error> {
    let hasher = RandomState::new();
    let read = |path: &Path| {
        super::open(path)
            .and_then(|(file, file_bytes)| Metadata::read(Reader::new(file, file_bytes)))
            .and_then(|mut metadata| Vocabulary::read(&mut metadata, &hasher))
            .map_err(|fault| Error { path: Some(path.to_owned()), fault })
    };
    let (one, other) = (read(one)?, read(other)?);
    Ok(one.differs_from(&other))
}

/// What is compared of a vocabulary.
struct Vocabulary {
    kind: String,
    adds_bos: bool,
    adds_eos: bool,
    bos: Option<u64>,
    eos: Option<u64>,
    /// Hashes of the texts.
    texts: Vec<u64>,
}

impl Vocabulary {
    fn read<R: Read + Seek>(metadata: &mut Metadata<R>, hasher: &RandomState) -> Result<Self, Fault> {
        let kind = metadata.text(MODEL, limits::IDENTIFIER_BYTES)?.unwrap_or_default();
        let tokens = metadata.array(TOKENS, &[ValueType::String], "an array of strings")?;
        let count = tokens.map_or(0, |tokens| tokens.count);
        if count > limits::VOCABULARY {
            return Err(Fault::VocabularyTooLarge { count });
        }
        let adds_bos = tokenizer::adds_bos(metadata, &kind)?;
        let adds_eos = metadata.boolean(ADD_EOS)?.unwrap_or(false);
        let bos = tokenizer::end_token(metadata, BOS, &kind, count, adds_bos)?;
        let eos = tokenizer::end_token(metadata, EOS, &kind, count, adds_eos)?;
        let mut texts = Vec::with_capacity(count as usize);
        tokenizer::each_entry(metadata, |_, text| {
            texts.push(hasher.hash_one(text));
            Ok(())
        })?;
        Ok(Self { kind, adds_bos, adds_eos, bos, eos, texts })
    }

    fn differs_from(&self, other: &Self) -> Option<String> {
        let (own, others) = (self.texts.len(), other.texts.len());
        if own == 0 || others == 0 {
            return Some("one of both files has no vocabulary".to_owned());
        }
        if self.kind != other.kind {
            return Some(format!("its vocabulary is of the kind {:?}, not {:?}", other.kind, self.kind));
        }
        if (self.adds_bos, self.adds_eos) != (other.adds_bos, other.adds_eos) {
            return Some("it does not add the same tokens at the begin and the end of texts".to_owned());
        }
        for (what, own, others) in [("begins", self.bos, other.bos), ("ends", self.eos, other.eos)] {
            if own != others {
                let id = |id: Option<u64>| id.map_or_else(|| "none".to_owned(), |id| id.to_string());
                return Some(format!("the token that {what} its texts is {}, not {}", id(others), id(own)));
            }
        }
        if own.abs_diff(others) > SIZES_APART {
            return Some(format!("its vocabulary has {others} tokens, not {own}"));
        }
        let pairs = self.texts.iter().zip(&other.texts);
        let different = pairs.enumerate().skip(FIRST_COMPARED).find(|(_, (one, other))| one != other);
        different.map(|(id, _)| format!("token {id} has another text in its vocabulary"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::gguf::{LlamaShape, Writer, byte_pairs, llama, with_specials};

    #[test]
    fn vocabularies_differ_where_a_token_would_mean_another_text() {
        let folder = tempfile::tempdir().unwrap();
        let shape = LlamaShape::SMALLEST;
        let path = |name: &str, model: Writer| {
            let path = folder.path().join(name);
            fs_err::write(&path, model.build()).unwrap();
            path
        };
        let model = path("model", llama(shape));
        let padded = path("padded", with_specials(shape, &[("<|a|>", true), ("<|b|>", false)]));
        let other = path("other", with_specials(shape, &[("<|a|>", true), ("<|c|>", false)]));
        let differ = |one: &Path, other: &Path| vocabularies_differ(one, other).unwrap();
        assert_eq!(differ(&model, &model), None);
        assert_eq!((differ(&model, &padded), differ(&padded, &model)), (None, None), "it has a few more");
        assert!(differ(&padded, &other).is_some_and(|why| why.contains("another text")));
        let specials: Vec<String> = (0..129).map(|number| format!("<|{number}|>")).collect();
        let specials: Vec<(&str, bool)> = specials.iter().map(|text| (text.as_str(), true)).collect();
        let larger = path("larger", with_specials(shape, &specials));
        assert!(differ(&model, &larger).is_some_and(|why| why.contains("tokens, not")));
        for (name, writer, words) in [
            ("pairs", byte_pairs(shape, "default", &[]), "kind"),
            ("adds", llama(shape).boolean("tokenizer.ggml.add_bos_token", false), "does not add"),
            ("ends", llama(shape).u32("tokenizer.ggml.eos_token_id", 1), "ends its texts is 1, not 2"),
        ] {
            let why = differ(&model, &path(name, writer));
            assert!(why.as_ref().is_some_and(|why| why.contains(words)), "{name}: {why:?}");
        }
        let failure = vocabularies_differ(&model, Path::new("/nowhere")).unwrap_err();
        assert_eq!(failure.path.as_deref(), Some(Path::new("/nowhere")));
    }
}
