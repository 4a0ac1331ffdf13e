//! Vectors and scores: complete, each once, and of an input the same whatever is computed beside it. Every case is
//! skipped where the model cannot do it, or was not loaded to do it.

use std::sync::Arc;

use super::subject::{Subject, events, next_event, wait_until_idle, within_limit};
use crate::embedding::{
    EmbedInput, EmbedOutput, EmbedRequest, Embedded, INPUTS_MAX, Pooling, Truncate, Urgency,
};
use crate::error::{ErrorKind, Failure};
use crate::generation::{Completion, Generation, TokenEvent};
use crate::port::{Instance, PromptControl, Unconfined};

/// Vectors of one input in two batches of different shape may differ by this much in each number, and in each large number
/// by this part of it.
const NOISE: f32 = 1e-4;

impl Subject {
    /// Whether it was loaded to make vectors.
    fn makes_vectors(&self) -> bool {
        self.capabilities().can_embed && self.options.pooling.is_some_and(|pooling| pooling != Pooling::Rank)
    }

    /// Whether it was loaded to score pairs.
    fn makes_scores(&self) -> bool {
        self.capabilities().can_rerank && self.options.pooling == Some(Pooling::Rank)
    }

    fn context(&self) -> usize {
        self.options.context_tokens as usize
    }
}

fn vectors(inputs: Vec<EmbedInput>) -> EmbedRequest {
    EmbedRequest {
        inputs,
        output: EmbedOutput::Vector { dimensions: None, normalize: true },
        truncate: Truncate::Refuse,
        urgency: Urgency::Interactive,
    }
}

fn scores(inputs: Vec<EmbedInput>) -> EmbedRequest {
    EmbedRequest { output: EmbedOutput::Score, ..vectors(inputs) }
}

/// A text of so many words.
fn words(count: usize, salt: usize) -> String {
    const WORDS: [&str; 8] = ["fox", "kettle", "owl", "river", "once", "friends", "with", "there"];
    let word = |place: usize| WORDS[(place * (salt + 1) + salt) % WORDS.len()];
    (0..count).map(word).collect::<Vec<_>>().join(" ")
}

fn text(count: usize, salt: usize) -> EmbedInput {
    EmbedInput::Text(words(count, salt))
}

/// Texts of very different lengths, all of which fit.
fn mixed(subject: &Subject) -> Vec<EmbedInput> {
    let longest = subject.context() / 8;
    [3, longest, 1, 17, longest / 2, 5, longest.min(60), 2]
        .into_iter()
        .enumerate()
        .map(|(salt, count)| text(count, salt))
        .collect()
}

fn start(instance: &Arc<dyn Instance>, request: EmbedRequest) -> Generation {
    instance
        .embed(request, &Unconfined)
        .unwrap_or_else(|failure| panic!("the request was refused: {failure:?}"))
}

/// Reads an answer to its end: each input once, in their order.
fn collect(generation: Generation, inputs: usize) -> (Vec<Embedded>, Completion) {
    whole(&events(generation), inputs)
}

/// What these events are of so many inputs; checks that it is all and nothing else.
fn whole(events: &[TokenEvent], inputs: usize) -> (Vec<Embedded>, Completion) {
    let Some((TokenEvent::Done(completion), before)) = events.split_last() else {
        panic!("ends with {:?} instead of Done", events.last());
    };
    let mut found: Vec<Embedded> = Vec::new();
    for event in before {
        match event {
            TokenEvent::Embedded(embedded) => found.push(embedded.clone()),
            TokenEvent::Prefilling { .. } => {}
            other => panic!("{other:?} among the vectors"),
        }
    }
    found.sort_by_key(|embedded| embedded.index);
    let places: Vec<usize> = found.iter().map(|embedded| embedded.index as usize).collect();
    assert_eq!(places, (0..inputs).collect::<Vec<_>>());
    assert!(found.iter().all(|embedded| embedded.values.len() == found[0].values.len()));
    assert!(found.iter().flat_map(|embedded| &embedded.values).all(|value| value.is_finite()));
    let tokens: u32 = found.iter().map(|embedded| embedded.tokens).sum();
    assert_eq!(completion.usage.prompt_tokens, tokens, "{:?}", completion.usage);
    (found, *completion)
}

