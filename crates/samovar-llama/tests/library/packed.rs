//! Packed files through the engine: what they give, and what becomes of those that are no good.

use crate::support;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use samovar_core::format::gguf;
use samovar_core::port::{Engine, Instance, LoadControl, PackedFile};
use samovar_core::testing::gguf::{Writer, lora, part_name};
use samovar_core::{
    Adapter, Arrangement, Digest, ErrorKind, GenerationRequest, Layout, LoadOptions, Prompt, Scope,
    TokenEvent, TokenLogprob,
};
use samovar_llama::LlamaEngine;
use support::packed::{Packed, SOURCE, pack};
use support::{collect, greedy, options, start};

const LAYOUTS: [Layout; 4] = [Layout::Mapped, Layout::Packed, Layout::Hybrid, Layout::Repacked];

/// The model, unless this machine packs nothing of it.
macro_rules! packed_demo {
    () => {
        match Packed::demo() {
            Some(model) => model,
            None => return support::skipped("this processor packs nothing"),
        }
    };
}

fn tokens(count: usize, salt: u32) -> Vec<u32> {
    (0..count as u32).map(|i| 300 + (i * 7 + salt * 131) % 900).collect()
}

/// Tokens of an answer with the bits of their log-probabilities.
fn answer(instance: &Arc<dyn Instance>, prompt: Vec<u32>) -> Vec<(u32, u32)> {
    let request = GenerationRequest { logprobs: Some(5), ..greedy(Prompt::Tokens(prompt), 32) };
    let mut generation = start(instance, request);
    let mut seen = Vec::new();
    let bits = |token: &TokenLogprob| (token.token, token.logprob.to_bits());
    while let Some(event) = generation.blocking_next() {
        match event {
            TokenEvent::Token { logprob, .. } => {
                let token = logprob.expect("it was asked for");
                seen.push(bits(&token));
                seen.extend(token.top.iter().map(bits));
            }
            TokenEvent::Failed(failure) => panic!("{failure:?}"),
            TokenEvent::Prefilling { .. }
            | TokenEvent::Prefilled { .. }
            | TokenEvent::Deltas { .. }
            | TokenEvent::Embedded(_)
            | TokenEvent::Done(_) => {}
        }
    }
    assert!(seen.len() >= 32 * 6, "{seen:?}");
    seen
}

#[test]
fn every_layout_is_reached_and_answers_as_it_should() {
    let model = packed_demo!();
    let [mapped, packed, hybrid, repacked] = LAYOUTS.map(|layout| {
        let instance = model.load(layout);
        assert_eq!(instance.arrangement(), Arrangement { layout, refused: None });
        instance
    });
    for prompt in [tokens(9, 1), tokens(100, 2)] {
        assert_eq!(answer(&packed, prompt.clone()), answer(&repacked, prompt));
    }
    // Short prompts are small batches.
    assert_eq!(answer(&hybrid, tokens(9, 3)), answer(&repacked, tokens(9, 3)));
    assert_ne!(answer(&mapped, tokens(9, 3)), answer(&repacked, tokens(9, 3)), "rounded otherwise");
}

#[test]
fn without_a_packed_file_the_model_is_mapped_and_nothing_was_refused() {
    let model = packed_demo!();
    for layout in [Layout::Packed, Layout::Hybrid] {
        let instance = model.load_with(None, layout);
        assert_eq!(instance.arrangement(), Arrangement { layout: Layout::Mapped, refused: None });
    }
}

/// What is said of a packed file of these bytes; the model must answer as from its own file.
fn refusal(model: &Packed, bytes: &[u8], source: &str, layout: Layout) -> String {
    let path = model.folder.path().join("damaged");
    fs_err::write(&path, bytes).expect("it is written");
    refusal_of(model, &path, source, layout)
}

fn refusal_of(model: &Packed, path: &Path, source: &str, layout: Layout) -> String {
    let instance = model.load_with(Some(PackedFile { path, source }), layout);
    let arrangement = instance.arrangement();
    assert_eq!(arrangement.layout, Layout::Mapped, "{arrangement:?}");
    instance.probe().expect("it lives");
    arrangement.refused.expect("why it is not used")
}

