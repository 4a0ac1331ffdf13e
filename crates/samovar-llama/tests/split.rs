//! A model in several files answers as the same model in one.

mod support;

use std::path::PathBuf;

use samovar_core::format::gguf;
use samovar_core::port::{Engine, Instance, LoadControl, ModelFiles};
use samovar_core::testing::gguf::{Writer, part_name};
use samovar_core::{Descriptor, ErrorKind, Failure, Layout, LoadOptions};
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

fn load(path: &std::path::Path, descriptor: &Descriptor) -> Result<std::sync::Arc<dyn Instance>, Failure> {
    LlamaEngine::new().load(ModelFiles::of(path), descriptor, &support::options(), &LoadControl::silent())
}

fn answer(instance: &std::sync::Arc<dyn Instance>) -> String {
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
        assert_eq!(answer(&load(&paths[0], &descriptor).unwrap()), whole, "{parts} parts");
    }
}

#[test]
fn links_with_the_right_names_are_enough() {
    let whole = answer(&support::load(&support::options()));
    let (folder, paths, descriptor) = split_demo(2);
    let view = folder.path().join("view");
    fs_err::create_dir(&view).unwrap();
    for (index, path) in paths.iter().enumerate() {
        // As blobs of a store lie: under names that say nothing.
        let blob = folder.path().join(format!("blob{index}"));
        fs_err::rename(path, &blob).unwrap();
        fs_err::os::unix::fs::symlink(&blob, view.join(path.file_name().unwrap())).unwrap();
    }
    let first = view.join(paths[0].file_name().unwrap());
    assert_eq!(answer(&load(&first, &descriptor).unwrap()), whole);
}

#[test]
fn a_first_part_of_another_name_is_refused_before_anything_is_loaded() {
    let (folder, paths, descriptor) = split_demo(2);
    for name in ["model.gguf", "demo-00001-of-00003.gguf", "-00001-of-00002.gguf"] {
        let path = folder.path().join(name);
        fs_err::copy(&paths[0], &path).unwrap();
        let failure = load(&path, &descriptor).map(|_| ()).unwrap_err();
        assert_eq!(failure.kind, ErrorKind::InvalidRequest, "{failure:?}");
        assert!(failure.message.contains("-00001-of-00002.gguf"), "{failure:?}");
        assert!(failure.hint.is_some());
    }
}

#[test]
fn a_missing_part_is_an_error_that_names_it() {
    let (_folder, paths, descriptor) = split_demo(3);
    fs_err::remove_file(&paths[1]).unwrap();
    let failure = load(&paths[0], &descriptor).map(|_| ()).unwrap_err();
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
    let (split, whole) = (load(&paths[0], &descriptor).unwrap(), support::load(&options));
    assert_eq!(split.measure().mapped_bytes, whole.measure().mapped_bytes);
}
