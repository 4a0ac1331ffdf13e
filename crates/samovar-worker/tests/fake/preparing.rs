//! Models that are prepared in workers: what one writes lies in its folder, and one that dies of it fails nothing else.

#![allow(clippy::unwrap_used, reason = "helpers of tests: what fails panics")]

use std::path::PathBuf;

use samovar_core::port::{Engine, LoadControl, PrepareRequest};
use samovar_core::{ErrorKind, Failure, ModelFiles, Quantization, format};
use samovar_worker::WorkerEngine;

use crate::stand::engine;

/// A published model, and a folder to prepare it in.
struct Published(tempfile::TempDir);

impl Published {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        for folder in ["model", "work"] {
            fs_err::create_dir(home.path().join(folder)).unwrap();
        }
        fs_err::write(home.path().join("model/config.json"), "{}").unwrap();
        Self(home)
    }

    fn target(&self) -> PathBuf {
        self.0.path().join("work/data")
    }

    fn prepare(&self, engine: &WorkerEngine, control: &LoadControl) -> Result<u64, Failure> {
        let (folder, target) = (self.0.path().join("model"), self.target());
        let quantization = Quantization::Q8_0;
        engine.prepare(PrepareRequest { folder: &folder, quantization, target: &target, base: None, control })
    }
}

#[test]
fn what_a_worker_prepares_is_a_model() {
    let published = Published::new();
    let bytes = published.prepare(&engine(&[]), &LoadControl::silent()).unwrap();
    assert_eq!(fs_err::metadata(published.target()).unwrap().len(), bytes);
    format::inspect(&ModelFiles::of(published.target())).unwrap();
}

#[test]
fn a_worker_that_dies_while_it_prepares_is_told_and_the_next_one_goes_on() {
    let published = Published::new();
    let failure = published.prepare(&engine(&["prepare=abort"]), &LoadControl::silent()).unwrap_err();
    assert_eq!(failure.kind, ErrorKind::EngineFailed);
    assert!(failure.message.contains("prepared the model"), "{failure:?}");
    published.prepare(&engine(&[]), &LoadControl::silent()).unwrap();
}

#[test]
fn a_cancelled_preparation_is_killed() {
    let published = Published::new();
    let control = LoadControl::silent();
    let cancel = control.cancel_flag();
    let failure = std::thread::scope(|scope| {
        let preparing = scope.spawn(|| published.prepare(&engine(&["prepare=hang"]), &control));
        cancel.store(true, std::sync::atomic::Ordering::Relaxed);
        preparing.join().unwrap().unwrap_err()
    });
    assert_eq!(failure.kind, ErrorKind::Cancelled);
}

#[test]
fn a_folder_that_is_no_model_costs_no_process() {
    let published = Published::new();
    fs_err::remove_file(published.0.path().join("model/config.json")).unwrap();
    let engine = engine(&[]);
    let failure = published.prepare(&engine, &LoadControl::silent()).unwrap_err();
    assert_eq!(failure.kind, ErrorKind::InvalidModel);
    assert_eq!(engine.stats().started, 0);
}
