//! Any `config.json`, tokenizer and safetensors file, of a model or of an adapter, is refused or converted: no panic, no hang, no
//! gigabytes, and nothing is left of what was refused. What is converted passes the gate for models, or that for adapters.
#![no_main]

use std::fs;
use std::io::Cursor;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use samovar_convert::{Options, convert, convert_adapter, judge, judge_adapter};
use samovar_core::format::gguf::inspect_reader;
use samovar_core::testing::gguf::{LlamaShape, llama};
use samovar_core::{Descriptor, Failure};
use tempfile::TempDir;

/// One folder for all inputs.
static FOLDER: LazyLock<TempDir> = LazyLock::new(|| TempDir::new().expect("a folder"));
/// The model that all adapters are to change.
static BASE: LazyLock<Descriptor> = LazyLock::new(|| {
    let bytes = llama(LlamaShape::TINY).build();
    inspect_reader(Cursor::new(&bytes), bytes.len() as u64).expect("a sound model")
});

fn place(name: &str) -> PathBuf {
    FOLDER.path().join(name)
}

fn check(result: Result<u64, Failure>, target: &Path) {
    match result {
        Ok(bytes) => assert_eq!(fs::metadata(target).expect("a file").len(), bytes),
        Err(failure) => assert!(!target.exists() && failure.message.len() < 4096, "{failure:?}"),
    }
    let _ = fs::remove_file(target);
}

fuzz_target!(|bytes: &[u8]| {
    // Separated by what no JSON holds: the configuration, the tokenizer, its settings, its SentencePiece model, the header of the
    // weights, the weights.
    let mut parts = bytes.splitn(6, |byte| *byte == 0xff);
    let mut part = || parts.next().unwrap_or_default();
    let (config, tokenizer, settings, pieces, header, weights) =
        (part(), part(), part(), part(), part(), part());
    let weights = [&(header.len() as u64).to_le_bytes()[..], header, weights].concat();
    for (name, contents) in [
        ("config.json", config),
        ("adapter_config.json", config),
        ("tokenizer.json", tokenizer),
        ("tokenizer_config.json", settings),
        ("tokenizer.model", pieces),
        ("model.safetensors", weights.as_slice()),
        ("adapter_model.safetensors", weights.as_slice()),
    ] {
        // An empty part is a file that is not there.
        if contents.is_empty() {
            let _ = fs::remove_file(place(name));
        } else {
            fs::write(place(name), contents).expect("a file");
        }
    }
    let target = place("converted.gguf");
    let model = judge(FOLDER.path())
        .and_then(|plan| convert(&plan, &target, &Options::default(), &mut |_| ControlFlow::Continue(())));
    check(model.map(|converted| converted.bytes), &target);
    let adapter = judge_adapter(FOLDER.path(), &BASE)
        .and_then(|plan| convert_adapter(&plan, &BASE, &target, &mut |_| ControlFlow::Continue(())));
    check(adapter, &target);
});
