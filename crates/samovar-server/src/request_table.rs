//! The requests that use a model at this moment, for the owner: who asks, for what, and how far it is.
//!
//! A request writes here when its phase changes, not for each token: token counts are read from its trace when they are asked for.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use samovar::store::Progress;
use samovar::{AnswerEvent, Origin, Request, TraceView, Wait, Work};
use serde_json::{Map, Value, json};

use crate::generation::phase::{AnswerPhase, is_speech};
use crate::moment::unix_ms;

/// As much of a model's name is shown: a client may send any text as one.
const MODEL_CHARACTERS: usize = 200;
/// So many times to the first token are remembered, for their median.
const FIRST_TOKENS: usize = 64;

/// All of them, by number.
#[derive(Debug, Default)]
pub(crate) struct RequestTable {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    rows: BTreeMap<u64, Arc<Row>>,
    /// The latest times to the first token, in milliseconds.
    first_tokens_ms: VecDeque<u64>,
}

#[derive(Debug)]
struct Row {
    client: String,
    model: String,
    work: &'static str,
    origin: &'static str,
    began_unix_ms: u64,
    trace: TraceView,
    phase: Mutex<AnswerPhase>,
    /// Milliseconds from its beginning to its first token.
    first_token_ms: OnceLock<u64>,
}

/// A request in the table, until dropped.
#[derive(Debug)]
pub(crate) struct TableEntry {
    table: Arc<RequestTable>,
    number: u64,
    row: Arc<Row>,
    /// Whether it was written that the answer has begun.
    has_spoken: bool,
}

/// What is told of a request, before it is handed to the runtime.
#[derive(Debug)]
pub(crate) struct RequestFacts {
    client: String,
    model: String,
    work: &'static str,
    origin: &'static str,
}

impl RequestFacts {
    pub(crate) fn of(request: &Request) -> Self {
        Self {
            client: request.common.client.clone(),
            model: request.common.model.chars().take(MODEL_CHARACTERS).collect(),
            work: match request.work {
                Work::Generate(_) => "generate",
                Work::Embed(_) => "embed",
                _ => "other",
            },
            origin: match request.common.origin {
                Origin::Owner => "socket",
                _ => "port",
            },
        }
    }
}

impl RequestTable {
    /// Adds a request that begins now.
    pub(crate) fn add(self: &Arc<Self>, facts: RequestFacts, trace: TraceView) -> TableEntry {
        let RequestFacts { client, model, work, origin } = facts;
        let began_unix_ms = unix_ms();
        let row = Arc::new(Row {
            client,
            model,
            work,
            origin,
            began_unix_ms,
            trace,
            phase: Mutex::default(),
            first_token_ms: OnceLock::new(),
        });
        let mut inner = self.inner();
        inner.next += 1;
        let number = inner.next;
        inner.rows.insert(number, Arc::clone(&row));
        TableEntry { table: Arc::clone(self), number, row, has_spoken: false }
    }

    /// Each request as an object, by its number.
    pub(crate) fn rows(&self) -> BTreeMap<String, Value> {
        let rows: Vec<(u64, Arc<Row>)> =
            self.inner().rows.iter().map(|(number, row)| (*number, Arc::clone(row))).collect();
        rows.into_iter().map(|(number, row)| (number.to_string(), row.shown())).collect()
    }

    /// The median of the latest times to the first token, queue and load included; `None` before the first.
    pub(crate) fn first_token_ms_p50(&self) -> Option<u64> {
        let mut times: Vec<u64> = self.inner().first_tokens_ms.iter().copied().collect();
        times.sort_unstable();
        times.get(times.len() / 2).copied()
    }

