//! The thread that takes tokens in and computes the next mask while the model computes the next logits: one for each
//! instance. It ends when its handle is dropped.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use samovar_core::{ErrorKind, Failure};

use crate::error::Error;
use crate::limits;
use crate::mask::Mask;
use crate::rules::Rules;

/// The thread of one instance.
#[derive(Debug)]
pub struct Ahead {
    /// `None` only while it is dropped.
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

/// What comes after the tokens of one answer.
#[derive(Debug)]
pub struct Next {
    /// The answer's state, with the chosen and the forced tokens taken in.
    pub rules: Rules,
    /// The tokens that had to follow, already taken in.
    pub forced: Vec<u32>,
    /// Which tokens may come after them.
    pub mask: Mask,
    /// Whether nothing but an end token may.
    pub is_finished: bool,
}

/// A computation that was begun. Dropping it gives the answer up.
#[derive(Debug)]
pub struct Pending(Answer);

#[derive(Debug)]
enum Answer {
    FromThread(Receiver<Result<Next, Failure>>),
    /// It has been heard, or the thread had no room for it.
    Computed(Box<Result<Next, Failure>>),
}

#[derive(Debug)]
struct Job {
    rules: Rules,
    tokens: Vec<u32>,
    forced_most: usize,
    reply: SyncSender<Result<Next, Failure>>,
}

impl Ahead {
    /// Starts the thread.
    ///
    /// # Errors
    /// `EngineFailed` if the system gives no thread.
    pub fn start() -> Result<Self, Failure> {
        let (jobs, received) = sync_channel::<Job>(limits::AHEAD_JOBS);
        let run = move || {
            for Job { rules, tokens, forced_most, reply } in received {
                // An answer that was given up has no receiver any more.
                let _ = reply.send(next(rules, &tokens, forced_most));
            }
        };
        let thread = Builder::new().name("masks".to_owned()).spawn(run);
        let thread =
            thread.map_err(|error| Error::Thread { detail: error.to_string() }.into_failure(None))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Has the tokens taken in that were just chosen, then up to `forced_most` tokens that must follow, and the mask after
    /// those computed. Returns at once, unless more answers wait than the thread has room for.
    pub fn follow(&self, rules: Rules, tokens: Vec<u32>, forced_most: usize) -> Pending {
        let (reply, answer) = sync_channel(1);
        let job = Job { rules, tokens, forced_most, reply };
        let refused = match &self.jobs {
            Some(jobs) => jobs.try_send(job),
            None => Err(TrySendError::Disconnected(job)),
        };
        Pending(match refused {
            Ok(()) => Answer::FromThread(answer),
            Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => {
                Answer::Computed(Box::new(next(job.rules, &job.tokens, job.forced_most)))
            }
        })
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // What it could panic with has ended its own answer already.
            let _ = thread.join();
        }
    }
}

impl Pending {
    /// Whether [`take`](Self::take) would return at once, or that it will after no more than this.
    pub fn is_ready_within(&mut self, patience: Duration) -> bool {
        let Answer::FromThread(answer) = &self.0 else { return true };
        match answer.recv_timeout(patience) {
            Ok(computed) => {
                self.0 = Answer::Computed(Box::new(computed));
                true
            }
            Err(RecvTimeoutError::Disconnected) => true,
            Err(RecvTimeoutError::Timeout) => false,
        }
    }

    /// Waits until it is computed; each step has its own bound.
    ///
    /// # Errors
    /// Those of [`Rules::accept`] and [`Rules::mask`]. The rules are gone then, and the answer must end.
    pub fn take(self) -> Result<Next, Failure> {
        match self.0 {
            Answer::FromThread(answer) => answer.recv().unwrap_or_else(|_| {
                Err(Failure::new(ErrorKind::Internal, "the thread that computes masks ended too early"))
            }),
            Answer::Computed(answer) => *answer,
        }
    }
}

fn next(mut rules: Rules, tokens: &[u32], forced_most: usize) -> Result<Next, Failure> {
    for token in tokens {
        rules.accept(*token)?;
    }
    let forced = rules.forced(forced_most)?;
    for token in &forced {
        rules.accept(*token)?;
    }
    let mask = rules.mask()?.clone();
    let is_finished = rules.is_finished();
    Ok(Next { rules, forced, mask, is_finished })
}
