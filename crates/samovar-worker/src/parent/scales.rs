//! Weighs one worker: what it says and what it takes against the kernel's books, and what is wrong with that.

use std::time::Duration;

use rustix::process::Pid;
use samovar_core::footprint::Measurement;

use super::appetite::{Appetite, believe};
use super::books::{Account, Books};
use super::tally::Tally;
use super::worker::Shared;
use crate::protocol::Beat;
use crate::sandbox;

/// What is known of one worker's weight.
#[derive(Debug)]
pub(super) struct Scales {
    appetite: Appetite,
    /// Absent where the kernel lets nobody look.
    books: Option<Books>,
    /// What they said when they were looked at last.
    account: Account,
}

impl Scales {
    pub(super) fn new(books: Option<Books>) -> Self {
        Self { appetite: Appetite::new(), books, account: Account::default() }
    }

    /// Shows what the worker says that it uses, as far as the kernel bears it out. What is wrong with it, in words that
    /// follow "the worker", if it must end for that.
    pub(super) fn publish(&mut self, shared: &Shared, said: Measurement) -> Option<String> {
        let mut believed = believe(said, self.account, &shared.expected);
        // The last look may be a second old; whoever seems to say something wrong is looked at now.
        if believed.is_corrected && self.look() {
            believed = believe(said, self.account, &shared.expected);
        }
        shared.published.set(&believed.measured);
        believed.lie
    }

    /// Time has passed. Looks at what the worker takes when it is time to, and lets it make a few more threads. What is
    /// wrong with it, in words that follow "the worker", if it must end for that.
    pub(super) fn weigh(&mut self, elapsed: Duration, shared: &Shared, tally: &Tally) -> Option<String> {
        if !self.appetite.is_due(elapsed) || !self.look() {
            return None;
        }
        let Shared { pid, published, expected, .. } = shared;
        let process = i32::try_from(*pid).ok().and_then(Pid::from_raw);
        if process.is_some() {
            // Fails for a worker that has just ended.
            sandbox::move_bound(process).ok();
        }
        tally.takes(*pid, self.account.own_bytes);
        self.appetite.complaint(*pid, self.account, expected, published.get().held_bytes)
    }

    /// With the processor time that the kernel counted: what a worker says of itself does not buy it patience.
    pub(super) fn as_counted(&self, beat: Beat) -> Beat {
        let counted = self.books.as_ref().and_then(Books::processor_ms);
        Beat { cpu_ms: counted.unwrap_or(beat.cpu_ms), ..beat }
    }

    fn look(&mut self) -> bool {
        let account = self.books.as_ref().and_then(Books::account);
        self.account = account.unwrap_or(self.account);
        account.is_some()
    }
}