#[test]
fn a_file_with_one_wrong_byte_where_it_counts_is_refused_and_the_model_loads() {
    let model = packed_demo!();
    let good = fs_err::read(&model.file).unwrap();
    let expected = answer(&model.load(Layout::Mapped), tokens(20, 1));
    let table = model.descriptor.file_bytes as usize;
    let key = LlamaEngine::new().packing(&model.descriptor).unwrap();
    let key = table + good[table..].windows(key.len()).position(|part| part == key.as_bytes()).unwrap();
    let header = (model.descriptor.file_bytes - model.descriptor.tensor_bytes) as usize;
    let places = [0, 9, header / 2, header - 200, table, key, key + 40, usize::midpoint(table, good.len())]
        .into_iter()
        .chain(good.len() - 56..good.len())
        .chain((table..good.len()).step_by(1 + (good.len() - table) / 40));
    for (number, place) in places.enumerate() {
        let mut damaged = good.clone();
        damaged[place] ^= 1;
        let layout = [Layout::Packed, Layout::Hybrid][number % 2];
        let reason = refusal(&model, &damaged, SOURCE, layout);
        assert!(!reason.is_empty(), "byte {place}");
    }
    let path = model.folder.path().join("damaged");
    let instance = model.load_with(Some(PackedFile { path: &path, source: SOURCE }), Layout::Packed);
    assert_eq!(answer(&instance, tokens(20, 1)), expected, "and answers as from its own file");
}

#[test]
fn a_file_cut_short_anywhere_is_refused() {
    let model = packed_demo!();
    let good = fs_err::read(&model.file).unwrap();
    let table = model.descriptor.file_bytes as usize;
    let lengths = (0..table)
        .step_by(table / 20)
        .chain((table..good.len()).step_by((good.len() - table) / 20))
        .chain(good.len() - 60..good.len());
    for (number, length) in lengths.enumerate() {
        refusal(&model, &good[..length], SOURCE, [Layout::Packed, Layout::Hybrid][number % 2]);
    }
    let longer = [&good[..], b"and more"].concat();
    refusal(&model, &longer, SOURCE, Layout::Packed);
}

#[test]
fn what_is_no_packed_file_of_this_model_is_refused() {
    let model = packed_demo!();
    let good = fs_err::read(&model.file).unwrap();
    let reason = refusal(&model, &good, "sha256:of another", Layout::Packed);
    assert!(reason.contains("another model"), "{reason}");
    let reason = refusal(&model, &fs_err::read(&model.path).unwrap(), SOURCE, Layout::Packed);
    assert!(reason.contains("no table"), "{reason}");
    refusal_of(&model, &model.folder.path().join("missing"), SOURCE, Layout::Packed);
    refusal_of(&model, model.folder.path(), SOURCE, Layout::Hybrid);
    refusal_of(&model, Path::new("/dev/null"), SOURCE, Layout::Packed);

    // The model's own file has been replaced by one of the same shapes.
    let mut other = fs_err::read(&model.path).unwrap();
    let header = (model.descriptor.file_bytes - model.descriptor.tensor_bytes) as usize;
    other[header..].iter_mut().for_each(|byte| *byte = byte.rotate_left(1));
    let replaced = model.folder.path().join("replaced.gguf");
    fs_err::write(&replaced, other).unwrap();
    let instance = model.load_of(&replaced, Some(model.packed()), Layout::Packed, &LoadControl::silent());
    let arrangement = instance.arrangement();
    assert_eq!(arrangement.layout, Layout::Mapped);
    assert!(arrangement.refused.unwrap().contains("weights"));
}

