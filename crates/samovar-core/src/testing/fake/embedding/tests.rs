use std::sync::Arc;

use super::super::{FakeEngine, Script};
use super::*;
use crate::embedding::INPUTS_MAX;
use crate::model::{Descriptor, ModelFiles};
use crate::port::{Capabilities, Engine, Instance, LoadControl, LoadRequest, Unconfined};

const LIMIT: Duration = Duration::from_secs(20);

fn engine(script: Script) -> FakeEngine {
    FakeEngine::builder().capabilities(FakeEngine::EMBEDS).script(script).build()
}

fn gated() -> FakeEngine {
    FakeEngine::builder().capabilities(FakeEngine::EMBEDS).gate_batches().build()
}

fn load(engine: &FakeEngine) -> Arc<dyn Instance> {
    load_as(engine, &FakeEngine::descriptor("m", 1000))
}

fn load_as(engine: &FakeEngine, descriptor: &Descriptor) -> Arc<dyn Instance> {
    let (files, control) = (ModelFiles::of("m.gguf"), LoadControl::silent());
    engine.load(LoadRequest::new(&files, descriptor, &FakeEngine::embedder_options(), &control)).unwrap()
}

fn request(inputs: Vec<EmbedInput>) -> EmbedRequest {
    EmbedRequest {
        inputs,
        output: EmbedOutput::Vector { dimensions: None, normalize: true },
        truncate: Truncate::Refuse,
        urgency: Urgency::Interactive,
    }
}

fn texts(count: usize) -> EmbedRequest {
    request((0..count).map(|number| EmbedInput::Text(format!("text {number}"))).collect())
}

fn start(instance: &Arc<dyn Instance>, request: EmbedRequest) -> Generation {
    instance.embed(request, &Unconfined).unwrap()
}

fn events(mut generation: Generation) -> Vec<TokenEvent> {
    std::iter::from_fn(|| generation.blocking_next()).collect()
}

/// What the inputs became, in their order.
fn answer(instance: &Arc<dyn Instance>, request: EmbedRequest) -> Vec<Embedded> {
    let events = events(start(instance, request));
    assert!(matches!(events.last(), Some(TokenEvent::Done(_))), "{events:?}");
    let embedded = events.into_iter().filter_map(|event| match event {
        TokenEvent::Embedded(embedded) => Some(embedded),
        _ => None,
    });
    let mut embedded: Vec<_> = embedded.collect();
    embedded.sort_by_key(|embedded| embedded.index);
    embedded
}

fn refusal(instance: &Arc<dyn Instance>, request: EmbedRequest) -> Failure {
    instance.embed(request, &Unconfined).map(drop).unwrap_err()
}

#[test]
fn a_vector_is_that_of_its_tokens_alone_and_has_length_one() {
    let instance = load(&engine(Script::default()));
    let found = answer(&instance, texts(20));
    assert_eq!(found.len(), 20);
    for (number, embedded) in found.iter().enumerate() {
        let tokens = FakeEngine::tokens_of(&format!("text {number}"));
        assert_eq!(embedded.values, FakeEngine::vector_of(&tokens));
        assert_eq!((embedded.index as usize, embedded.tokens as usize), (number, tokens.len()));
    }
    assert_ne!(found[0].values, found[1].values);
    let length: f32 = found[0].values.iter().map(|value| value * value).sum();
    assert!((length - 1.0).abs() < 1e-5, "{length}");
}

#[test]
fn fewer_dimensions_are_the_first_ones_and_raw_vectors_keep_their_length() {
    let instance = load(&engine(Script::default()));
    let ask = |dimensions, normalize| EmbedRequest {
        output: EmbedOutput::Vector { dimensions, normalize },
        ..texts(1)
    };
    let whole = answer(&instance, ask(None, false)).remove(0).values;
    assert_eq!(answer(&instance, ask(Some(10), false)).remove(0).values, whole[..10]);
    assert_ne!(answer(&instance, ask(Some(10), true)).remove(0).values, whole[..10]);
    for wrong in [0, 65] {
        let failure = refusal(&instance, ask(Some(wrong), true));
        assert_eq!((failure.kind, failure.param.as_deref()), (ErrorKind::InvalidRequest, Some("dimensions")));
    }
}

