//! What a worker is sent out for, from its start to its word.
//!
//! ```text
//!   start ─► Begin(task, files) ─► progress … ─► word: what it achieved, or why not
//!                                     └─ it is no longer wanted ─► killed
//! ```

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use samovar_core::port::{EngineId, LoadControl, PackedFile};
use samovar_core::{Descriptor, ErrorKind, Failure, ModelFiles};

use super::instance::another;
use super::supervisor::{ExitHandlers, JobResult};
use super::worker::{Worker, WorkerContext};
use crate::protocol::{Command, JobOutput, Packed, Task, WorkerJob};
use crate::sandbox;

/// How often to look whether it is still wanted.
const LOOK: Duration = Duration::from_millis(20);
/// Packed weights may be padded, and have more sums beside them; never as much as this.
const PACKED_MOST: u64 = 4;
/// A prepared model has 16 bits for each weight at most, and published ones have 16 or 32.
const PREPARED_MOST: u64 = 2;
/// A saved state may be larger than its header says, and its context may grow past what the model was made for.
const STATE_MOST: u64 = 16;
/// What a written file may have whatever the model is.
const WRITTEN_BYTES: u64 = 64 << 20;

/// The model of a job. Of one that is to be prepared, all published files count as weights.
#[derive(Clone, Copy, Debug)]
pub(super) struct Model<'a> {
    pub(super) files: &'a ModelFiles,
    pub(super) packed: Option<PackedFile<'a>>,
    /// What is known of it; nothing of one that is to be prepared, and of an adapter what is known of its model.
    pub(super) descriptor: Option<&'a Descriptor>,
    /// A file to write.
    pub(super) into: Option<&'a File>,
}

/// Starts a worker, has it do its job with this engine and returns it with what it achieved. `expected_bytes` are what
/// it may be expected to hold; 0 where it is unknown.
pub(super) fn run(
    worker_context: &WorkerContext,
    task: Task,
    engine: EngineId,
    model: Model<'_>,
    control: &LoadControl,
    expected_bytes: u64,
) -> Result<(Worker, JobOutput, sandbox::Report), Failure> {
    if control.is_cancelled() {
        return Err(cancelled());
    }
    let config = &worker_context.config;
    let timeouts = if task.is_in_background() { config.timeouts.in_background() } else { config.timeouts };
    let files = model.files.with_roles().map(|(role, path)| Ok::<_, Failure>((role, absolute(path)?)));
    let worker_job = WorkerJob {
        engine,
        files: files.collect::<Result<_, _>>()?,
        packed: match model.packed {
            Some(file) => Some(Packed { path: absolute(file.path)?, source: file.source.to_owned() }),
            None => None,
        },
        descriptor: model.descriptor.cloned(),
        sandbox: config.sandbox,
        memory_limit_bytes: config.memory_limit_bytes,
        written_limit_bytes: most_written(&task, model),
        heartbeat_ms: config.timeouts.heartbeat.as_millis() as u64,
        rest_heartbeat_ms: config.timeouts.rest_heartbeat().as_millis() as u64,
        task,
    };
    let into = model.into.map(another).transpose()?;
    let (job_result, words) = sync_channel(1);
    let exit_handlers = ExitHandlers { job_result, obituary: control.obituary() };
    let worker = Worker::start(worker_context, worker_job.task.activity(), timeouts, exit_handlers)?;
    let expected = &worker.shared().expected;
    expected.hold(expected_bytes);
    expected.map_and_compute(mapped_bytes(&worker_job.task, model), processors(&worker_job.task));
    let is_to_give_way = worker_job.task.is_to_give_way();
    worker.tell(&Command::Begin(Box::new(worker_job)), into.into_iter().collect())?;
    if is_to_give_way {
        worker_context.sharing.join_job(worker.shared());
    }
    let (job_output, report) = await_word(&worker, &words, control)?;
    tracing::debug!(pid = worker.pid(), "a worker has done its job");
    Ok((worker, job_output, report))
}

/// Waits for the worker's word, passes its progress on, and gives up when it is no longer wanted.
fn await_word(
    worker: &Worker,
    words: &Receiver<JobResult>,
    control: &LoadControl,
) -> Result<(JobOutput, sandbox::Report), Failure> {
    let mut told = None;
    loop {
        let job_result = words.recv_timeout(LOOK);
        let fraction = worker.shared().progress.get();
        if told.replace(fraction) != Some(fraction) {
            control.report(fraction);
        }
        match job_result {
            Ok(job_result) => return job_result,
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
pub(super) fn absolute(path: &Path) -> Result<Vec<u8>, Failure> {
    let absolute: PathBuf = std::path::absolute(path)
        .map_err(|error| Failure::new(ErrorKind::Storage, format!("{}: {error}", path.display())))?;
    Ok(absolute.as_os_str().as_bytes().to_vec())
}

/// Bytes of the files that it may map, or what the model's header says where they cannot be asked.
fn mapped_bytes(task: &Task, model: Model<'_>) -> u64 {
    let (read_bytes, file_bytes) =
        (bytes_of_files(model.files), model.descriptor.map_or(0, |of| of.file_bytes));
    let more_bytes = match task {
        // What was converted is mapped to be quantized.
        Task::Prepare(_) => read_bytes,
        _ => model.packed.map_or(0, |packed| length(packed.path).max(file_bytes)),
    };
    read_bytes.max(file_bytes).saturating_add(more_bytes)
}

fn bytes_of_files(files: &ModelFiles) -> u64 {
    files.with_roles().map(|(_, path)| length(path)).sum()
}

fn length(path: &Path) -> u64 {
    fs_err::metadata(path).map_or(0, |facts| facts.len())
}

/// On so many it may compute at once.
fn processors(task: &Task) -> u64 {
    let there = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    match task {
        Task::Load { options } | Task::Calibrate { options } => there.max(u64::from(options.threads)),
        Task::Pack { .. } | Task::Prepare(_) => there,
    }
}

/// Bytes of any file that the worker writes, at most: packed weights, a prepared model, or the state of prompts.
fn most_written(task: &Task, model: Model<'_>) -> u64 {
    let bytes = match (task, model.descriptor) {
        (Task::Pack { .. }, Some(descriptor)) => descriptor.file_bytes.saturating_mul(PACKED_MOST),
        (Task::Prepare(_), _) => bytes_of_files(model.files).saturating_mul(PREPARED_MOST),
        (Task::Load { options }, Some(descriptor)) => {
            let tokens = u64::from(options.context_tokens.max(descriptor.context_tokens));
            descriptor.kv_bytes_per_token().saturating_mul(tokens).saturating_mul(STATE_MOST)
        }
        _ => 0,
    };
    bytes.saturating_add(WRITTEN_BYTES)
}

fn cancelled() -> Failure {
    Failure::new(ErrorKind::Cancelled, "no request waits for the model any more")
}