    fn note_first_token(&self, ms: u64) {
        let mut inner = self.inner();
        if inner.first_tokens_ms.len() == FIRST_TOKENS {
            inner.first_tokens_ms.pop_front();
        }
        inner.first_tokens_ms.push_back(ms);
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Row {
    fn phase(&self) -> MutexGuard<'_, AnswerPhase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shown(&self) -> Value {
        let mut object = Map::new();
        object.insert("client".to_owned(), self.client.as_str().into());
        object.insert("model".to_owned(), self.model.as_str().into());
        object.insert("work".to_owned(), self.work.into());
        object.insert("from".to_owned(), self.origin.into());
        object.insert("began_unix_ms".to_owned(), self.began_unix_ms.into());
        let phase = self.phase().clone();
        let (word, details) = phase_as_data(&phase);
        object.insert("phase".to_owned(), word.into());
        if let Value::Object(details) = details {
            object.extend(details);
        }
        if let Some(ms) = self.first_token_ms.get() {
            object.insert("first_token_ms".to_owned(), (*ms).into());
        }
        if let Some(so_far) = self.trace.cut() {
            object.insert("tier".to_owned(), json!(so_far.tier));
            object.insert("usage".to_owned(), json!(so_far.usage));
        }
        Value::Object(object)
    }
}

/// A word for the phase, and what more is known of it.
fn phase_as_data(phase: &AnswerPhase) -> (&'static str, Value) {
    match phase {
        AnswerPhase::Waiting(Wait::Queued { position, estimate_ms }) => {
            ("queued", json!({ "position": position, "estimate_ms": estimate_ms }))
        }
        AnswerPhase::Waiting(Wait::Loading { fraction, instance, of }) => {
            ("loading", json!({ "fraction": fraction, "instance": instance, "instances": of }))
        }
        AnswerPhase::Waiting(Wait::Fetching(
            Progress::Fetching(transfer) | Progress::Verifying(transfer),
        )) => ("fetching", json!({ "done_bytes": transfer.done_bytes, "total_bytes": transfer.total_bytes })),
        AnswerPhase::Waiting(Wait::Fetching(_)) => ("fetching", Value::Null),
        AnswerPhase::Waiting(Wait::Preparing(preparing)) => {
            ("preparing", json!({ "fraction": preparing.fraction, "eta_ms": preparing.eta_ms }))
        }
        AnswerPhase::Waiting(Wait::Resuming) => ("resuming", Value::Null),
        AnswerPhase::Begun | AnswerPhase::Waiting(_) => ("begun", Value::Null),
        AnswerPhase::Computing(None) => ("prefill", Value::Null),
        AnswerPhase::Computing(Some((computed, of))) => {
            ("prefill", json!({ "computed_tokens": computed, "prompt_tokens": of }))
        }
        AnswerPhase::Speaking => ("decode", Value::Null),
    }
}

impl TableEntry {
    /// Takes in what the answer says.
    pub(crate) fn observe(&mut self, event: &AnswerEvent) {
        if !self.has_spoken {
            self.has_spoken = is_speech(event);
            self.row.phase().take(event);
            // An answer may end without a token.
            if self.has_spoken && !matches!(event, AnswerEvent::Done(_)) {
                let ms = unix_ms().saturating_sub(self.row.began_unix_ms);
                self.table.note_first_token(*self.row.first_token_ms.get_or_init(|| ms));
            }
        }
    }
}

impl Drop for TableEntry {
    fn drop(&mut self) {
        self.table.inner().rows.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use samovar::store::Transfer;

    use super::*;

    #[test]
    fn a_long_name_is_cut_and_nothing_of_the_prompt_is_told() {
        let facts = RequestFacts::of(&Request::text("é".repeat(5_000), "a secret"));
        assert_eq!(facts.model.chars().count(), MODEL_CHARACTERS);
        assert!(!format!("{facts:?}").contains("secret"));
        assert_eq!((facts.work, facts.origin), ("generate", "socket"));
    }

    #[test]
    fn the_median_is_of_the_latest_first_tokens() {
        let table = RequestTable::default();
        assert_eq!(table.first_token_ms_p50(), None);
        (0..1_000).for_each(|_| table.note_first_token(9_000));
        (0..FIRST_TOKENS).for_each(|_| table.note_first_token(7));
        assert_eq!(table.first_token_ms_p50(), Some(7));
        assert_eq!(table.inner().first_tokens_ms.len(), FIRST_TOKENS);
    }

    #[test]
    fn a_phase_is_told_with_its_numbers() {
        let transfer = Transfer { done_bytes: 1, total_bytes: 2, ..Transfer::default() };
        let waiting = AnswerPhase::Waiting;
        for (phase, word, details) in [
            (AnswerPhase::Begun, "begun", Value::Null),
            (
                waiting(Wait::Queued { position: 3, estimate_ms: None }),
                "queued",
                json!({ "position": 3, "estimate_ms": null }),
            ),
            (
                waiting(Wait::Fetching(Progress::Fetching(transfer))),
                "fetching",
                json!({ "done_bytes": 1, "total_bytes": 2 }),
            ),
            (waiting(Wait::Fetching(Progress::Resolving)), "fetching", Value::Null),
            (waiting(Wait::Resuming), "resuming", Value::Null),
            (
                AnswerPhase::Computing(Some((1, 7))),
                "prefill",
                json!({ "computed_tokens": 1, "prompt_tokens": 7 }),
            ),
            (AnswerPhase::Speaking, "decode", Value::Null),
        ] {
            assert_eq!(phase_as_data(&phase), (word, details));
        }
    }
}
