//! Runs a program and kills it at the n-th system call that changes something below a directory.
//!
//! ```text
//!   sh: STOP ─► seize ─► exec program ─► every call of every thread: stop ─► count ─► go on
//!                                                            └ the n-th: KILL
//! ```
//!
//! The calls of all threads are counted together, in the order in which they are made, so that the n-th is
//! reached whatever thread makes it. (`strace --inject=…:when=n` counts each thread and each kind of call for
//! itself, and so never gets at most of them.)
//!
//! The call that it is killed at is not made at all, or, when a write is to be torn, only its first half.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::call::{self, Call};

/// Before the program itself runs: stop, so that it can be seized while it is alone and has one thread.
const STOP_THEN_RUN: &str = r#"kill -STOP $$; exec "$@""#;
/// What the kernel calls the two stops of a system call.
const ENTRY: u8 = 1;
const EXIT: u8 = 2;

/// Where a program is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blow {
    /// At which call, from 1.
    pub(crate) at: usize,
    /// Only after the first half of its bytes, when it is a write.
    pub(crate) is_torn: bool,
}

/// What became of a program.
#[derive(Debug)]
pub(crate) struct Run {
    /// The calls that it made or, the last one, was about to make.
    pub(crate) calls: Vec<Call>,
    pub(crate) end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It was killed.
    Struck,
    /// It ended by itself, with this status.
    Exited(i32),
}

/// Whether processes may be traced here; else why not.
pub(crate) fn is_allowed() -> Result<(), String> {
    match run(&Command::new("true"), Path::new("/nowhere"), None, || Ok(())) {
        Ok(run) if run.end == End::Exited(0) => Ok(()),
        Ok(run) => Err(format!("a traced `true` ended with {:?}", run.end)),
        Err(error) => Err(format!("processes cannot be traced here: {error:#}")),
    }
}

/// Runs a program to its end, or to the blow. `cut_power` is called while the thread that makes the call stands
/// still; then the program is killed.
pub(crate) fn run(
    command: &Command,
    watched: &Path,
    blow: Option<Blow>,
    cut_power: impl FnMut() -> Result<()>,
) -> Result<Run> {
    let leader = spawn_stopped(command)?;
    let mut tracer =
        Tracer { leader, watched, blow, cut_power, calls: Vec::new(), torn: None, is_struck: false };
    let result = tracer.seize().and_then(|()| tracer.follow());
    if result.is_err() {
        let _ = kill(leader, Signal::SIGKILL);
        let _ = waitpid(leader, Some(WaitPidFlag::__WALL));
    }
    let end = result?;
    Ok(Run { calls: tracer.calls, end })
}

fn spawn_stopped(command: &Command) -> Result<Pid> {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(STOP_THEN_RUN).arg("sh").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    let child =
        shell.stdin(Stdio::null()).stdout(Stdio::null()).spawn().context("sh could not be started")?;
    let leader = Pid::from_raw(i32::try_from(child.id())?);
    match waitpid(leader, Some(WaitPidFlag::WUNTRACED))? {
        WaitStatus::Stopped(_, Signal::SIGSTOP) => Ok(leader),
        other => bail!("a program that should have stopped did not: {other:?}"),
    }
}

struct Tracer<'a, S> {
    leader: Pid,
    watched: &'a Path,
    blow: Option<Blow>,
    cut_power: S,
    calls: Vec<Call>,
    /// The thread that is making half of a write.
    torn: Option<Pid>,
    is_struck: bool,
}

