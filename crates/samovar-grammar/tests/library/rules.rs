//! What rules promise: ends where an answer may end, forced tokens as the tokenizer writes them, no text after a failure.

use crate::support;

use samovar_core::{Constraint, ErrorKind};
use samovar_grammar::{Ahead, Grammar, Rules, Vocabulary, VocabularyToken};
use serde_json::{Value, json};
use support::{CALL, END, OTHER_END, longest, rules, spell, vocabulary};

fn accept(rules: &mut Rules, text: &str) {
    for token in longest(text.as_bytes()) {
        rules.accept(token).unwrap_or_else(|failure| panic!("{failure}: {text}"));
    }
}

fn schema(schema: &Value) -> Constraint {
    Constraint::JsonSchema(schema.to_string())
}

#[test]
fn ends_are_allowed_only_where_the_answer_may_end() {
    let mut rules = rules(&vocabulary(), Constraint::Regex("ab?".to_owned()));
    assert!(!rules.mask().expect("a mask").allows(END));
    assert!(rules.accept(u32::from(b'a')).is_ok());
    let mask = rules.mask().expect("a mask");
    assert!(mask.allows(END) && mask.allows(OTHER_END) && mask.allows(u32::from(b'b')));
    assert_eq!(mask.count(), 3);
    assert!(rules.accept(u32::from(b'b')).is_ok());
    assert!(rules.is_finished());
    assert_eq!(rules.mask().expect("a mask").tokens().collect::<Vec<_>>(), [END, OTHER_END]);
    assert!(rules.accept(OTHER_END).is_ok() && rules.is_finished());
}

#[test]
fn either_end_ends_an_answer_that_could_go_on() {
    for end in [END, OTHER_END] {
        let mut rules = rules(&vocabulary(), Constraint::Regex("a+".to_owned()));
        accept(&mut rules, "aaa");
        assert!(!rules.is_finished());
        assert!(rules.accept(end).is_ok() && rules.is_finished());
    }
}

#[test]
fn a_token_that_was_not_allowed_ends_the_rules_for_good() {
    let mut rules = rules(&vocabulary(), Constraint::Regex("[0-9]{3}".to_owned()));
    accept(&mut rules, "1");
    let failure = rules.accept(u32::from(b'x')).expect_err("not a digit");
    assert_eq!(failure.kind, ErrorKind::Internal);
    assert!(rules.mask().is_err() && rules.forced(8).is_err() && rules.accept(u32::from(b'2')).is_err());
    assert!(!rules.is_finished());
    assert_eq!(rules.allows(&longest(b"2")), 0);
}

#[test]
fn an_end_in_the_middle_is_refused() {
    let mut rules = rules(&vocabulary(), Constraint::Regex("[0-9]{3}".to_owned()));
    assert!(rules.accept(END).is_err());
}

#[test]
fn forced_tokens_are_those_of_the_tokenizer() {
    const ANSWER: &str = "{\"value\": \"the name\"}";
    let constraint = schema(&json!({ "type": "object", "properties": { "value": { "enum": ["the name"] } },
        "required": ["value"], "additionalProperties": false }));
    let mut rules = rules(&vocabulary(), constraint);
    let (mut written, mut longest_run) = (Vec::new(), 0);
    while !rules.is_finished() {
        let forced = rules.forced(64).expect("forced");
        longest_run = longest_run.max(forced.len());
        for token in forced {
            rules.accept(token).expect("a forced token is allowed");
            written.push(token);
        }
        // A space may follow the colon: there, and where a token reaches over the colon, the model chooses.
        if !rules.is_finished() {
            let rest = &ANSWER.as_bytes()[spell(&written).len()..];
            let token = longest(rest)[0];
            assert!(rules.mask().expect("a mask").allows(token), "{token} after {written:?}");
            rules.accept(token).expect("allowed");
            written.push(token);
        }
    }
    assert_eq!(String::from_utf8(spell(&written)).expect("UTF-8"), ANSWER);
    assert_eq!(written, longest(ANSWER.as_bytes()), "other tokens than the tokenizer's");
    assert!(longest_run >= 4, "{longest_run}");
}

