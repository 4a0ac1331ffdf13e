//! The demo model, and a way to load it.
#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod embedding;
pub(crate) mod heard;
pub(crate) mod minilm;
pub(crate) mod packed;
pub(crate) mod quantize;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use samovar_core::footprint::KvType;
use samovar_core::format::gguf;
use samovar_core::generation::{Delta, Generation};
use samovar_core::port::{Engine, Instance, LoadControl, LoadRequest};
use samovar_core::{
    Completion, Descriptor, Digest, DraftModel, Failure, GenerationRequest, Layout, LoadOptions, ModelFiles,
    Prompt, Sampling, TokenEvent, WeightsId,
};
use samovar_llama::LlamaEngine;

pub(crate) fn demo_path() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/demo-model/demo.gguf"))
}

pub(crate) fn demo() -> Descriptor {
    gguf::inspect(&demo_path()).expect("the demo model passes the gate")
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

/// What a load is told of a draft model in this file.
pub(crate) fn draft_model(path: &Path) -> DraftModel {
    let weights = WeightsId::File(Digest::of_bytes(path.as_os_str().as_encoded_bytes()));
    DraftModel::new(weights, &gguf::inspect(path).expect("the gate lets it through"))
}

pub(crate) fn load(options: &LoadOptions) -> Arc<dyn Instance> {
    load_file(&demo_path(), &demo(), options).expect("the demo loads")
}

/// Loads a model in one file.
pub(crate) fn load_file(
    path: &Path,
    descriptor: &Descriptor,
    options: &LoadOptions,
) -> Result<Arc<dyn Instance>, Failure> {
    load_files(&ModelFiles::of(path), descriptor, options)
}

pub(crate) fn load_files(
    files: &ModelFiles,
    descriptor: &Descriptor,
    options: &LoadOptions,
) -> Result<Arc<dyn Instance>, Failure> {
    LlamaEngine::new().load(LoadRequest::new(files, descriptor, options, &LoadControl::silent()))
}

pub(crate) fn text(text: &str) -> Prompt {
    Prompt::Text { text: text.to_owned(), add_special: true, parse_special: true }
}

pub(crate) fn greedy(prompt: Prompt, max_tokens: u32) -> GenerationRequest {
    GenerationRequest {
        sampling: Sampling::greedy(),
        max_tokens: Some(max_tokens),
        ignore_eos: true,
        ..GenerationRequest::new(prompt)
    }
}

pub(crate) fn start(instance: &Arc<dyn Instance>, request: GenerationRequest) -> Generation {
    instance.generate(request).expect("the request is accepted")
}

pub(crate) fn collect(mut generation: Generation) -> (String, Completion) {
    let mut answer = String::new();
    while let Some(event) = generation.blocking_next() {
        match event {
            TokenEvent::Prefilling { .. } | TokenEvent::Prefilled { .. } | TokenEvent::Embedded(_) => {}
            TokenEvent::Token { text, .. } => answer.push_str(&text),
            TokenEvent::Deltas { deltas, .. } => {
                answer.extend(deltas.iter().filter_map(|delta| match delta {
                    Delta::Text(text) => Some(text.as_str()),
                    Delta::Thinking(_) | Delta::Call { .. } | Delta::Arguments { .. } => None,
                }));
            }
            TokenEvent::Done(completion) => return (answer, completion),
            TokenEvent::Failed(failure) => panic!("{failure:?}"),
        }
    }
    panic!("the answer has no end")
}

/// Says that a test cannot be made here, and why, also where the output of tests is kept back.
pub(crate) fn skipped(why: &str) {
    let test = std::thread::current();
    let test = test.name().unwrap_or("a test");
    // A caller that does not listen misses it.
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {why}");
}

/// A number of `/proc/self/status`.
pub(crate) fn process_status(field: &str) -> u64 {
    let status = fs_err::read_to_string("/proc/self/status").expect("Linux tells about processes");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("the field exists");
    let number = line.trim_start_matches(':').split_whitespace().next().expect("the field has a value");
    number.parse().expect("the value is a number")
}
