//! What is computed once and shared: between requests that arrive together, one after another, and under
//! pressure.

use crate::support;

use samovar_core::{GenerationRequest, LoadOptions, Prompt, Scope, Usage};
use support::{collect, greedy, load, options, start};

/// Token ids of a text that differs for different `salt`.
fn tokens(count: usize, salt: u32) -> Vec<u32> {
    (0..count as u32).map(|i| 300 + (i * 7 + salt * 131) % 900).collect()
}

fn request(tokens: Vec<u32>, answer: u32) -> GenerationRequest {
    greedy(Prompt::Tokens(tokens), answer)
}

fn usage(outcome: &(String, samovar_core::Completion)) -> Usage {
    outcome.1.usage
}

#[test]
fn requests_that_arrive_together_compute_their_common_prefix_once() {
    let instance = load(&options());
    let prefix = tokens(300, 1);
    let running: Vec<_> = (0..4)
        .map(|tail| start(&instance, request([prefix.clone(), tokens(9, 50 + tail)].concat(), 4)))
        .collect();
    let cached: Vec<_> = running.into_iter().map(|answer| usage(&collect(answer)).cached_tokens).collect();
    assert_eq!(cached, [0, 300, 300, 300]);
}

#[test]
fn whoever_waits_for_a_prefix_survives_its_cancellation() {
    let instance = load(&options());
    let prefix = tokens(400, 2);
    let first = start(&instance, request([prefix.clone(), tokens(5, 60)].concat(), 4));
    let second = start(&instance, request([prefix, tokens(5, 61)].concat(), 4));
    drop(first);
    assert_eq!(usage(&collect(second)).completion_tokens, 4);
}

#[test]
fn a_conversation_continues_where_it_was() {
    let instance = load(&options());
    let mut conversation = tokens(40, 3);
    let mut known = 0;
    for turn in 0..5 {
        let outcome = collect(start(&instance, request(conversation.clone(), 8)));
        assert!(usage(&outcome).cached_tokens >= known, "turn {turn}: {:?}", usage(&outcome));
        known = conversation.len() as u32 - 1;
        conversation.extend(tokens(20, 70 + turn));
    }
}

#[test]
fn kept_prefixes_make_room_for_those_who_run() {
    let options = LoadOptions { context_tokens: 256, slots: 2, ..options() };
    let instance = load(&options);
    for round in 0..12 {
        let running: Vec<_> =
            (0..3).map(|n| start(&instance, request(tokens(200, 1000 + round * 3 + n), 56))).collect();
        for answer in running {
            assert_eq!(usage(&collect(answer)).completion_tokens, 56, "round {round}");
        }
        let measured = instance.measure();
        assert!(measured.kv_used_tokens <= measured.kv_total_tokens, "{measured:?}");
    }
    let recent = usage(&collect(start(&instance, request(tokens(200, 1000 + 35), 4))));
    assert!(recent.cached_tokens > 150, "the last prompt was kept: {recent:?}");
}

#[test]
fn short_prompts_share_what_they_can_and_push_no_long_one_out() {
    let instance = load(&options());
    let cached = |prompt: Vec<u32>| {
        let outcome = collect(start(&instance, request(prompt, 1)));
        usage(&outcome).cached_tokens
    };
    let long = tokens(100, 7);
    assert_eq!(cached(long.clone()), 0);
    let short = |last: u32| vec![1, 2, last];
    assert_eq!([cached(short(10)), cached(short(11))], [0, 2]);
    for last in 12..40 {
        assert_eq!(cached(vec![last, last, last]), 0, "nothing is shared with {last}");
    }
    assert_eq!(cached(long), 99);
}

#[test]
fn private_requests_leave_nothing_behind() {
    let instance = load(&options());
    let private = GenerationRequest { reuse_prefix: false, ..request(tokens(100, 4), 4) };
    collect(start(&instance, private));
    let measured = instance.measure();
    assert_eq!(measured.kv_used_tokens, 0, "{measured:?}");
    assert_eq!(usage(&collect(start(&instance, request(tokens(100, 4), 4)))).cached_tokens, 0);
}

/// Cells in use and tokens told as cached after two clients asked the same.
fn two_clients(is_private: bool) -> (u32, [u32; 2]) {
    let instance = load(&options());
    let told = ["alice", "bob"].map(|name| {
        let scope = Scope::of_client(name, is_private);
        let request = GenerationRequest { scope, ..request(tokens(200, 8), 4) };
        usage(&collect(start(&instance, request))).cached_tokens
    });
    (instance.measure().kv_used_tokens, told)
}

#[test]
fn clients_that_share_compute_once_and_hear_nothing_of_each_other() {
    let (cells, told) = two_clients(false);
    assert_eq!(told, [0, 0]);
    assert!((200..300).contains(&cells), "{cells} cells: the second took over what the first computed");
    let (cells, told) = two_clients(true);
    assert_eq!(told, [0, 0]);
    assert!(cells >= 400, "{cells} cells: each computed its own");
}

#[test]
fn nobody_waits_for_a_private_prefix_of_another() {
    let instance = load(&options());
    let running: Vec<_> = ["alice", "bob", "alice"]
        .map(|name| {
            let scope = Scope::of_client(name, true);
            start(&instance, GenerationRequest { scope, ..request(tokens(300, 9), 4) })
        })
        .into();
    let cached: Vec<_> = running.into_iter().map(|answer| usage(&collect(answer)).cached_tokens).collect();
    assert_eq!(cached, [0, 0, 299]);
}