impl<S: FnMut() -> Result<()>> Tracer<'_, S> {
    fn seize(&self) -> Result<()> {
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_EXITKILL;
        ptrace::seize(self.leader, options)?;
        kill(self.leader, Signal::SIGCONT)?;
        Ok(())
    }

    fn follow(&mut self) -> Result<End> {
        // Only this thread's children: other tests may run in other threads.
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        loop {
            match waitpid(None, Some(flags)) {
                Ok(WaitStatus::Exited(pid, status)) if pid == self.leader => return Ok(End::Exited(status)),
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid == self.leader => {
                    if self.is_struck && signal == Signal::SIGKILL {
                        return Ok(End::Struck);
                    }
                    bail!("the program died of {signal}");
                }
                Ok(WaitStatus::PtraceSyscall(thread)) => gone_is_fine(self.at_call(thread))?,
                Ok(WaitStatus::Stopped(thread, signal)) => gone_is_fine(go_on(thread, Some(signal)))?,
                Ok(WaitStatus::PtraceEvent(thread, ..)) => gone_is_fine(go_on(thread, None))?,
                Ok(_) | Err(Errno::EINTR) => (),
                Err(error) => return Err(error).context("the program was lost"),
            }
        }
    }

    fn at_call(&mut self, thread: Pid) -> Result<()> {
        if self.is_struck {
            // Dying: its siblings make no further call either.
            return Ok(());
        }
        match ptrace::syscall_info(thread)?.op {
            ENTRY => {
                if let Some(call) = call::of(thread.as_raw(), &ptrace::getregs(thread)?, self.watched) {
                    self.calls.push(call);
                    if self.blow.is_some_and(|blow| blow.at == self.calls.len()) {
                        return self.reach(thread);
                    }
                }
            }
            EXIT if self.torn == Some(thread) => return self.hit(),
            _ => (),
        }
        go_on(thread, None)
    }

    /// The call of the blow is about to be made.
    fn reach(&mut self, thread: Pid) -> Result<()> {
        let is_torn = self.blow.is_some_and(|blow| blow.is_torn);
        let bytes = self.calls.last().and_then(|call| call.bytes).filter(|bytes| *bytes > 1);
        match bytes.filter(|_| is_torn) {
            Some(bytes) => {
                let mut registers = ptrace::getregs(thread)?;
                registers.rdx = bytes / 2;
                ptrace::setregs(thread, registers)?;
                self.torn = Some(thread);
                go_on(thread, None)
            }
            None => self.hit(),
        }
    }

    fn hit(&mut self) -> Result<()> {
        self.is_struck = true;
        (self.cut_power)()?;
        kill(self.leader, Signal::SIGKILL)?;
        Ok(())
    }
}

fn go_on(thread: Pid, signal: Option<Signal>) -> Result<()> {
    Ok(ptrace::syscall(thread, signal)?)
}

/// A thread may be gone between two looks, when its process was killed or left.
fn gone_is_fine(result: Result<()>) -> Result<()> {
    match result {
        Err(error) if error.downcast_ref::<Errno>() == Some(&Errno::ESRCH) => Ok(()),
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(is_gone) => Ok(()),
        other => other,
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::ESRCH as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, dir: &Path) -> Command {
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).arg("sh").arg(dir);
        command
    }

    #[test]
    fn a_program_is_struck_before_the_call_and_in_the_middle_of_a_write() {
        if let Err(reason) = is_allowed() {
            println!("skipped: {reason}");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let root = fs_err::canonicalize(dir.path()).unwrap();
        let program = shell("mkdir $1/a; printf 12345678 > $1/b; (mv $1/b $1/c)", &root);
        let run = run(&program, &root, None, || Ok(())).unwrap();
        let names: Vec<_> = run.calls.iter().map(|call| call.path.to_str().unwrap()).collect();
        assert_eq!((run.end, names), (End::Exited(0), vec!["a", "b", "b", "c"]), "{:?}", run.calls);
        for (at, is_torn, there) in [
            (1, false, None),
            (2, false, None),
            (3, false, Some("")),
            (3, true, Some("1234")),
            (4, false, Some("12345678")),
        ] {
            let _ = fs_err::remove_dir(root.join("a"));
            let _ = fs_err::remove_file(root.join("b"));
            let _ = fs_err::remove_file(root.join("c"));
            let run = super::run(&program, &root, Some(Blow { at, is_torn }), || Ok(())).unwrap();
            assert_eq!((run.end, run.calls.len()), (End::Struck, at));
            assert_eq!(fs_err::read_to_string(root.join("b")).ok().as_deref(), there, "at {at}");
            assert!(!root.join("c").exists());
        }
    }
}
