//! What the pool decided and why: reasons as data, with the sentence that people read.

use std::fmt;

use samovar_core::port::Millis;
use samovar_core::units::{ByteSize, TimeSpan};
use samovar_core::{ErrorKind, ModelKey};
use serde::Serialize;

/// What was done with a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A load began.
    Loading,
    /// A load ended well.
    Loaded,
    /// A load ended badly.
    LoadFailed,
    /// Working memory is being given back.
    Parked,
    /// A parked instance gets its working memory again.
    Resumed,
    /// It is to have more context or more slots; no new requests until it has.
    Growing,
    /// It has more context or more slots.
    Grown,
    /// It could not be given more context or more slots, and serves on as it is.
    GrowthFailed,
    /// No new requests; it leaves when the last one is done.
    Draining,
    /// It leaves memory by the pool's own decision.
    Evicted,
    /// It leaves memory because it was told to, was replaced, or failed.
    Unloaded,
    /// It died, or failed too often.
    Died,
    /// It failed again and again, and works again.
    Recovered,
    /// A request was refused.
    Refused,
    /// It must stay in memory from now on.
    Pinned,
    /// It may leave memory again.
    Unpinned,
    /// The measured footprint differs from the prediction.
    Corrected,
}

/// Why it was done.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "because")]
pub enum Reason {
    /// Somebody asked for it.
    Asked,
    /// Somebody asked for a model that needs it.
    NeededBy {
        /// That model's name.
        model: String,
    },
    /// Somebody asked for more context or more slots than the loaded instance has.
    Outgrown {
        /// Context asked for, in tokens.
        context_tokens: u32,
        /// Slots asked for.
        slots: u32,
    },
    /// Another model needs its memory.
    NeededFor {
        /// The other model's name.
        model: String,
        /// Bytes that this gives back.
        frees_bytes: u64,
        /// How long nobody had used it, in milliseconds.
        idle_ms: u64,
        /// What bringing it back is expected to take, in milliseconds.
        reload_ms: u64,
    },
    /// Together the instances use more than the soft limit.
    AboveSoft {
        /// Bytes in use.
        used_bytes: u64,
        /// The soft limit.
        soft_bytes: u64,
        /// Bytes that this gives back.
        frees_bytes: u64,
        /// How long nobody had used it, in milliseconds.
        idle_ms: u64,
        /// What bringing it back is expected to take, in milliseconds.
        reload_ms: u64,
    },
    /// The machine is short of memory, whatever the ledger says.
    Pressure {
        /// Memory that could still be had.
        available_bytes: u64,
        /// Share of time in which some task waited for memory, in percent.
        stall_percent: f32,
        /// Bytes that this gives back.
        frees_bytes: u64,
        /// What bringing it back is expected to take, in milliseconds.
        reload_ms: u64,
    },
    /// Its keep-alive, or its time as a parked instance, is over.
    Expired {
        /// How long nobody had used it, in milliseconds.
        idle_ms: u64,
        /// Bytes that this gives back.
        frees_bytes: u64,
        /// What bringing it back is expected to take, in milliseconds.
        reload_ms: u64,
    },
    /// A model leaves that needed it, and nobody else does.
    WithGroup {
        /// That model's name.
        model: String,
        /// Bytes that this gives back.
        frees_bytes: u64,
        /// What bringing it back is expected to take, in milliseconds.
        reload_ms: u64,
    },
    /// Somebody told the pool to.
    Told,
    /// The pool is leaving.
    Leaving,
    /// The engine failed.
    Failed {
        /// The kind of failure.
        kind: ErrorKind,
        /// What the engine said.
        message: String,
        /// When the pool tries again, in milliseconds from then.
        retry_in_ms: u64,
    },
    /// It failed again and again, and is given up for a while.
    FailedOften {
        /// Failures within a minute.
        failures: u32,
        /// The kind of the last one.
        kind: ErrorKind,
        /// What the engine said last.
        message: String,
        /// When the pool tries again, in milliseconds from then.
        retry_in_ms: u64,
    },
    /// It failed before.
    AfterFailures {
        /// How often.
        failures: u32,
    },
    /// It does not fit.
    DoesNotFit {
        /// What it needs.
        needed_bytes: u64,
        /// What all instances may use together.
        budget_bytes: u64,
        /// The largest thing that would fit.
        largest_bytes: u64,
    },
    /// Too many wait already.
    QueueFull {
        /// How many.
        queued: u32,
    },
    /// It would not have been served before its deadline.
    WouldBeLate {
        /// Milliseconds after which it would have been served.
        expected_ms: u64,
        /// Milliseconds that it had.
        allowed_ms: u64,
    },
    /// The deadline passed.
    TooLate {
        /// How long the request waited, in milliseconds.
        waited_ms: u64,
    },
    /// It took this.
    Took {
        /// Time in milliseconds.
        ms: u64,
        /// Bytes that it counts for.
        bytes: u64,
    },
    /// It was measured.
    Measured {
        /// What the engine predicted.
        predicted_bytes: u64,
        /// What it uses.
        measured_bytes: u64,
    },
}

