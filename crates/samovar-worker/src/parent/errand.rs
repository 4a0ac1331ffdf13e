//! What a worker is sent out for, from its start to its word.
//!
//! ```text
//!   start ─► Begin(task, files) ─► progress … ─► word: what it achieved, or why not
//!                                     └─ nobody wants it any more ─► killed
//! ```

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use samovar_core::port::{LoadControl, ModelFiles};
use samovar_core::{Descriptor, ErrorKind, Failure};

use super::instance::another;
use super::keeper::{Ears, Word};
use super::worker::{Ground, Worker};
use crate::protocol::{Achieved, Command, Errand, Packed, Task};
use crate::sandbox;

/// How often to look whether it is still wanted.
const LOOK: Duration = Duration::from_millis(20);
/// Packed weights may be padded, and have more sums beside them; never as much as this.
const PACKED_MOST: u64 = 4;
/// A saved state may be larger than its header says, and its context may grow past what the model was made for.
const STATE_MOST: u64 = 16;
/// What a written file may have whatever the model is.
const WRITTEN_BYTES: u64 = 64 << 20;

/// The model of an errand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Model<'a> {
    pub(super) files: ModelFiles<'a>,
    pub(super) descriptor: &'a Descriptor,
    /// A file to write.
    pub(super) into: Option<&'a File>,
}

/// Starts a worker, has it do its errand and returns it with what it achieved. `expected_bytes` are what it may be expected
/// to hold; 0 where nobody knows.
pub(super) fn run(
    ground: &Ground,
    task: Task,
    model: Model<'_>,
    control: &LoadControl,
    expected_bytes: u64,
) -> Result<(Worker, Achieved, sandbox::Report), Failure> {
    if control.is_cancelled() {
        return Err(cancelled());
    }
    let config = &ground.config;
    let patience = if task.is_in_background() { config.patience.in_background() } else { config.patience };
    let errand = Errand {
        path: absolute(model.files.path)?,
        packed: match model.files.packed {
            Some(file) => Some(Packed { path: absolute(file.path)?, source: file.source.to_owned() }),
            None => None,
        },
        descriptor: model.descriptor.clone(),
        sandbox: config.sandbox,
        memory_limit_bytes: config.memory_limit_bytes,
        written_limit_bytes: most_written(&task, model.descriptor),
        beat_ms: config.patience.beat.as_millis() as u64,
        task,
    };
    let into = model.into.map(another).transpose()?;
    let (word, words) = sync_channel(1);
    let ears = Ears { word, obituary: control.obituary() };
    let worker = Worker::start(ground, errand.task.deed(), patience, ears)?;
    let expected = &worker.shared().expected;
    expected.hold(expected_bytes);
    expected.map_and_compute(mapped_bytes(model), processors(&errand.task));
    let is_to_give_way = errand.task.is_to_give_way();
    worker.tell(&Command::Begin(Box::new(errand)), into.into_iter().collect())?;
    if is_to_give_way {
        ground.sharing.join_errand(worker.shared());
    }
    let (achieved, report) = await_word(&worker, &words, control)?;
    tracing::debug!(pid = worker.pid(), "a worker has done its errand");
    Ok((worker, achieved, report))
}

/// Waits for the worker's word, passes its progress on, and gives up when nobody wants it any more.
fn await_word(
    worker: &Worker,
    words: &Receiver<Word>,
    control: &LoadControl,
) -> Result<(Achieved, sandbox::Report), Failure> {
    let mut told = None;
    loop {
        let word = words.recv_timeout(LOOK);
        let fraction = worker.shared().progress.get();
        if told.replace(fraction) != Some(fraction) {
            control.report(fraction);
        }
        match word {
            Ok(word) => return word,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(worker.ended()),
        }
        if control.is_cancelled() {
            worker.kill();
            return Err(cancelled());
        }
    }
}

/// The worker's working directory is not ours.
fn absolute(path: &Path) -> Result<Vec<u8>, Failure> {
    let absolute: PathBuf = std::path::absolute(path)
        .map_err(|error| Failure::new(ErrorKind::Storage, format!("{}: {error}", path.display())))?;
    Ok(absolute.as_os_str().as_bytes().to_vec())
}

/// Bytes of the files that it may map, or what the model's header says where they cannot be asked.
fn mapped_bytes(Model { files, descriptor, .. }: Model<'_>) -> u64 {
    let length = |path: &Path| fs_err::metadata(path).map_or(0, |facts| facts.len());
    let parts = sandbox::Plan::reading(sandbox::Mode::Off, files.path).readable;
    let model: u64 = parts.iter().map(|part| length(part)).sum();
    let packed = files.packed.map_or(0, |packed| length(packed.path).max(descriptor.file_bytes));
    model.max(descriptor.file_bytes).saturating_add(packed)
}

/// On so many it may compute at once.
fn processors(task: &Task) -> u64 {
    let there = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    match task {
        Task::Load { options } | Task::Calibrate { options } => there.max(u64::from(options.threads)),
        Task::Pack { .. } => there,
    }
}

/// Bytes of any file that the worker writes, at most: packed weights, or the state of prompts.
fn most_written(task: &Task, descriptor: &Descriptor) -> u64 {
    let bytes = match task {
        Task::Pack { .. } => descriptor.file_bytes.saturating_mul(PACKED_MOST),
        Task::Load { options } => {
            let tokens = u64::from(options.context_tokens.max(descriptor.context_tokens));
            descriptor.kv_bytes_per_token().saturating_mul(tokens).saturating_mul(STATE_MOST)
        }
        Task::Calibrate { .. } => 0,
    };
    bytes.saturating_add(WRITTEN_BYTES)
}

fn cancelled() -> Failure {
    Failure::new(ErrorKind::Cancelled, "nobody waits for the model any more")
}
