//! Malformed GGUF files, one for each way that is known, and sound ones beside them.
//!
//! Every parser of model files must refuse the malformed ones with an error: not crash, not hang, not
//! take memory by the gigabyte.

use super::gguf::{LlamaShape, Tensor, Writer, bert, llama, reranker, value_type};
use crate::format::gguf::{Fault, Lookalike, limits};

/// A malformed file.
#[derive(Clone, Debug)]
pub struct Malformed {
    /// What is wrong with it; names are distinct and fit for a file name.
    pub name: &'static str,
    /// The file.
    pub bytes: Vec<u8>,
    /// The fault that the gate must find, as a pattern.
    pub expected: &'static str,
    /// Whether a fault is the expected one.
    pub is_expected: fn(&Fault) -> bool,
}

macro_rules! malformed {
    ($($name:literal: $bytes:expr => $pattern:pat,)*) => {
        vec![$(Malformed {
            name: $name,
            bytes: $bytes,
            expected: stringify!($pattern),
            is_expected: |fault| matches!(fault, $pattern),
        }),*]
    };
}

fn sound() -> Writer {
    llama(LlamaShape::SMALLEST)
}

/// The header of a Jina encoder whose feed-forward layers are so wide, and of matrices with 16 rows that lead there.
fn jina(feed_forward: u32) -> Writer {
    bert(LlamaShape::SMALLEST)
        .text("general.architecture", "jina-bert-v2")
        .u32("jina-bert-v2.context_length", 64)
        .u32("jina-bert-v2.embedding_length", 8)
        .u32("jina-bert-v2.block_count", 1)
        .u32("jina-bert-v2.attention.head_count", 2)
        .u32("jina-bert-v2.feed_forward_length", feed_forward)
}

/// Sound files: small, old and new, with and without what is optional.
pub fn valid() -> Vec<(&'static str, Vec<u8>)> {
    let per_block = |writer: Writer, key: &str| writer.array(key, value_type::I32, 1, &1_i32.to_le_bytes());
    vec![
        ("smallest", sound().build()),
        ("tiny", llama(LlamaShape::TINY).build()),
        ("encoder", bert(LlamaShape::SMALLEST).build()),
        ("encoder-with-gates", jina(16).build()),
        ("encoder-with-gates-in-one-matrix", jina(8).build()),
        ("reranker", reranker(LlamaShape::SMALLEST).build()),
        ("version-2", sound().version(2).build()),
        ("aligned-to-64", sound().alignment(64).build()),
        (
            "unknown-keys",
            sound().text("vendor.note", "x").array("vendor.empty", value_type::U8, 0, &[]).build(),
        ),
        ("heads-per-block", per_block(sound(), "llama.attention.head_count_kv").build()),
        ("no-token-written-as-minus-one", sound().i32("tokenizer.ggml.padding_token_id", -1).build()),
        ("no-token-written-as-u32", sound().u32("tokenizer.ggml.padding_token_id", u32::MAX).build()),
        (
            "special-tokens-outside",
            sound()
                .u32("tokenizer.ggml.bos_token_id", 272)
                .u32("tokenizer.ggml.eos_token_id", 999_999)
                .u32("tokenizer.ggml.padding_token_id", 1 << 30)
                .build(),
        ),
        ("split-of-one", sound().u16("split.count", 1).u16("split.no", 0).build()),
        ("empty-tokens-differ", with_last_tokens(["", "a\0x"]).build()),
    ]
}

/// Malformed files, each with the fault that the gate must find.
pub fn malformed() -> Vec<Malformed> {
    let mut all = not_gguf();
    all.extend(cut_short());
    all.extend(keys());
    all.extend(values());
    all.extend(arrays());
    all.extend(architectures());
    all.extend(vocabularies());
    all.extend(tensors());
    all.extend(places());
    all
}

