//! The tokens by which a model fills gaps in: named by keys of the file, or known by their texts as llama.cpp knows them.
//!
//! *Source:* the special tokens in `llama-vocab.cpp`. The token that pads such prompts is checked with the other special tokens, and
//! is not kept: no prompt here is padded.

use super::tokenizer::Special;
use crate::infill::InfillTokens;

/// A part of a text with a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Prefix,
    Suffix,
    Middle,
    Repository,
    File,
}

impl Part {
    const ALL: [Self; 5] = [Self::Prefix, Self::Suffix, Self::Middle, Self::Repository, Self::File];

    /// The keys that name its token; of two that do, the later counts.
    const fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Prefix => &["tokenizer.ggml.fim_pre_token_id", "tokenizer.ggml.prefix_token_id"],
            Self::Suffix => &["tokenizer.ggml.fim_suf_token_id", "tokenizer.ggml.suffix_token_id"],
            Self::Middle => &["tokenizer.ggml.fim_mid_token_id", "tokenizer.ggml.middle_token_id"],
            Self::Repository => &["tokenizer.ggml.fim_rep_token_id"],
            Self::File => &["tokenizer.ggml.fim_sep_token_id"],
        }
    }

    /// The texts of its token in the vocabularies of well-known models.
    const fn texts(self) -> &'static [&'static str] {
        match self {
            Self::Prefix => &[
                "<|fim_prefix|>",
                "<fim-prefix>",
                "<fim_prefix>",
                "<｜fim▁begin｜>",
                "<PRE>",
                "▁<PRE>",
                "<|code_prefix|>",
                "<|prefix|>",
            ],
            Self::Suffix => &[
                "<|fim_suffix|>",
                "<fim-suffix>",
                "<fim_suffix>",
                "<｜fim▁hole｜>",
                "<SUF>",
                "▁<SUF>",
                "<|code_suffix|>",
                "<|suffix|>",
            ],
            Self::Middle => &[
                "<|fim_middle|>",
                "<fim-middle>",
                "<fim_middle>",
                "<｜fim▁end｜>",
                "<MID>",
                "▁<MID>",
                "<|code_middle|>",
                "<|middle|>",
            ],
            Self::Repository => &["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"],
            Self::File => &["<|file_sep|>"],
        }
    }
}

/// The tokens that were found so far.
#[derive(Debug, Default)]
pub(super) struct Found {
    by_key: [Option<u64>; 5],
    /// With the place of its text among those of its part: the first of them counts.
    by_text: [Option<(usize, u64)>; 5],
}

impl Found {
    /// Takes in what a key says of a special token.
    pub(super) fn key(&mut self, key: &str, said: Special) {
        let Special::Id(id) = said else { return };
        for (part, found) in Part::ALL.into_iter().zip(&mut self.by_key) {
            if part.keys().contains(&key) {
                *found = Some(id);
            }
        }
    }

    /// Takes in an entry of the vocabulary.
    pub(super) fn entry(&mut self, id: u64, text: &str) {
        if !text.contains('<') {
            return;
        }
        for (part, found) in Part::ALL.into_iter().zip(&mut self.by_text) {
            let Some(rank) = part.texts().iter().position(|known| *known == text) else { continue };
            if found.is_none_or(|(before, _)| rank < before) {
                *found = Some((rank, id));
            }
        }
    }

    /// The tokens; `None` where one of the three that each such prompt needs is missing, or two are the same.
    pub(super) fn tokens(&self) -> Option<InfillTokens> {
        let id = |part: Part| {
            let place = Part::ALL.iter().position(|other| *other == part)?;
            let id = self.by_key[place].or(self.by_text[place].map(|(_, id)| id))?;
            u32::try_from(id).ok()
        };
        let (prefix, suffix, middle) = (id(Part::Prefix)?, id(Part::Suffix)?, id(Part::Middle)?);
        let are_distinct = prefix != suffix && suffix != middle && middle != prefix;
        are_distinct.then(|| InfillTokens {
            prefix,
            suffix,
            middle,
            repository: id(Part::Repository),
            file: id(Part::File),
        })
    }
}
