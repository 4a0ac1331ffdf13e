//! The demo model in a format that is packed on most machines, and its packed file.

use std::path::PathBuf;
use std::sync::Arc;

use llama_cpp_sys_2 as sys;
use samovar_core::format::gguf;
use samovar_core::port::{Engine, Instance, LoadControl, ModelFiles, PackedFile};
use samovar_core::{Descriptor, Layout, LoadOptions};
use samovar_llama::LlamaEngine;

use super::quantize::quantize;

/// What it is said to be made of.
pub(crate) const SOURCE: &str = "sha256:of the demo";

/// A model with its packed file, gone when it is dropped.
pub(crate) struct Packed {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) path: PathBuf,
    pub(crate) file: PathBuf,
    pub(crate) descriptor: Descriptor,
}

impl Packed {
    /// `None` where nothing of it is packed.
    pub(crate) fn demo() -> Option<Self> {
        let engine = LlamaEngine::new();
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("demo-q4_0.gguf");
        quantize(&super::demo_path(), &path, sys::LLAMA_FTYPE_MOSTLY_Q4_0);
        let descriptor = gguf::inspect(&path).expect("it passes the gate");
        let file = folder.path().join("demo.packed");
        engine.packing(&descriptor)?;
        let opened =
            fs_err::File::options().read(true).write(true).create_new(true).open(&file).expect("a file");
        let bytes =
            engine.pack(&path, &descriptor, SOURCE, opened.file(), &LoadControl::silent()).expect("it packs");
        assert_eq!(bytes, opened.metadata().expect("facts").len());
        Some(Self { folder, path, file, descriptor })
    }

    pub(crate) fn files(&self) -> ModelFiles<'_> {
        ModelFiles { path: &self.path, packed: Some(PackedFile { path: &self.file, source: SOURCE }) }
    }

    pub(crate) fn load(&self, layout: Layout) -> Arc<dyn Instance> {
        self.load_with(self.files(), &LoadOptions { layout, ..super::options() })
    }

    pub(crate) fn load_with(&self, files: ModelFiles<'_>, options: &LoadOptions) -> Arc<dyn Instance> {
        LlamaEngine::new().load(files, &self.descriptor, options, &LoadControl::silent()).expect("it loads")
    }
}
