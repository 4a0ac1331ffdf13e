//! Gaps in texts, on models whose vocabulary has the tokens for them.

use crate::support;

use std::sync::Arc;

use samovar_core::format::gguf;
use samovar_core::port::Unconfined;
use samovar_core::testing::conformance::{self, Subject};
use samovar_core::testing::gguf::{LlamaShape, byte_pairs, with_specials};
use samovar_core::{Infill, InfillChunk, ModelFiles, Prompt};
use samovar_llama::LlamaEngine;

const MARKS: [(&str, bool); 6] = [
    ("<|fim_prefix|>", true),
    ("<|fim_suffix|>", true),
    ("<|fim_middle|>", true),
    ("<|repo_name|>", true),
    ("<|file_sep|>", true),
    ("<|fim_pad|>", true),
];

fn subject(folder: &tempfile::TempDir, bytes: &[u8]) -> Subject {
    let path = folder.path().join("m.gguf");
    fs_err::write(&path, bytes).expect("writes");
    Subject {
        engine: Arc::new(LlamaEngine::new()),
        descriptor: gguf::inspect(&path).expect("the gate lets it through"),
        files: ModelFiles::of(path),
        packed: None,
        options: support::options(),
        tie_gap: 0.0,
    }
}

#[test]
fn a_gap_has_its_marks_and_no_others_in_both_kinds_of_vocabularies() {
    let writers = [with_specials(LlamaShape::TINY, &MARKS), byte_pairs(LlamaShape::TINY, "qwen2", &MARKS)];
    for writer in writers {
        let folder = tempfile::tempdir().expect("a folder");
        conformance::a_gap_has_its_marks_and_no_others(&subject(&folder, &writer.build()));
    }
}

#[test]
fn a_prompt_has_the_files_the_gap_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let writer = byte_pairs(LlamaShape::TINY, "qwen2", &MARKS).boolean("tokenizer.ggml.add_bos_token", false);
    let subject = subject(&folder, &writer.build());
    let instance = subject.load();
    let ids = |text: &str| instance.tokenize(text, false, true).expect("tokenizes");
    let chunks = vec![InfillChunk { name: "a.rs".to_owned(), text: "let a;".to_owned() }];
    let infill = Infill { chunks, ..Infill::new("fn f() {", "}") };
    let tokens = instance.encode(&Prompt::Infill(Box::new(infill)), &Unconfined).expect("encodes");
    let parts = [
        "<|repo_name|>",
        "myproject\n",
        "<|file_sep|>",
        "a.rs\nlet a;",
        "<|file_sep|>",
        "filename\n",
        "<|fim_prefix|>",
        "fn f() {",
        "<|fim_suffix|>",
        "}",
        "<|fim_middle|>",
    ];
    assert_eq!(tokens, parts.map(ids).concat());
}
