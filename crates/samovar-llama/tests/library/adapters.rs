//! Adapters change the answers of requests that name them and of no others.

use crate::support;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use samovar_core::format::gguf;
use samovar_core::generation::Generation;
use samovar_core::port::Instance;
use samovar_core::testing::gguf::{Writer, lora};
use samovar_core::{Adapter, ErrorKind, GenerationRequest, LoadOptions, Prompt, TokenEvent};
use support::{collect, demo, greedy, load, options, start};

/// Adapters for the demo model in files of their own.
struct Adapters(tempfile::TempDir);

impl Adapters {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn write(&self, name: &str, writer: &Writer) -> PathBuf {
        let path = self.0.path().join(name);
        fs_err::write(&path, writer.build()).expect("writes");
        path
    }

    /// Adapters of different ranks are different.
    fn of_rank(&self, rank: u64) -> PathBuf {
        let path = self.write(&format!("{rank}.gguf"), &lora(&demo(), rank));
        gguf::inspect_adapter(&path, &demo()).expect("the gate lets it through");
        path
    }
}

fn tokens(count: usize, salt: u32) -> Vec<u32> {
    (0..count as u32).map(|i| 300 + (i * 7 + salt * 131) % 900).collect()
}

fn with(adapters: &[(&Path, f32)], request: GenerationRequest) -> GenerationRequest {
    let adapters =
        adapters.iter().map(|(path, scale)| Adapter { path: (*path).to_owned(), scale: *scale }).collect();
    GenerationRequest { adapters, ..request }
}

fn request(salt: u32) -> GenerationRequest {
    greedy(Prompt::Tokens(tokens(20, salt)), 24)
}

fn answer(instance: &Arc<dyn Instance>, request: GenerationRequest) -> String {
    collect(start(instance, request)).0
}

fn failure(mut generation: Generation) -> samovar_core::Failure {
    match generation.blocking_next() {
        Some(TokenEvent::Failed(failure)) => failure,
        other => panic!("{other:?} instead of a failure"),
    }
}

#[test]
fn an_adapter_changes_the_answer_the_same_way_each_time() {
    let files = Adapters::new();
    let (first, second) = (files.of_rank(2), files.of_rank(3));
    let instance = load(&options());
    let base = answer(&instance, request(1));
    let adapted = answer(&instance, with(&[(&first, 0.5)], request(1)));
    assert_ne!(adapted, base);
    assert_eq!(answer(&instance, with(&[(&first, 0.0)], request(1))), base, "a scale of 0 is no adapter");
    assert_eq!(answer(&instance, with(&[(&first, 0.5)], request(1))), adapted);
    assert_ne!(answer(&instance, with(&[(&second, 0.5)], request(1))), adapted);
    assert_ne!(answer(&instance, with(&[(&first, 0.5), (&second, 0.5)], request(1))), adapted);
    assert_eq!(answer(&instance, request(1)), base);
    assert_eq!(answer(&load(&options()), with(&[(&first, 0.5)], request(1))), adapted, "another instance");
}

#[test]
fn base_and_adapted_answers_side_by_side_are_as_alone() {
    let files = Adapters::new();
    let (first, second) = (files.of_rank(2), files.of_rank(3));
    let instance = load(&options());
    let private = |salt| GenerationRequest { reuse_prefix: false, ..request(salt) };
    let requests = [
        private(1),
        with(&[(&first, 0.5)], private(2)),
        with(&[(&second, 0.5)], private(2)),
        with(&[(&first, 0.25)], private(3)),
    ];
    let alone: Vec<_> = requests.iter().map(|request| answer(&instance, request.clone())).collect();
    for round in 0..3 {
        let running: Vec<_> = requests.iter().map(|request| start(&instance, request.clone())).collect();
        for (number, (generation, expected)) in running.into_iter().zip(&alone).enumerate() {
            assert_eq!(collect(generation).0, *expected, "round {round}, request {number}");
        }
    }
}

#[test]
fn an_adapter_that_does_not_fit_fails_its_own_request_alone() {
    let files = Adapters::new();
    let good = files.of_rank(2);
    // The descriptor does not know this side; llama.cpp does.
    let wrong = lora(&demo(), 2)
        .tensor("blk.0.attn_k.weight.lora_a", &[u64::from(demo().embedding_width), 2])
        .tensor("blk.0.attn_k.weight.lora_b", &[2, 7]);
    let wrong = files.write("wrong.gguf", &wrong);
    gguf::inspect_adapter(&wrong, &demo()).unwrap();
    let instance = load(&options());
    let expected = [answer(&instance, request(1)), answer(&instance, with(&[(&good, 0.5)], request(2)))];
    let running = [start(&instance, request(1)), start(&instance, with(&[(&good, 0.5)], request(2)))];
    let refused = failure(start(&instance, with(&[(&wrong, 1.0)], request(3))));
    assert_eq!(refused.kind, ErrorKind::InvalidModel, "{refused:?}");
    assert!(refused.message.contains("wrong.gguf") && refused.message.contains("shape"), "{refused:?}");
    for (generation, expected) in running.into_iter().zip(expected) {
        assert_eq!(collect(generation).0, expected);
    }
    let missing = files.0.path().join("missing.gguf");
    let refused = instance.generate(with(&[(&missing, 1.0)], request(1))).map(|_| ()).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::NotFound, "{refused:?}");
    assert!(refused.message.contains("missing.gguf"), "{refused:?}");
}