fn not_gguf() -> Vec<Malformed> {
    let safetensors =
        [&64_u64.to_le_bytes()[..], b"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}"];
    malformed! {
        "empty": Vec::new() => Fault::Empty,
        "one-byte": b"G".to_vec() => Fault::NotGguf(Lookalike::Unknown(_)),
        "magic-alone": b"GGUF".to_vec() => Fault::Truncated { at: 4, .. },
        "magic-of-another": sound().magic(*b"GGUG").build() => Fault::NotGguf(Lookalike::Unknown(_)),
        "safetensors": safetensors.concat() => Fault::NotGguf(Lookalike::Safetensors),
        "zip": b"PK\x03\x04archive/data.pkl".to_vec() => Fault::NotGguf(Lookalike::Zip),
        "pickle": b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.".to_vec() => Fault::NotGguf(Lookalike::Pickle),
        "gzip": b"\x1f\x8b\x08\0\0\0\0\0".to_vec() => Fault::NotGguf(Lookalike::Compressed),
        "old-ggml": b"tjgg\x01\0\0\0".to_vec() => Fault::NotGguf(Lookalike::OldGgml),
        "web-page": b"<!DOCTYPE html><title>403</title>".to_vec() => Fault::NotGguf(Lookalike::WebPage),
        "lfs-pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n".to_vec() => Fault::NotGguf(Lookalike::LfsPointer),
        "json": b"{\"architectures\": []}".to_vec() => Fault::NotGguf(Lookalike::Json),
        "zeros": vec![0; 4096] => Fault::NotGguf(Lookalike::Zeros),
        "version-0": sound().version(0).build() => Fault::Version(0),
        "version-1": sound().version(1).build() => Fault::Version(1),
        "version-4": sound().version(4).build() => Fault::Version(4),
        "big-endian": sound().version(3_u32.swap_bytes()).build() => Fault::BigEndian,
    }
}

fn cut_short() -> Vec<Malformed> {
    let header = sound().header();
    let cut = |at: usize| header[..at].to_vec();
    malformed! {
        "cut-in-the-version": cut(6) => Fault::Truncated { .. },
        "cut-in-the-counts": cut(12) => Fault::Truncated { .. },
        "cut-after-the-counts": cut(24) => Fault::CountBeyondFile { .. },
        "cut-in-the-vocabulary": cut(header.len() / 2) => Fault::ArrayBeyondFile { .. } | Fault::CountBeyondFile { .. } | Fault::Truncated { .. } | Fault::StringBeyondFile { .. },
        "cut-in-the-tensors": cut(header.len() - 10) => Fault::Truncated { .. },
        "no-data": header.clone() => Fault::DataBeyondFile { .. },
        "last-byte-missing": sound().cut(1).build() => Fault::DataBeyondFile { .. },
        "more-keys-than-bytes": sound().claim_keys(60_000).build()[..4096].to_vec() => Fault::CountBeyondFile { what: "keys", .. },
        "more-tensors-than-bytes": sound().claim_tensors(60_000).build()[..4096].to_vec() => Fault::CountBeyondFile { what: "tensors", .. },
        "too-many-keys": sound().claim_keys(65_537).build() => Fault::TooMany { what: "keys", .. },
        "too-many-tensors": sound().claim_tensors(65_537).build() => Fault::TooMany { what: "tensors", .. },
        "keys-2-to-63": sound().claim_keys(1 << 63).build() => Fault::TooMany { what: "keys", .. },
        "tensors-2-to-64": sound().claim_tensors(u64::MAX).build() => Fault::TooMany { what: "tensors", .. },
    }
}

fn keys() -> Vec<Malformed> {
    let long = "k".repeat(limits::KEY_BYTES as usize + 1);
    malformed! {
        "empty-key": sound().raw("", value_type::U8, [0]).build() => Fault::EmptyKey { .. },
        "key-too-long": sound().raw(&long, value_type::U8, [0]).build() => Fault::KeyTooLong { .. },
        "key-of-2-to-63-bytes": with_raw_key(&(1_u64 << 63).to_le_bytes()) => Fault::KeyTooLong { .. },
        "key-not-ascii": sound().raw("schlüssel", value_type::U8, [0]).build() => Fault::KeyNotAscii { .. },
        "key-not-utf8": sound().raw(b"k\xff", value_type::U8, [0]).build() => Fault::KeyNotAscii { .. },
        "key-with-nul": sound().raw(b"k\0x", value_type::U8, [0]).build() => Fault::KeyNotAscii { .. },
        "key-twice": sound().u32("vendor.x", 1).repeat_last_key().build() => Fault::DuplicateKey { .. },
        "architecture-twice": Writer::default().text("general.architecture", "llama").repeat_last_key().build() => Fault::DuplicateKey { .. },
        "value-type-13": sound().raw("vendor.x", 13, [0; 8]).build() => Fault::UnknownValueType { value_type: 13, .. },
        "value-type-minus-one": sound().raw("vendor.x", u32::MAX, [0; 8]).build() => Fault::UnknownValueType { .. },
    }
}

