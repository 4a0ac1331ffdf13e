//! Decisions as sentences, such as `evicted 4.1 GB, idle 12 min, would take 3.2 s to reload; needed for qwen2.5:7b`.

use std::fmt;

use samovar_core::units::{ByteSize, TimeSpan, counted, waiting_requests};

use super::{Reason, Record, What};
use crate::error::on;

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what.verb())?;
        match &self.reason {
            Reason::Asked => f.write_str(": it was asked for"),
            Reason::Warmed => f.write_str(": to be ready before the first request"),
            Reason::Replaces => f.write_str(": it takes the place of one that failed"),
            Reason::Further { serving, waiting: 0 } => {
                let serve = if *serving == 1 { "serves" } else { "serve" };
                write!(f, ": {} {serve}, and it is to have more", counted(*serving, "instance"))
            }
            Reason::Further { serving, waiting } => {
                write!(f, ": {} for {}", waiting_requests(*waiting), counted(*serving, "instance"))
            }
            Reason::NeededBy { model } => write!(f, ": {model} needs it"),
            Reason::Outgrown { context_tokens, slots } => {
                write!(
                    f,
                    ": {} with {context_tokens} tokens of context was asked for",
                    counted(*slots, "slot")
                )
            }
            Reason::NeededFor { model, frees_bytes, idle_ms, reload_ms } => write!(
                f,
                " {}, idle {}, would take {} to reload; needed for {model}",
                bytes(*frees_bytes),
                coarse(*idle_ms),
                seconds(*reload_ms)
            ),
            Reason::AboveSoft { used_bytes, soft_bytes, frees_bytes, idle_ms, reload_ms, arena } => write!(
                f,
                " {}, idle {}, would take {} to reload; {} in use{} is above the soft limit of {}",
                bytes(*frees_bytes),
                coarse(*idle_ms),
                seconds(*reload_ms),
                bytes(*used_bytes),
                on(*arena),
                bytes(*soft_bytes)
            ),
            Reason::Pressure { available_bytes, stall_percent, frees_bytes, reload_ms } => write!(
                f,
                " {}, would take {} to reload; the machine is short of memory ({} available, programs wait for memory {stall_percent:.0} % of the time)",
                bytes(*frees_bytes),
                seconds(*reload_ms),
                bytes(*available_bytes)
            ),
            Reason::Expired { idle_ms, frees_bytes, reload_ms } => {
                let time = if self.what == What::Parked { "keep-alive" } else { "time as a parked model" };
                let (idle, reload) = (coarse(*idle_ms), seconds(*reload_ms));
                write!(
                    f,
                    " {}, idle {idle}, would take {reload} to reload; its {time} was over",
                    bytes(*frees_bytes)
                )
            }
            Reason::WithGroup { model, frees_bytes, reload_ms } => write!(
                f,
                " {}, would take {} to reload; only {model} needed it, which leaves",
                bytes(*frees_bytes),
                seconds(*reload_ms)
            ),
            Reason::Told => f.write_str(": it was requested"),
            Reason::Leaving => f.write_str(": the pool is shutting down"),
            Reason::Failed { message, retry_in_ms: 0, .. } => write!(f, ": {message}"),
            Reason::Failed { message, retry_in_ms, .. } => {
                write!(f, ": {message}; not tried again for {}", seconds(*retry_in_ms))
            }
            Reason::FailedOften { failures, message, retry_in_ms, .. } => write!(
                f,
                ": {message}; {} within a minute, not tried again for {}",
                counted(*failures, "failure"),
                seconds(*retry_in_ms)
            ),
            Reason::AfterFailures { failures } => write!(f, ", after {}", counted(*failures, "failure")),
            Reason::DoesNotFit { needed_bytes, budget_bytes, largest_bytes, arena } => write!(
                f,
                ": needs {}{}, at most {} of the budget of {} can be given to it",
                bytes(*needed_bytes),
                on(*arena),
                bytes(*largest_bytes),
                bytes(*budget_bytes)
            ),
            Reason::QueueFull { queued } => write!(f, ": {} already", waiting_requests(*queued)),
            Reason::WouldBeLate { expected_ms, allowed_ms } => write!(
                f,
                ": it would have been served in {}, and had {}",
                seconds(*expected_ms),
                seconds(*allowed_ms)
            ),
            Reason::TooLate { waited_ms: 0 } => f.write_str(": its time was over when it came"),
            Reason::TooLate { waited_ms } => {
                write!(f, ": no slot was free by its deadline, after {}", seconds(*waited_ms))
            }
            Reason::Took { ms, bytes: size } => write!(f, " {} in {}", bytes(*size), seconds(*ms)),
            Reason::Measured { predicted_bytes, measured_bytes } => {
                write!(f, ": measured {}, predicted {}", bytes(*measured_bytes), bytes(*predicted_bytes))
            }
        }
    }
}

