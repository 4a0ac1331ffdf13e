//! What a stream waits for, in the words of its comments.
//!
//! They hold numbers alone, nothing that a client or a file said: a line break in them would be an event.

use std::fmt;

use samovar::store::Progress;
use samovar::{AnswerEvent, Wait};

/// Whether a choice has something to show with this: a part of its answer, or its end.
pub(crate) fn is_speech(event: &AnswerEvent) -> bool {
    matches!(
        event,
        AnswerEvent::Text { .. }
            | AnswerEvent::Thinking { .. }
            | AnswerEvent::ToolCall { .. }
            | AnswerEvent::ToolArguments { .. }
            | AnswerEvent::Done(_)
    )
}

/// What a response waits for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum AnswerPhase {
    /// Its model is looked up.
    #[default]
    Begun,
    /// For bytes, a slot or a load.
    Waiting(Wait),
    /// For its prompt to be computed: so many tokens of so many, once that was told.
    Computing(Option<(u32, u32)>),
    /// For the next token.
    Speaking,
}

impl AnswerPhase {
    /// Takes in what a choice says. Of several choices the one that is furthest counts.
    pub(crate) fn take(&mut self, event: &AnswerEvent) {
        match (event, &self) {
            (AnswerEvent::Waiting(wait), Self::Begun | Self::Waiting(_)) => {
                *self = Self::Waiting(wait.clone());
            }
            (AnswerEvent::Granted { .. }, Self::Begun | Self::Waiting(_))
            | (AnswerEvent::Prefilled { .. }, Self::Computing(_)) => *self = Self::Computing(None),
            (&AnswerEvent::Prefilling { computed, of }, Self::Computing(_)) => {
                *self = Self::Computing(Some((computed, of)));
            }
            (event, _) if is_speech(event) => *self = Self::Speaking,
            _ => {}
        }
    }
}

impl fmt::Display for AnswerPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begun => f.write_str("looking up the model"),
            Self::Waiting(Wait::Fetching(progress)) => fetching(progress, f),
            Self::Waiting(Wait::Queued { position, estimate_ms }) => {
                write!(f, "waiting for a slot: place {position} in the queue")?;
                estimate_ms.map_or(Ok(()), |ms| write!(f, ", about {} s", ms.div_ceil(1000)))
            }
            Self::Waiting(Wait::Loading { fraction, instance, of }) => {
                f.write_str("loading the model")?;
                if *of > 1 {
                    write!(f, ", instance {instance} of {of}")?;
                }
                write!(f, ": {:.0} %", fraction.clamp(0.0, 1.0) * 100.0)
            }
            Self::Waiting(Wait::Preparing(preparing)) => {
                write!(f, "preparing the model: {:.0} %", preparing.fraction.clamp(0.0, 1.0) * 100.0)?;
                preparing.eta_ms.map_or(Ok(()), |ms| write!(f, ", about {} s", ms.div_ceil(1000)))
            }
            Self::Waiting(Wait::Resuming) => f.write_str("resuming the model"),
            Self::Waiting(_) => f.write_str("waiting for the model"),
            Self::Computing(None) => f.write_str("computing the prompt"),
            Self::Computing(Some((computed, of))) => {
                write!(f, "computing the prompt: {computed} of {of} tokens")
            }
            Self::Speaking => f.write_str("computing the next token"),
        }
    }
}

fn fetching(progress: &Progress, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mb = |bytes: u64| bytes as f64 / 1e6;
    match progress {
        Progress::Resolving | Progress::Chosen { .. } => f.write_str("asking the model's source"),
        // Only the owner may learn which source that is, and why.
        Progress::Unanswered { .. } => f.write_str("the model's source does not answer yet"),
        // Only the owner may learn where it was found.
        Progress::Nearby { .. } => f.write_str("taking the model from another program of this machine"),
        Progress::Fetching(transfer) => {
            write!(
                f,
                "fetching the model: {:.1} of {:.1} MB",
                mb(transfer.done_bytes),
                mb(transfer.total_bytes)
            )?;
            transfer.eta_ms().map_or(Ok(()), |ms| write!(f, ", about {} s", ms.div_ceil(1000)))
        }
        Progress::Verifying(transfer) => {
            write!(
                f,
                "checking the model: {:.1} of {:.1} MB",
                mb(transfer.done_bytes),
                mb(transfer.total_bytes)
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use samovar::store::Transfer;
    use samovar::{CacheStatus, Preparing};

    fn said(waits: impl IntoIterator<Item = Wait>) -> Vec<String> {
        waits.into_iter().map(|wait| AnswerPhase::Waiting(wait).to_string()).collect()
    }

    #[test]
    fn place_and_progress_are_told() {
        let transfer = Transfer {
            done_bytes: 12_300_000,
            total_bytes: 98_000_000,
            bytes_per_s: 1e7,
            ..Transfer::default()
        };
        let words = said([
            Wait::Queued { position: 3, estimate_ms: Some(11_200) },
            Wait::Queued { position: 1, estimate_ms: None },
            Wait::Loading { fraction: 0.42, instance: 1, of: 1 },
            Wait::Loading { fraction: 2.0, instance: 2, of: 3 },
            Wait::Preparing(Preparing { fraction: 0.42, eta_ms: Some(11_200), ..Preparing::default() }),
            Wait::Resuming,
            Wait::Fetching(Progress::Resolving),
            Wait::Fetching(Progress::Fetching(transfer)),
            Wait::Fetching(Progress::Verifying(transfer)),
        ]);
        assert_eq!(
            words,
            [
                "waiting for a slot: place 3 in the queue, about 12 s",
                "waiting for a slot: place 1 in the queue",
                "loading the model: 42 %",
                "loading the model, instance 2 of 3: 100 %",
                "preparing the model: 42 %, about 12 s",
                "resuming the model",
                "asking the model's source",
                "fetching the model: 12.3 of 98.0 MB, about 9 s",
                "checking the model: 12.3 of 98.0 MB",
            ]
        );
        assert!(words.iter().all(|word| !word.contains(['\n', '\r'])));
    }

    #[test]
    fn of_several_choices_the_furthest_counts() {
        let mut phase = AnswerPhase::default();
        let queued = AnswerEvent::Waiting(Wait::Queued { position: 1, estimate_ms: None });
        phase.take(&queued);
        assert!(matches!(phase, AnswerPhase::Waiting(_)));
        phase.take(&AnswerEvent::Granted {
            model: "m".into(),
            tier: CacheStatus::Hit,
            queue_ms: 0.0,
            load_ms: 0.0,
        });
        phase.take(&queued);
        assert_eq!(phase, AnswerPhase::Computing(None));
        phase.take(&AnswerEvent::Prefilling { computed: 512, of: 6500 });
        assert_eq!(phase.to_string(), "computing the prompt: 512 of 6500 tokens");
        phase.take(&AnswerEvent::Text { text: "a".into(), logprob: None });
        phase.take(&queued);
        assert_eq!(phase, AnswerPhase::Speaking);
    }

    #[test]
    fn who_thinks_or_calls_a_tool_speaks() {
        for event in [
            AnswerEvent::Thinking { text: "so".into() },
            AnswerEvent::ToolCall { index: 0, id: "a".into(), name: "f".into() },
            AnswerEvent::ToolArguments { index: 0, text: "{".into() },
        ] {
            let mut phase = AnswerPhase::Computing(None);
            phase.take(&event);
            assert_eq!(phase, AnswerPhase::Speaking, "{event:?}");
        }
    }
}