/// A file with one key whose length is `length` and whose text is missing.
fn with_raw_key(length: &[u8]) -> Vec<u8> {
    let mut bytes = Writer::default().claim_keys(1).header();
    bytes.extend(length);
    bytes.extend([b'x'; 64]);
    bytes
}

fn values() -> Vec<Malformed> {
    let length = |bytes: u64| bytes.to_le_bytes();
    let template = "x".repeat(limits::TEMPLATE_BYTES as usize + 1);
    malformed! {
        "string-of-2-to-63": sound().raw("vendor.x", value_type::STRING, length(1 << 63)).build() => Fault::StringTooLong { .. },
        "string-of-2-to-64": sound().raw("vendor.x", value_type::STRING, length(u64::MAX)).build() => Fault::StringTooLong { .. },
        "string-beyond-file": sound().raw("vendor.x", value_type::STRING, length(15 << 20)).build() => Fault::StringBeyondFile { .. },
        "string-not-utf8": sound().text("vendor.x", b"\xff\xfe").build() => Fault::NotUtf8 { .. },
        "string-ends-in-half-a-character": sound().text("vendor.x", &"é".as_bytes()[..1]).build() => Fault::NotUtf8 { .. },
        "long-string-not-utf8": sound().text("vendor.x", [&[b'x'; 200_000][..], b"\xc3"].concat()).build() => Fault::NotUtf8 { .. },
        "template-too-long": sound().text("tokenizer.chat_template", &template).build() => Fault::StringTooLong { .. },
        "template-not-utf8": sound().text("tokenizer.chat_template", b"{{ \xf0\x28 }}").build() => Fault::NotUtf8 { .. },
        "template-is-a-number": sound().u32("tokenizer.chat_template", 1).build() => Fault::WrongType { .. },
        "bool-of-two": sound().raw("vendor.x", value_type::BOOL, [2]).build() => Fault::NotBool { byte: 2, .. },
        "add-bos-is-a-number": sound().u32("tokenizer.ggml.add_bos_token", 1).build() => Fault::WrongType { .. },
        "name-too-long": sound().text("general.name", "n".repeat(2000)).build() => Fault::StringTooLong { .. },
        "adapter": sound().text("general.type", "adapter").build() => Fault::NotAModel(_),
        "projector": sound().text("general.type", "mmproj").build() => Fault::NotAModel(_),
        "clip": sound().text("general.architecture", "clip").build() => Fault::NotAModel(_),
        "split-in-three": sound().split(3)[0].build() => Fault::Split { number: 1, count: 3 },
        "split-later-part": sound().split(3)[1].build() => Fault::Split { number: 2, count: 3 },
        "split-without-number": sound().u16("split.count", 3).build() => Fault::MissingKey { .. },
        "split-without-sum": sound().u16("split.count", 3).u16("split.no", 0).build() => Fault::MissingKey { .. },
        "split-count-of-another-type": sound().u32("split.count", 1).build() => Fault::WrongType { .. },
        "split-number-of-another-type": sound().split(2)[1].clone().u32("split.no", 1).build() => Fault::WrongType { .. },
        "split-part-of-nothing": sound().u32("split.no", 1).build() => Fault::SplitLies(_),
        "split-past-the-last": sound().u16("split.count", 2).u16("split.no", 2).build() => Fault::SplitLies(_),
        "split-of-zero": sound().u16("split.count", 0).u16("split.no", 1).build() => Fault::SplitLies(_),
        "split-other-tensor-count": sound().u16("split.count", 1).u32("split.tensors.count", 999).build() => Fault::SplitLies(_),
        "split-of-a-million": sound().u32("split.count", 1_000_000).build() => Fault::WrongType { .. },
        "split-negative": sound().i32("split.count", -1).build() => Fault::WrongType { .. },
        "split-sum-negative": sound().split(2)[0].clone().i32("split.tensors.count", -1).build() => Fault::OutOfRange { .. },
    }
}

