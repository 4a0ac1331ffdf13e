//! What only the thread's own figures tell: which steps there are, and that drafts are accepted and taken back.

use std::path::Path;
use std::sync::Arc;

use samovar_core::footprint::KvType;
use samovar_core::format::gguf;
use samovar_core::port::{Instance, LoadControl, LoadRequest, Unconfined};
use samovar_core::{
    Completion, Constraint, FinishReason, GenerationRequest, Layout, LoadOptions, ModelFiles, Prompt,
    Sampling, TokenEvent,
};

use super::LlamaInstance;
use crate::build_info::build_info;
use crate::constraints::AnswerGrammar;
use crate::plan::LoadPlan;

fn load() -> LlamaInstance {
    let _ = build_info();
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/demo-model/demo.gguf"));
    let (files, descriptor) = (ModelFiles::of(path), gguf::inspect(path).unwrap());
    let options = LoadOptions {
        context_tokens: 2048,
        slots: 1,
        layout: Layout::Mapped,
        kv_type: KvType::F16,
        threads: 1,
        lock_memory: false,
        pooling: None,
    };
    let (plan, control) = (LoadPlan::new(&descriptor, &options).unwrap(), LoadControl::silent());
    let request = LoadRequest::new(&files, &descriptor, &options, &control);
    LlamaInstance::load(request, plan, "test", &Arc::default()).unwrap()
}

/// An answer that consists of these tokens alone, each as likely as the others, so that no draw depends on how sums are
/// rounded. Candidates are in the order of their ids.
fn answer(
    instance: &LlamaInstance,
    tokens: &[u32],
    max_tokens: u32,
    (seed, speculates): (u32, bool),
) -> (String, Completion) {
    let sampling = Sampling {
        temperature: 5_000.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        seed: Some(seed),
        logit_bias: tokens.iter().map(|token| (*token, 200_000.0)).collect(),
        ..Sampling::default()
    };
    let request = GenerationRequest {
        sampling,
        max_tokens: Some(max_tokens),
        ignore_eos: true,
        speculates,
        ..GenerationRequest::new(Prompt::Tokens(tokens.repeat(4)))
    };
    let (mut generation, mut text) = (instance.generate(request).unwrap(), String::new());
    loop {
        match generation.blocking_next().expect("an answer has an end") {
            TokenEvent::Token { text: part, .. } => text += &part,
            TokenEvent::Done(completion) => return (text, completion),
            TokenEvent::Prefilling { .. } | TokenEvent::Prefilled { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_must_come_takes_no_step_of_its_own() {
    let instance = load();
    let prompt = Prompt::Tokens(instance.tokenize("Once upon a time", false, false).unwrap());
    let constraint = Some(Constraint::Regex("(a|b)cdefgh again and again".to_owned()));
    let request = GenerationRequest { constraint, ..GenerationRequest::new(prompt) };
    let mut generation = instance.generate(request).unwrap();
    let mut finish = None;
    while let Some(event) = generation.blocking_next() {
        if let TokenEvent::Done(completion) = event {
            finish = Some(completion.finish);
        }
    }
    assert_eq!((finish, instance.published.steps()), (Some(FinishReason::Stop), 1));
}

#[test]
fn rules_do_not_keep_a_model_that_is_unloaded() {
    let instance = load();
    let (model, texts) = (Arc::downgrade(instance.model()), instance.prompts.vocabulary());
    let constraint = Constraint::Regex("(a|b)c".to_owned());
    let grammar = AnswerGrammar::of(Some(&constraint), None, texts).unwrap().unwrap();
    let compiled = instance.constraints.compile(&grammar, texts, instance.model(), &Unconfined);
    let (rules, _) = compiled.unwrap();
    drop(instance);
    assert_eq!(model.strong_count(), 0);
    drop(rules);
}

/// Two tokens of plain letters.
fn two_tokens(instance: &LlamaInstance) -> [u32; 2] {
    let tokens = instance.tokenize("Once upon a time", false, false).unwrap();
    let [first, .., last] = tokens[..] else { panic!("{tokens:?}") };
    assert_ne!(first, last);
    [first, last]
}

#[test]
fn a_text_that_repeats_itself_takes_fewer_steps() {
    let instance = load();
    let [token, _] = two_tokens(&instance);
    let plain = answer(&instance, &[token], 200, (1, false)).0;
    assert_eq!(instance.published.drafts(), (0, 0), "none were wanted");
    let (text, completion) = answer(&instance, &[token], 200, (1, true));
    let (drafted, accepted) = instance.published.drafts();
    assert!(drafted > 0 && accepted == drafted, "{accepted} of {drafted}");
    assert_eq!((text, completion.usage.completion_tokens), (plain, 200));
}

#[test]
fn what_is_refused_of_a_draft_is_neither_said_nor_kept() {
    let instance = load();
    let tokens = two_tokens(&instance);
    let mut answers = Vec::new();
    // How many drafts are tried depends on what they cost.
    for seed in 0..8 {
        answers.push(answer(&instance, &tokens, 400, (seed, true)));
    }
    let (drafted, accepted) = instance.published.drafts();
    assert!(0 < accepted && accepted < drafted, "{accepted} of {drafted}");
    let kept = instance.prefixes().unwrap();
    for (seed, (text, completion)) in (5..).zip(answers.split_off(5)) {
        let usage = completion.usage;
        assert_eq!(usage.completion_tokens, 400);
        let prompt = usage.prompt_tokens as usize;
        // The last token is said and not computed.
        let is_its_own = |tokens: &[u32]| {
            let said =
                (tokens.len() == prompt + 399).then(|| instance.detokenize(&tokens[prompt..]).unwrap());
            said.is_some_and(|said| text.as_bytes().starts_with(&said))
        };
        assert!(kept.iter().any(|prefix| is_its_own(&prefix.tokens)), "{text:?}");
        let plain = answer(&instance, &tokens, 400, (seed, false)).0;
        assert_eq!(text, plain, "each token takes one draw, whatever was drafted");
    }
}
