//! Models whose attention looks back a window of tokens only: what the cache has lost of a prefix is computed anew.

use crate::support;

use std::sync::Arc;

use samovar_core::format::gguf;
use samovar_core::port::Instance;
use samovar_core::testing::gguf::{LlamaShape, windowed};
use samovar_core::{LoadOptions, Prompt, Scope};
use support::{collect, greedy, options, start};

const WINDOW: u32 = 32;

struct Model(tempfile::TempDir);

impl Model {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let shape = LlamaShape { blocks: 4, ..LlamaShape::TINY };
        fs_err::write(folder.path().join("m.gguf"), windowed(shape, WINDOW).build()).expect("writes");
        Self(folder)
    }

    fn load(&self, context_tokens: u32) -> Arc<dyn Instance> {
        let path = self.0.path().join("m.gguf");
        let descriptor = gguf::inspect(&path).expect("the gate lets it through");
        let options = LoadOptions { context_tokens, slots: 1, ..options() };
        support::load_file(&path, &descriptor, &options).expect("loads")
    }
}

fn tokens(count: usize, salt: u32) -> Vec<u32> {
    (0..count as u32).map(|i| 3 + (i * 7 + i / 11 * salt + salt * 131) % 260).collect()
}

/// The answer, and how much of the prompt was cached.
fn ask(instance: &Arc<dyn Instance>, prompt: Vec<u32>) -> (String, usize) {
    let (answer, completion) = collect(start(instance, greedy(Prompt::Tokens(prompt), 12)));
    (answer, completion.usage.cached_tokens as usize)
}

#[test]
fn restored_state_serves_those_who_continue_it_and_nobody_else() {
    let model = Model::new();
    let fresh = |prompt: Vec<u32>| ask(&model.load(512), prompt).0;
    let first = model.load(512);
    ask(&first, tokens(200, 1));
    let prefix = first.prefixes().unwrap().remove(0);
    let file = tempfile::tempfile().unwrap();
    first.save_prefix(&prefix, &file).unwrap();

    let restored = model.load(512);
    restored.restore_prefix(&prefix.tokens, Scope::default(), &file).unwrap();
    let short = tokens(100, 1);
    assert_eq!(ask(&restored, short.clone()), (fresh(short), 0), "its window begins before what was saved");
    let long = [&prefix.tokens[..], &tokens(20, 2)].concat();
    assert_eq!(ask(&restored, long.clone()), (fresh(long), prefix.tokens.len()));
}

#[test]
fn a_shorter_state_is_taken_in_beside_a_longer_one_that_lost_its_beginning() {
    let model = Model::new();
    let first = model.load(512);
    let save = || {
        let prefix = first.prefixes().unwrap().pop().unwrap();
        let file = tempfile::tempfile().unwrap();
        first.save_prefix(&prefix, &file).unwrap();
        (prefix.tokens, file)
    };
    ask(&first, tokens(100, 1));
    let (short, short_file) = save();
    ask(&first, [&short[..], &tokens(100, 2)].concat());
    let (long, long_file) = save();
    assert!(long.starts_with(&short) && long.len() > short.len() + WINDOW as usize);

    let restored = model.load(512);
    restored.restore_prefix(&long, Scope::default(), &long_file).unwrap();
    restored.restore_prefix(&short, Scope::default(), &short_file).unwrap();
    let prompt = [&short[..], &tokens(20, 3)].concat();
    assert_eq!(ask(&restored, prompt).1, short.len());
}