fn arrays() -> Vec<Malformed> {
    let nested = sound().array("vendor.x", value_type::ARRAY, 1, &[0; 12]);
    let deep = (0..50_000).flat_map(|_| [9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]).collect::<Vec<u8>>();
    malformed! {
        "nested-array": nested.build() => Fault::NestedArray { .. },
        "deeply-nested-array": sound().raw("vendor.x", value_type::ARRAY, deep).build() => Fault::NestedArray { .. },
        "array-of-unknown-type": sound().array("vendor.x", 99, 1, &[0; 8]).build() => Fault::UnknownValueType { .. },
        "array-of-2-to-63": sound().array("vendor.x", value_type::U64, 1 << 63, &[]).build() => Fault::ArrayTooLong { .. },
        "array-of-2-to-61-u64": sound().array("vendor.x", value_type::U64, 1 << 61, &[]).build() => Fault::ArrayTooLong { .. },
        "array-beyond-file": sound().array("vendor.x", value_type::U64, 4_000_000, &[]).build() => Fault::ArrayBeyondFile { .. },
        "strings-beyond-file": sound().array("vendor.x", value_type::STRING, 4_000_000, &[]).build() => Fault::ArrayBeyondFile { .. },
        "string-in-array-beyond-file": sound().array("vendor.x", value_type::STRING, 1, &(1_u64 << 20).to_le_bytes()).build() => Fault::StringBeyondFile { .. },
        "string-in-array-not-utf8": sound().strings("vendor.x", &[b"\xff"]).build() => Fault::NotUtf8 { .. },
        "bool-in-array-of-seven": sound().array("vendor.x", value_type::BOOL, 2, &[1, 7]).build() => Fault::NotBool { byte: 7, .. },
    }
}