#[test]
fn an_object_that_declares_properties_gets_no_others_unless_its_schema_says_so() {
    let more_after = |schema_text: Value| {
        let mut rules = rules(&vocabulary(), schema(&schema_text));
        for byte in br#"{"a":true"# {
            rules.accept(u32::from(*byte)).expect("allowed");
        }
        rules.mask().expect("a mask").allows(u32::from(b','))
    };
    let properties = json!({ "a": { "type": "boolean" } });
    assert!(!more_after(json!({ "type": "object", "properties": properties })));
    assert!(more_after(json!({ "type": "object", "properties": properties, "additionalProperties": true })));
    let described_twice =
        json!([{ "properties": properties }, { "properties": { "b": { "type": "null" } } }]);
    assert!(more_after(json!({ "type": "object", "allOf": described_twice })));
}

#[test]
fn no_more_tokens_are_forced_than_asked_for() {
    let mut rules = rules(&vocabulary(), Constraint::Regex("the name of the type".to_owned()));
    assert!(rules.forced(0).expect("forced").is_empty());
    let two = rules.forced(2).expect("forced");
    let all = rules.forced(64).expect("forced");
    assert_eq!(two, all[..2]);
    assert_eq!(all, longest(b"the name of the type"));
}

#[test]
fn models_may_write_a_space_after_colons_and_commas_and_no_other() {
    let constraint = schema(&json!({ "type": "object", "properties": { "a": { "type": "boolean" },
        "b": { "type": "array", "items": { "type": "null" } } }, "required": ["a", "b"] }));
    let vocabulary = vocabulary();
    for (text, is_allowed) in [
        ("{\"a\":true,\"b\":[null,null]}", true),
        ("{\"a\": true, \"b\": [null, null]}", true),
        ("{\"a\":  true", false),
        ("{ \"a\"", false),
        ("{\"a\" :", false),
        ("\n{", false),
    ] {
        let mut rules = rules(&vocabulary, constraint.clone());
        let bytes: Vec<u32> = text.bytes().map(u32::from).collect();
        assert_eq!(rules.allows(&bytes) == bytes.len(), is_allowed, "{text}");
    }
}

#[test]
fn drafts_are_allowed_up_to_their_first_wrong_token() {
    let mut rules = rules(&vocabulary(), Constraint::Regex("abc[0-9]*".to_owned()));
    let draft: Vec<u32> = b"abc1x2".iter().map(|byte| u32::from(*byte)).collect();
    assert_eq!(rules.allows(&draft), 4);
    assert_eq!(rules.allows(&draft), 4, "nothing was taken in");
    assert_eq!(rules.allows(&[u32::from(b'a'), u32::MAX]), 1);
    assert_eq!(rules.allows(&[]), 0);
    accept(&mut rules, "abc");
    assert_eq!(rules.allows(&[END, u32::from(b'1')]), 1);
}

#[test]
fn control_tokens_of_a_tools_grammar_stand_by_their_ids() {
    let grammar = format!("start: <[{CALL}]> %json {{ \"type\": \"boolean\" }}");
    let mut rules = vocabulary().compile(&Grammar::Lark(grammar), "tools", &|| true).expect("compiles");
    assert_eq!(rules.mask().expect("a mask").tokens().collect::<Vec<_>>(), [CALL]);
    assert_eq!(rules.forced(4).expect("forced").first(), Some(&CALL));
    rules.accept(CALL).expect("allowed");
    assert!(rules.mask().expect("a mask").allows(u32::from(b't')));
    // A text means its characters, also where a client wrote it: one may name an argument, or one of its values, like a token.
    let text = "start: \"<tool_call>\"".to_owned();
    for grammar in [Grammar::Lark(text.clone()), Grammar::Constraint(Constraint::Lark(text))] {
        let mut rules = vocabulary().compile(&grammar, "grammar", &|| true).expect("compiles");
        let mask = rules.mask().expect("a mask");
        assert!(!mask.allows(CALL) && mask.allows(u32::from(b'<')));
    }
}

#[test]
fn gbnf_says_what_it_says_in_llama_cpp() {
    let grammar = "root ::= list\nlist ::= \"[\" (item (\",\" item)*)? \"]\"\nitem ::= [0-9]+ | list\n";
    let mut rules = rules(&vocabulary(), Constraint::Gbnf(grammar.to_owned()));
    let text: Vec<u32> = b"[1,[23,[]],4]".iter().map(|byte| u32::from(*byte)).collect();
    assert_eq!(rules.allows(&text), text.len());
    assert_eq!(rules.allows(&longest(b"[1,,")), 3);
}

