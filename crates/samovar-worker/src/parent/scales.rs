//! Weighs one worker: what it says and what it takes against what the kernel counts, and what is wrong with that.

use std::time::Duration;

use rustix::process::Pid;
use samovar_core::footprint::Measurement;

use super::memory_watch::{MemoryWatch, believe};
use super::proc_files::{Account, ProcFiles};
use super::tally::Tally;
use super::worker::Shared;
use crate::protocol::Heartbeat;
use crate::sandbox;

/// Two looks for the sake of what a worker says are at least so far apart, however often it says it.
const APART: Duration = Duration::from_millis(50);

/// What is known of one worker's weight.
#[derive(Debug)]
pub(super) struct Scales {
    memory_watch: MemoryWatch,
    /// Absent where the kernel lets no process look.
    proc_files: Option<ProcFiles>,
    /// Whether the kernel bounds its threads, so that the bound has to be moved along.
    bounds_threads: bool,
    /// What they said when they were looked at last.
    account: Account,
    since_look: Duration,
}

impl Scales {
    pub(super) fn new(proc_files: Option<ProcFiles>, bounds_threads: bool) -> Self {
        Self {
            memory_watch: MemoryWatch::new(),
            proc_files,
            bounds_threads,
            account: Account::default(),
            since_look: APART,
        }
    }

    /// Shows what the worker says that it uses, as far as the kernel bears it out. What is wrong with it, in words that
    /// follow "the worker", if it must end for that.
    pub(super) fn publish(&mut self, shared: &Shared, said: Measurement) -> Option<String> {
        let mut believed = believe(said, self.account, &shared.expected);
        // The last look may be a second old; a worker that seems to say something wrong is looked at now.
        if believed.is_corrected {
            if self.since_look < APART {
                // What it says may have become true since.
                believed.lie = None;
            } else if self.look() {
                believed = believe(said, self.account, &shared.expected);
            }
        }
        shared.published.set(&believed.measured);
        believed.lie
    }

    /// Time has passed. Looks at what the worker takes when it is time to, and lets it make a few more threads. What is
    /// wrong with it, in words that follow "the worker", if it must end for that.
    pub(super) fn weigh(&mut self, elapsed: Duration, shared: &Shared, tally: &Tally) -> Option<String> {
        self.since_look = self.since_look.saturating_add(elapsed);
        if !self.memory_watch.is_due(elapsed) || !self.look() {
            return None;
        }
        let Shared { pid, expected, .. } = shared;
        let process = i32::try_from(*pid).ok().and_then(Pid::from_raw);
        if self.bounds_threads && process.is_some() {
            // Fails for a worker that has just ended.
            sandbox::move_bound(process).ok();
        }
        tally.takes(*pid, self.account.own_bytes);
        self.memory_watch.complaint(*pid, self.account, expected)
    }

    /// With the processor time that the kernel counted: what a worker says of itself does not buy it time.
    pub(super) fn as_counted(&self, heartbeat: Heartbeat) -> Heartbeat {
        let counted = self.proc_files.as_ref().and_then(ProcFiles::processor_ms);
        Heartbeat { cpu_ms: counted.unwrap_or(heartbeat.cpu_ms), ..heartbeat }
    }

    fn look(&mut self) -> bool {
        let account = self.proc_files.as_ref().and_then(ProcFiles::account);
        if let Some(account) = account {
            self.account = account;
            self.since_look = Duration::ZERO;
        }
        account.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::Arc;

    use super::*;
    use crate::protocol::pair;

    #[test]
    fn the_kernel_is_asked_about_a_lie_every_fifty_milliseconds_at_most() {
        let (ours, _theirs) = pair().unwrap();
        let shared = Shared::new(std::process::id(), "served", Arc::new(ours)).unwrap();
        let mut scales = Scales::new(ProcFiles::open(std::process::id()).ok(), false);
        let said = Measurement { held_bytes: 1 << 60, ..Measurement::default() };
        assert!(scales.publish(&shared, said).is_some(), "the first is looked into");
        assert_eq!(scales.publish(&shared, said), None, "the second is put right");
        assert!(shared.published.get().held_bytes < 1 << 60);
        let tally = Tally::default();
        assert_eq!(scales.weigh(APART / 2, &shared, &tally), None);
        assert_eq!(scales.publish(&shared, said), None);
        assert_eq!(scales.weigh(APART / 2, &shared, &tally), None);
        assert!(scales.publish(&shared, said).is_some(), "and then looked into again");
    }

    #[test]
    fn who_has_no_sandbox_keeps_the_limits_that_it_has() {
        let mut child = Command::new("/bin/sleep").arg("300").spawn().unwrap();
        let limits = || fs_err::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
        let (ours, _theirs) = pair().unwrap();
        let shared = Shared::new(child.id(), "served", Arc::new(ours)).unwrap();
        let mut scales = Scales::new(Some(ProcFiles::open(child.id()).unwrap()), false);
        let before = limits();
        assert_eq!(scales.weigh(Duration::from_secs(2), &shared, &Tally::default()), None);
        assert_eq!(scales.account.threads, 1, "it has looked");
        assert_eq!(limits(), before);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