fn architectures() -> Vec<Malformed> {
    malformed! {
        "no-keys": Writer::default().tensor("x", &[8]).build() => Fault::MissingKey { .. },
        "no-architecture": sound().without("general.architecture").build() => Fault::MissingKey { .. },
        "empty-architecture": sound().text("general.architecture", "").build() => Fault::MissingKey { .. },
        "architecture-is-a-number": sound().u32("general.architecture", 1).build() => Fault::WrongType { .. },
        "architecture-too-long": sound().text("general.architecture", "a".repeat(1000)).build() => Fault::StringTooLong { .. },
        "keys-of-another-architecture": sound().text("general.architecture", "qwen2").build() => Fault::MissingKey { .. },
        "pooling-of-no-kind": sound().u32("llama.pooling_type", 5).build() => Fault::OutOfRange { .. },
        "pooling-is-a-string": sound().text("llama.pooling_type", "mean").build() => Fault::WrongType { .. },
        "encoder-of-more-tokens-than-positions": bert(LlamaShape::SMALLEST).u32("bert.context_length", 65).build() => Fault::OutOfRange { .. },
        "encoder-with-heads-of-two-widths": bert(LlamaShape::SMALLEST).u32("bert.attention.value_length", 2).build() => Fault::OutOfRange { .. },
        "encoder-whose-last-layer-is-of-another-width": bert(LlamaShape::SMALLEST).u32("bert.dense_3_feat_out", 2).build() => Fault::OutOfRange { .. },
        "encoder-with-heads-wider-than-it": bert(LlamaShape::SMALLEST).u32("bert.attention.key_length", 8).u32("bert.attention.value_length", 8).build() => Fault::OutOfRange { .. },
        "encoder-whose-vectors-are-wider-than-it": bert(LlamaShape::SMALLEST).u32("bert.embedding_length_out", 16).build() => Fault::OutOfRange { .. },
        "encoder-whose-last-layers-do-not-fit": bert(LlamaShape::SMALLEST).u32("bert.dense_2_feat_out", 16).build() => Fault::OutOfRange { .. },
        "encoder-with-one-of-two-last-layers": bert(LlamaShape::SMALLEST).tensor("dense_3.weight", &[8, 8]).build() => Fault::NotAModel(_),
        "encoder-whose-feed-forward-layers-differ": bert(LlamaShape::SMALLEST).array("bert.feed_forward_length", value_type::I32, 1, &16_i32.to_le_bytes()).build() => Fault::WrongType { .. },
        "encoder-whose-gates-do-not-fit": jina(24).build() => Fault::OutOfRange { .. },
        "encoder-that-decides": bert(LlamaShape::SMALLEST).u32("bert.decision.block_count", 1).build() => Fault::OutOfRange { .. },
        "no-vocabulary": sound().text("tokenizer.ggml.model", "no_vocab").build() => Fault::OutOfRange { .. },
        "no-block-count": sound().without("llama.block_count").build() => Fault::MissingKey { .. },
        "no-blocks": sound().u32("llama.block_count", 0).build() => Fault::OutOfRange { .. },
        "a-million-blocks": sound().u32("llama.block_count", 1_000_000).build() => Fault::OutOfRange { .. },
        "block-count-is-a-string": sound().text("llama.block_count", "1").build() => Fault::WrongType { .. },
        "negative-context": sound().i32("llama.context_length", -1).build() => Fault::OutOfRange { .. },
        "context-of-2-to-32": sound().u32("llama.context_length", u32::MAX).build() => Fault::OutOfRange { .. },
        "no-width": sound().u32("llama.embedding_length", 0).build() => Fault::OutOfRange { .. },
        "width-of-a-billion": sound().u32("llama.embedding_length", 1_000_000_000).build() => Fault::OutOfRange { .. },
        "more-heads-than-width": sound().u32("llama.attention.head_count", 16).build() => Fault::OutOfRange { .. },
        "more-key-heads-than-heads": sound().u32("llama.attention.head_count_kv", 3).build() => Fault::OutOfRange { .. },
        "heads-not-divisible": sound().u32("llama.attention.head_count", 8).u32("llama.attention.head_count_kv", 3).build() => Fault::OutOfRange { .. },
        "heads-array-with-a-giant": sound().array("llama.attention.head_count", value_type::U32, 1, &u32::MAX.to_le_bytes()).build() => Fault::OutOfRange { .. },
        "heads-array-of-floats": sound().f32s("llama.attention.head_count", &[2.0]).build() => Fault::WrongType { .. },
        "rotation-wider-than-head": sound().u32("llama.rope.dimension_count", 64).build() => Fault::OutOfRange { .. },
        "rotation-odd": sound().u32("llama.rope.dimension_count", 3).build() => Fault::OutOfRange { .. },
        "rope-scaling-unknown": sound().text("llama.rope.scaling.type", "sideways").build() => Fault::OutOfRange { .. },
        "rope-base-not-a-number": sound().f32("llama.rope.freq_base", f32::NAN).build() => Fault::OutOfRange { .. },
        "epsilon-negative": sound().f32("llama.attention.layer_norm_rms_epsilon", -1.0).build() => Fault::OutOfRange { .. },
        "experts-without-use": sound().u32("llama.expert_count", 8).build() => Fault::OutOfRange { .. },
        "more-experts-used-than-there-are": sound().u32("llama.expert_count", 8).u32("llama.expert_used_count", 9).build() => Fault::OutOfRange { .. },
        "experts-used-of-none": sound().u32("llama.expert_used_count", 2).build() => Fault::OutOfRange { .. },
        "too-many-experts": sound().u32("llama.expert_count", 5000).u32("llama.expert_used_count", 1).build() => Fault::OutOfRange { .. },
        "more-extra-blocks-than-blocks": sound().u32("llama.nextn_predict_layers", 2).build() => Fault::OutOfRange { .. },
    }
}

/// The sound vocabulary with its last two entries replaced.
fn with_last_tokens(last: [&str; 2]) -> Writer {
    vocabulary_of(270, |id| if id < 268 { format!("t{id}") } else { last[id - 268].to_owned() })
}

fn vocabulary_of(count: usize, text: impl Fn(usize) -> String) -> Writer {
    let texts: Vec<String> = (0..count).map(text).collect();
    sound()
        .strings("tokenizer.ggml.tokens", &texts)
        .f32s("tokenizer.ggml.scores", &vec![0.0; count])
        .i32s("tokenizer.ggml.token_type", &vec![1; count])
}

fn with_byte_token(text: &str) -> Vec<u8> {
    let types: Vec<i32> = (0..270).map(|id| if id == 269 { 6 } else { 1 }).collect();
    with_last_tokens(["x", text]).i32s("tokenizer.ggml.token_type", &types).build()
}

