//! The thread beside each worker: hears it, watches its health, ends it when it must, and buries it.
//!
//! ```text
//!   socket ─► events, answers ─► PendingCalls  stderr ─► log, last lines
//!   wakeup  ─► commands of ours                 pidfd  ─► it has ended: drain both, tell all callers why
//!   clock  ─► Health ─► complaint ─► SIGTERM ─► SIGKILL
//!   kernel ─► Scales ─► what it takes, and whether what it says of that may be believed ─► SIGKILL
//! ```

use std::os::fd::OwnedFd;
use std::process::{Child, ChildStderr, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use rustix::net::{RecvFlags, recv};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use samovar_core::Failure;
use samovar_core::footprint::Measurement;

use super::death::Death;
use super::flood::Flood;
use super::pending_calls::WorkerPhase;
use super::poll_result::PollResult;
use super::scales::Scales;
use super::stderr::Stderr;
use super::tally::{Cause, Tally};
use super::worker::Shared;
use crate::config::Timeouts;
use crate::health::Health;
use crate::protocol::{self, Command, FrameError, Hello, Inbox, JobOutput, Reply};
use crate::sandbox;

/// One look at the socket or at the standard error.
const READ_BYTES: usize = 64 << 10;
/// How often to look whether a worker has ended, where the kernel gives no sign.
const LOOK: Duration = Duration::from_millis(5);

/// Hears of a death.
pub(super) type Obituary = Arc<dyn Fn(Failure) + Send + Sync>;

/// What a job comes to; said once, whatever happens.
pub(super) type JobResult = Result<(JobOutput, sandbox::Report), Failure>;

/// Who hears of what becomes of a worker.
pub(super) struct ExitHandlers {
    /// The caller that waits for its job.
    pub(super) job_result: SyncSender<JobResult>,
    /// The code that is to know of its death after that.
    pub(super) obituary: Obituary,
}

/// How far the end of a worker has come.
#[derive(Clone, Copy, Debug)]
enum Ending {
    /// It is not asked to end.
    Not,
    /// It was asked to; SIGTERM follows.
    Asked { until: Instant },
    /// SIGTERM was sent, or it closed its connection; SIGKILL follows.
    Told { until: Instant },
    /// SIGKILL was sent.
    Killed,
}

/// What the thread knows.
pub(super) struct Supervisor {
    shared: Arc<Shared>,
    child: Child,
    pid: Option<Pid>,
    pidfd: Option<OwnedFd>,
    socket: Arc<OwnedFd>,
    pipe: Option<ChildStderr>,
    timeouts: Timeouts,
    health: Health,
    scales: Scales,
    flood: Flood,
    tally: Arc<Tally>,
    inbox: Inbox,
    stderr: Stderr,
    buffer: Vec<u8>,
    has_greeted: bool,
    is_open: bool,
    job_result: Option<SyncSender<JobResult>>,
    obituary: Obituary,
    ending: Ending,
    complaint: Option<String>,
    /// Why it ends, if that is known before it has.
    cause: Option<Cause>,
}

impl Supervisor {
    pub(super) fn new(
        shared: Arc<Shared>,
        mut child: Child,
        socket: Arc<OwnedFd>,
        timeouts: Timeouts,
        tally: Arc<Tally>,
        exit_handlers: ExitHandlers,
        scales: Scales,
    ) -> Self {
        tally.started(shared.pid);
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pipe = child.stderr.take();
        if let Some(pipe) = &pipe {
            rustix::io::ioctl_fionbio(pipe, true).ok();
        }
        Self {
            pidfd: pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()),
            pid,
            shared,
            child,
            socket,
            pipe,
            timeouts,
            health: Health::new(timeouts),
            scales,
            flood: Flood::default(),
            tally,
            inbox: Inbox::default(),
            stderr: Stderr::default(),
            buffer: vec![0; READ_BYTES],
            has_greeted: false,
            is_open: true,
            job_result: Some(exit_handlers.job_result),
            obituary: exit_handlers.obituary,
            ending: Ending::Not,
            complaint: None,
            cause: None,
        }
    }

    /// Returns when the worker is buried.
    pub(super) fn keep(mut self) {
        let status = self.watch();
        // What it said before it ended counts: the last tokens, and the last words.
        while self.is_open && self.hear() {}
        while self.hear_stderr() {}
        self.stderr.finish(self.shared.pid);
        self.tally.denied(self.stderr.take_denied());
        self.bury(status);
    }

    /// Returns when the worker has ended.
    fn watch(&mut self) -> Option<ExitStatus> {
        let mut before = Instant::now();
        loop {
            let is_at_rest = self.is_at_rest();
            self.health.rests(is_at_rest);
            let found = self.wait();
            let now = Instant::now();
            let elapsed = now - std::mem::replace(&mut before, now);
            self.health.passed(elapsed);
            if found.stderr {
                self.hear_stderr();
            }
            if found.words {
                self.hear();
            }
            if found.room {
                self.shared.outbox.flush().ok();
            }
            self.stderr.passed(self.shared.pid, elapsed);
            if let Some(complaint) = self.scales.weigh(elapsed, &self.shared, &self.tally) {
                self.end_at_once(complaint);
            }
            if let Some(complaint) = self.flood.passed(elapsed) {
                self.condemn(complaint);
            }
            self.judge();
            self.get_on_with_the_end();
            if found.end || !self.is_open || self.pidfd.is_none() {
                match self.child.try_wait() {
                    Ok(None) => {}
                    Ok(status) => return status,
                    Err(_) => return None,
                }
            }
        }
    }

    /// Whether it has nothing to do, so that a look now and then is enough.
    fn is_at_rest(&self) -> bool {
        let Shared { is_at_rest, pending_calls, .. } = &*self.shared;
        // Said before the look at what it has to do: a request that comes after that wakes this thread.
        is_at_rest.store(true, Ordering::Release);
        let has_nothing_to_do = !pending_calls.is_working() && self.stderr.may_be_heard();
        is_at_rest.store(has_nothing_to_do, Ordering::Release);
        has_nothing_to_do
    }

    /// Sleeps until there is something to do.
    fn wait(&self) -> PollResult {
        let Self { shared, socket, pipe, pidfd, .. } = self;
        let socket = self.is_open.then_some((&**socket, shared.outbox.is_waiting()));
        // A worker that has said enough for now waits with the rest.
        let pipe = pipe.as_ref().filter(|_| self.stderr.may_be_heard());
        PollResult::wait(&shared.wakeup, socket, pipe, pidfd.as_ref(), self.time_left())
    }

    fn time_left(&self) -> Duration {
        let look = if self.is_open && self.pidfd.is_some() { self.health.interval() } else { LOOK };
        match self.ending {
            Ending::Not | Ending::Killed => look,
            Ending::Asked { until } | Ending::Told { until } => {
                look.min(until.saturating_duration_since(Instant::now())).max(Duration::from_millis(1))
            }
        }
    }

    /// Takes what the worker says; `false` when there is nothing more.
    fn hear(&mut self) -> bool {
        let bytes = match recv(&*self.socket, &mut self.buffer[..], RecvFlags::DONTWAIT) {
            Ok((_, bytes)) if bytes > 0 => bytes,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return false,
            Ok(_) | Err(_) => {
                self.closed();
                return false;
            }
        };
        self.flood.bytes(bytes);
        self.inbox.put(&self.buffer[..bytes]);
        if let Err(error) = self.heed() {
            self.condemn(format!("said what makes no sense ({error})"));
        }
        true
    }

    /// Ends a worker that is not to be heard any more.
    fn condemn(&mut self, complaint: String) {
        self.complaint.get_or_insert(complaint);
        self.kill();
        self.is_open = false;
    }

    /// It has closed its connection: a worker that ends does so a moment before.
    fn closed(&mut self) {
        self.is_open = false;
        if matches!(self.ending, Ending::Not) {
            self.ending = Ending::Told { until: Instant::now() + self.timeouts.grace };
        }
    }

    fn heed(&mut self) -> Result<(), FrameError> {
        while let Some(frame) = self.inbox.take()? {
            self.flood.frame();
            if self.has_greeted {
                let reply = protocol::decode_reply(frame)?;
                self.act_on(reply);
                continue;
            }
            self.has_greeted = true;
            self.health.stepped();
            let hello = Hello::decode(frame)?;
            if let Err(stranger) = hello.check("the worker") {
                self.send_job_result(Err(stranger));
                self.kill();
            }
        }
        Ok(())
    }

    fn act_on(&mut self, reply: Reply) {
        self.health.spoke();
        if self.shared.pending_calls.is_working() {
            self.health.worked();
        }
        let is_news = match reply {
            Reply::Heartbeat(heartbeat) => {
                self.publish(heartbeat.measured);
                let heartbeat = self.scales.as_counted(heartbeat);
                self.health.heartbeat(heartbeat, self.shared.pending_calls.is_working());
                false
            }
            Reply::Events { events, measured } => {
                self.publish(measured);
                let delivered = self.shared.pending_calls.deliver(events);
                for id in delivered.too_long {
                    self.shared.tell(&Command::Cancel { id }, Vec::new()).ok();
                }
                delivered.is_news
            }
            Reply::Answer { id, answer, measured } => {
                self.publish(measured);
                self.shared.pending_calls.answer(id, answer.map_err(Into::into))
            }
            // A worker that serves loads nothing any more.
            Reply::Progress(fraction) => {
                self.shared.progress.set(fraction)
                    && self.shared.pending_calls.phase() == WorkerPhase::Loading
            }
            Reply::JobOutput { job_output, measured, sandbox } => {
                self.publish(measured);
                self.send_job_result(Ok((job_output, sandbox)))
            }
            Reply::Failed(failure) => self.send_job_result(Err(failure.into())),
        };
        if is_news {
            self.health.stepped();
        }
    }

    /// Shows what it says that it uses, as far as that can be true.
    fn publish(&mut self, said: Measurement) {
        if let Some(lie) = self.scales.publish(&self.shared, said) {
            self.end_at_once(lie);
        }
    }

    /// Tells the caller what it came to, and whether that was still open. Never waits.
    fn send_job_result(&mut self, job_result: JobResult) -> bool {
        self.job_result.take().is_some_and(|waiting| waiting.try_send(job_result).is_ok())
    }

    /// Takes what it says on its standard error; `false` when there is nothing more.
    fn hear_stderr(&mut self) -> bool {
        let Some(pipe) = &self.pipe else { return false };
        match rustix::io::read(pipe, &mut self.buffer[..]) {
            Ok(bytes) if bytes > 0 => {
                self.stderr.put(self.shared.pid, &self.buffer[..bytes]);
                self.tally.denied(self.stderr.take_denied());
                true
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => false,
            Ok(_) | Err(_) => {
                self.pipe = None;
                false
            }
        }
    }

    /// Begins the end of a worker that is no longer wanted, or no longer well.
    fn judge(&mut self) {
        if self.shared.is_killed.load(Ordering::Acquire) {
            self.kill();
        } else if self.shared.is_leaving.load(Ordering::Acquire) {
            if matches!(self.ending, Ending::Not) {
                self.ending = Ending::Asked { until: Instant::now() + self.timeouts.leave };
            }
        } else if matches!(self.ending, Ending::Not)
            && let Some(complaint) = self.health.complaint()
        {
            tracing::error!(pid = self.shared.pid, "a worker {complaint}: it is ended");
            self.complaint = Some(complaint);
            self.cause = Some(Cause::Hang);
            self.terminate();
        }
    }

    /// Memory and threads do not wait for a last message.
    fn end_at_once(&mut self, complaint: String) {
        if matches!(self.ending, Ending::Not) {
            tracing::error!(pid = self.shared.pid, "a worker {complaint}: it is ended");
            self.complaint = Some(complaint);
            self.cause = Some(Cause::Memory);
            self.kill();
        }
    }

    fn get_on_with_the_end(&mut self) {
        let now = Instant::now();
        match self.ending {
            Ending::Asked { until } if until <= now => self.terminate(),
            Ending::Told { until } if until <= now => self.kill(),
            _ => {}
        }
    }

    fn terminate(&mut self) {
        if let Some(pid) = self.pid {
            // Not reaped yet, so the number is still its own.
            kill_process(pid, Signal::TERM).ok();
        }
        self.ending = Ending::Told { until: Instant::now() + self.timeouts.grace };
    }

    fn kill(&mut self) {
        if !matches!(self.ending, Ending::Killed) {
            self.child.kill().ok();
            self.ending = Ending::Killed;
        }
    }

    /// Why it is no more, of a worker that was not complained of.
    fn cause_of(&self, status: Option<ExitStatus>) -> Cause {
        let is_wished =
            self.shared.is_killed.load(Ordering::Acquire) || self.shared.is_leaving.load(Ordering::Acquire);
        let is_well = status.is_some_and(|status| status.success());
        if is_wished || is_well { Cause::Wish } else { Cause::Crash }
    }

    /// Tells all callers.
    fn bury(mut self, status: Option<ExitStatus>) {
        let pid = self.shared.pid;
        let activity = self.job_result.is_some().then_some(self.shared.activity);
        self.tally.ended(pid, self.cause.unwrap_or_else(|| self.cause_of(status)));
        let complaint = self.complaint.take();
        let failure = Death { complaint, status, activity, stderr: &self.stderr }.failure();
        self.shared.published.set(&Measurement::default());
        let phase = self.shared.pending_calls.end(failure.clone());
        self.send_job_result(Err(failure.clone()));
        match phase {
            WorkerPhase::Serving => {
                tracing::error!(pid, "{failure}");
                (self.obituary)(failure);
            }
            WorkerPhase::Loading | WorkerPhase::Leaving | WorkerPhase::Ended(_) => {
                tracing::debug!(pid, status = status.map(tracing::field::display), "a worker has ended");
            }
        }
    }
}