#[test]
fn a_document_scores_by_the_words_of_the_query() {
    let instance = load(&engine(Script::default()));
    let pair = |document: &str| EmbedInput::Pair { query: "the red Fox".into(), document: document.into() };
    let inputs = vec![pair("a fox, the red one"), pair("the kettle"), pair("song")];
    let found = answer(&instance, EmbedRequest { output: EmbedOutput::Score, ..request(inputs) });
    let scores: Vec<f32> = found.iter().flat_map(|embedded| embedded.values.clone()).collect();
    let expected: &[f32] = &[1.0, 1.0 / 3.0, 0.0];
    assert_eq!(scores, expected);
}

#[test]
fn what_is_too_long_is_cut_where_it_may_be_and_special_tokens_stay() {
    let instance = load(&engine(Script::default()));
    let long = || EmbedInput::Text(format!("a{}.", " fox".repeat(600)));
    let failure = refusal(&instance, request(vec![EmbedInput::Text("short".into()), long()]));
    assert_eq!(failure.kind, ErrorKind::ContextExceeded);
    for part in ["input 1", "604", "512"] {
        assert!(failure.message.contains(part), "{failure:?}");
    }
    let tokens = FakeEngine::tokens_of(&format!("a{}.", " fox".repeat(600)));
    let ends = [&tokens[..511], &tokens[tokens.len() - 1..]].concat();
    let starts = [&tokens[..1], &tokens[tokens.len() - 511..]].concat();
    for (truncate, kept) in [(Truncate::End, ends), (Truncate::Start, starts)] {
        let found = answer(&instance, EmbedRequest { truncate, ..request(vec![long()]) });
        assert!(found[0].was_cut && found[0].tokens == 512);
        assert_eq!(found[0].values, FakeEngine::vector_of(&kept));
    }
}

#[test]
fn of_a_pair_the_document_is_cut() {
    let pair = |query: usize, document: usize| EmbedInput::Pair {
        query: " fox".repeat(query),
        document: " owl".repeat(document),
    };
    let read = |input| Input::read(0, input, 20, Truncate::End);
    let cut = read(pair(5, 100)).unwrap();
    assert_eq!((cut.tokens.len(), cut.was_cut), (20, true));
    assert_eq!(cut.tokens[..7], FakeEngine::tokens_of(&" fox".repeat(5)));
    assert_eq!(cut.tokens.last(), Some(&EOS));
    assert_eq!(read(pair(100, 5)).map(drop).unwrap_err().kind, ErrorKind::ContextExceeded);
}

#[test]
fn what_is_no_request_is_refused() {
    let instance = load(&engine(Script::default()));
    let vocabulary = vocabulary::size();
    let inputs = [
        Vec::new(),
        vec![EmbedInput::Text("x".into()); INPUTS_MAX + 1],
        vec![EmbedInput::Text("x".into()), EmbedInput::Text(String::new())],
        vec![EmbedInput::Tokens(Vec::new())],
        vec![EmbedInput::Tokens(vec![1, vocabulary])],
    ];
    for inputs in inputs {
        assert_eq!(refusal(&instance, request(inputs)).kind, ErrorKind::InvalidRequest);
    }
}

#[test]
fn a_model_does_what_its_capabilities_and_its_load_say() {
    let [writes, reads] = [FakeEngine::CAPABILITIES, FakeEngine::EMBEDS];
    let reads = Capabilities { can_generate: false, can_rerank: false, ..reads };
    let engine = FakeEngine::builder().capabilities(writes).capabilities_for("reader", reads).build();
    let (writer, reader) = (FakeEngine::descriptor("writer", 1), FakeEngine::descriptor("reader", 1));
    assert_eq!((engine.capabilities(&writer), engine.capabilities(&reader)), (writes, reads));
    assert_eq!(refusal(&load_as(&engine, &writer), texts(1)).kind, ErrorKind::Unsupported);
    let instance = load_as(&engine, &reader);
    assert_eq!(answer(&instance, texts(1)).len(), 1);
    let scores = EmbedRequest { output: EmbedOutput::Score, ..texts(1) };
    assert_eq!(refusal(&instance, scores).kind, ErrorKind::Unsupported);
    let prompt = crate::generation::Prompt::Tokens(vec![1]);
    let text = instance.generate(crate::generation::GenerationRequest::new(prompt));
    assert_eq!(text.map(drop).unwrap_err().kind, ErrorKind::Unsupported);
    let (files, options, control) = (ModelFiles::of("m"), FakeEngine::options(), LoadControl::silent());
    let unpooled = engine.load(LoadRequest::new(&files, &reader, &options, &control)).unwrap();
    assert_eq!(refusal(&unpooled, texts(1)).kind, ErrorKind::Unsupported);
}