fn vocabularies() -> Vec<Malformed> {
    let tokens = "tokenizer.ggml.tokens";
    let long = "x".repeat(limits::TOKEN_BYTES as usize + 1);
    let huge = limits::VOCABULARY + 1;
    let few = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"];
    let few_words =
        bert(LlamaShape::SMALLEST).strings(tokens, &few).i32s("tokenizer.ggml.token_type", &[3; 4]);
    let nan: Vec<f32> = (0..272).map(|id| if id == 5 { f32::NAN } else { 0.0 }).collect();
    malformed! {
        "vocabulary-empty": sound().array(tokens, value_type::STRING, 0, &[]).build() => Fault::EmptyVocabulary,
        "vocabulary-of-numbers": sound().i32s(tokens, &[1; 272]).build() => Fault::WrongType { .. },
        "vocabulary-is-a-string": sound().text(tokens, "a b c").build() => Fault::WrongType { .. },
        "vocabulary-too-large": sound().array(tokens, value_type::STRING, huge, &vec![0; huge as usize * 8]).build() => Fault::VocabularyTooLarge { .. },
        "token-too-long": with_last_tokens(["x", &long]).build() => Fault::StringTooLong { .. },
        "token-twice": with_last_tokens(["same", "same"]).build() => Fault::DuplicateToken { .. },
        "token-twice-behind-a-nul": with_last_tokens(["same", "same\0x"]).build() => Fault::DuplicateToken { .. },
        "empty-token-and-its-name": with_last_tokens(["", "[EMPTY_268]"]).build() => Fault::DuplicateToken { .. },
        "byte-token-negative": with_byte_token("<0x-1>") => Fault::ByteToken { .. },
        "byte-token-short": with_byte_token("x") => Fault::ByteToken { .. },
        "byte-token-empty": with_byte_token("") => Fault::ByteToken { .. },
        "byte-token-too-long": with_byte_token("<0x414>") => Fault::ByteToken { .. },
        "wordpiece-without-special-tokens": few_words.build() => Fault::SpecialToken { .. },
        "byte-token-in-wordpiece": sound().text("tokenizer.ggml.model", "bert").build() => Fault::ByteToken { .. },
        "scores-too-few": sound().f32s("tokenizer.ggml.scores", &[0.0; 10]).build() => Fault::TokenizerLength { .. },
        "scores-too-many": sound().f32s("tokenizer.ggml.scores", &[0.0; 1000]).build() => Fault::TokenizerLength { .. },
        "scores-of-strings": sound().strings("tokenizer.ggml.scores", &["0"; 272]).build() => Fault::WrongType { .. },
        "score-not-a-number": sound().f32s("tokenizer.ggml.scores", &nan).build() => Fault::Score { token: 5 },
        "token-types-too-few": sound().i32s("tokenizer.ggml.token_type", &[1; 10]).build() => Fault::TokenizerLength { .. },
        "token-types-of-floats": sound().f32s("tokenizer.ggml.token_type", &[1.0; 272]).build() => Fault::WrongType { .. },
        "merges-of-numbers": sound().i32s("tokenizer.ggml.merges", &[1]).build() => Fault::WrongType { .. },
        "merge-too-long": sound().strings("tokenizer.ggml.merges", &[&long]).build() => Fault::StringTooLong { .. },
        "bos-outside-and-no-other": with_bos_outside("gpt2", "glm4").build() => Fault::SpecialToken { id: 272, .. },
        "bos-outside-of-t5": with_bos_outside("t5", "default").build() => Fault::SpecialToken { id: 272, .. },
        "eos-negative": sound().i32("tokenizer.ggml.eos_token_id", -7).build() => Fault::SpecialToken { .. },
        "eos-is-a-string": sound().text("tokenizer.ggml.eos_token_id", "</s>").build() => Fault::WrongType { .. },
    }
}

/// A vocabulary that is to add a token to every prompt, and has none.
fn with_bos_outside(model: &str, pre: &str) -> Writer {
    let writer = sound().text("tokenizer.ggml.model", model).text("tokenizer.ggml.pre", pre);
    writer.boolean("tokenizer.ggml.add_bos_token", true).u32("tokenizer.ggml.bos_token_id", 272)
}