impl What {
    fn verb(self) -> &'static str {
        match self {
            Self::Loading => "began to load",
            Self::Loaded => "loaded",
            Self::LoadFailed => "failed to load",
            Self::Parked => "parked",
            Self::Resumed => "resumed",
            Self::Growing => "began to grow",
            Self::Grown => "grew to",
            Self::GrowthFailed => "failed to grow",
            Self::Draining => "drains",
            Self::Evicted => "evicted",
            Self::Unloaded => "unloaded",
            Self::Died => "died",
            Self::Recovered => "works again",
            Self::Refused => "refused",
            Self::Pinned => "pinned",
            Self::Unpinned => "unpinned",
            Self::Corrected => "corrected its account",
        }
    }
}

fn bytes(count: u64) -> ByteSize {
    ByteSize::from_bytes(count)
}

/// Seconds with one decimal below ten seconds, such as `3.2 s`.
fn seconds(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..10_000 => format!("{:.1} s", ms as f64 / 1000.0),
        _ => coarse(ms),
    }
}

/// The largest unit only, such as `12 min`.
fn coarse(ms: u64) -> String {
    let whole_seconds = ms / 1000;
    match whole_seconds {
        0..120 => format!("{whole_seconds} s"),
        120..7_200 => format!("{} min", whole_seconds / 60),
        7_200..172_800 => format!("{} h", whole_seconds / 3_600),
        _ => TimeSpan::from_ms(whole_seconds / 86_400 * 86_400_000).to_string().replace('d', " d"),
    }
}

#[cfg(test)]
mod tests {
    use samovar_core::port::Millis;
    use samovar_core::{ErrorKind, ModelKey};

    use super::*;

    fn text(what: What, reason: Reason) -> String {
        let key = ModelKey::new("k");
        Record { at: Millis(0), key, name: "m".into(), what, reason }.to_string()
    }

    #[test]
    fn an_eviction_says_what_it_freed_and_for_whom() {
        let reason = Reason::NeededFor {
            model: "qwen2.5:7b".into(),
            frees_bytes: 4_100_000_000,
            idle_ms: 12 * 60_000,
            reload_ms: 3_200,
        };
        assert_eq!(
            text(What::Evicted, reason),
            "evicted 4.1 GB, idle 12 min, would take 3.2 s to reload; needed for qwen2.5:7b"
        );
    }

    #[test]
    fn a_death_says_what_the_instance_last_said_and_when_it_is_tried_again() {
        let message =
            "the worker was killed by SIGSEGV while answering; it last said: out of cells".to_owned();
        let reason = Reason::Failed { kind: ErrorKind::EngineFailed, message, retry_in_ms: 2_000 };
        assert_eq!(
            text(What::Died, reason),
            "died: the worker was killed by SIGSEGV while answering; it last said: out of cells; not tried again for 2.0 s"
        );
        let expired = Reason::Expired { idle_ms: 300_000, frees_bytes: 4_100_000_000, reload_ms: 3_200 };
        assert_eq!(
            text(What::Parked, expired),
            "parked 4.1 GB, idle 5 min, would take 3.2 s to reload; its keep-alive was over"
        );
    }

    #[test]
    fn a_load_says_for_whom_it_is() {
        let loading = |reason| text(What::Loading, reason);
        assert_eq!(loading(Reason::Asked), "began to load: it was asked for");
        assert_eq!(loading(Reason::Warmed), "began to load: to be ready before the first request");
        assert_eq!(loading(Reason::Replaces), "began to load: it takes the place of one that failed");
        assert_eq!(
            loading(Reason::Further { serving: 1, waiting: 0 }),
            "began to load: 1 instance serves, and it is to have more"
        );
        assert_eq!(
            loading(Reason::Further { serving: 2, waiting: 1 }),
            "began to load: 1 request waits for 2 instances"
        );
        let refused = text(What::Refused, Reason::QueueFull { queued: 1 });
        assert_eq!(refused, "refused: 1 request waits already");
        let late = text(What::Refused, Reason::TooLate { waited_ms: 0 });
        assert_eq!(late, "refused: its time was over when it came");
    }

    #[test]
    fn times_are_short() {
        assert_eq!(seconds(12), "12 ms");
        assert_eq!(seconds(3_240), "3.2 s");
        assert_eq!(seconds(61_000), "61 s");
        assert_eq!(coarse(3 * 3_600_000), "3 h");
        assert_eq!(coarse(3 * 86_400_000), "3 d");
    }
}
