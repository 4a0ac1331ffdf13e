//! Answers that are bound: they are what the constraint says, whatever the model would say, or the request is refused.

use crate::support;

use std::sync::Arc;

use samovar_core::port::{Instance, PromptControl};
use samovar_core::{Constraint, ErrorKind, FinishReason, GenerationRequest, Sampling};
use serde_json::Value;
use support::heard::{Heard, hear};
use support::{load, options, start, text};

const SCHEMA: &str = r#"{
    "type": "object",
    "properties": {
        "name": { "type": "string", "maxLength": 12 },
        "age": { "type": "integer", "minimum": 0, "maximum": 150 },
        "kind": { "enum": ["fox", "crow", "samovar"] }
    },
    "required": ["name", "age", "kind"],
    "additionalProperties": false
}"#;

fn regex(regex: &str) -> Constraint {
    Constraint::Regex(regex.to_owned())
}

fn request(constraint: Constraint, max_tokens: u32) -> GenerationRequest {
    GenerationRequest {
        constraint: Some(constraint),
        max_tokens: Some(max_tokens),
        sampling: Sampling::greedy(),
        ..GenerationRequest::new(text("Once upon a time there was a fox"))
    }
}

/// As far from what the model would say as may be asked for.
fn wild(seed: u32) -> Sampling {
    Sampling { temperature: 2.0, top_p: 1.0, min_p: 0.0, top_k: 0, seed: Some(seed), ..Sampling::default() }
}

fn ask(instance: &Arc<dyn Instance>, request: GenerationRequest) -> Heard {
    hear(start(instance, request))
}

/// The answer obeys [`SCHEMA`], or was cut at its length.
fn check(heard: &Heard) {
    let value: Value = match serde_json::from_str(&heard.text) {
        Ok(value) => value,
        Err(error) => {
            let is_cut = error.is_eof() && heard.completion.finish == FinishReason::Length;
            assert!(is_cut, "{error}: {heard:?}");
            return;
        }
    };
    let fields = value.as_object().expect("an object");
    assert_eq!(fields.len(), 3, "{value}");
    assert!(value["name"].as_str().expect("a text").chars().count() <= 12, "{value}");
    assert!((0..=150).contains(&value["age"].as_i64().expect("a number")), "{value}");
    assert!(["fox", "crow", "samovar"].contains(&value["kind"].as_str().expect("a text")), "{value}");
}

#[test]
fn an_answer_obeys_its_schema_however_it_is_drawn() {
    let instance = load(&options());
    let mut finished = 0;
    for seed in 0..40 {
        let schema = Constraint::JsonSchema(SCHEMA.to_owned());
        let heard = ask(&instance, GenerationRequest { sampling: wild(seed), ..request(schema, 200) });
        check(&heard);
        finished += usize::from(heard.completion.finish == FinishReason::Stop);
        heard.check_tokens();
    }
    assert!(finished > 30, "{finished}");
}

#[test]
fn answers_with_different_constraints_share_their_steps() {
    let instance = load(&options());
    for seed in 0..4 {
        let wild = |constraint| GenerationRequest { sampling: wild(seed), ..request(constraint, 60) };
        let running = [
            start(&instance, wild(Constraint::JsonSchema(SCHEMA.to_owned()))),
            start(&instance, wild(regex("[0-9]{5}-[a-f]{3}"))),
            start(&instance, wild(regex("yes|no"))),
            start(
                &instance,
                GenerationRequest { constraint: None, ignore_eos: true, ..request(regex("x"), 60) },
            ),
        ];
        let [json, number, word, free] = running.map(hear);
        check(&json);
        let (digits, letters) = number.text.split_once('-').expect("a dash");
        assert!(digits.len() == 5 && digits.bytes().all(|byte| byte.is_ascii_digit()), "{number:?}");
        assert!(
            letters.len() == 3 && letters.bytes().all(|byte| (b'a'..=b'f').contains(&byte)),
            "{number:?}"
        );
        assert!(["yes", "no"].contains(&word.text.as_str()), "{word:?}");
        assert_eq!(number.completion.finish, FinishReason::Stop);
        assert_eq!(free.completion.usage.completion_tokens, 60);
        assert!(free.text.contains(' '), "what is not bound is a story: {free:?}");
    }
}

#[test]
fn the_length_counts_within_what_must_come() {
    let instance = load(&options());
    let literal = "the quick brown fox jumps over the lazy dog again and again";
    let whole = ask(&instance, request(regex(literal), 200));
    assert_eq!((whole.text.as_str(), whole.completion.finish), (literal, FinishReason::Stop));
    let tokens = whole.completion.usage.completion_tokens;
    for most in [1, 2, tokens - 1] {
        let cut = ask(&instance, request(regex(literal), most));
        assert_eq!(
            (cut.completion.usage.completion_tokens, cut.completion.finish),
            (most, FinishReason::Length)
        );
        assert!(literal.starts_with(&cut.text) && cut.text.len() < literal.len(), "{cut:?}");
    }
}