fn ask(instance: &Arc<dyn Instance>, request: EmbedRequest) -> Vec<Embedded> {
    let inputs = request.inputs.len();
    collect(start(instance, request), inputs).0
}

fn ask_one(instance: &Arc<dyn Instance>, input: EmbedInput) -> Embedded {
    ask(instance, vectors(vec![input])).remove(0)
}

/// Asks for what cannot be had, and returns the refusal: at once, or as the last event.
fn refusal(instance: &Arc<dyn Instance>, request: EmbedRequest) -> Failure {
    match instance.embed(request, &Unconfined) {
        Err(failure) => failure,
        Ok(generation) => match events(generation).last() {
            Some(TokenEvent::Failed(failure)) => failure.clone(),
            other => panic!("ends with {other:?} instead of a refusal"),
        },
    }
}

#[track_caller]
fn assert_near(what: &str, ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let difference = |(a, b): (&f32, &f32)| (a - b).abs() / a.abs().max(1.0);
    let furthest = ours.iter().zip(theirs).map(difference).fold(0.0, f32::max);
    assert!(furthest <= NOISE, "{what}: numbers differ by {furthest}");
}

fn length(values: &[f32]) -> f32 {
    values.iter().map(|value| value * value).sum::<f32>().sqrt()
}

/// Each input has one vector, as wide as the model and of length 1.
pub fn every_input_has_one_vector_of_length_one(subject: &Subject) {
    if !subject.makes_vectors() {
        return;
    }
    let instance = subject.load();
    let inputs = mixed(subject);
    for embedded in ask(&instance, vectors(inputs.clone())) {
        assert!(!embedded.was_cut && embedded.tokens > 0, "input {}", embedded.index);
        let length = length(&embedded.values);
        assert!((length - 1.0).abs() < 1e-3, "input {} has length {length}", embedded.index);
    }
    let full: Vec<_> = (0..INPUTS_MAX).map(|salt| text(1 + salt % 4, salt)).collect();
    ask(&instance, vectors(full));
    let bulk = EmbedRequest { urgency: Urgency::Bulk, ..vectors(inputs) };
    ask(&instance, bulk);
}

/// An input's vector is the same alone, in a batch of mixed lengths, and beside equal ones.
pub fn vectors_do_not_depend_on_what_is_beside_them(subject: &Subject) {
    if !subject.makes_vectors() {
        return;
    }
    let instance = subject.load();
    let inputs = mixed(subject);
    let together = ask(&instance, vectors(inputs.clone()));
    let backwards = ask(&instance, vectors(inputs.iter().rev().cloned().collect()));
    for (place, input) in inputs.iter().enumerate() {
        let alone = ask_one(&instance, input.clone());
        assert_near(&format!("input {place} alone"), &alone.values, &together[place].values);
        let other = &backwards[inputs.len() - 1 - place];
        assert_near(&format!("input {place} in another order"), &alone.values, &other.values);
        assert_eq!((alone.tokens, other.tokens), (together[place].tokens, together[place].tokens));
    }
    let equal = ask(&instance, vectors(vec![inputs[0].clone(); 9]));
    for embedded in &equal {
        assert_near("an equal input", &embedded.values, &together[0].values);
    }
    let difference = together[0].values.iter().zip(&together[1].values).map(|(a, b)| (a - b).abs());
    assert!(difference.fold(0.0, f32::max) > NOISE, "different texts have the same vector");
}

/// Fewer dimensions are the first ones, of length 1 again where that is asked; without it a vector is as the model makes it.
pub fn vectors_are_cut_to_their_dimensions(subject: &Subject) {
    if !subject.makes_vectors() {
        return;
    }
    let instance = subject.load();
    let as_vector = |dimensions, normalize| {
        let output = EmbedOutput::Vector { dimensions, normalize };
        ask(&instance, EmbedRequest { output, ..vectors(vec![text(5, 0)]) }).remove(0).values
    };
    let raw = as_vector(None, false);
    let width = raw.len() as u32;
    assert_near("fewer raw dimensions", &as_vector(Some(width / 2), false), &raw[..raw.len() / 2]);
    let scaled = |values: &[f32]| -> Vec<f32> {
        let length = length(values);
        values.iter().map(|value| value / length).collect()
    };
    assert_near("all dimensions", &as_vector(None, true), &scaled(&raw));
    assert_near("half of them", &as_vector(Some(width / 2), true), &scaled(&raw[..raw.len() / 2]));
    assert_near("as many as there are", &as_vector(Some(width), true), &scaled(&raw));
    for dimensions in [0, width + 1, u32::MAX] {
        let output = EmbedOutput::Vector { dimensions: Some(dimensions), normalize: true };
        let failure = refusal(&instance, EmbedRequest { output, ..vectors(vec![text(5, 0)]) });
        assert_eq!(failure.kind, ErrorKind::InvalidRequest, "{dimensions}: {failure:?}");
    }
    ask_one(&instance, text(5, 0));
}