impl Reason {
    /// The name under which evictions for this reason are counted, if it is one of the pool's own.
    pub(crate) fn eviction_label(&self) -> Option<&'static str> {
        match self {
            Self::NeededFor { .. } => Some("needed_for_another"),
            Self::AboveSoft { .. } => Some("above_soft_limit"),
            Self::Pressure { .. } => Some("memory_pressure"),
            Self::Expired { .. } => Some("expired"),
            Self::WithGroup { .. } => Some("left_with_group"),
            _ => None,
        }
    }
}

/// One decision, with when it was made as seen from now.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Decision {
    /// How long ago, in milliseconds.
    pub at_ms_ago: u64,
    /// The model's name.
    pub model: String,
    /// What was done with it.
    pub what: What,
    /// Why, as data.
    pub reason: Reason,
    /// The same as a sentence.
    pub text: String,
}

/// A decision as `step` makes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// When.
    pub at: Millis,
    /// The model.
    pub key: ModelKey,
    /// What people call it.
    pub name: String,
    /// What was done with it.
    pub what: What,
    /// Why.
    pub reason: Reason,
}

impl Record {
    /// As seen from `now`.
    pub fn seen_from(&self, now: Millis) -> Decision {
        Decision {
            at_ms_ago: now.since(self.at),
            model: self.name.clone(),
            what: self.what,
            reason: self.reason.clone(),
            text: self.to_string(),
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what.verb())?;
        match &self.reason {
            Reason::Asked => f.write_str(": it was asked for"),
            Reason::NeededBy { model } => write!(f, ": {model} needs it"),
            Reason::Outgrown { context_tokens, slots } => {
                write!(f, ": {} with {context_tokens} tokens of context was asked for", count(*slots, "slot"))
            }
            Reason::NeededFor { model, frees_bytes, idle_ms, reload_ms } => write!(
                f,
                " {}, idle {}, would take {} to reload; needed for {model}",
                bytes(*frees_bytes),
                coarse(*idle_ms),
                seconds(*reload_ms)
            ),
            Reason::AboveSoft { used_bytes, soft_bytes, frees_bytes, idle_ms, reload_ms } => write!(
                f,
                " {}, idle {}, would take {} to reload; {} in use is above the soft limit of {}",
                bytes(*frees_bytes),
                coarse(*idle_ms),
                seconds(*reload_ms),
                bytes(*used_bytes),
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
            Reason::Told => f.write_str(": it was told to"),
            Reason::Leaving => f.write_str(": the pool is shutting down"),
            Reason::Failed { message, retry_in_ms: 0, .. } => write!(f, ": {message}"),
            Reason::Failed { message, retry_in_ms, .. } => {
                write!(f, ": {message}; not tried again for {}", seconds(*retry_in_ms))
            }
            Reason::FailedOften { failures, message, retry_in_ms, .. } => write!(
                f,
                ": {message}; {} within a minute, not tried again for {}",
                count(*failures, "failure"),
                seconds(*retry_in_ms)
            ),
            Reason::AfterFailures { failures } => write!(f, ", after {}", count(*failures, "failure")),
            Reason::DoesNotFit { needed_bytes, budget_bytes, largest_bytes } => write!(
                f,
                ": needs {}, at most {} of the budget of {} can be given to it",
                bytes(*needed_bytes),
                bytes(*largest_bytes),
                bytes(*budget_bytes)
            ),
            Reason::QueueFull { queued } => write!(f, ": {} already", count_waiting(*queued)),
            Reason::WouldBeLate { expected_ms, allowed_ms } => write!(
                f,
                ": it would have been served in {}, and had {}",
                seconds(*expected_ms),
                seconds(*allowed_ms)
            ),
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

fn count(number: u32, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

fn count_waiting(number: u32) -> String {
    if number == 1 { "1 request waits".into() } else { format!("{number} requests wait") }
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
    fn times_are_short() {
        assert_eq!(seconds(12), "12 ms");
        assert_eq!(seconds(3_240), "3.2 s");
        assert_eq!(seconds(61_000), "61 s");
        assert_eq!(coarse(3 * 3_600_000), "3 h");
        assert_eq!(coarse(3 * 86_400_000), "3 d");
    }

    #[test]
    fn age_is_seen_from_now() {
        let record = Record {
            at: Millis(1_000),
            key: ModelKey::new("k"),
            name: "m".into(),
            what: What::Loaded,
            reason: Reason::Took { ms: 3_200, bytes: 4_100_000_000 },
        };
        let decision = record.seen_from(Millis(4_000));
        assert_eq!(decision.at_ms_ago, 3_000);
        assert_eq!(decision.text, "loaded 4.1 GB in 3.2 s");
    }
}
