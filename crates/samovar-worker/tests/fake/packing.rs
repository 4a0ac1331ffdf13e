//! Weights that are packed and measured in workers: what one writes another loads, and one that dies of it fails nothing else.

#![allow(clippy::unwrap_used, reason = "helpers of tests: what fails panics")]

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use samovar_core::footprint::Arrangement;
use samovar_core::port::{Engine, LoadControl, LoadRequest, PackRequest, PackedFile};
use samovar_core::testing::FakeEngine;
use samovar_core::testing::conformance::Subject;
use samovar_core::{Descriptor, ErrorKind, Failure, Layout, LoadOptions, ModelFiles, Speed};
use samovar_worker::WorkerEngine;

use crate::stand::{
    PACKING, assert_died_of, child_named, engine, events, find_child, instance, long_request,
};

/// A file with packed weights.
pub(crate) struct Packed {
    folder: tempfile::TempDir,
    source: &'static str,
}

impl Packed {
    pub(crate) fn new() -> Self {
        let packed = Self { folder: tempfile::tempdir().unwrap(), source: "a digest" };
        packed.make(&engine(&[]), &LoadControl::silent()).unwrap();
        packed
    }

    /// The subject of a suite with these weights, for as long as this lives.
    pub(crate) fn subject(&self, plain: Subject) -> Subject {
        let options = LoadOptions { layout: Layout::Packed, ..plain.options };
        let packed = Some((self.path(), self.source.to_owned()));
        Subject { descriptor: Self::descriptor(), packed, options, ..plain }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("packed")
    }

    fn descriptor() -> Descriptor {
        FakeEngine::descriptor("fake", 1 << 20)
    }

    /// Writes it anew.
    fn make(&self, engine: &WorkerEngine, control: &LoadControl) -> Result<u64, Failure> {
        let file = File::create(self.path()).unwrap();
        let (files, descriptor) = (ModelFiles::of("/dev/null"), Self::descriptor());
        let (source, into) = (self.source, &file);
        engine.pack(PackRequest { files: &files, descriptor: &descriptor, source, into, control })
    }

    /// How a load with it comes out.
    fn arrangement(&self, layout: Layout) -> Arrangement {
        let path = self.path();
        let packed = PackedFile { path: &path, source: self.source };
        let (files, descriptor) = (ModelFiles::of("/dev/null"), Self::descriptor());
        let (options, control) = (LoadOptions { layout, ..FakeEngine::options() }, LoadControl::silent());
        let request = LoadRequest::new(&files, &descriptor, &options, &control);
        engine(&[]).load(request.with_packed(Some(packed))).unwrap().arrangement()
    }
}

fn calibrate(engine: &WorkerEngine, packed: Option<PackedFile<'_>>) -> Result<Vec<Speed>, Failure> {
    let (files, descriptor) = (ModelFiles::of("/dev/null"), Packed::descriptor());
    let (options, control) = (FakeEngine::options(), LoadControl::silent());
    let request = LoadRequest::new(&files, &descriptor, &options, &control);
    engine.calibrate(request.with_packed(packed))
}

#[test]
fn what_one_worker_packs_another_loads() {
    let packed = Packed::new();
    assert_eq!(engine(&[]).packing(&Packed::descriptor()).as_deref(), Some(PACKING));
    for layout in [Layout::Packed, Layout::Hybrid, Layout::Mapped, Layout::Repacked] {
        assert_eq!(packed.arrangement(layout), Arrangement { layout, refused: None });
    }
    assert_eq!(instance(&[]).0.arrangement(), Arrangement::default());
}

#[test]
fn a_packed_file_that_is_wanting_is_refused_with_the_reason_and_the_model_loaded_all_the_same() {
    let mut packed = Packed::new();
    let refused = |packed: &Packed, words: &str| {
        let Arrangement { layout, refused } = packed.arrangement(Layout::Packed);
        assert_eq!(layout, Layout::Mapped);
        let reason = refused.expect("a reason");
        assert!(reason.contains(words), "{reason}");
    };
    packed.source = "another digest";
    refused(&packed, "of another model");
    packed.source = "a digest";
    File::options().write(true).open(packed.path()).unwrap().set_len(100).unwrap();
    refused(&packed, "damaged");
    fs_err::remove_file(packed.path()).unwrap();
    refused(&packed, "No such file");
}