/// An input that is too long is refused with its length and the model's, and nothing else suffers.
pub fn an_input_too_long_is_refused_with_both_numbers(subject: &Subject) {
    if !subject.makes_vectors() {
        return;
    }
    let instance = subject.load();
    let context = subject.context();
    let tokens = instance.tokenize(&words(context, 0), false, false).unwrap();
    for count in [context + 1, context * 3] {
        let input = EmbedInput::Tokens(tokens.iter().copied().cycle().take(count).collect());
        let beside = start(&instance, vectors(vec![text(9, 1)]));
        let failure = refusal(&instance, vectors(vec![text(3, 0), input]));
        assert_eq!(failure.kind, ErrorKind::ContextExceeded, "{failure:?}");
        let message = failure.message.replace([',', '_', ' '], "");
        let names = |number: usize| message.contains(&number.to_string());
        assert!(names(count) && names(context), "{:?} names not both {count} and {context}", failure.message);
        collect(beside, 1);
    }
    instance.probe().unwrap();
    ask_one(&instance, text(5, 0));
}

/// An input that is too long is cut to what the model reads where that is asked, from either side.
pub fn an_input_too_long_is_cut_when_asked(subject: &Subject) {
    if !subject.makes_vectors() {
        return;
    }
    let instance = subject.load();
    let context = subject.context();
    let long = format!("{} {}", words(context, 0), words(context, 3));
    let cut = |truncate| {
        let inputs = vec![text(2, 0), EmbedInput::Text(long.clone())];
        let found = ask(&instance, EmbedRequest { truncate, ..vectors(inputs) });
        assert!(!found[0].was_cut && found[1].was_cut, "{truncate:?}");
        assert_eq!(found[1].tokens as usize, context, "{truncate:?}");
        found[1].values.clone()
    };
    let (end, start) = (cut(Truncate::End), cut(Truncate::Start));
    assert!(end.iter().zip(&start).any(|(a, b)| (a - b).abs() > NOISE), "both ends have the same vector");
    // What is left out does not matter.
    let longer = EmbedInput::Text(format!("{long} {}", words(context, 5)));
    let request = EmbedRequest { truncate: Truncate::End, ..vectors(vec![longer]) };
    assert_near("a longer text cut to the same", &ask(&instance, request)[0].values, &end);
}

/// Token ids are taken as they are; those that the model does not have are refused.
pub fn token_ids_are_embedded_as_they_are(subject: &Subject) {
    if !subject.makes_vectors() {
        return;
    }
    let instance = subject.load();
    let tokens = instance.tokenize(&words(12, 0), false, false).unwrap();
    let found = ask_one(&instance, EmbedInput::Tokens(tokens.clone()));
    assert_eq!(found.tokens as usize, tokens.len());
    let whole = vec![tokens[0]; subject.context()];
    assert_eq!(ask_one(&instance, EmbedInput::Tokens(whole)).tokens, subject.options.context_tokens);
    for wrong in [subject.descriptor.vocabulary, i32::MAX as u32, u32::MAX] {
        let inputs = vec![EmbedInput::Tokens(tokens.clone()), EmbedInput::Tokens(vec![tokens[0], wrong])];
        let failure = refusal(&instance, vectors(inputs));
        assert_eq!(failure.kind, ErrorKind::InvalidRequest, "{failure:?}");
    }
    ask_one(&instance, EmbedInput::Tokens(tokens));
}

