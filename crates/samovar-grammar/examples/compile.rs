//! How long 50 schemas as people write them take to compile, how long a mask takes, and how much memory all of that takes:
//! `cargo run --release -p samovar-grammar --example compile`. The vocabulary has 150,000 tokens, made of letters and of JSON's
//! signs. With `--json`, it writes its figures as one object.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the result is the output")]

use std::time::{Duration, Instant};

use samovar_core::Constraint;
use samovar_grammar::{Grammar, Rules, Vocabulary, VocabularyToken};
use serde_json::{Map, Value, json};

const SCHEMAS: &str = include_str!("../tests/schemas/real.json");
const TOKENS: usize = 150_000;
/// Signs that real vocabularies have as one token.
const SIGNS: [&str; 16] = [
    "{\"", "\":", "\": ", "\": \"", "\", \"", "\",\"", ", \"", "\"}", "\"},", "[{\"", "}]", "[]", "true",
    "false", "null", "  ",
];
/// Walks of each schema, and tokens of one walk at most.
const WALKS: u64 = 4;
const WALK_TOKENS: usize = 100;

fn main() {
    let is_json = std::env::args().any(|argument| argument == "--json");
    let (began, before) = (Instant::now(), anonymous_bytes());
    let (vocabulary, end) = vocabulary();
    let (took, bytes) = (began.elapsed(), anonymous_bytes().saturating_sub(before));
    let mut most_bytes = 0;
    let schemas: Map<String, Value> = serde_json::from_str(SCHEMAS).expect("schemas");
    let (mut compiled, mut masks) = (Vec::new(), Vec::new());
    for (name, schema) in &schemas {
        let grammar = Grammar::Constraint(Constraint::JsonSchema(schema.to_string()));
        for seed in 0..WALKS {
            let began = Instant::now();
            let rules = vocabulary.compile(&grammar, "response_format", &|| true);
            let took = began.elapsed();
            match rules {
                Ok(mut rules) => {
                    walk(&mut rules, seed + 1, end, &mut masks);
                    most_bytes = most_bytes.max(vocabulary.grammar_bytes());
                }
                Err(failure) => eprintln!("{name}: {failure}"),
            }
            if seed == 0 {
                if !is_json {
                    println!("{took:>9.2?}  {name}");
                }
                compiled.push(took);
            }
        }
    }
    if is_json {
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        let (compiled, masks) = (quantiles(&mut compiled), quantiles(&mut masks));
        let told = json!({
            "tokens": TOKENS, "vocabulary_ms": ms(took), "vocabulary_mib": mib(bytes),
            "compile_p50_ms": ms(compiled[0]), "compile_p99_ms": ms(compiled[1]),
            "mask_p50_ms": ms(masks[0]), "mask_p99_ms": ms(masks[1]), "grammar_most_mib": mib(most_bytes as u64),
        });
        println!("{told}");
        return;
    }
    println!("vocabulary of {TOKENS} tokens: {took:.1?}, {:.1} MiB", mib(bytes));
    report("compile", &mut compiled);
    report("mask", &mut masks);
    println!("largest grammar after an answer: {:.1} MiB", mib(most_bytes as u64));
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Memory of this process that no file stands for; 0 where the system does not say.
fn anonymous_bytes() -> u64 {
    let status = fs_err::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
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
    let [p50, p99, most] = quantiles(times);
    println!("{what}: {} times, p50 {p50:.1?}, p99 {p99:.1?}, longest {most:.1?}", times.len());
}

/// The middle one, the one that 99 % are below, and the longest.
fn quantiles(times: &mut [Duration]) -> [Duration; 3] {
    times.sort_unstable();
    let at = |part: f64| times.get((times.len() as f64 * part) as usize).copied().unwrap_or_default();
    [at(0.5), at(0.99), times.last().copied().unwrap_or_default()]
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
