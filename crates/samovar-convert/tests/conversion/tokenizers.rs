//! Tokenizers of a few tokens, in the form in which they are published.

use serde_json::{Value, json};

pub(crate) const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
pub(crate) const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

fn special(id: u32, content: &str) -> Value {
    json!({"id": id, "content": content, "special": true, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false})
}

fn around(begin: &str, end: &str) -> Value {
    let token = |id: &str| json!({"SpecialToken": {"id": id, "type_id": 0}});
    let text = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
    json!({"type": "TemplateProcessing", "single": [token(begin), text("A"), token(end)],
        "pair": [token(begin), text("A"), token(end), token(end), text("B"), token(end)]})
}

/// BPE over bytes, split by this expression.
pub(crate) fn byte_pairs(expression: &str) -> Value {
    json!({
        "added_tokens": [special(4, "<|end|>"), {"id": 5, "content": "<think>", "special": false}],
        "normalizer": null,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]},
        "post_processor": {"type": "ByteLevel", "add_prefix_space": true},
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "Ġ": 2, "ab": 3}, "merges": [["a", "b"]],
            "ignore_merges": expression == LLAMA3}
    })
}

/// BPE over bytes with GPT-2's expression, as `ModernBERT` has it.
pub(crate) fn gpt2() -> Value {
    let mut file = byte_pairs(QWEN2);
    file["pre_tokenizer"] = json!({"type": "ByteLevel", "add_prefix_space": false, "use_regex": true});
    file["added_tokens"] = json!([special(4, "[CLS]"), special(5, "[SEP]")]);
    file["post_processor"] = around("[CLS]", "[SEP]");
    file
}

/// SentencePiece's BPE, as Llama 2 has it.
pub(crate) fn pieces() -> Value {
    json!({
        "added_tokens": [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": []},
        "decoder": {"type": "Sequence", "decoders": []},
        "model": {"type": "BPE", "byte_fallback": true, "unk_token": "<unk>", "merges": ["a b", "▁ ab"],
            "vocab": {"<unk>": 0, "<s>": 1, "</s>": 2, "<0x0A>": 3, "a": 4, "b": 5, "▁": 6, "ab": 7, "▁ab": 8}}
    })
}

/// What goes with [`pieces`].
pub(crate) fn pieces_settings() -> Value {
    json!({"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "chat_template": "{{ messages }}"})
}

/// BERT's vocabulary.
pub(crate) fn words() -> Value {
    json!({
        "added_tokens": [special(0, "[PAD]"), special(1, "[UNK]"), special(2, "[CLS]"), special(3, "[SEP]"),
            special(4, "[MASK]")],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "vocab": {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "play": 5, "##ing": 6}}
    })
}

/// What goes with [`words`].
pub(crate) fn words_settings() -> Value {
    json!({"cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]", "pad_token": "[PAD]",
        "mask_token": "[MASK]"})
}

/// XLM-RoBERTa's vocabulary.
pub(crate) fn unigram() -> Value {
    json!({
        "added_tokens": [special(0, "<s>"), special(1, "<pad>"), special(2, "</s>"), special(3, "<unk>"),
            special(6, "<mask>")],
        "normalizer": {"type": "Precompiled", "precompiled_charsmap": "BAAAAAECAwRhAA=="},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "WhitespaceSplit"}, {"type": "Metaspace", "replacement": "▁", "add_prefix_space": true}]},
        "post_processor": around("<s>", "</s>"),
        "model": {"type": "Unigram", "unk_id": 3,
            "vocab": [["<s>", 0.0], ["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0], ["▁a", -1.5], ["b", -2.5]]}
    })
}

/// What goes with [`unigram`].
pub(crate) fn unigram_settings() -> Value {
    json!({"bos_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "cls_token": "<s>", "unk_token": "<unk>",
        "pad_token": "<pad>", "mask_token": "<mask>"})
}