/// A special token written in a text is text.
pub fn no_text_is_read_as_a_special_token(subject: &Subject) {
    if !subject.makes_vectors() {
        return;
    }
    let instance = subject.load();
    let ordinary = ask_one(&instance, text(1, 0)).tokens;
    let written =
        subject.descriptor.eos_token.clone().into_iter().chain(subject.descriptor.bos_token.clone());
    for special in written.chain(["[SEP]", "</s>", "<|im_end|>"].map(str::to_owned)) {
        let parsed = instance.tokenize(&special, false, true).unwrap();
        let as_text = instance.tokenize(&special, false, false).unwrap();
        if parsed.len() != 1 || as_text.len() == 1 {
            continue;
        }
        let tokens = ask_one(&instance, EmbedInput::Text(format!("{} {special}", words(1, 0)))).tokens;
        assert!(tokens as usize >= ordinary as usize + as_text.len() - 1, "{special}: {tokens} tokens");
    }
}

/// Requests without inputs, with too many and with an empty one are refused, and harm no other request.
pub fn requests_without_a_text_are_refused(subject: &Subject) {
    if !subject.makes_vectors() {
        return;
    }
    let instance = subject.load();
    let refused = [
        Vec::new(),
        vec![text(1, 0); INPUTS_MAX + 1],
        vec![text(1, 0), EmbedInput::Text(String::new())],
        vec![text(1, 0), EmbedInput::Tokens(Vec::new())],
    ];
    for inputs in refused {
        let (count, failure) = (inputs.len(), refusal(&instance, vectors(inputs)));
        assert_eq!(failure.kind, ErrorKind::InvalidRequest, "{count} inputs: {failure:?}");
    }
    ask_one(&instance, text(5, 0));
}

/// What a model cannot do, or was not loaded for, is refused, and its instance lives.
pub fn what_a_model_was_not_loaded_for_is_refused(subject: &Subject) {
    let capabilities = subject.capabilities();
    let instance = subject.load();
    let mut refused = Vec::new();
    if !capabilities.can_embed || subject.options.pooling.is_none() {
        refused.push(vectors(vec![text(3, 0)]));
    }
    if !capabilities.can_rerank || subject.options.pooling.is_none() {
        refused.push(scores(vec![EmbedInput::Pair { query: words(2, 0), document: words(3, 1) }]));
    }
    for request in refused {
        let failure = refusal(&instance, request);
        assert_eq!(failure.kind, ErrorKind::Unsupported, "{failure:?}");
    }
    instance.probe().unwrap();
}

/// A client that leaves, at whatever moment, leaves nothing behind.
pub fn dropping_vectors_cancels_them(subject: &Subject) {
    if !subject.makes_vectors() {
        return;
    }
    let instance = subject.load();
    let long = || {
        let count = subject.context() / 8;
        let inputs = (0..INPUTS_MAX).map(|salt| text(count, salt)).collect();
        EmbedRequest { urgency: Urgency::Bulk, ..vectors(inputs) }
    };
    drop(start(&instance, long()));
    wait_until_idle(&instance);
    let (leaving, staying) = (start(&instance, long()), start(&instance, vectors(vec![text(4, 0)])));
    let (event, leaving) = next_event(leaving);
    assert!(matches!(event, Some(TokenEvent::Embedded(_) | TokenEvent::Prefilling { .. })), "{event:?}");
    drop(leaving);
    collect(staying, 1);
    wait_until_idle(&instance);
    ask_one(&instance, text(4, 0));
}

/// A request that is not wanted any more before it began is given up, or was quicker.
pub fn unwanted_inputs_are_given_up(subject: &Subject) {
    struct Unwanted;
    impl PromptControl for Unwanted {
        fn is_wanted(&self) -> bool {
            false
        }
    }
    if !subject.makes_vectors() {
        return;
    }
    let instance = subject.load();
    match instance.embed(vectors(vec![text(2, 0); 64]), &Unwanted) {
        Ok(generation) => drop(collect(generation, 64)),
        Err(failure) => assert_eq!(failure.kind, ErrorKind::Cancelled, "{failure:?}"),
    }
    ask_one(&instance, text(4, 0));
}