#[test]
fn what_must_come_fills_the_context_and_no_more() {
    let instance = load(&options());
    let literal = "again and ".repeat(400);
    let heard = ask(&instance, GenerationRequest { max_tokens: None, ..request(regex(&literal), 0) });
    let usage = heard.completion.usage;
    assert_eq!(usage.prompt_tokens + usage.completion_tokens, options().context_tokens);
    assert_eq!(heard.completion.finish, FinishReason::Length);
    assert!(literal.starts_with(heard.text.as_str()), "{heard:?}");
}

#[test]
fn each_token_has_its_probability_where_that_is_asked_for() {
    let instance = load(&options());
    let literal = "the quick brown fox";
    let heard = ask(&instance, GenerationRequest { logprobs: Some(3), ..request(regex(literal), 50) });
    assert_eq!(heard.text, literal);
    assert_eq!(heard.logprobs.len(), heard.completion.usage.completion_tokens as usize);
    let bytes: Vec<u8> = heard.logprobs.iter().flat_map(|token| token.bytes.clone()).collect();
    assert_eq!(String::from_utf8(bytes).unwrap(), literal);
    // They are those of the model, which would say something else.
    assert!(heard.logprobs.iter().any(|token| token.top[0].token != token.token), "{heard:?}");
}

#[test]
fn the_same_seed_draws_the_same_answer_with_probabilities() {
    let instance = load(&options());
    let is_same = |seed: &u32| {
        let bound = request(regex("(yes|no|maybe) and then (one|two|three) more of (them|those)"), 60);
        let plain = GenerationRequest { sampling: wild(*seed), reuse_prefix: false, ..bound };
        let probable = GenerationRequest { logprobs: Some(1), ..plain.clone() };
        ask(&instance, plain).text == ask(&instance, probable).text
    };
    // A draw may lie so near the border of two tokens that another rounding decides.
    let same = (0..6).filter(is_same).count();
    assert!(same >= 5, "{same} of 6");
}

#[test]
fn an_answer_without_an_end_goes_on_as_long_as_the_rules_let_it() {
    let instance = load(&options());
    for seed in 0..4 {
        let bound = request(regex("(a|b|c){3,9}"), 50);
        let heard = ask(&instance, GenerationRequest { ignore_eos: true, sampling: wild(seed), ..bound });
        assert_eq!((heard.text.len(), heard.completion.finish), (9, FinishReason::Stop), "{heard:?}");
    }
}

#[test]
fn stop_strings_end_what_is_bound() {
    let instance = load(&options());
    let heard = ask(
        &instance,
        GenerationRequest { stop: vec!["three".to_owned()], ..request(regex("one two three four"), 50) },
    );
    assert_eq!((heard.text.as_str(), heard.completion.finish), ("one two ", FinishReason::Stop));
}

#[test]
fn what_cannot_be_compiled_is_refused_with_its_part_of_the_request() {
    let instance = load(&options());
    let refused = |constraint| {
        let failure = instance.generate(request(constraint, 5)).map(|_| ()).expect_err("refused");
        assert_eq!(failure.kind, ErrorKind::InvalidRequest, "{failure:?}");
        failure.param.expect("a part")
    };
    assert_eq!(refused(regex("(")), "grammar");
    assert_eq!(refused(Constraint::Lark("start: nothing".to_owned())), "grammar");
    assert_eq!(
        refused(Constraint::JsonSchema(r#"{"$ref": "https://example.com/x"}"#.to_owned())),
        "response_format"
    );
    // It serves on.
    assert_eq!(ask(&instance, request(regex("ok"), 5)).text, "ok");
}

#[test]
fn a_grammar_that_no_caller_waits_for_is_given_up() {
    struct Unwanted;
    impl PromptControl for Unwanted {
        fn is_wanted(&self) -> bool {
            false
        }
    }
    let instance = load(&options());
    let failure =
        instance.generate_while(request(Constraint::JsonObject, 5), &Unwanted).map(|_| ()).unwrap_err();
    assert_eq!(failure.kind, ErrorKind::Cancelled, "{failure:?}");
}

#[test]
fn a_bound_answer_that_loses_its_caller_leaves_its_slot() {
    let instance = load(&options());
    for seed in 0..8 {
        let endless = request(regex("[a-z ]*"), 400);
        let mut generation = start(&instance, GenerationRequest { sampling: wild(seed), ..endless });
        generation.blocking_next().expect("it begins");
        drop(generation);
    }
    let heard = ask(&instance, request(regex("[0-9]{3}"), 9));
    assert_eq!(heard.text.len(), 3);
    instance.park().expect("parks");
    instance.resume(&options()).expect("resumes");
    assert_eq!(ask(&instance, request(regex("[0-9]{3}"), 9)).text, heard.text);
}