#[test]
fn every_layout_parks_resumes_and_grows() {
    let model = packed_demo!();
    for layout in LAYOUTS {
        let instance = model.load(layout);
        let expected = answer(&instance, tokens(70, 4));
        let ready = instance.measure();
        instance.park().unwrap();
        let parked = instance.measure();
        assert!(
            parked.held_bytes < ready.held_bytes && parked.mapped_bytes == ready.mapped_bytes,
            "{layout}"
        );
        instance.resume(&LoadOptions { layout, context_tokens: 1024, slots: 2, ..options() }).unwrap();
        assert_eq!(answer(&instance, tokens(70, 4)), expected, "{layout}");
        assert_eq!(instance.arrangement().layout, layout);
    }
}

#[test]
fn prompt_state_saved_in_one_layout_is_restored_in_another() {
    let model = packed_demo!();
    let prompt = tokens(90, 5);
    let asked = [prompt.clone(), tokens(10, 6)].concat();
    for (from, to) in [(Layout::Mapped, Layout::Packed), (Layout::Packed, Layout::Hybrid)] {
        let first = model.load(from);
        collect(start(&first, greedy(Prompt::Tokens(prompt.clone()), 1)));
        let prefix = first.prefixes().unwrap().remove(0);
        let file = tempfile::tempfile().unwrap();
        first.save_prefix(&prefix, &file).unwrap();
        let second = model.load(to);
        second.restore_prefix(&prefix.tokens, Scope::default(), &file).unwrap();
        let (text, completion) = collect(start(&second, greedy(Prompt::Tokens(asked.clone()), 8)));
        assert!(completion.usage.cached_tokens >= 90, "{from} to {to}: {completion:?}");
        assert!(!text.is_empty());
    }
}

#[test]
fn every_layout_takes_adapters() {
    let model = packed_demo!();
    let path = model.folder.path().join("adapter.gguf");
    fs_err::write(&path, lora(&model.descriptor, 2).build()).unwrap();
    let ask = |instance: &Arc<dyn Instance>, scale: f32| {
        let adapters = vec![Adapter { path: path.clone(), scale }];
        let request = GenerationRequest { adapters, ..greedy(Prompt::Tokens(tokens(20, 7)), 24) };
        collect(start(instance, request)).0
    };
    for layout in LAYOUTS {
        let instance = model.load(layout);
        let base = collect(start(&instance, greedy(Prompt::Tokens(tokens(20, 7)), 24))).0;
        let adapted = ask(&instance, 0.5);
        assert_ne!(adapted, base, "{layout}");
        assert_eq!(ask(&instance, 0.5), adapted, "{layout}");
        assert_eq!(ask(&instance, 0.0), base, "{layout}");
    }
    let [packed, repacked] = [Layout::Packed, Layout::Repacked].map(|layout| model.load(layout));
    assert_eq!(ask(&packed, 0.5), ask(&repacked, 0.5));
}

#[test]
fn packed_weights_are_mapped_not_held() {
    let model = packed_demo!();
    let [mapped, packed, hybrid, repacked] = LAYOUTS.map(|layout| model.load(layout).measure());
    assert_eq!(packed, mapped);
    assert_eq!(hybrid.held_bytes, mapped.held_bytes);
    let beside = hybrid.mapped_bytes - mapped.mapped_bytes;
    let copied = repacked.held_bytes - mapped.held_bytes;
    // The native log rounds to a hundredth of a MiB.
    assert!(beside > 1 << 20 && beside.abs_diff(copied) < 64 << 10, "{beside} beside, {copied} copied");
    let engine = LlamaEngine::new();
    let predicted =
        |layout| engine.footprint(&model.descriptor, &LoadOptions { layout, ..options() }).unwrap();
    assert_eq!(predicted(Layout::Packed), predicted(Layout::Mapped));
    assert_eq!(predicted(Layout::Hybrid).held_bytes, predicted(Layout::Mapped).held_bytes);
    let more = predicted(Layout::Hybrid).mapped_bytes - predicted(Layout::Mapped).mapped_bytes;
    assert!(more >= beside && more < beside * 2, "{more} predicted beside, {beside} are");
}