#[test]
fn a_query_is_computed_in_the_next_batch_and_imports_take_turns() {
    let engine = gated();
    let instance = load(&engine);
    let bulk = || start(&instance, EmbedRequest { urgency: Urgency::Bulk, ..texts(200) });
    let (mut first, mut second) = (bulk(), bulk());
    engine.batches_gate().admit(1);
    engine.blocking_wait_until(LIMIT, |counts| counts.inputs_embedded == 8).unwrap();
    let query = start(&instance, texts(3));
    engine.batches_gate().admit(1);
    assert_eq!(events(query).len(), 4, "three vectors and the end");
    let counts = engine.blocking_wait_until(LIMIT, |counts| counts.embeds_finished == 1).unwrap();
    assert_eq!((counts.batches, counts.inputs_embedded), (2, 16));
    let heard = |generation: &mut Generation| {
        let event = generation.blocking_next();
        assert!(matches!(event, Some(TokenEvent::Embedded(_))), "{event:?}");
    };
    for _ in 0..6 {
        heard(&mut first);
        heard(&mut second);
    }
}

#[test]
fn inputs_of_whoever_left_are_never_computed() {
    let engine = gated();
    let instance = load(&engine);
    let (leaving, staying) = (start(&instance, texts(100)), start(&instance, texts(2)));
    drop(leaving);
    engine.batches_gate().open();
    assert_eq!(events(staying).len(), 3);
    let counts = engine.blocking_wait_until(LIMIT, |counts| counts.embeds_finished == 1).unwrap();
    assert_eq!((counts.inputs_dropped, counts.inputs_embedded, counts.embeds_cancelled), (100, 2, 1));
    assert_eq!(instance.measure().busy_slots, 0);
}

#[test]
fn parking_ends_what_is_running_and_refuses_what_comes() {
    let engine = gated();
    let instance = load(&engine);
    let running = start(&instance, texts(3));
    instance.park().unwrap();
    let events = events(running);
    assert!(matches!(&events[..], [TokenEvent::Failed(failure)] if failure.kind == ErrorKind::Unavailable));
    assert_eq!(refusal(&instance, texts(1)).kind, ErrorKind::Unavailable);
    engine.batches_gate().open();
    instance.resume(&FakeEngine::embedder_options()).unwrap();
    assert_eq!(answer(&instance, texts(3)).len(), 3);
}

#[test]
fn numbers_that_are_none_fail_their_request_alone() {
    let instance = load(&engine(Script { not_a_number: Some("cursed".into()), ..Script::default() }));
    let cursed = request(vec![EmbedInput::Text("well".into()), EmbedInput::Text("cursed".into())]);
    let events = events(start(&instance, cursed));
    let Some(TokenEvent::Failed(failure)) = events.last() else { panic!("{events:?}") };
    assert_eq!(failure.kind, ErrorKind::EngineFailed);
    assert!(failure.message.contains("input 1"), "{failure:?}");
    assert_eq!(answer(&instance, texts(3)).len(), 3);
}

#[test]
fn a_scripted_death_breaks_off_without_a_word() {
    let instance = load(&engine(Script { crash_after_inputs: Some(4), ..Script::default() }));
    let events = events(start(&instance, texts(9)));
    assert_eq!(events.len(), 4, "{events:?}");
    assert!(!matches!(events.last(), Some(TokenEvent::Done(_) | TokenEvent::Failed(_))));
    assert_eq!(refusal(&instance, texts(1)).kind, ErrorKind::EngineFailed);
}

#[test]
fn a_request_that_nobody_wants_any_more_is_not_begun() {
    struct Unwanted;
    impl PromptControl for Unwanted {
        fn is_wanted(&self) -> bool {
            false
        }
    }
    let instance = load(&engine(Script::default()));
    let failure = instance.embed(texts(3), &Unwanted).map(drop).unwrap_err();
    assert_eq!(failure.kind, ErrorKind::Cancelled);
}
