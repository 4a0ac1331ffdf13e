//! What the pool decided and why: reasons as data. `text` has the sentences that people read.

mod text;

use samovar_core::port::Millis;
use samovar_core::{Arena, ErrorKind, ModelKey};
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
    /// A request asked for it.
    Asked,
    /// It is wanted before any request asks: at the start, by `warm`, by a pin.
    Warmed,
    /// An instance failed, and this one takes its place although no request waits.
    Replaces,
    /// A further instance of a model that serves already.
    Further {
        /// How many serve.
        serving: u32,
        /// Requests that wait for them.
        waiting: u32,
    },
    /// A request asked for a model that needs it.
    NeededBy {
        /// That model's name.
        model: String,
    },
    /// A request asked for more context or more slots than the loaded instance has.
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
        /// How long it was unused, in milliseconds.
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
        /// How long it was unused, in milliseconds.
        idle_ms: u64,
        /// What bringing it back is expected to take, in milliseconds.
        reload_ms: u64,
        /// Where that is.
        #[serde(skip_serializing_if = "Arena::is_host")]
        arena: Arena,
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
        /// How long it was unused, in milliseconds.
        idle_ms: u64,
        /// Bytes that this gives back.
        frees_bytes: u64,
        /// What bringing it back is expected to take, in milliseconds.
        reload_ms: u64,
    },
    /// A model leaves that needed it, and no other does.
    WithGroup {
        /// That model's name.
        model: String,
        /// Bytes that this gives back.
        frees_bytes: u64,
        /// What bringing it back is expected to take, in milliseconds.
        reload_ms: u64,
    },
    /// A caller told the pool to.
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
        /// Where that is.
        #[serde(skip_serializing_if = "Arena::is_host")]
        arena: Arena,
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

/// A decision with its number: the pool's first has 1, and each has one more than the one before it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NumberedDecision {
    /// Its number.
    pub number: u64,
    /// The decision.
    #[serde(flatten)]
    pub decision: Decision,
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

#[cfg(test)]
mod tests {
    use super::*;

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