fn tensors() -> Vec<Malformed> {
    let extra = |name: &[u8], shape: &[u64], tensor_type: u32| {
        let tensor =
            Tensor { name: name.to_vec(), shape: shape.to_vec(), tensor_type, bytes: 0, offset: None };
        sound().raw_tensor(tensor).build()
    };
    malformed! {
        "vocabulary-without-weights": sound().without_tensors().build() => Fault::NotAModel(_),
        "tensor-name-empty": extra(b"", &[8], 0) => Fault::TensorName { .. },
        "tensor-name-of-64-bytes": extra(&[b'n'; 64], &[8], 0) => Fault::TensorName { .. },
        "tensor-name-not-utf8": extra(b"\xff", &[8], 0) => Fault::NotUtf8 { .. },
        "tensor-name-with-nul": extra(b"output.weight\0x", &[8], 0) => Fault::TensorName { .. },
        "tensor-twice": sound().tensor("output.weight", &[8]).build() => Fault::DuplicateTensor { .. },
        "tensor-without-dimensions": extra(b"x", &[], 0) => Fault::Dimensions { count: 0, .. },
        "tensor-of-five-dimensions": extra(b"x", &[1; 5], 0) => Fault::Dimensions { count: 5, .. },
        "tensor-of-1000-dimensions": extra(b"x", &[1; 1000], 0) => Fault::Dimensions { count: 1000, .. },
        "tensor-of-nothing": extra(b"x", &[8, 0], 0) => Fault::ZeroDimension { .. },
        "tensor-product-overflows": extra(b"x", &[1 << 32, 1 << 32], 0) => Fault::ShapeOverflow { .. },
        "tensor-product-wraps-to-small": extra(b"x", &[(1 << 63) + 4, 2], 0) => Fault::ShapeOverflow { .. },
        "tensor-bytes-overflow": extra(b"x", &[1 << 62], 0) => Fault::ShapeOverflow { .. },
        "tensor-side-negative": extra(b"x", &[u64::MAX], 0) => Fault::ShapeOverflow { .. },
        "tensor-type-43": extra(b"x", &[8], 43) => Fault::TensorType { tensor_type: 43, .. },
        "tensor-type-withdrawn": extra(b"x", &[32], 4) => Fault::TensorType { tensor_type: 4, .. },
        "tensor-type-for-activations": extra(b"x", &[256], 15) => Fault::TensorType { tensor_type: 15, .. },
        "tensor-type-negative": extra(b"x", &[8], u32::MAX) => Fault::TensorType { .. },
        "row-not-in-blocks": extra(b"x", &[100, 2], 12) => Fault::RowNotInBlocks { row: 100, block: 256, .. },
        "row-smaller-than-block": extra(b"x", &[16], 8) => Fault::RowNotInBlocks { .. },
    }
}

fn places() -> Vec<Malformed> {
    let last_at = |offset: u64| sound().last_tensor(|tensor| tensor.offset = Some(offset)).build();
    malformed! {
        "alignment-zero": sound().u32("general.alignment", 0).build() => Fault::OutOfRange { .. },
        "alignment-one": sound().u32("general.alignment", 1).build() => Fault::OutOfRange { .. },
        "alignment-48": sound().u32("general.alignment", 48).build() => Fault::Alignment(48),
        "alignment-2-to-31": sound().u32("general.alignment", 1 << 31).build() => Fault::OutOfRange { .. },
        "alignment-of-another-type": sound().i32("general.alignment", 32).build() => Fault::WrongType { .. },
        "alignment-larger-than-laid-out": sound().u32("general.alignment", 65_536).build() => Fault::Misaligned { .. },
        "offset-not-aligned": last_at(33) => Fault::Misaligned { offset: 33, .. },
        "offset-beyond-file": last_at(1 << 40) => Fault::DataBeyondFile { .. },
        "offset-wraps": last_at(u64::MAX - 31) => Fault::DataBeyondFile { .. },
        "offset-of-2-to-63": last_at(1 << 63) => Fault::DataBeyondFile { .. },
        "tensors-in-one-place": last_at(0) => Fault::Overlap { .. },
        "tensors-overlap-by-a-block": last_at(32) => Fault::Overlap { .. },
    }
}