#[test]
fn a_worker_that_dies_while_packing_fails_that_and_nothing_else() {
    let (other, news) = instance(&["token_us=200"]);
    let running = other.generate(long_request()).unwrap();
    let packed = Packed::new();
    for (fault, words) in [
        ("pack=abort", "SIGABRT (signal 6) while it packed the model's weights"),
        ("pack=kill", "SIGKILL"),
        ("pack=panic", "panics at pack"),
        ("pack=overflow", "SIGXFSZ"),
    ] {
        let engine = engine(&[fault]);
        let failure = packed.make(&engine, &LoadControl::silent()).unwrap_err();
        assert_died_of(&failure, words);
        let stats = engine.stats();
        assert_eq!((stats.running, stats.started, stats.crashed), (0, 1, 1), "{fault}");
        assert!(packed.arrangement(Layout::Packed).refused.is_some(), "half a file is none: {fault}");
    }
    assert!(matches!(events(running).last(), Some(samovar_core::TokenEvent::Done(_))));
    assert_eq!(news.all(), []);
}

#[test]
fn an_engine_that_packs_nothing_says_so_through_its_worker() {
    let config = samovar_worker::WorkerConfig::new(env!("CARGO_BIN_EXE_samovar-fake-worker"), [""; 0]);
    let engine = WorkerEngine::new(Arc::new(FakeEngine::new()), config).unwrap();
    assert_eq!(engine.packing(&Packed::descriptor()), None);
    let failure = Packed::new().make(&engine, &LoadControl::silent()).unwrap_err();
    assert_eq!(failure.kind, ErrorKind::Unsupported);
}

/// A control whose `look` is called once, when packing has come halfway, and which is cancelled after that.
fn cancelled_halfway(look: impl Fn() + Send + Sync + 'static) -> LoadControl {
    let cancel = Arc::new(OnceLock::<Arc<AtomicBool>>::new());
    let control = LoadControl::new({
        let cancel = Arc::clone(&cancel);
        move |fraction| {
            if fraction >= 0.5 {
                look();
                cancel.get().unwrap().store(true, Ordering::Relaxed);
            }
        }
    });
    cancel.set(control.cancel_flag()).unwrap();
    control
}

#[test]
fn packing_in_the_background_yields_to_everything_else_and_is_ended_when_nobody_wants_it() {
    // The lowest priority there is, and SCHED_IDLE, on every thread that computes.
    let yielding = scheduling_of_a_packing("yielding", LoadControl::in_background);
    assert_eq!(yielding, ("19".to_owned(), "5".to_owned()));
    let (_serving, _) = instance(&["name=serving"]);
    assert_ne!(scheduling("serving"), yielding);
}

#[test]
fn packing_that_somebody_waits_for_yields_to_nobody() {
    let (_serving, _) = instance(&["name=serving-beside"]);
    assert_eq!(scheduling_of_a_packing("waited-for", |control| control), scheduling("serving-beside"));
}

/// How a worker packs for such a control; cancelled halfway.
fn scheduling_of_a_packing(
    name: &'static str,
    with: impl FnOnce(LoadControl) -> LoadControl,
) -> (String, String) {
    let packed = Packed::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let control = cancelled_halfway({
        let seen = Arc::clone(&seen);
        move || seen.lock().unwrap().push(scheduling(name))
    });
    let engine = engine(&["pack=hang", &format!("name={name}")]);
    let failure = packed.make(&engine, &with(control)).unwrap_err();
    assert_eq!(failure.kind, ErrorKind::Cancelled);
    assert!(find_child(name).is_none(), "it is gone when the call returns");
    let mut seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 1);
    seen.remove(0)
}

/// Niceness and scheduling policy of the thread that works in a child.
fn scheduling(name: &str) -> (String, String) {
    let pid = child_named(name).as_raw_nonzero();
    let stat = fs_err::read_dir(format!("/proc/{pid}/task")).unwrap().find_map(|task| {
        let stat = fs_err::read_to_string(task.unwrap().path().join("stat")).unwrap();
        stat.contains("(operations)").then_some(stat)
    });
    let stat = stat.expect("the thread that works");
    // What follows the name begins with the third field.
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    (fields[19 - 3].to_owned(), fields[41 - 3].to_owned())
}

#[test]
fn a_worker_measures_the_layouts_that_its_files_allow() {
    let (packed, engine) = (Packed::new(), engine(&["speed=40"]));
    let calibrate = |packed: Option<PackedFile<'_>>| {
        let speeds = calibrate(&engine, packed).unwrap();
        assert!(speeds.iter().all(|speed| speed.decode > 39.0));
        speeds.into_iter().map(|speed| speed.layout).collect::<Vec<_>>()
    };
    assert_eq!(calibrate(None), [Layout::Mapped]);
    let path = packed.path();
    let file = PackedFile { path: &path, source: packed.source };
    assert_eq!(calibrate(Some(file)), [Layout::Mapped, Layout::Packed, Layout::Hybrid]);
}

#[test]
fn a_worker_that_dies_while_measuring_fails_that_alone() {
    let engine = engine(&["calibrate=segv"]);
    let failure = calibrate(&engine, None).unwrap_err();
    assert_died_of(&failure, "SIGSEGV (signal 11) while it measured how fast the model is");
    assert_eq!(engine.stats().running, 0);
}