#[test]
fn prefixes_are_shared_among_equal_adapters_only() {
    let files = Adapters::new();
    let (first, second) = (files.of_rank(2), files.of_rank(3));
    let instance = load(&options());
    let cached = |adapters: &[(&Path, f32)]| {
        let request = greedy(Prompt::Tokens(tokens(100, 4)), 4);
        collect(start(&instance, with(adapters, request))).1.usage.cached_tokens
    };
    assert_eq!(cached(&[(&first, 0.5)]), 0);
    assert_eq!(cached(&[]), 0);
    assert_eq!(cached(&[(&first, 0.25)]), 0);
    assert_eq!(cached(&[(&first, 0.5)]), 99);
    assert_eq!(cached(&[(&second, 0.5)]), 0);
    assert_eq!(cached(&[]), 99);
    let savable = instance.prefixes().unwrap();
    assert_eq!(cached(&[(&second, 0.75)]), 0);
    assert!(!savable.is_empty());
    assert_eq!(instance.prefixes().unwrap(), savable, "only that of the model as it is can be saved");
}

#[test]
fn who_is_short_does_not_wait_for_who_is_long() {
    let files = Adapters::new();
    let adapter = files.of_rank(2);
    let instance = load(&LoadOptions { context_tokens: 4096, ..options() });
    let long = start(&instance, greedy(Prompt::Tokens(tokens(20, 5)), 4000));
    for salt in 0..5 {
        assert!(!answer(&instance, with(&[(&adapter, 0.5)], request(salt))).is_empty());
    }
    assert_eq!(instance.measure().busy_slots, 1, "the long answer still runs");
    drop(long);
}

#[test]
fn loaded_adapters_are_counted_bounded_and_given_back() {
    let files = Adapters::new();
    let paths: Vec<_> = (1..=20).map(|rank| files.of_rank(rank)).collect();
    let bytes = |path: &PathBuf| gguf::inspect_adapter(path, &demo()).unwrap().tensor_bytes;
    let instance = load(&options());
    let held = instance.measure().held_bytes;
    answer(&instance, with(&[(&paths[7], 0.1)], request(1)));
    let first = instance.measure().held_bytes - held;
    // The native log rounds to a hundredth of a MiB.
    assert!(first.abs_diff(bytes(&paths[7])) < 32 << 10, "{first} of {}", bytes(&paths[7]));
    for path in &paths {
        answer(&instance, with(&[(path, 0.1)], request(1)));
    }
    let most: u64 = paths[12..].iter().map(bytes).sum();
    let all = instance.measure().held_bytes - held;
    assert!(all.abs_diff(most) < 8 * (32 << 10), "{all} bytes held, the last eight have {most}");

    // More at once than may be loaded: they wait for each other.
    let sets = paths.chunks(5).map(|set| set.iter().map(|path| (path.as_path(), 0.02)).collect::<Vec<_>>());
    let running: Vec<_> = sets.map(|set| start(&instance, with(&set, request(2)))).collect();
    instance.probe().unwrap();
    for generation in running {
        assert_eq!(collect(generation).1.usage.completion_tokens, 24);
    }
    let nine: Vec<_> = paths[..9].iter().map(|path| (path.as_path(), 1.0)).collect();
    let refused = instance.generate(with(&nine, request(1))).map(|_| ()).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::InvalidRequest, "{refused:?}");

    let before = answer(&instance, with(&[(&paths[0], 0.5)], request(3)));
    instance.park().unwrap();
    assert!(instance.measure().held_bytes < held);
    instance.resume(&options()).unwrap();
    assert_eq!(instance.measure().held_bytes, held);
    assert_eq!(answer(&instance, with(&[(&paths[0], 0.5)], request(3))), before);
}

#[test]
fn the_packed_layout_takes_adapters_too() {
    let files = Adapters::new();
    let adapter = files.of_rank(2);
    let instance = load(&LoadOptions { layout: samovar_core::Layout::Repacked, ..options() });
    let base = answer(&instance, request(1));
    let adapted = answer(&instance, with(&[(&adapter, 0.5)], request(1)));
    assert_ne!(adapted, base);
    assert_eq!(answer(&instance, with(&[(&adapter, 0.5)], request(1))), adapted);
}
