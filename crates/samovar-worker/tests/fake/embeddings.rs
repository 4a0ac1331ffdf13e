//! Vectors and scores from workers: as from an engine in this process, bounded, and with the same promises as text when
//! a client leaves or a worker dies, lies or goes.

use std::time::{Duration, Instant};

use samovar_core::embedding::{EmbedInput, EmbedOutput, EmbedRequest, Embedded, INPUTS_MAX};
use samovar_core::port::{Instance, Unconfined};
use samovar_core::testing::FakeEngine;
use samovar_core::{ErrorKind, TokenEvent};

use crate::stand::{LIMIT, assert_died_of, broken, events, instance, long_request, refusal, vectors};

/// What the inputs became, in their order.
#[track_caller]
fn answer(instance: &dyn Instance, request: EmbedRequest) -> Vec<Embedded> {
    let inputs = request.inputs.len();
    let events = events(instance.embed(request, &Unconfined).expect("is accepted"));
    assert!(matches!(events.last(), Some(TokenEvent::Done(_))), "{:?}", events.last());
    let mut found = embedded(&events);
    found.sort_by_key(|embedded| embedded.index);
    assert_eq!(found.len(), inputs);
    found
}

fn embedded(events: &[TokenEvent]) -> Vec<Embedded> {
    let embedded = events.iter().filter_map(|event| match event {
        TokenEvent::Embedded(embedded) => Some(embedded.clone()),
        _ => None,
    });
    embedded.collect()
}

#[test]
fn vectors_and_scores_are_those_of_the_engine() {
    let (instance, _) = instance(&[]);
    for (number, embedded) in answer(&*instance, vectors(INPUTS_MAX)).into_iter().enumerate() {
        let tokens = FakeEngine::tokens_of(&format!("text {number}"));
        assert_eq!(embedded.values, FakeEngine::vector_of(&tokens));
        assert_eq!(embedded.tokens as usize, tokens.len());
    }
    let pair = EmbedInput::Pair { query: "red fox".to_owned(), document: "a fox".to_owned() };
    let request = EmbedRequest { inputs: vec![pair; 2], output: EmbedOutput::Score, ..vectors(0) };
    for embedded in answer(&*instance, request) {
        assert_eq!(embedded.values, vec![FakeEngine::score_of("red fox", "a fox")]);
    }
}

#[test]
fn requests_that_cannot_be_answered_are_refused_and_the_worker_lives() {
    let (instance, news) = instance(&["not_a_number=cursed"]);
    let with = |input| EmbedRequest { inputs: vec![input], ..vectors(0) };
    let refused = [
        (vectors(0), ErrorKind::InvalidRequest),
        (vectors(INPUTS_MAX + 1), ErrorKind::InvalidRequest),
        (with(EmbedInput::Text(String::new())), ErrorKind::InvalidRequest),
        (with(EmbedInput::Tokens(vec![u32::MAX])), ErrorKind::InvalidRequest),
        (with(EmbedInput::Text(" fox".repeat(600))), ErrorKind::ContextExceeded),
        (with(EmbedInput::Text("x".repeat((64 << 20) + 1))), ErrorKind::InvalidRequest),
        (with(EmbedInput::Text("cursed".to_owned())), ErrorKind::EngineFailed),
    ];
    for (request, kind) in refused {
        let failure = refusal(instance.embed(request, &Unconfined));
        assert_eq!(failure.kind, kind, "{failure:?}");
    }
    answer(&*instance, vectors(3));
    assert_eq!(news.all(), []);
}

#[test]
fn who_leaves_stops_the_computing_long_before_it_would_end() {
    // All of them would take longer than the limit, a batch 2.4 s.
    let (instance, _) = instance(&["input_us=300000"]);
    let mut generation = instance.embed(vectors(INPUTS_MAX), &Unconfined).unwrap();
    assert!(matches!(generation.blocking_next(), Some(TokenEvent::Embedded(_))));
    drop(generation);
    let left = Instant::now();
    while instance.measure().busy_slots > 0 {
        assert!(left.elapsed() < LIMIT, "{:?}", instance.measure());
        std::thread::park_timeout(Duration::from_millis(1));
    }
    assert_eq!(answer(&*instance, vectors(1)).len(), 1);
}

