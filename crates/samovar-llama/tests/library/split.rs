//! A model in several files answers as the same model in one.

use crate::support;

use std::path::PathBuf;
use std::sync::Arc;

use samovar_core::format::gguf;
use samovar_core::port::{Engine, Instance};
use samovar_core::testing::gguf::{Writer, part_name};
use samovar_core::{Descriptor, ErrorKind, Failure, FileRole, Layout, LoadOptions, ModelFiles};
use samovar_llama::LlamaEngine;

/// The demo model in so many files, and what the gate says of them.
fn split_demo(parts: usize) -> (tempfile::TempDir, Vec<PathBuf>, Descriptor) {
    let demo = fs_err::read(support::demo_path()).expect("it is shipped");
    let folder = tempfile::tempdir().expect("a folder");
    let paths: Vec<PathBuf> = Writer::of_bytes(&demo)
        .split(parts)
        .iter()
        .enumerate()
        .map(|(index, part)| {
            let path = folder.path().join(part_name("demo", index + 1, parts));
            fs_err::write(&path, part.build()).expect("it is written");
            path
        })
        .collect();
    let descriptor = gguf::inspect_parts(&paths).expect("it passes the gate");
    (folder, paths, descriptor)
}

/// Loads the model in these parts.
fn load(paths: &[PathBuf], descriptor: &Descriptor) -> Result<Arc<dyn Instance>, Failure> {
    let files = paths.iter().map(|path| (FileRole::Weights, path.clone()));
    support::load_files(&ModelFiles::new(files).expect("weights"), descriptor, &support::options())
}

fn answer(instance: &Arc<dyn Instance>) -> String {
    let request = support::greedy(support::text("Once upon a time"), 48);
    support::collect(support::start(instance, request)).0
}

#[test]
fn a_split_model_gives_the_tokens_of_the_whole() {
    let whole = answer(&support::load(&support::options()));
    assert!(!whole.is_empty());
    for parts in [2, 3] {
        let (_folder, paths, descriptor) = split_demo(parts);
        assert_eq!(descriptor.parts as usize, parts);
        assert_eq!(answer(&load(&paths, &descriptor).unwrap()), whole, "{parts} parts");
    }
}

#[test]
fn parts_may_have_any_names_and_lie_anywhere() {
    let whole = answer(&support::load(&support::options()));
    let (folder, paths, descriptor) = split_demo(3);
    // As blobs of a store lie: under names that say nothing.
    let blobs = ["7f3a", "00002-of-00002.gguf", "elsewhere/01bc"].map(|name| folder.path().join(name));
    fs_err::create_dir(folder.path().join("elsewhere")).unwrap();
    for (path, blob) in paths.iter().zip(&blobs) {
        fs_err::rename(path, blob).unwrap();
    }
    assert_eq!(answer(&load(&blobs, &descriptor).unwrap()), whole);
}

#[test]
fn a_model_of_which_not_all_parts_are_given_is_refused_although_they_lie_beside_it() {
    let (_folder, paths, descriptor) = split_demo(3);
    for given in [1, 2] {
        let failure = load(&paths[..given], &descriptor).map(|_| ()).unwrap_err();
        assert_eq!(failure.kind, ErrorKind::InvalidRequest, "{failure:?}");
        assert!(failure.message.contains("3 files"), "{failure:?}");
        assert!(failure.hint.is_some());
    }
}

#[test]
fn a_missing_part_is_an_error_that_names_it() {
    let (_folder, paths, descriptor) = split_demo(3);
    fs_err::remove_file(&paths[1]).unwrap();
    let failure = load(&paths, &descriptor).map(|_| ()).unwrap_err();
    assert_eq!(failure.kind, ErrorKind::InvalidModel);
    assert!(failure.message.contains("demo-00002-of-00003.gguf"), "{failure:?}");
}

#[test]
fn what_a_split_model_maps_is_what_the_whole_maps() {
    let options = LoadOptions { layout: Layout::Mapped, ..support::options() };
    let (_folder, paths, descriptor) = split_demo(3);
    let engine = LlamaEngine::new();
    assert_eq!(
        engine.footprint(&descriptor, &options).unwrap(),
        engine.footprint(&support::demo(), &options).unwrap()
    );
    let (split, whole) = (load(&paths, &descriptor).unwrap(), support::load(&options));
    assert_eq!(split.measure().mapped_bytes, whole.measure().mapped_bytes);
}
