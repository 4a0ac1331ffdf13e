//! What only the thread's own figures tell: which steps there are, and that drafts are accepted and taken back.

use std::path::Path;
use std::sync::Arc;

use samovar_core::footprint::KvType;
use samovar_core::format::gguf;
use samovar_core::port::{Instance, LoadControl, LoadRequest, Unconfined};
use samovar_core::testing::gguf::Writer;
use samovar_core::{
    Completion, Constraint, Digest, DraftModel, FinishReason, GenerationRequest, Layout, LoadOptions,
    ModelFiles, Prompt, Sampling, TokenEvent, WeightsId,
};

use super::LlamaInstance;
use crate::build_info::build_info;
use crate::constraints::AnswerGrammar;
use crate::plan::LoadPlan;

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/demo-model/demo.gguf");

fn load() -> LlamaInstance {
    load_with(Path::new(DEMO), None)
}

fn options() -> LoadOptions {
    LoadOptions {
        context_tokens: 2048,
        slots: 1,
        layout: Layout::Mapped,
        kv_type: KvType::F16,
        threads: 1,
        lock_memory: false,
        pooling: None,
        draft: None,
    }
}

/// A model, and the one that drafts for it.
fn load_with(path: &Path, draft: Option<&Path>) -> LlamaInstance {
    let _ = build_info();
    let (mut files, descriptor) = (ModelFiles::of(path), gguf::inspect(path).unwrap());
    let draft = draft.map(|draft| {
        files = files.with_draft(&ModelFiles::of(draft));
        let weights = WeightsId::File(Digest::of_bytes(draft.as_os_str().as_encoded_bytes()));
        Box::new(DraftModel::new(weights, &gguf::inspect(draft).unwrap()))
    });
    let options = LoadOptions { draft, ..options() };
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

#[test]
fn grammars_are_counted_while_they_are_there_and_their_tree_of_tokens_until_the_model_is_parked() {
    let (plain, bound) = (load(), load());
    let held = || bound.measure().held_bytes - plain.measure().held_bytes;
    assert_eq!(held(), 0, "nothing is reserved");
    let texts = bound.prompts.vocabulary();
    let constraint = Constraint::Regex("(a|b)c".to_owned());
    let grammar = AnswerGrammar::of(Some(&constraint), None, texts).unwrap().unwrap();
    let compile =
        || bound.constraints.compile(&grammar, texts, bound.model(), &Unconfined).map(|(rules, _)| rules);
    let tree = u64::from(gguf::inspect(Path::new(DEMO)).unwrap().vocabulary) * 400;
    let rules = compile().unwrap();
    assert!(held() > tree);
    drop(rules);
    assert_eq!(held(), tree);
    for instance in [&plain, &bound] {
        instance.park().unwrap();
    }
    assert_eq!(held(), 0);
    assert!(compile().is_ok() && held() == tree, "it is read again");
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

/// The demo model, changed, in a file.
fn changed(
    folder: &tempfile::TempDir,
    name: &str,
    change: impl FnOnce(Writer) -> Writer,
) -> std::path::PathBuf {
    let path = folder.path().join(name);
    let demo = Writer::of_bytes(&fs_err::read(DEMO).unwrap());
    fs_err::write(&path, change(demo).build()).unwrap();
    path
}

/// Has it write 200 of the most likely tokens.
fn story(instance: &LlamaInstance, speculates: bool) {
    let prompt = Prompt::Tokens(instance.tokenize("Once upon a time", false, false).unwrap());
    let request = GenerationRequest {
        sampling: Sampling::greedy(),
        max_tokens: Some(200),
        ignore_eos: true,
        speculates,
        reuse_prefix: false,
        ..GenerationRequest::new(prompt)
    };
    let mut generation = instance.generate(request).unwrap();
    let mut tokens = 0;
    while let Some(event) = generation.blocking_next() {
        if let TokenEvent::Done(completion) = event {
            tokens = completion.usage.completion_tokens;
        }
    }
    assert_eq!(tokens, 200);
}

#[test]
fn what_a_draft_model_says_is_accepted_where_the_model_says_it_too() {
    let folder = tempfile::tempdir().unwrap();
    // It says what the demo model says, in four times its time.
    let slow = changed(&folder, "slow", |demo| demo.with_idle_blocks(12));
    let instance = load_with(&slow, Some(Path::new(DEMO)));
    story(&instance, false);
    assert_eq!(instance.published.model_drafts(), (0, 0), "none were wanted");
    for _ in 0..3 {
        story(&instance, true);
    }
    let (drafted, accepted) = instance.published.model_drafts();
    assert!(accepted > 0 && accepted * 2 > drafted, "{accepted} of {drafted}");
    instance.park().unwrap();
    instance.resume(&LoadOptions { context_tokens: 1024, slots: 2, ..options() }).unwrap();
    story(&instance, true);
    assert!(instance.published.model_drafts().1 > accepted, "it goes on after a pause");
}

#[test]
fn a_draft_model_that_always_fails_is_rarely_asked() {
    let folder = tempfile::tempdir().unwrap();
    let slow = changed(&folder, "slow", |demo| demo.with_idle_blocks(12));
    // All tokens are equally likely: it says the first one.
    let spoiled = changed(&folder, "spoiled", |demo| demo.zeroed("output_norm.weight"));
    let instance = load_with(&slow, Some(&spoiled));
    for _ in 0..5 {
        story(&instance, true);
    }
    let (drafted, accepted) = instance.published.model_drafts();
    assert!(accepted == 0 && (1..40).contains(&drafted), "{accepted} of {drafted}");
}

#[test]
fn a_draft_model_is_counted_as_long_as_it_is_there() {
    let alone = load();
    let both = load_with(Path::new(DEMO), Some(Path::new(DEMO)));
    let weights = gguf::inspect(Path::new(DEMO)).unwrap().tensor_bytes;
    let more = || {
        let (alone, both) = (alone.measure(), both.measure());
        // The native log rounds.
        assert!(both.mapped_bytes - alone.mapped_bytes > weights * 9 / 10);
        both.held_bytes - alone.held_bytes
    };
    let ready = more();
    // 512 tokens for each of two sequences, of 4 blocks × 2 heads × (64 + 64) × 2 bytes.
    assert!(ready > 2 * 512 * 4 * 2 * 128 * 2, "{ready}");
    alone.park().unwrap();
    both.park().unwrap();
    assert!(more() < ready, "its context is given back");
}