#[test]
fn packing_can_be_cancelled_and_says_how_far_it_is() {
    let model = packed_demo!();
    let control = LoadControl::silent();
    control.cancel_flag().store(true, Ordering::Relaxed);
    let file = tempfile::tempfile().unwrap();
    let failure = pack(&model.path, &model.descriptor, &file, &control).unwrap_err();
    assert_eq!(failure.kind, ErrorKind::Cancelled, "{failure:?}");

    let (sender, receiver) = std::sync::mpsc::sync_channel(1000);
    let control = LoadControl::new(move |fraction| sender.send(fraction).unwrap());
    let file = tempfile::tempfile().unwrap();
    pack(&model.path, &model.descriptor, &file, &control).unwrap();
    let seen: Vec<f32> = receiver.try_iter().collect();
    assert!(seen.len() > 5 && seen.is_sorted() && seen[seen.len() - 1] <= 1.0, "{seen:?}");
    // Writing, comparing bytes, asking the model and asking its packed form: each says how far it is.
    for part in [0.0..0.6, 0.61..0.79, 0.81..0.89, 0.91..1.0] {
        assert!(seen.iter().any(|fraction| part.contains(fraction)), "{part:?} of {seen:?}");
    }
}

#[test]
fn a_packing_that_nobody_wants_any_more_ends_wherever_it_is() {
    let model = packed_demo!();
    for most in [0.3, 0.65, 0.82, 0.87, 0.92] {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1000);
        let flag = Arc::new(OnceLock::<Arc<AtomicBool>>::new());
        let cancel = Arc::clone(&flag);
        let control = LoadControl::new(move |fraction| {
            sender.send(fraction).unwrap();
            if fraction >= most {
                cancel.get().unwrap().store(true, Ordering::Relaxed);
            }
        });
        flag.set(control.cancel_flag()).unwrap();
        let file = tempfile::tempfile().unwrap();
        let outcome = pack(&model.path, &model.descriptor, &file, &control).unwrap_err();
        assert_eq!(outcome.kind, ErrorKind::Cancelled, "{outcome:?}");
        let after: Vec<f32> = receiver.try_iter().filter(|fraction| *fraction >= most).collect();
        assert!(after.len() <= 2, "it went on: {after:?}");
    }
}

/// A path at which nothing can be looked at, for a reason that is not that nothing is there.
fn unreachable_path(model: &Packed) -> PathBuf {
    let path = model.folder.path().join("loop");
    std::os::unix::fs::symlink(&path, &path).expect("a link");
    path
}

#[test]
fn a_packed_file_that_cannot_be_looked_at_is_not_refused() {
    let model = packed_demo!();
    let path = unreachable_path(&model);
    let packed = Some(PackedFile { path: &path, source: SOURCE });
    for layout in [Layout::Packed, Layout::Hybrid] {
        let instance = model.load_with(packed, layout);
        assert_eq!(instance.arrangement(), Arrangement { layout: Layout::Mapped, refused: None });
        instance.probe().unwrap();
    }
    // Figures without it would be kept as if there were none.
    let failure = model.calibrate(packed, &LoadControl::silent()).unwrap_err();
    assert!(failure.kind == ErrorKind::EngineFailed && failure.hint.is_some(), "{failure:?}");
    let file = tempfile::tempfile().unwrap();
    let failure = pack(&path, &model.descriptor, &file, &LoadControl::silent()).unwrap_err();
    assert_eq!(failure.kind, ErrorKind::Storage, "{failure:?}");
}

/// A packed file with another table, rightly sealed.
fn retold(packed: &[u8], change: impl FnOnce(String) -> String) -> Vec<u8> {
    let (content, footer) = packed.split_at(packed.len() - 56);
    let length = u64::from_le_bytes(footer[..8].try_into().expect("eight bytes")) as usize;
    let (content, table) = content.split_at(content.len() - length);
    let table = change(String::from_utf8(table.to_vec()).expect("JSON")).into_bytes();
    let length = (table.len() as u64).to_le_bytes();
    [content, &table, &length, Digest::of_bytes(&table).as_bytes(), &footer[40..]].concat()
}

