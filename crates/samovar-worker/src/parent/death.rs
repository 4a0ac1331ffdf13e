//! Why a worker ended, in words for the callers that waited for it.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use samovar_core::{ErrorKind, Failure};

use super::stderr::Stderr;

/// What the supervisor knows of an end.
#[derive(Debug)]
pub(super) struct Death<'a> {
    /// Why it was made to end; nothing when it did so by itself.
    pub(super) complaint: Option<String>,
    /// How it ended; nothing when the kernel does not tell.
    pub(super) status: Option<ExitStatus>,
    /// What it was doing, as long as its job was not done.
    pub(super) activity: Option<&'static str>,
    /// What it said.
    pub(super) stderr: &'a Stderr,
}

impl Death<'_> {
    /// What all callers that waited hear.
    pub(super) fn failure(&self) -> Failure {
        let doing = self.activity.map(|activity| format!(" while it {activity}")).unwrap_or_default();
        let how = match (&self.complaint, self.status) {
            (Some(complaint), _) => format!("the model's worker {complaint}{doing} and was ended"),
            (None, Some(status)) => format!("the model's worker {}{doing}", ending(status)),
            (None, None) => format!("the model's worker ended{doing}"),
        };
        let said = self.stderr.last_words().map(|line| format!("; it last said: {line}"));
        Failure::new(ErrorKind::EngineFailed, how + &said.unwrap_or_default()).with_hint(self.hint())
    }

    fn hint(&self) -> String {
        const NEXT: &str = "the next request starts another; `samovar why MODEL` shows what happened before";
        let signal = self.status.and_then(|status| status.signal());
        let why = match (&self.complaint, signal) {
            (Some(_), _) => "what it had said until then has been delivered",
            (None, Some(libc_signal::KILL)) => {
                "the system ends what takes too much memory: a smaller context or model may fit"
            }
            (None, Some(libc_signal::BUS)) => {
                "a part of the model's file could not be read: `samovar verify` checks it"
            }
            (None, Some(libc_signal::ILL)) => "this program may be built for another processor",
            (None, Some(libc_signal::XFSZ)) => "it wrote more than was expected of it",
            (None, Some(libc_signal::SYS)) => "it tried what its sandbox forbids",
            _ => "the model's file may be damaged: `samovar verify` checks it",
        };
        format!("{why}; {NEXT}")
    }
}

fn ending(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("was ended by {}", name(signal)),
        (None, Some(code)) => format!("ended with exit code {code}"),
        (None, None) => "ended".to_owned(),
    }
}

/// Numbers of signals on Linux.
mod libc_signal {
    pub(super) const ILL: i32 = 4;
    pub(super) const ABRT: i32 = 6;
    pub(super) const BUS: i32 = 7;
    pub(super) const FPE: i32 = 8;
    pub(super) const KILL: i32 = 9;
    pub(super) const SEGV: i32 = 11;
    pub(super) const TERM: i32 = 15;
    pub(super) const XFSZ: i32 = 25;
    pub(super) const SYS: i32 = 31;
}

fn name(signal: i32) -> String {
    let name = match signal {
        libc_signal::ILL => "SIGILL",
        libc_signal::ABRT => "SIGABRT",
        libc_signal::BUS => "SIGBUS",
        libc_signal::FPE => "SIGFPE",
        libc_signal::KILL => "SIGKILL",
        libc_signal::SEGV => "SIGSEGV",
        libc_signal::TERM => "SIGTERM",
        libc_signal::XFSZ => "SIGXFSZ",
        libc_signal::SYS => "SIGSYS",
        other => return format!("signal {other}"),
    };
    format!("{name} (signal {signal})")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(raw_status: i32, said: &[u8]) -> Failure {
        let mut stderr = Stderr::default();
        stderr.put(1, said);
        let status = Some(ExitStatus::from_raw(raw_status));
        Death { complaint: None, status, activity: Some("loaded the model"), stderr: &stderr }.failure()
    }

    #[test]
    fn the_signal_the_moment_and_the_last_words_are_named() {
        let failure = failure(11, b"NATIVE_ASSERT(x) failed\n");
        assert_eq!(failure.kind, ErrorKind::EngineFailed);
        assert_eq!(
            failure.message,
            "the model's worker was ended by SIGSEGV (signal 11) while it loaded the model; it last said: \
             NATIVE_ASSERT(x) failed"
        );
    }

    #[test]
    fn an_exit_code_is_named() {
        assert!(failure(3 << 8, b"").message.contains("exit code 3"));
    }

    #[test]
    fn the_hint_fits_the_signal() {
        assert!(failure(9, b"").hint.unwrap().contains("memory"));
        assert!(failure(7, b"").hint.unwrap().contains("samovar verify"));
    }
}