#[test]
fn the_next_mask_is_computed_ahead() {
    let ahead = Ahead::start().expect("a thread");
    let constraint = schema(&json!({ "type": "object", "properties": { "name": { "type": "boolean" } },
        "required": ["name"], "additionalProperties": false }));
    let vocabulary = vocabulary();
    let pending: Vec<_> = (0..20)
        .map(|_| ahead.follow(rules(&vocabulary, constraint.clone()), vec![u32::from(b'{')], 16))
        .collect();
    for pending in pending {
        let mut next = pending.take().expect("computed");
        assert!(spell(&next.forced).starts_with(b"\"name"), "{:?}", next.forced);
        assert_eq!(&next.mask, next.rules.mask().expect("a mask"));
        assert!(!next.is_finished);
    }
    let wrong = ahead.follow(rules(&vocabulary, constraint.clone()), vec![u32::from(b'[')], 16);
    assert_eq!(wrong.take().expect_err("no list").kind, ErrorKind::Internal);
    // The thread outlives an answer that failed, and ends with its handle.
    assert!(ahead.follow(rules(&vocabulary, constraint), vec![u32::from(b'{')], 0).take().is_ok());
    drop(ahead);
}

#[test]
fn grammars_are_counted_while_they_are_in_use() {
    let vocabulary = vocabulary();
    assert_eq!(vocabulary.grammar_bytes(), 0);
    let constraint = schema(&json!({ "type": "object", "properties": { "a": { "type": "string" } } }));
    let one = rules(&vocabulary, constraint.clone());
    let of_one = vocabulary.grammar_bytes();
    let other = rules(&vocabulary, constraint);
    assert!(of_one > 0 && vocabulary.grammar_bytes() > of_one);
    drop((one, other));
    assert_eq!(vocabulary.grammar_bytes(), 0);
}

/// As many tokens as today's models have: bytes, and words of letters with and without a space before them.
fn many_tokens() -> Vec<VocabularyToken> {
    let bytes = (0..=u8::MAX).map(|byte| vec![byte]);
    let words = (0..151_000_u64).map(|index| {
        let number = index / 2 + 26;
        let mut number = if index % 6 < 2 { number * 104_729 } else { number };
        let mut word = Vec::new();
        while number > 0 {
            word.push(b'a' + (number % 26) as u8);
            number /= 26;
        }
        if index % 2 == 1 {
            word.push(b' ');
        }
        word.reverse();
        word
    });
    let text = bytes.chain(words).map(|bytes| VocabularyToken { bytes, ..VocabularyToken::default() });
    let end = VocabularyToken { bytes: b"</s>".to_vec(), is_control: true, is_end: true };
    text.chain([end]).collect()
}

#[test]
fn masks_over_a_large_vocabulary_allow_exactly_what_the_grammar_does() {
    let tokens = many_tokens();
    let end = tokens.len() as u32 - 1;
    let by_bytes = |text: &[u8]| -> Vec<u32> { text.iter().map(|byte| u32::from(*byte)).collect() };
    let vocabulary = Vocabulary::new(tokens.clone(), end, by_bytes).expect("a vocabulary");
    let mut letters = rules(&vocabulary, Constraint::Regex("[a-f]{2,5}".to_owned()));
    for written in 0..=5 {
        let mask = letters.mask().expect("a mask");
        for (id, token) in (0..).zip(&tokens) {
            let is_text = token.bytes.len() <= 5 - written;
            let is_text = is_text && token.bytes.iter().all(|byte| (b'a'..=b'f').contains(byte));
            let is_allowed = if token.is_end { written >= 2 } else { is_text };
            assert_eq!(mask.allows(id), is_allowed, "{token:?} after {written} letters");
        }
        if written < 5 {
            letters.accept(u32::from(b'a')).expect("allowed");
        }
    }
    let named = json!({ "type": "object", "properties": { "name": { "type": "string", "maxLength": 6 } },
        "required": ["name"] });
    let mut object = rules(&vocabulary, schema(&named));
    for byte in br#"{"name":"ab"# {
        object.accept(u32::from(*byte)).expect("allowed");
    }
    let mask = object.mask().expect("a mask").clone();
    assert!(mask.count() > 1_000, "{mask:?}");
    for (id, token) in (0..).zip(&tokens).skip(256).filter(|(_, token)| !token.is_end) {
        assert_eq!(mask.allows(id), token.bytes.len() <= 4, "{token:?}");
    }
    let bytes = vocabulary.grammar_bytes();
    assert!((1..16 << 20).contains(&bytes), "{bytes}");
}

#[test]
fn rules_move_to_other_threads() {
    fn is_send<T: Send + 'static>() {}
    is_send::<Rules>();
    is_send::<Ahead>();
    is_send::<Vocabulary>();
    is_send::<samovar_grammar::Pending>();
}
