//! Does what takes long, one thing after the other: the errand first, then parking, resuming, probing, saved prefixes.

use std::fs::File;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use samovar_core::port::{Engine, Instance, LoadControl, ModelFiles, PackedFile};
use samovar_core::{ErrorKind, Failure};

use super::courtesy::Courtesy;
use super::mouth::Mouth;
use super::seat::Seat;
use super::{path_of, thread};
use crate::protocol::{Achieved, Answer, Errand, Operation, Reply, Task};
use crate::sandbox;

/// Jobs on their way.
const JOBS: usize = 64;

/// Everything that the errand needs, and what is known before it.
pub(super) struct Begin {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) errand: Errand,
    /// The file to write.
    pub(super) into: Option<File>,
    pub(super) report: sandbox::Report,
}

enum Job {
    Begin(Box<Begin>),
    Operate(u64, Operation, Option<File>),
}

/// A thread for what takes long.
pub(super) struct Bench {
    jobs: SyncSender<Job>,
    thread: JoinHandle<()>,
}

impl Bench {
    pub(super) fn start(
        mouth: Arc<Mouth>,
        seat: Arc<Seat>,
        courtesy: Arc<Courtesy>,
    ) -> Result<Self, Failure> {
        let (jobs, todo) = sync_channel(JOBS);
        let thread = thread("bench", move || work(&todo, &mouth, &seat, &courtesy))?;
        Ok(Self { jobs, thread })
    }

    pub(super) fn begin(&self, begin: Begin) -> Result<(), Failure> {
        self.send(Job::Begin(Box::new(begin)))
    }

    pub(super) fn operate(&self, id: u64, operation: Operation, file: Option<File>) -> Result<(), Failure> {
        self.send(Job::Operate(id, operation, file))
    }

    fn send(&self, job: Job) -> Result<(), Failure> {
        self.jobs.send(job).map_err(|_| super::broken("no bench"))
    }

    /// Waits until what was begun is done.
    pub(super) fn end(self) {
        drop(self.jobs);
        // A panic there has ended the process.
        self.thread.join().ok();
    }
}

fn work(todo: &Receiver<Job>, mouth: &Arc<Mouth>, seat: &Seat, courtesy: &Arc<Courtesy>) {
    while let Ok(job) = todo.recv() {
        match job {
            Job::Begin(begin) => self::begin(*begin, mouth, seat, courtesy),
            Job::Operate(id, operation, file) => {
                let answer = seat.get().and_then(|instance| operate(&*instance, operation, file));
                let answer = answer.map_err(Into::into);
                mouth.stepped();
                mouth.say_measured(|measured| Reply::Answer { id, answer, measured });
            }
        }
    }
}

fn begin(begin: Begin, mouth: &Arc<Mouth>, seat: &Seat, courtesy: &Arc<Courtesy>) {
    let Begin { engine, errand, into, report } = begin;
    let progress = {
        let mouth = Arc::clone(mouth);
        move |fraction: f32| {
            mouth.stepped();
            mouth.say(&Reply::Progress(fraction));
        }
    };
    let courtesy = Arc::clone(courtesy);
    let control = LoadControl::new(progress).giving_way(move || courtesy.rest());
    match achieve(&*engine, &errand, into, &control, seat) {
        Ok(achieved) => {
            mouth.stepped();
            mouth.say_measured(|measured| Reply::Achieved { achieved, measured, sandbox: report });
        }
        Err(failure) => mouth.say(&Reply::Failed(failure.into())),
    }
}

fn achieve(
    engine: &dyn Engine,
    errand: &Errand,
    into: Option<File>,
    control: &LoadControl,
    seat: &Seat,
) -> Result<Achieved, Failure> {
    let Errand { task, path, packed, descriptor, .. } = errand;
    let path = path_of(path);
    let packed = packed.as_ref().map(|packed| (path_of(&packed.path), &packed.source));
    let packed = packed.as_ref().map(|(path, source)| PackedFile { path, source });
    let files = ModelFiles { path: &path, packed };
    match task {
        Task::Load { options } => {
            let instance = engine.load(files, descriptor, options, control)?;
            let arrangement = instance.arrangement();
            seat.put(instance);
            Ok(Achieved::Loaded(arrangement))
        }
        Task::Pack { source, .. } => {
            let into = into.ok_or_else(no_file)?;
            engine.pack(files.path, descriptor, source, &into, control).map(Achieved::Packed)
        }
        Task::Calibrate { options } => {
            engine.calibrate(files, descriptor, options, control).map(Achieved::Calibrated)
        }
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
        Operation::Encode { .. } | Operation::Tokenize { .. } | Operation::Detokenize { .. } => {
            Err(super::broken("this is work for the desk"))
        }
    }
}

fn no_file() -> Failure {
    Failure::new(ErrorKind::Internal, "the file did not reach the worker")
}
