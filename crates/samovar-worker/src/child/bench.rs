//! Does what takes long, one thing after the other: the load first, then parking, resuming, probing, saved prefixes.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use samovar_core::footprint::LoadOptions;
use samovar_core::model::Descriptor;
use samovar_core::port::{Engine, Instance, LoadControl, ModelFiles};
use samovar_core::{ErrorKind, Failure};

use super::mouth::Mouth;
use super::seat::Seat;
use super::thread;
use crate::protocol::{Answer, Operation, Reply};
use crate::sandbox;

/// Jobs on their way.
const JOBS: usize = 64;

/// Everything that a load needs, and what is known before it.
pub(super) struct Load {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) path: PathBuf,
    pub(super) descriptor: Descriptor,
    pub(super) options: LoadOptions,
    pub(super) report: sandbox::Report,
}

enum Job {
    Load(Box<Load>),
    Operate(u64, Operation, Option<File>),
}

/// A thread for what takes long.
pub(super) struct Bench {
    jobs: SyncSender<Job>,
    thread: JoinHandle<()>,
}

impl Bench {
    pub(super) fn start(mouth: Arc<Mouth>, seat: Arc<Seat>) -> Result<Self, Failure> {
        let (jobs, todo) = sync_channel(JOBS);
        let thread = thread("bench", move || work(&todo, &mouth, &seat))?;
        Ok(Self { jobs, thread })
    }

    pub(super) fn load(&self, load: Load) -> Result<(), Failure> {
        self.send(Job::Load(Box::new(load)))
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

fn work(todo: &Receiver<Job>, mouth: &Arc<Mouth>, seat: &Seat) {
    while let Ok(job) = todo.recv() {
        match job {
            Job::Load(load) => self::load(*load, mouth, seat),
            Job::Operate(id, operation, file) => {
                let answer = seat.get().and_then(|instance| operate(&*instance, operation, file));
                let answer = answer.map_err(Into::into);
                mouth.stepped();
                mouth.say_measured(|measured| Reply::Answer { id, answer, measured });
            }
        }
    }
}

fn load(load: Load, mouth: &Arc<Mouth>, seat: &Seat) {
    let Load { engine, path, descriptor, options, report } = load;
    let progress = {
        let mouth = Arc::clone(mouth);
        move |fraction: f32| {
            mouth.stepped();
            mouth.say(&Reply::Progress(fraction));
        }
    };
    match engine.load(ModelFiles::of(&path), &descriptor, &options, &LoadControl::new(progress)) {
        Ok(instance) => {
            seat.put(instance);
            mouth.stepped();
            mouth.say_measured(|measured| Reply::Ready { measured, sandbox: report });
        }
        Err(failure) => mouth.say(&Reply::LoadFailed(failure.into())),
    }
}

fn operate(instance: &dyn Instance, operation: Operation, file: Option<File>) -> Result<Answer, Failure> {
    let no_file = || Failure::new(ErrorKind::Internal, "the file did not reach the worker");
    match operation {
        Operation::Park => instance.park().map(|()| Answer::Done),
        Operation::Resume { options } => instance.resume(&options).map(|()| Answer::Done),
        Operation::Probe => instance.probe().map(|()| Answer::Done),
        Operation::Prefixes => instance.prefixes().map(Answer::Prefixes),
        Operation::SavePrefix { prefix } => {
            instance.save_prefix(&prefix, &file.ok_or_else(no_file)?).map(Answer::Size)
        }
        Operation::RestorePrefix { tokens } => {
            instance.restore_prefix(&tokens, &file.ok_or_else(no_file)?).map(|()| Answer::Done)
        }
        Operation::Tokenize { .. } | Operation::Detokenize { .. } => {
            Err(super::broken("this is work for the desk"))
        }
    }
}
