//! Loads that fail, are cancelled, or run side by side; and what they say.

use crate::support;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use samovar_core::format::gguf;
use samovar_core::port::{Engine, LoadControl, LoadRequest};
use samovar_core::testing::gguf::{LlamaShape, llama};
use samovar_core::{ErrorKind, LoadOptions, ModelFiles};
use samovar_llama::LlamaEngine;

#[test]
fn a_file_that_llama_cpp_refuses_says_why() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"GGUF\x03\0\0\0 but nothing else").unwrap();
    let outcome = support::load_file(file.path(), &support::demo(), &support::options());
    let failure = outcome.map(|_| ()).unwrap_err();
    assert_eq!(failure.kind, ErrorKind::InvalidModel);
    assert!(failure.message.contains(&file.path().display().to_string()), "{failure:?}");
    assert!(!failure.message.contains("gave no reason"), "{failure:?}");
    assert!(failure.hint.is_some());
}

#[test]
fn special_tokens_outside_of_the_vocabulary_are_llama_cpps_defaults() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let model = llama(LlamaShape::TINY)
        .u32("tokenizer.ggml.bos_token_id", 1 << 30)
        .u32("tokenizer.ggml.eos_token_id", 272)
        .u32("tokenizer.ggml.padding_token_id", 999_999);
    fs_err::write(file.path(), model.build()).unwrap();
    let descriptor = gguf::inspect(file.path()).unwrap();
    assert_eq!(descriptor.bos_token.as_deref(), Some("<s>"));
    let instance = support::load_file(file.path(), &descriptor, &support::options()).unwrap();
    assert_eq!(instance.tokenize("a", true, false).unwrap().first(), Some(&1));
    let (_, completion) =
        support::collect(support::start(&instance, support::greedy(support::text("Once"), 4)));
    assert_eq!(completion.usage.completion_tokens, 4);
}

#[test]
fn a_load_cancelled_midway_is_cancelled() {
    let slot: Arc<std::sync::OnceLock<Arc<AtomicBool>>> = Arc::default();
    let inner = Arc::clone(&slot);
    let control = LoadControl::new(move |_| {
        if let Some(flag) = inner.get() {
            flag.store(true, Ordering::Relaxed);
        }
    });
    slot.set(control.cancel_flag()).unwrap();
    let (files, demo) = (ModelFiles::of(support::demo_path()), support::demo());
    let outcome = LlamaEngine::new().load(LoadRequest::new(&files, &demo, &support::options(), &control));
    match outcome {
        Err(failure) => assert_eq!(failure.kind, ErrorKind::Cancelled, "{failure:?}"),
        // The small model may be there before its progress is heard.
        Ok(instance) => instance.probe().unwrap(),
    }
}

#[test]
fn options_that_cannot_work_are_refused_before_anything_is_loaded() {
    let engine = LlamaEngine::new();
    let options = LoadOptions { slots: 0, ..support::options() };
    let outcome = support::load_file(&support::demo_path(), &support::demo(), &options);
    assert_eq!(outcome.map(|_| ()).unwrap_err().kind, ErrorKind::InvalidRequest);
    assert_eq!(engine.footprint(&support::demo(), &options).unwrap_err().kind, ErrorKind::InvalidRequest);
}

#[test]
fn instances_load_and_park_side_by_side() {
    let threads: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(|| {
                for _ in 0..5 {
                    let instance = support::load(&support::options());
                    instance.park().unwrap();
                    instance.resume(&support::options()).unwrap();
                    instance.probe().unwrap();
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}
