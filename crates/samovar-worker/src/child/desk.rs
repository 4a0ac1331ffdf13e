//! Takes requests to the engine, and texts to its vocabulary, so that the main thread is free to hear a cancellation.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use samovar_core::Failure;
use samovar_core::generation::GenerationRequest;

use super::mouth::Mouth;
use super::pump::Pump;
use super::seat::Seat;
use super::thread;
use crate::protocol::{Answer, Operation, Reply};

/// Jobs on their way; then the main thread waits, and with it the parent's queue.
const JOBS: usize = 1024;

enum Job {
    Generate(u64, Box<GenerationRequest>),
    Operate(u64, Operation),
}

/// A thread for what is quick but not instant.
pub(super) struct Desk {
    jobs: SyncSender<Job>,
    thread: JoinHandle<()>,
}

impl Desk {
    pub(super) fn start(mouth: Arc<Mouth>, pump: Arc<Pump>, seat: Arc<Seat>) -> Result<Self, Failure> {
        let (jobs, todo) = sync_channel(JOBS);
        let thread = thread("desk", move || work(&todo, &mouth, &pump, &seat))?;
        Ok(Self { jobs, thread })
    }

    pub(super) fn generate(&self, id: u64, request: GenerationRequest) -> Result<(), Failure> {
        self.jobs.send(Job::Generate(id, Box::new(request))).map_err(|_| super::broken("no desk"))
    }

    pub(super) fn operate(&self, id: u64, operation: Operation) -> Result<(), Failure> {
        self.jobs.send(Job::Operate(id, operation)).map_err(|_| super::broken("no desk"))
    }

    /// Waits until what was begun is done.
    pub(super) fn end(self) {
        drop(self.jobs);
        // A panic there has ended the process.
        self.thread.join().ok();
    }
}

fn work(todo: &Receiver<Job>, mouth: &Mouth, pump: &Pump, seat: &Seat) {
    while let Ok(job) = todo.recv() {
        let instance = seat.get();
        match job {
            Job::Generate(id, _) if !pump.is_wanted(id) => {}
            Job::Generate(id, request) => match instance.and_then(|instance| instance.generate(*request)) {
                Ok(generation) => pump.run_request(id, generation),
                Err(failure) => pump.fail(id, failure),
            },
            Job::Operate(id, operation) => {
                let answer = instance.and_then(|instance| match operation {
                    Operation::Tokenize { text, add_special, parse_special } => {
                        instance.tokenize(&text, add_special, parse_special).map(Answer::Tokens)
                    }
                    Operation::Detokenize { tokens } => instance.detokenize(&tokens).map(Answer::Bytes),
                    _ => Err(super::broken("this is no work for the desk")),
                });
                let answer = answer.map_err(Into::into);
                mouth.stepped();
                mouth.say_measured(|measured| Reply::Answer { id, answer, measured });
            }
        }
    }
}
