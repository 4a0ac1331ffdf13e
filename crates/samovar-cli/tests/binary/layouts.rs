//! Packed weights in workers of the real binary: one packs, others map what it wrote, and all say the same.
#![cfg(all(target_os = "linux", feature = "llama"))]
#![allow(clippy::print_stdout, reason = "which case, and why none, is what a test has to say")]

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use samovar_core::footprint::Arrangement;
use samovar_core::format::gguf;
use samovar_core::port::{Engine, Instance, LoadControl, LoadRequest, PackRequest};
use samovar_core::testing::conformance::{self, Subject};
use samovar_core::testing::gguf::{LlamaShape, Writer, llama, lora, wordy};
use samovar_core::{Descriptor, ErrorKind, Failure, Layout, LoadOptions, ModelFiles};

use crate::worker::{answer, engine, options, subject};

const SOURCE: &str = "a small model";

/// A small model in a number format that processors pack, and its packed weights where this one does.
struct Packed {
    folder: tempfile::TempDir,
    descriptor: Descriptor,
    is_there: bool,
}

impl Packed {
    fn new() -> Self {
        Self::of(&llama(LlamaShape::TINY))
    }

    fn of(writer: &Writer) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let model = folder.path().join("m.gguf");
        fs_err::write(&model, writer.clone().in_q4_0().build()).expect("a file");
        let descriptor = gguf::inspect(&model).expect("the gate lets it through");
        let engine = engine();
        let is_there = engine.packing(&descriptor).is_some();
        let packed = Self { folder, descriptor, is_there };
        if is_there {
            let open = File::options().read(true).write(true).create_new(true).open(packed.path());
            let file = open.expect("a file");
            let request = PackRequest {
                files: &ModelFiles::of(model),
                descriptor: &packed.descriptor,
                source: SOURCE,
                into: &file,
                control: &LoadControl::silent(),
            };
            let bytes = engine.pack(request).expect("packs");
            assert_eq!(bytes, file.metadata().expect("facts").len());
        }
        packed
    }

    fn model(&self) -> PathBuf {
        self.folder.path().join("m.gguf")
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("packed")
    }

    /// A subject of the suite in this layout; where nothing is packed, in those that need no packed file.
    fn subject(&self, layout: Layout) -> Subject {
        let layout = if self.is_there || !layout.needs_packed_file() { layout } else { Layout::Mapped };
        Subject {
            files: ModelFiles::of(self.model()),
            packed: self.is_there.then(|| (self.path(), SOURCE.to_owned())),
            descriptor: self.descriptor.clone(),
            options: LoadOptions { layout, ..options() },
            ..subject()
        }
    }

    fn load(&self, engine: &dyn Engine, layout: Layout) -> Arc<dyn Instance> {
        let subject = self.subject(layout);
        engine.load(subject.request(&LoadControl::silent())).expect("loads")
    }
}

/// The one case that needs a model which says whole characters: of noise, most bytes are none.
const NEEDS_WORDS: &str = "stop_strings_end_the_answer_and_are_not_in_it";

fn suite(layout: Layout) {
    let (packed, wordy) = (Packed::new(), Packed::of(&wordy(LlamaShape::TINY)));
    let engine = Arc::new(engine());
    let [noisy, wordy] =
        [&packed, &wordy].map(|model| Subject { engine: engine.clone(), ..model.subject(layout) });
    for (name, case) in conformance::CASES {
        println!("{layout}: {name}");
        case(if *name == NEEDS_WORDS { &wordy } else { &noisy });
    }
    // Texts, prefixes, parking, growing: none of it needs more than the sandbox allows.
    assert_eq!(engine.stats().denied_calls, 0);
}

