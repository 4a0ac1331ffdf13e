//! What an engine is given to load, pack or measure a model, and how it talks with the caller.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Failure;
use crate::footprint::LoadOptions;
use crate::model::{Descriptor, ModelFiles};

/// A packed file, and what it must be of.
#[derive(Clone, Copy, Debug)]
pub struct PackedFile<'a> {
    /// The file.
    pub path: &'a Path,
    /// What was given to [`Engine::pack`](super::Engine::pack) as the source.
    pub source: &'a str,
}

/// Everything that a load, or a measurement of what loads would be like, needs.
#[derive(Clone, Copy, Debug)]
pub struct LoadRequest<'a> {
    /// The model's files.
    pub files: &'a ModelFiles,
    /// The file that [`Engine::pack`](super::Engine::pack) wrote for the model, and the source that it must be of. An
    /// engine that finds it wanting loads the model without.
    pub packed: Option<PackedFile<'a>>,
    /// Facts from the files' headers.
    pub descriptor: &'a Descriptor,
    /// How to load the model.
    pub options: &'a LoadOptions,
    /// How to report progress, and how to learn that no caller waits any more.
    pub control: &'a LoadControl,
}

impl<'a> LoadRequest<'a> {
    /// A load without packed weights.
    pub const fn new(
        files: &'a ModelFiles,
        descriptor: &'a Descriptor,
        options: &'a LoadOptions,
        control: &'a LoadControl,
    ) -> Self {
        Self { files, packed: None, descriptor, options, control }
    }

    /// The same with a packed file, if there is one.
    #[must_use]
    pub const fn with_packed(self, packed: Option<PackedFile<'a>>) -> Self {
        Self { packed, ..self }
    }
}

/// Everything that it takes to pack a model's weights.
#[derive(Clone, Copy, Debug)]
pub struct PackRequest<'a> {
    /// The model's files.
    pub files: &'a ModelFiles,
    /// Facts from the files' headers.
    pub descriptor: &'a Descriptor,
    /// Stands for the model's bytes; written with what is packed.
    pub source: &'a str,
    /// An empty file that can be read as well; it is written from its beginning.
    pub into: &'a File,
    /// How to report progress, how to give way, and how to learn that no caller waits any more.
    pub control: &'a LoadControl,
}

/// How a load talks with its caller.
pub struct LoadControl {
    progress: Box<dyn Fn(f32) + Send + Sync>,
    obituary: Arc<dyn Fn(Failure) + Send + Sync>,
    give_way: Box<dyn Fn() + Send + Sync>,
    cancelled: Arc<AtomicBool>,
    is_in_background: bool,
}

impl LoadControl {
    /// Reports progress (0..=1) to `progress`.
    pub fn new(progress: impl Fn(f32) + Send + Sync + 'static) -> Self {
        Self {
            progress: Box::new(progress),
            obituary: Arc::new(|_| ()),
            give_way: Box::new(|| ()),
            cancelled: Arc::default(),
            is_in_background: false,
        }
    }

    /// The same, and `obituary` hears of the instance's death, should it die by itself after the load.
    #[must_use]
    pub fn on_death(mut self, obituary: impl Fn(Failure) + Send + Sync + 'static) -> Self {
        self.obituary = Arc::new(obituary);
        self
    }

    /// The same for work that no caller waits for: it should yield to everything else, where the engine can see to that.
    #[must_use]
    pub fn in_background(mut self) -> Self {
        self.is_in_background = true;
        self
    }

    /// The same, and `give_way` is called between the steps of packing and measuring. It may block for a moment.
    #[must_use]
    pub fn giving_way(mut self, give_way: impl Fn() + Send + Sync + 'static) -> Self {
        self.give_way = Box::new(give_way);
        self
    }

    /// Reports nothing.
    pub fn silent() -> Self {
        Self::new(|_| ())
    }

    /// A flag that stops the load once it is set.
    pub fn cancel_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.cancelled)
    }

    /// For the engine to keep: to be called once, and never during the load, when the instance has died by itself.
    /// It must not be called for an instance that is dropped. It may be called on any thread and does not block.
    pub fn obituary(&self) -> Arc<dyn Fn(Failure) + Send + Sync> {
        Arc::clone(&self.obituary)
    }

    /// Called by the engine as it gets on, with the part done (0..=1).
    pub fn report(&self, fraction: f32) {
        (self.progress)(fraction);
    }

    /// Called by the engine between two steps of packing or measuring, while it holds nothing that others wait for:
    /// returns when the next may begin, which is later while models answer on the same cores.
    pub fn give_way(&self) {
        (self.give_way)();
    }

    /// Whether no caller waits for it.
    pub fn is_in_background(&self) -> bool {
        self.is_in_background
    }

    /// Whether the load should stop.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

impl std::fmt::Debug for LoadControl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoadControl").field("cancelled", &self.is_cancelled()).finish_non_exhaustive()
    }
}
