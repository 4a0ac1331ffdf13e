//! How long 50 schemas as people write them take to compile, and how long a mask takes: `cargo run --release -p
//! samovar-grammar --example compile`. The vocabulary has 50,000 tokens, made of letters and of JSON's signs.
#![allow(clippy::print_stdout, reason = "the result is the output")]

use std::time::{Duration, Instant};

use samovar_core::Constraint;
use samovar_grammar::{Grammar, Rules, Vocabulary, VocabularyToken};
use serde_json::{Map, Value};

const SCHEMAS: &str = include_str!("../tests/schemas/real.json");
const TOKENS: usize = 50_000;
/// Signs that real vocabularies have as one token.
const SIGNS: [&str; 16] = [
    "{\"", "\":", "\": ", "\": \"", "\", \"", "\",\"", ", \"", "\"}", "\"},", "[{\"", "}]", "[]", "true",
    "false", "null", "  ",
];
/// Walks of each schema, and tokens of one walk at most.
const WALKS: u64 = 4;
const WALK_TOKENS: usize = 100;

fn main() {
    let began = Instant::now();
    let (vocabulary, end) = vocabulary();
    println!("vocabulary of {TOKENS} tokens: {:.1?}", began.elapsed());
    let schemas: Map<String, Value> = serde_json::from_str(SCHEMAS).expect("schemas");
    let (mut compiled, mut masks) = (Vec::new(), Vec::new());
    for (name, schema) in &schemas {
        let grammar = Grammar::Constraint(Constraint::JsonSchema(schema.to_string()));
        for seed in 0..WALKS {
            let began = Instant::now();
            let rules = vocabulary.compile(&grammar, "response_format", &|| true);
            let took = began.elapsed();
            match rules {
                Ok(mut rules) => walk(&mut rules, seed + 1, end, &mut masks),
                Err(failure) => println!("{name}: {failure}"),
            }
            if seed == 0 {
                println!("{took:>9.2?}  {name}");
                compiled.push(took);
            }
        }
    }
    report("compile", &mut compiled);
    report("mask", &mut masks);
}

/// Chooses any allowed token again and again.
fn walk(rules: &mut Rules, mut seed: u64, end: u32, masks: &mut Vec<Duration>) {
    for _ in 0..WALK_TOKENS {
        let began = Instant::now();
        let Ok(mask) = rules.mask() else { return };
        masks.push(began.elapsed());
        let allowed: Vec<u32> = mask.tokens().filter(|token| *token != end).collect();
        let Some(token) = allowed.get(below(&mut seed, allowed.len())) else { return };
        if rules.accept(*token).is_err() || rules.is_finished() {
            return;
        }
    }
}

fn report(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |part: f64| times.get((times.len() as f64 * part) as usize).copied().unwrap_or_default();
    let most = times.last().copied().unwrap_or_default();
    println!("{what}: {} times, p50 {:.1?}, p99 {:.1?}, longest {most:.1?}", times.len(), at(0.5), at(0.99));
}

fn vocabulary() -> (Vocabulary, u32) {
    let mut tokens: Vec<Vec<u8>> = (0..=u8::MAX).map(|byte| vec![byte]).collect();
    tokens.extend(SIGNS.map(|sign| sign.as_bytes().to_vec()));
    let mut seed = 7;
    while tokens.len() < TOKENS - 1 {
        let mut word = if below(&mut seed, 2) == 0 { vec![b' '] } else { Vec::new() };
        for _ in 0..2 + below(&mut seed, 8) {
            word.push(b'a' + below(&mut seed, 26) as u8);
        }
        tokens.push(word);
    }
    let end = tokens.len() as u32;
    let mut tokens: Vec<_> =
        tokens.into_iter().map(|bytes| VocabularyToken { bytes, ..VocabularyToken::default() }).collect();
    tokens.push(VocabularyToken { bytes: b"</s>".to_vec(), is_control: true, is_end: true });
    let bytes_alone = |text: &[u8]| -> Vec<u32> { text.iter().map(|byte| u32::from(*byte)).collect() };
    (Vocabulary::new(tokens, end, bytes_alone).expect("a vocabulary"), end)
}

/// A number below `most` (xorshift); 0 if there is none.
fn below(seed: &mut u64, most: usize) -> usize {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    (*seed >> 11) as usize % most.max(1)
}