#[test]
fn a_worker_measures_every_layout_that_the_files_allow() {
    let (packed, engine) = (Packed::new(), engine());
    let (plain, subject) =
        (Subject { packed: None, ..packed.subject(Layout::Packed) }, packed.subject(Layout::Packed));
    let calibrate = |subject: &Subject, control: &LoadControl| {
        let request = LoadRequest { options: &options(), ..subject.request(control) };
        let speeds = engine.calibrate(request)?;
        let is_real = |pace: f64| pace.is_finite() && pace > 0.0;
        for speed in &speeds {
            assert!([speed.prefill, speed.decode, speed.decode_eight].into_iter().all(is_real), "{speed:?}");
        }
        Ok::<_, Failure>(speeds.into_iter().map(|speed| speed.layout).collect::<Vec<_>>())
    };
    let mapped = calibrate(&plain, &LoadControl::silent()).expect("measures");
    assert_eq!(mapped, [Layout::Mapped]);
    if packed.is_there {
        let (sender, told) = std::sync::mpsc::sync_channel(1000);
        let control = LoadControl::new(move |fraction: f32| {
            sender.try_send(fraction).ok();
        });
        let all = calibrate(&subject, &control).expect("measures");
        assert_eq!(all, [Layout::Mapped, Layout::Packed, Layout::Hybrid]);
        let told: Vec<f32> = told.try_iter().collect();
        assert!(told.is_sorted() && told.last().is_some_and(|last| *last > 0.3), "{told:?}");
    }
    let control = LoadControl::silent();
    control.cancel_flag().store(true, Ordering::Relaxed);
    let failure = calibrate(&plain, &control).expect_err("it is not wanted");
    assert_eq!(failure.kind, ErrorKind::Cancelled);
    let stats = engine.stats();
    assert_eq!((stats.running, stats.crashed), (0, 0), "nothing is left of it");
    assert_eq!(stats.denied_calls, 0);
}

#[test]
fn packed_passes_the_suite_that_every_engine_passes() {
    suite(Layout::Packed);
}

#[test]
fn hybrid_passes_the_suite_that_every_engine_passes() {
    suite(Layout::Hybrid);
}

#[test]
fn repacked_passes_the_suite_that_every_engine_passes() {
    suite(Layout::Repacked);
}

#[test]
fn what_one_worker_packed_others_map_and_answer_as_this_process_does() {
    let packed = Packed::new();
    if !packed.is_there {
        println!("skipped: this processor packs nothing");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let adapter = folder.path().join("poet.gguf");
    fs_err::write(&adapter, lora(&packed.descriptor, 2).build()).expect("a file");
    let here = samovar::default_engine().expect("an engine");
    let there = engine();
    // Packed ahead is packed all the same; the hybrid reads prompts by other kernels, which round otherwise.
    for (layout, like) in [(Layout::Packed, Layout::Repacked), (Layout::Hybrid, Layout::Hybrid)] {
        let (instance, model) = (packed.load(&there, layout), packed.load(&*here, like));
        assert_eq!(instance.arrangement(), Arrangement { layout, refused: None });
        let plain = answer(&*model, None);
        assert_eq!(answer(&*instance, None), plain, "{layout}");
        let adapted = answer(&*instance, Some((&adapter, 0.5)));
        assert_eq!(adapted, answer(&*model, Some((&adapter, 0.5))), "{layout} with an adapter");
        instance.park().expect("parks");
        instance.resume(&LoadOptions { layout, ..options() }).expect("resumes");
        assert_eq!(answer(&*instance, None), plain, "{layout}, parked and resumed");
    }
    assert_eq!(there.stats().denied_calls, 0, "adapters need nothing that the sandbox denies");
}

#[test]
fn a_packed_file_that_is_wanting_is_refused_by_the_worker_which_says_why() {
    let packed = Packed::new();
    if !packed.is_there {
        println!("skipped: this processor packs nothing");
        return;
    }
    let whole = fs_err::read(packed.path()).expect("it is there");
    fs_err::write(packed.path(), &whole[..whole.len() - 1]).expect("cut short");
    let instance = packed.load(&engine(), Layout::Packed);
    let Arrangement { layout, refused } = instance.arrangement();
    assert_eq!(layout, Layout::Mapped);
    assert!(refused.is_some_and(|reason| !reason.is_empty()));
    assert_eq!(answer(&*instance, None), answer(&*packed.load(&engine(), Layout::Mapped), None));
}
