//! Does what takes long, one thing after the other: the job first, then parking, resuming, probing, saved prefixes.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use samovar_core::port::{
    Engine, Instance, LoadControl, LoadRequest, PackRequest, PackedFile, PrepareRequest,
};
use samovar_core::{ErrorKind, Failure, ModelFiles};

use super::courtesy::Courtesy;
use super::frame_writer::FrameWriter;
use super::instance_cell::InstanceCell;
use super::{path_of, thread};
use crate::protocol::{Answer, JobOutput, Operation, Reply, Task, WorkerJob};
use crate::sandbox;

/// Jobs on their way.
const JOBS: usize = 64;

/// Everything that the job needs, and what is known before it.
pub(super) struct Begin {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) worker_job: WorkerJob,
    /// The file to write.
    pub(super) into: Option<File>,
    pub(super) report: sandbox::Report,
}

enum Job {
    Begin(Box<Begin>),
    Operate(u64, Operation, Option<File>),
}

/// A thread for what takes long.
pub(super) struct OperationThread {
    jobs: SyncSender<Job>,
    thread: JoinHandle<()>,
    /// Jobs that were sent and are not done.
    unfinished: Arc<AtomicUsize>,
}

impl OperationThread {
    pub(super) fn start(
        frame_writer: Arc<FrameWriter>,
        instance_cell: Arc<InstanceCell>,
        courtesy: Arc<Courtesy>,
    ) -> Result<Self, Failure> {
        let (jobs, todo) = sync_channel(JOBS);
        let unfinished = Arc::<AtomicUsize>::default();
        let done = Arc::clone(&unfinished);
        let thread = thread("operations", move || {
            while let Ok(job) = todo.recv() {
                work(job, &frame_writer, &instance_cell, &courtesy);
                done.fetch_sub(1, Ordering::AcqRel);
            }
        })?;
        Ok(Self { jobs, thread, unfinished })
    }

    /// How many jobs were sent and are not done, at any moment.
    pub(super) fn unfinished(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.unfinished)
    }

    pub(super) fn begin(&self, begin: Begin) -> Result<(), Failure> {
        self.send(Job::Begin(Box::new(begin)))
    }

    pub(super) fn operate(&self, id: u64, operation: Operation, file: Option<File>) -> Result<(), Failure> {
        self.send(Job::Operate(id, operation, file))
    }

    fn send(&self, job: Job) -> Result<(), Failure> {
        self.unfinished.fetch_add(1, Ordering::AcqRel);
        self.jobs.send(job).map_err(|_| super::broken("the operation thread is gone"))
    }

    /// Waits until what was begun is done.
    pub(super) fn end(self) {
        drop(self.jobs);
        // A panic there has ended the process.
        self.thread.join().ok();
    }
}

fn work(job: Job, frame_writer: &Arc<FrameWriter>, instance_cell: &InstanceCell, courtesy: &Arc<Courtesy>) {
    match job {
        Job::Begin(begin) => self::begin(*begin, frame_writer, instance_cell, courtesy),
        Job::Operate(id, operation, file) => {
            let answer = instance_cell.get().and_then(|instance| operate(&*instance, operation, file));
            let answer = answer.map_err(Into::into);
            frame_writer.stepped();
            frame_writer.say_measured(|measured| Reply::Answer { id, answer, measured });
        }
    }
}

fn begin(
    begin: Begin,
    frame_writer: &Arc<FrameWriter>,
    instance_cell: &InstanceCell,
    courtesy: &Arc<Courtesy>,
) {
    let Begin { engine, worker_job, into, report } = begin;
    let progress = {
        let frame_writer = Arc::clone(frame_writer);
        move |fraction: f32| {
            frame_writer.stepped();
            frame_writer.say(&Reply::Progress(fraction));
        }
    };
    let courtesy = Arc::clone(courtesy);
    let control = LoadControl::new(progress).giving_way(move || courtesy.rest());
    match achieve(&*engine, &worker_job, into, &control, instance_cell) {
        Ok(job_output) => {
            frame_writer.stepped();
            frame_writer.say_measured(|measured| Reply::JobOutput { job_output, measured, sandbox: report });
        }
        Err(failure) => frame_writer.say(&Reply::Failed(failure.into())),
    }
}

fn achieve(
    engine: &dyn Engine,
    worker_job: &WorkerJob,
    into: Option<File>,
    control: &LoadControl,
    instance_cell: &InstanceCell,
) -> Result<JobOutput, Failure> {
    let WorkerJob { task, files, packed, descriptor, .. } = worker_job;
    if let Task::Prepare(preparation) = task {
        let (folder, target) = (path_of(&preparation.folder), path_of(&preparation.target));
        let quantization = preparation.quantization;
        // What is known of a model is known of the one whose adapter is prepared.
        let base = descriptor.as_ref();
        let request = PrepareRequest { folder: &folder, quantization, target: &target, base, control };
        return engine.prepare(request).map(JobOutput::Prepared);
    }
    let descriptor = descriptor.as_ref().ok_or_else(|| super::broken("a model of which nothing is known"))?;
    let files = ModelFiles::new(files.iter().map(|(role, path)| (*role, path_of(path))));
    let files = files.ok_or_else(|| super::broken("a model without weights"))?;
    let packed = packed.as_ref().map(|packed| (path_of(&packed.path), &packed.source));
    let packed = packed.as_ref().map(|(path, source)| PackedFile { path, source });
    let request = |options| LoadRequest::new(&files, descriptor, options, control).with_packed(packed);
    match task {
        Task::Load { options } => {
            let instance = engine.load(request(options))?;
            let arrangement = instance.arrangement();
            instance_cell.put(instance);
            Ok(JobOutput::Loaded(arrangement))
        }
        Task::Pack { source, .. } => {
            let into = into.ok_or_else(no_file)?;
            let request = PackRequest { files: &files, descriptor, source, into: &into, control };
            engine.pack(request).map(JobOutput::Packed)
        }
        Task::Calibrate { options } => engine.calibrate(request(options)).map(JobOutput::Calibrated),
        Task::Prepare(_) => Err(super::broken("it was prepared above")),
    }
}

fn operate(instance: &dyn Instance, operation: Operation, file: Option<File>) -> Result<Answer, Failure> {
    match operation {
        Operation::Park => instance.park().map(|()| Answer::Done),
        Operation::Resume { options } => instance.resume(&options).map(|()| Answer::Done),
        Operation::Probe => instance.probe().map(|()| Answer::Done),
        Operation::Prefixes => instance.prefixes().map(Answer::Prefixes),
        Operation::SavePrefix { prefix } => {
            instance.save_prefix(&prefix, &file.ok_or_else(no_file)?).map(Answer::Size)
        }
        Operation::RestorePrefix { tokens, scope } => {
            instance.restore_prefix(&tokens, scope, &file.ok_or_else(no_file)?).map(|()| Answer::Done)
        }
        Operation::Encode { .. }
        | Operation::Tokenize { .. }
        | Operation::Detokenize { .. }
        | Operation::Render { .. }
        | Operation::Count { .. } => Err(super::broken("this is work for the request threads")),
    }
}

fn no_file() -> Failure {
    Failure::new(ErrorKind::Internal, "the file did not reach the worker")
}
