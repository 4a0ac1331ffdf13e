//! Requests side by side: none changes another, none is forgotten, and who leaves gives its slot back.

use super::subject::{Subject, ask, collect, greedy, next_event, prompt, start, wait_until_idle};
use crate::generation::{GenerationRequest, TokenEvent};

/// Long enough to be still running when the next line of a test comes.
fn long(instance: &std::sync::Arc<dyn crate::port::Instance>, salt: u32) -> GenerationRequest {
    GenerationRequest { max_tokens: None, ..greedy(prompt(instance, 20, salt), 0) }
}

/// A client that leaves, at whatever moment, frees its slot.
pub fn dropping_the_receiver_frees_the_slot(subject: &Subject) {
    let instance = subject.load();
    drop(start(&instance, long(&instance, 0)));
    wait_until_idle(&instance);
    let mut generation = start(&instance, long(&instance, 1));
    loop {
        let (event, rest) = next_event(generation);
        generation = rest;
        if matches!(event, Some(TokenEvent::Token { .. }) | None) {
            break;
        }
    }
    drop(generation);
    wait_until_idle(&instance);
    let count = subject.options.context_tokens as usize - 16;
    drop(start(&instance, greedy(prompt(&instance, count, 2), 8)));
    wait_until_idle(&instance);
    assert_eq!(ask(&instance, greedy(prompt(&instance, 12, 0), 3)).completion.usage.completion_tokens, 3);
    assert_eq!(instance.measure().busy_slots, 0);
}

/// A request that leaves while it waits for a slot takes nothing from those who stay.
pub fn dropping_a_queued_request_disturbs_nobody(subject: &Subject) {
    let instance = subject.load();
    let request = greedy(prompt(&instance, 40, 6), 24);
    let expected = ask(&instance, request.clone());
    let staying: Vec<_> = (0..subject.options.slots).map(|_| start(&instance, request.clone())).collect();
    let leaving: Vec<_> = (0..4).map(|_| start(&instance, request.clone())).collect();
    let last = start(&instance, request);
    drop(leaving);
    for generation in staying.into_iter().chain([last]) {
        subject.assert_same("beside one that left", &expected, &collect(generation));
    }
    wait_until_idle(&instance);
}

/// Different requests on all slots are answered as each would be alone.
pub fn answers_side_by_side_are_as_alone(subject: &Subject) {
    let instance = subject.load();
    let requests: Vec<_> = (0..subject.options.slots)
        .map(|salt| greedy(prompt(&instance, 30 + 25 * salt as usize, salt), 24))
        .collect();
    let alone: Vec<_> = requests.iter().map(|request| ask(&instance, request.clone())).collect();
    let running: Vec<_> = requests.into_iter().map(|request| start(&instance, request)).collect();
    for (slot, (generation, expected)) in running.into_iter().zip(&alone).enumerate() {
        subject.assert_same(&format!("slot {slot}"), expected, &collect(generation));
    }
}

/// Equal requests that arrive together may share their prompt, and get the same answer.
pub fn equal_prompts_at_once_give_equal_answers(subject: &Subject) {
    let instance = subject.load();
    let request = GenerationRequest { reuse_prefix: true, ..greedy(prompt(&instance, 150, 7), 16) };
    let alone = ask(&instance, GenerationRequest { reuse_prefix: false, ..request.clone() });
    let running: Vec<_> = (0..subject.options.slots).map(|_| start(&instance, request.clone())).collect();
    for generation in running {
        subject.assert_same("an equal prompt at once", &alone, &collect(generation));
    }
}

/// Requests that find no slot wait for one.
pub fn more_requests_than_slots_all_finish(subject: &Subject) {
    let instance = subject.load();
    let count = subject.options.slots * 3 + 1;
    let running: Vec<_> =
        (0..count).map(|salt| start(&instance, greedy(prompt(&instance, 16, salt), 8))).collect();
    for generation in running {
        assert_eq!(collect(generation).completion.usage.completion_tokens, 8);
    }
    wait_until_idle(&instance);
}