#[test]
fn a_load_that_finds_its_packed_file_wrong_says_no_less_than_before() {
    let model = packed_demo!();
    let good = fs_err::read(&model.file).unwrap();
    let wrong = retold(&good, |table| table.replacen("\"format\":\"q4_0\"", "\"format\":\"q4_1\"", 1));
    let path = model.folder.path().join("wrong");
    fs_err::write(&path, wrong).unwrap();
    let packed = Some(PackedFile { path: &path, source: SOURCE });
    for layout in [Layout::Packed, Layout::Hybrid] {
        let (sender, receiver) = std::sync::mpsc::sync_channel(10_000);
        let control = LoadControl::new(move |fraction| sender.send(fraction).unwrap());
        let instance = model.load_of(&model.path, packed, layout, &control);
        let Arrangement { layout: reached, refused } = instance.arrangement();
        assert!(reached == Layout::Mapped && refused.unwrap().contains("format"), "{layout}");
        instance.probe().unwrap();
        let seen: Vec<f32> = receiver.try_iter().collect();
        assert!(seen.len() > 1 && seen.is_sorted(), "{layout}: {seen:?}");
    }
}

#[test]
fn what_cannot_be_packed_is_said_before_and_refused() {
    let engine = LlamaEngine::new();
    let file = tempfile::tempfile().unwrap();
    // 32-bit floats are packed nowhere.
    let demo = support::demo();
    if cfg!(all(target_feature = "avx2", not(target_feature = "avx512f"))) {
        assert_eq!(engine.packing(&demo), None);
        let failure = pack(&support::demo_path(), &demo, &file, &LoadControl::silent()).unwrap_err();
        assert_eq!(failure.kind, ErrorKind::Unsupported, "{failure:?}");
    }
    let model = packed_demo!();
    let bytes = fs_err::read(&model.path).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<_> = Writer::of_bytes(&bytes)
        .split(2)
        .iter()
        .enumerate()
        .map(|(index, part)| {
            let path = folder.path().join(part_name("demo", index + 1, 2));
            fs_err::write(&path, part.build()).unwrap();
            path
        })
        .collect();
    let split = gguf::inspect_parts(&paths).unwrap();
    assert_eq!(engine.packing(&split), None);
    let failure = pack(&paths[0], &split, &file, &LoadControl::silent()).unwrap_err();
    assert!(failure.kind == ErrorKind::Unsupported && failure.message.contains("split"), "{failure:?}");

    let nonsense = folder.path().join("nonsense.gguf");
    fs_err::write(&nonsense, b"GGUF\x03\0\0\0 but nothing else").unwrap();
    let failure = pack(&nonsense, &model.descriptor, &file, &LoadControl::silent()).unwrap_err();
    assert_eq!(failure.kind, ErrorKind::InvalidModel, "{failure:?}");
}

#[test]
fn calibration_measures_what_the_files_allow() {
    let model = packed_demo!();
    let layouts = |packed| {
        let speeds = model.calibrate(packed, &LoadControl::silent()).unwrap();
        for speed in &speeds {
            assert!(speed.prefill > 0.0 && speed.decode > 0.0 && speed.decode_eight > 0.0, "{speed:?}");
            assert!(speed.prefill.is_finite() && speed.decode < 1e6, "{speed:?}");
        }
        speeds.iter().map(|speed| speed.layout).collect::<Vec<_>>()
    };
    assert_eq!(layouts(Some(model.packed())), [Layout::Mapped, Layout::Packed, Layout::Hybrid]);
    assert_eq!(layouts(None), [Layout::Mapped]);
    let wrong = PackedFile { path: &model.file, source: "sha256:of another" };
    assert_eq!(layouts(Some(wrong)), [Layout::Mapped]);
    let control = LoadControl::silent();
    control.cancel_flag().store(true, Ordering::Relaxed);
    let failure = model.calibrate(Some(model.packed()), &control).unwrap_err();
    assert_eq!(failure.kind, ErrorKind::Cancelled);
}