#[test]
fn many_inputs_hold_up_neither_text_nor_a_query() {
    let (instance, _) = instance(&["input_us=5000"]);
    let large = || EmbedInput::Text("x ".repeat(200));
    let import = EmbedRequest { inputs: (0..INPUTS_MAX).map(|_| large()).collect(), ..vectors(0) };
    let mut running = instance.embed(import, &Unconfined).unwrap();
    assert!(matches!(running.blocking_next(), Some(TokenEvent::Embedded(_))));
    let query = EmbedRequest { urgency: samovar_core::Urgency::Interactive, ..vectors(2) };
    answer(&*instance, query);
    let text = samovar_core::GenerationRequest { max_tokens: Some(4), ..long_request() };
    assert!(matches!(events(instance.generate(text).unwrap()).last(), Some(TokenEvent::Done(_))));
    assert!(matches!(events(running).last(), Some(TokenEvent::Done(_))));
}

#[test]
fn dying_in_the_middle_ends_every_request_once_and_keeps_the_vectors_that_came() {
    for (fault, words) in
        [("vector:5=abort", "FAKE_ASSERT(never) failed at vector"), ("vector:5=kill", "SIGKILL")]
    {
        let (instance, obituaries) = instance(&[fault, "input_us=5000"]);
        let running: Vec<_> = (0..3).map(|_| instance.embed(vectors(40), &Unconfined).unwrap()).collect();
        let heard: Vec<_> = running.into_iter().map(events).collect();
        for events in &heard {
            assert_died_of(&broken(events).1, words);
        }
        let most = heard.iter().map(|events| embedded(events).len()).max().unwrap();
        assert!(most >= 5, "{fault}: {most} vectors");
        assert_died_of(&obituaries.first(), words);
        assert_died_of(&refusal(instance.embed(vectors(1), &Unconfined)), words);
        drop(instance);
        assert_eq!(obituaries.all().len(), 1);
    }
}

#[test]
fn dying_while_inputs_are_tokenized_fails_their_request() {
    let (instance, obituaries) = instance(&["embed=segv"]);
    assert_died_of(&refusal(instance.embed(vectors(4), &Unconfined)), "SIGSEGV");
    assert_died_of(&obituaries.first(), "SIGSEGV");
}

#[test]
fn vectors_that_are_lies_end_their_request_alone() {
    for lie in ["vector", "narrow", "done"] {
        let (instance, news) = instance(&[&format!("vector:3=lie:{lie}")]);
        let heard = events(instance.embed(vectors(INPUTS_MAX), &Unconfined).unwrap());
        let (_, failure) = broken(&heard);
        assert_eq!(failure.kind, ErrorKind::EngineFailed, "{lie}");
        assert!(failure.message.contains("not those that it was asked for"), "{lie}: {failure:?}");
        assert!(embedded(&heard).len() < INPUTS_MAX, "{lie}");
        // Too few to come to the place of the lie.
        answer(&*instance, vectors(3));
        assert_eq!(news.all(), [], "{lie}");
    }
}

#[test]
fn a_parked_instance_refuses_and_one_that_goes_ends_its_requests() {
    let (instance, news) = instance(&["input_us=20000"]);
    let running = instance.embed(vectors(INPUTS_MAX), &Unconfined).unwrap();
    instance.park().unwrap();
    assert_eq!(broken(&events(running)).1.kind, ErrorKind::Unavailable);
    let refused = instance.embed(vectors(1), &Unconfined).map(drop).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Unavailable, "{refused:?}");
    instance.resume(&FakeEngine::embedder_options()).unwrap();
    answer(&*instance, vectors(2));
    let running = instance.embed(vectors(INPUTS_MAX), &Unconfined).unwrap();
    drop(instance);
    assert_eq!(broken(&events(running)).1.kind, ErrorKind::Unavailable);
    assert_eq!(news.all(), []);
}
