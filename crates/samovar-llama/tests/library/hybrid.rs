//! Models with recurrent state, which cannot be cut: what of it is kept, and that it serves like computed one.

use crate::support;

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use samovar_core::format::gguf;
use samovar_core::port::Instance;
use samovar_core::testing::gguf::{LlamaShape, hybrid};
use samovar_core::{LoadOptions, Prompt};
use support::{collect, greedy, options, start};

/// Begins a turn: a control token.
const TURN: u32 = 1;

struct Model(tempfile::TempDir);

impl Model {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let shape = LlamaShape { blocks: 4, ..LlamaShape::TINY };
        fs_err::write(folder.path().join("m.gguf"), hybrid(shape).build()).expect("writes");
        Self(folder)
    }

    fn load(&self, slots: u32) -> Arc<dyn Instance> {
        let path = self.0.path().join("m.gguf");
        let descriptor = gguf::inspect(&path).expect("the gate lets it through");
        let options = LoadOptions { context_tokens: 1024, slots, ..options() };
        support::load_file(&path, &descriptor, &options).expect("loads")
    }
}

/// A user's message.
fn turn(count: usize, salt: u32) -> Vec<u32> {
    let words = (0..count as u32).map(|i| 3 + (i * 7 + i / 11 * salt + salt * 131) % 260);
    [TURN].into_iter().chain(words).collect()
}

/// Turns, and what makes the model speak.
fn chat(turns: &[Vec<u32>]) -> Vec<u32> {
    [&turns.concat()[..], &[TURN, 40]].concat()
}

/// The answer, and how much of the prompt was cached.
fn ask(instance: &Arc<dyn Instance>, prompt: Vec<u32>) -> (String, usize) {
    let (answer, completion) = collect(start(instance, greedy(Prompt::Tokens(prompt), 12)));
    (answer, completion.usage.cached_tokens as usize)
}

#[test]
fn a_chat_that_comes_again_computes_its_last_token() {
    let model = Model::new();
    let instance = model.load(2);
    let prompt = chat(&[turn(200, 1), turn(60, 2), turn(50, 3)]);
    let (first, cached) = ask(&instance, prompt.clone());
    assert_eq!(cached, 0);
    for _ in 0..3 {
        assert_eq!(ask(&instance, prompt.clone()), (first.clone(), prompt.len() - 1));
    }
}

#[test]
fn another_last_turn_goes_on_from_the_turn_before() {
    let model = Model::new();
    let instance = model.load(2);
    let before = [turn(200, 1), turn(60, 2)];
    ask(&instance, chat(&[&before[..], &[turn(50, 3)]].concat()));
    for salt in 4..7 {
        let prompt = chat(&[&before[..], &[turn(40, salt)]].concat());
        let fresh = ask(&model.load(2), prompt.clone()).0;
        assert_eq!(ask(&instance, prompt), (fresh, before.concat().len()), "{salt}");
    }
}

#[test]
fn answers_without_end_push_no_turn_out_that_they_begin_with() {
    let model = Model::new();
    let instance = model.load(1);
    let before = [turn(100, 1), turn(60, 2)];
    let again = chat(&[&before[..], &[turn(50, 3)]].concat());
    // Each is another state, and there are more of them than are kept.
    for length in 1..20 {
        collect(start(&instance, greedy(Prompt::Tokens(again.clone()), length)));
    }
    let other = chat(&[&before[..], &[turn(40, 4)]].concat());
    assert_eq!(ask(&instance, other).1, before.concat().len());
}

#[test]
fn a_conversation_goes_on_from_where_it_was() {
    let model = Model::new();
    let instance = model.load(1);
    let mut turns = vec![turn(100, 1)];
    let mut known = 0;
    for salt in 2..6 {
        let prompt = chat(&turns);
        let fresh = ask(&model.load(1), prompt.clone()).0;
        let (answer, cached) = ask(&instance, prompt.clone());
        assert_eq!(answer, fresh, "{salt}");
        assert!(cached >= known, "{salt}: {cached} of {known}");
        known = prompt.len() - 1;
        // What the model said is not what it is told that it said.
        turns.push([&[TURN, 40][..], &turn(10, 90 + salt)[1..]].concat());
        turns.push(turn(40, salt));
    }
}

#[test]
fn kept_states_make_room_for_those_who_run() {
    let model = Model::new();
    let instance = model.load(2);
    for salt in 0..12 {
        let prompts = [chat(&[turn(300, salt), turn(100, salt + 50)]), chat(&[turn(400, salt + 100)])];
        let running: Vec<_> = prompts
            .iter()
            .map(|prompt| start(&instance, greedy(Prompt::Tokens(prompt.clone()), 8)))
            .collect();
        for generation in running {
            assert_eq!(collect(generation).1.usage.completion_tokens, 8);
        }
    }
    assert!(instance.measure().kv_used_tokens <= instance.measure().kv_total_tokens);
}

/// Asks for a long prompt and leaves while it is computed, or when this thread ran so late that it was computed before.
fn leave_in_the_middle(instance: &Arc<dyn Instance>, salt: u32) {
    let before = instance.measure().kv_used_tokens;
    // Of more than one chunk.
    let mut generation = start(instance, greedy(Prompt::Tokens(chat(&[turn(900, salt)])), 8));
    let mut looking = Context::from_waker(Waker::noop());
    while instance.measure().kv_used_tokens <= before
        && pin!(generation.next()).poll(&mut looking).is_pending()
    {
        std::thread::yield_now();
    }
}

#[test]
fn whoever_leaves_in_the_middle_spoils_nobodys_state() {
    let model = Model::new();
    let instance = model.load(2);
    let prompt = chat(&[turn(200, 1), turn(60, 2)]);
    let fresh = ask(&instance, prompt.clone()).0;
    for salt in 10..14 {
        leave_in_the_middle(&instance, salt);
        assert_eq!(ask(&instance, prompt.clone()).0, fresh, "{salt}");
    }
}

#[test]
fn whoever_leaves_in_the_middle_takes_nobodys_state_along() {
    let model = Model::new();
    let prompt = chat(&[turn(200, 1), turn(60, 2)]);
    for salt in 10..14 {
        let instance = model.load(2);
        let fresh = ask(&instance, prompt.clone()).0;
        leave_in_the_middle(&instance, salt);
        assert_eq!(ask(&instance, prompt.clone()), (fresh, prompt.len() - 1), "{salt}");
    }
}