/// A parked instance refuses, and makes the same vectors once it is resumed.
pub fn parking_keeps_the_vectors(subject: &Subject) {
    if !subject.makes_vectors() || !subject.capabilities().can_park {
        return;
    }
    let instance = subject.load();
    let request = vectors(mixed(subject));
    let before = ask(&instance, request.clone());
    for round in 0..3 {
        instance.park().unwrap();
        let refused = refusal(&instance, request.clone());
        assert_eq!(refused.kind, ErrorKind::Unavailable, "{refused:?}");
        instance.resume(&subject.options).unwrap();
        for (ours, theirs) in before.iter().zip(ask(&instance, request.clone())) {
            assert_near(&format!("round {round}"), &ours.values, &theirs.values);
        }
    }
}

/// Many requests at once, more than the instance has slots, all get what each would get alone.
pub fn many_requests_for_vectors_at_once_all_finish(subject: &Subject) {
    if !subject.makes_vectors() {
        return;
    }
    let instance = subject.load();
    let request = |salt: usize| {
        let urgency = if salt.is_multiple_of(2) { Urgency::Interactive } else { Urgency::Bulk };
        EmbedRequest { urgency, ..vectors((0..=salt % 5).map(|place| text(3 + 7 * place, salt)).collect()) }
    };
    let count = subject.options.slots as usize * 4 + 3;
    let alone: Vec<_> = (0..count).map(|salt| ask(&instance, request(salt))).collect();
    let running: Vec<_> = (0..count).map(|salt| start(&instance, request(salt))).collect();
    for (salt, (generation, expected)) in running.into_iter().zip(&alone).enumerate() {
        let (found, _) = collect(generation, expected.len());
        for (ours, theirs) in expected.iter().zip(&found) {
            assert_near(&format!("request {salt}"), &ours.values, &theirs.values);
        }
    }
    wait_until_idle(&instance);
}

/// Vectors of an instance that goes away end; they do not hang.
pub fn dropping_the_instance_ends_its_vectors(subject: &Subject) {
    if !subject.makes_vectors() {
        return;
    }
    let instance = subject.load();
    let inputs: Vec<_> = (0..INPUTS_MAX).map(|salt| text(subject.context() / 8, salt)).collect();
    let running: Vec<_> = (0..3).map(|_| start(&instance, vectors(inputs.clone()))).collect();
    within_limit("end of the instance", move || drop(instance));
    for generation in running {
        let last = events(generation).pop();
        let is_fault =
            matches!(last, Some(TokenEvent::Failed(ref failure)) if failure.kind == ErrorKind::Internal);
        assert!(!is_fault, "{last:?}");
    }
}

/// A pair's score is the same alone and among others, in both orders, and every pair has one.
pub fn scores_do_not_depend_on_what_is_beside_them(subject: &Subject) {
    if !subject.makes_scores() {
        return;
    }
    let instance = subject.load();
    let pair = |salt: usize| EmbedInput::Pair { query: words(3, 0), document: words(2 + 9 * salt, salt) };
    let pairs: Vec<_> = (0..6).map(pair).collect();
    let together = ask(&instance, scores(pairs.clone()));
    let backwards = ask(&instance, scores(pairs.iter().rev().cloned().collect()));
    for (place, input) in pairs.iter().enumerate() {
        assert!(!together[place].values.is_empty());
        let alone = ask(&instance, scores(vec![input.clone()])).remove(0);
        assert_near(&format!("pair {place} alone"), &alone.values, &together[place].values);
        let other = &backwards[pairs.len() - 1 - place];
        assert_near(&format!("pair {place} in another order"), &alone.values, &other.values);
    }
}

/// Of a pair that is too long the document is cut where that is asked, else it is refused.
pub fn a_pair_too_long_is_refused_or_its_document_cut(subject: &Subject) {
    if !subject.makes_scores() {
        return;
    }
    let instance = subject.load();
    let long = || EmbedInput::Pair { query: words(3, 0), document: words(subject.context() * 2, 1) };
    let failure = refusal(&instance, scores(vec![long()]));
    assert_eq!(failure.kind, ErrorKind::ContextExceeded, "{failure:?}");
    let found = ask(&instance, EmbedRequest { truncate: Truncate::End, ..scores(vec![long()]) });
    assert!(found[0].was_cut && found[0].tokens <= subject.options.context_tokens, "{:?}", found[0].tokens);
}
