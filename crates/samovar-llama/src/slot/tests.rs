//! A request whose rules are late.

use std::time::Instant;

use llama_cpp_2::token::LlamaToken;
use samovar_core::generation::Generation;
use samovar_core::{Sampling, Scope};

use super::Slot;
use crate::adapter_set::AdapterSet;
use crate::binding::Binding;
use crate::binding::tests::late;
use crate::schedule::Work;
use crate::ticket::Ticket;

fn slot(binding: Option<Binding>) -> (Slot, Generation) {
    let (events, generation) = Generation::channel(9);
    let ticket = Ticket {
        prompt: vec![LlamaToken(1); 3],
        sampling: Sampling::greedy(),
        max_tokens: 9,
        stop: Vec::new(),
        reading: None,
        binding: binding.map(Box::new),
        logprobs: None,
        ignore_eos: false,
        speculates: false,
        reuse_prefix: false,
        scope: Scope::default(),
        adapters: AdapterSet::default(),
        is_probe: false,
        arrived: Instant::now(),
        events,
    };
    (Slot::new(ticket, &[]), generation)
}

#[test]
fn an_answer_whose_rules_are_late_lets_the_others_go_on() {
    let (binding, gate) = late();
    let (mut slot, _generation) = slot(Some(binding));
    // Gone before the slot, whatever happens.
    let gate = Some(gate);
    assert!(slot.has_late_rules(Instant::now()) && !slot.is_held_up());
    slot.hold_up(&[1.0, 2.0]);
    assert_eq!((slot.work(), slot.take_logits(false)), (Work::Wait, None));
    drop(gate);
    assert_eq!(slot.take_logits(true), Some(vec![1.0, 2.0]));
    assert!(!slot.is_held_up());
    assert_eq!(slot.take_logits(true), None);
    slot.hold_up(&[1.0]);
    slot.begin_anew();
    assert!(!slot.is_held_up(), "they are computed again");
}

#[test]
fn an_answer_without_rules_never_waits_for_any() {
    let (mut slot, _generation) = slot(None);
    assert!(!slot.has_late_rules(Instant::now()));
}
