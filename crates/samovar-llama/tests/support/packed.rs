//! The demo model in a format that is packed on most machines, and its packed file.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use llama_cpp_sys_2 as sys;
use samovar_core::format::gguf;
use samovar_core::port::{Engine, Instance, LoadControl, LoadRequest, PackRequest, PackedFile};
use samovar_core::{Descriptor, Failure, Layout, LoadOptions, ModelFiles, Speed};
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
        let bytes = pack(&path, &descriptor, opened.file(), &LoadControl::silent()).expect("it packs");
        assert_eq!(bytes, opened.metadata().expect("facts").len());
        Some(Self { folder, path, file, descriptor })
    }

    pub(crate) fn packed(&self) -> PackedFile<'_> {
        PackedFile { path: &self.file, source: SOURCE }
    }

    pub(crate) fn load(&self, layout: Layout) -> Arc<dyn Instance> {
        self.load_with(Some(self.packed()), layout)
    }

    pub(crate) fn load_with(&self, packed: Option<PackedFile<'_>>, layout: Layout) -> Arc<dyn Instance> {
        self.load_of(&self.path, packed, layout, &LoadControl::silent())
    }

    /// Loads the model with other options.
    pub(crate) fn load_for(&self, layout: Layout, options: &LoadOptions) -> Arc<dyn Instance> {
        let (files, options, control) =
            (ModelFiles::of(&self.path), LoadOptions { layout, ..options.clone() }, LoadControl::silent());
        let request = LoadRequest::new(&files, &self.descriptor, &options, &control);
        LlamaEngine::new().load(request.with_packed(Some(self.packed()))).expect("it loads")
    }

    /// Loads the model from the file at `path`.
    pub(crate) fn load_of(
        &self,
        path: &Path,
        packed: Option<PackedFile<'_>>,
        layout: Layout,
        control: &LoadControl,
    ) -> Arc<dyn Instance> {
        let (files, options) = (ModelFiles::of(path), LoadOptions { layout, ..super::options() });
        let request = LoadRequest::new(&files, &self.descriptor, &options, control);
        LlamaEngine::new().load(request.with_packed(packed)).expect("it loads")
    }

    pub(crate) fn calibrate(
        &self,
        packed: Option<PackedFile<'_>>,
        control: &LoadControl,
    ) -> Result<Vec<Speed>, Failure> {
        let (files, options) = (ModelFiles::of(&self.path), super::options());
        let request = LoadRequest::new(&files, &self.descriptor, &options, control);
        LlamaEngine::new().calibrate(request.with_packed(packed))
    }
}

/// Packs the model at `path`.
pub(crate) fn pack(
    path: &Path,
    descriptor: &Descriptor,
    into: &File,
    control: &LoadControl,
) -> Result<u64, Failure> {
    let files = ModelFiles::of(path);
    LlamaEngine::new().pack(PackRequest { files: &files, descriptor, source: SOURCE, into, control })
}
