//! What the daemon told by its events, as the screen shows it. Knows no terminal and no clock.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::client::DaemonEvent;

/// Decisions that are kept; the daemon's snapshot has as many.
const DECISIONS: usize = 64;
/// What a field that is not there contains.
static NOTHING: Value = Value::Null;

/// The daemon as it was told. Read leniently: a daemon of another version may know more or less.
#[derive(Clone, Debug, Default)]
pub(super) struct Board {
    sections: Map<String, Value>,
    /// When each answer that is being written was seen for the first time, and with how many tokens.
    first_seen: BTreeMap<String, (u64, u64)>,
    /// Tokens per second of each of them.
    speeds: BTreeMap<String, f64>,
}

/// A row or a section, whose fields may be missing.
#[derive(Clone, Copy, Debug)]
pub(super) struct BoardFields<'a>(pub(super) &'a Value);

impl<'a> BoardFields<'a> {
    pub(super) fn maybe(self, field: &str) -> Option<u64> {
        self.0.get(field)?.as_u64()
    }

    pub(super) fn number(self, field: &str) -> u64 {
        self.maybe(field).unwrap_or(0)
    }

    pub(super) fn real(self, field: &str) -> Option<f64> {
        self.0.get(field)?.as_f64()
    }

    pub(super) fn text(self, field: &str) -> &'a str {
        self.0.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn is(self, field: &str) -> bool {
        self.0.get(field).and_then(Value::as_bool).unwrap_or(false)
    }

    pub(super) fn inner(self, field: &str) -> Self {
        Self(self.0.get(field).unwrap_or(&NOTHING))
    }

    /// The fields of an object, in the daemon's order.
    pub(super) fn fields(self) -> impl Iterator<Item = (&'a str, BoardFields<'a>)> {
        self.0.as_object().into_iter().flatten().map(|(key, value)| (key.as_str(), BoardFields(value)))
    }
}

/// Of a model: in memory, or on its way there or away.
pub(super) fn is_in_memory(model: BoardFields<'_>) -> bool {
    !matches!(model.text("state"), "absent" | "failed" | "")
}

impl Board {
    /// Takes in an event that came at this time.
    pub(super) fn take(&mut self, event: &DaemonEvent, now_unix_ms: u64) {
        match event.name.as_str() {
            "snapshot" => self.sections = event.data.as_object().cloned().unwrap_or_default(),
            "delta" => self.change(&event.data),
            _ => return,
        }
        self.measure(now_unix_ms);
    }

    /// Everything as one object.
    pub(super) fn as_json(&self) -> Value {
        if self.sections.is_empty() {
            return json!({ "daemon": null, "models": {}, "requests": {}, "downloads": {}, "decisions": [] });
        }
        Value::Object(self.sections.clone())
    }

    /// A section; empty where the daemon has told none.
    pub(super) fn section(&self, name: &str) -> BoardFields<'_> {
        BoardFields(self.sections.get(name).unwrap_or(&NOTHING))
    }

    /// The models by key: those in memory first, each part by name, so that rows stay where they are.
    pub(super) fn models(&self) -> Vec<(&str, BoardFields<'_>)> {
        let mut models: Vec<(&str, BoardFields<'_>)> = self.section("models").fields().collect();
        models.sort_by_key(|(key, model)| (!is_in_memory(*model), model.text("name"), *key));
        models
    }

    /// The requests in flight, the oldest first.
    pub(super) fn requests(&self) -> Vec<(&str, BoardFields<'_>)> {
        let mut requests: Vec<(&str, BoardFields<'_>)> = self.section("requests").fields().collect();
        requests.sort_by_key(|(number, _)| number.parse::<u64>().unwrap_or(u64::MAX));
        requests
    }

    /// The latest decisions, the newest first.
    pub(super) fn decisions(&self) -> impl Iterator<Item = BoardFields<'_>> {
        self.section("decisions").0.as_array().into_iter().flatten().rev().map(BoardFields)
    }

    /// Tokens per second of a request that is being answered, once it was seen twice.
    pub(super) fn speed(&self, request: &str) -> Option<f64> {
        self.speeds.get(request).copied()
    }

    fn change(&mut self, delta: &Value) {
        for (section, set) in BoardFields(delta).inner("set").fields() {
            let has_rows = ["models", "requests", "downloads"].contains(&section);
            match (self.sections.get_mut(section), set.0) {
                (Some(Value::Object(rows)), Value::Object(changed)) if has_rows => {
                    rows.extend(changed.iter().map(|(key, row)| (key.clone(), row.clone())));
                }
                _ => {
                    self.sections.insert(section.to_owned(), set.0.clone());
                }
            }
        }
        for (section, gone) in BoardFields(delta).inner("gone").fields() {
            if let Some(Value::Object(rows)) = self.sections.get_mut(section) {
                for key in gone.0.as_array().into_iter().flatten().filter_map(Value::as_str) {
                    rows.remove(key);
                }
            }
        }
        let news = BoardFields(delta).inner("decisions").0.as_array();
        if let Some(Value::Array(decisions)) = self.sections.get_mut("decisions") {
            decisions.extend(news.into_iter().flatten().cloned());
            let old = decisions.len().saturating_sub(DECISIONS);
            decisions.drain(..old);
        }
    }

    /// How fast each answer grows, from the first time that it was seen.
    fn measure(&mut self, now_unix_ms: u64) {
        let writing: BTreeMap<String, u64> = self
            .section("requests")
            .fields()
            .filter(|(_, request)| request.text("phase") == "decode")
            .map(|(number, request)| (number.to_owned(), request.inner("usage").number("completion_tokens")))
            .collect();
        self.first_seen.retain(|number, _| writing.contains_key(number));
        self.speeds.retain(|number, _| writing.contains_key(number));
        for (number, tokens) in writing {
            let (since, before) = *self.first_seen.entry(number.clone()).or_insert((now_unix_ms, tokens));
            let (ms, more) = (now_unix_ms.saturating_sub(since), tokens.saturating_sub(before));
            if ms > 0 && more > 0 {
                self.speeds.insert(number, more as f64 * 1e3 / ms as f64);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, data: Value) -> DaemonEvent {
        DaemonEvent { id: "7-1".into(), name: name.into(), data }
    }

    #[test]
    fn a_snapshot_and_the_deltas_after_it_are_shown() {
        let mut board = Board::default();
        assert_eq!(board.as_json()["daemon"], Value::Null);
        let snapshot = json!({
            "pool": { "loads": 1, "queued": 2 },
            "models": { "k1": { "name": "b", "state": "absent" }, "k2": { "name": "c", "state": "ready" } },
            "requests": {}, "downloads": {}, "decisions": [{ "number": 1 }],
        });
        board.take(&event("snapshot", snapshot), 0);
        let delta = json!({
            "set": { "pool": { "loads": 2 }, "models": { "k3": { "name": "a", "state": "loading" } } },
            "gone": { "models": ["k2"], "requests": ["9"] },
            "decisions": [{ "number": 2 }],
        });
        board.take(&event("delta", delta), 1);
        board.take(&event("leaving", json!({})), 2);
        assert_eq!(board.section("pool").0, &json!({ "loads": 2 }), "a section without rows is replaced");
        let names: Vec<&str> = board.models().iter().map(|(_, model)| model.text("name")).collect();
        assert_eq!(names, ["a", "b"], "those in memory come first");
        let numbers: Vec<u64> = board.decisions().map(|decision| decision.number("number")).collect();
        assert_eq!(numbers, [2, 1]);
        board.take(&event("snapshot", json!({ "models": {} })), 3);
        assert!(board.models().is_empty(), "a snapshot replaces everything");
    }

    #[test]
    fn the_speed_of_an_answer_is_that_since_it_was_seen() {
        let mut board = Board::default();
        let request = |phase: &str, tokens: u64| {
            let usage = json!({ "completion_tokens": tokens });
            json!({ "requests": { "12": { "phase": phase, "usage": usage } } })
        };
        board.take(&event("snapshot", request("prefill", 0)), 500);
        assert_eq!(board.speed("12"), None);
        board.take(&event("delta", json!({ "set": request("decode", 10) })), 1_000);
        assert_eq!(board.speed("12"), None, "seen once");
        board.take(&event("delta", json!({ "set": request("decode", 40) })), 3_000);
        assert_eq!(board.speed("12"), Some(15.0));
        board.take(&event("delta", json!({ "gone": { "requests": ["12"] } })), 4_000);
        assert_eq!(board.speed("12"), None);
    }

    #[test]
    fn strange_events_do_no_harm() {
        let mut board = Board::default();
        for data in [json!(null), json!([1]), json!({ "set": 3, "gone": { "models": 4 }, "decisions": "x" })]
        {
            board.take(&event("delta", data.clone()), 0);
            board.take(&event("snapshot", data), 0);
        }
        assert!(board.requests().is_empty() && board.decisions().next().is_none());
    }

    #[test]
    fn decisions_are_bounded() {
        let mut board = Board::default();
        board.take(&event("snapshot", json!({ "decisions": [] })), 0);
        for number in 0..200 {
            board.take(&event("delta", json!({ "decisions": [{ "number": number }] })), 0);
        }
        assert_eq!(board.decisions().count(), DECISIONS);
        assert_eq!(board.decisions().next().map(|latest| latest.number("number")), Some(199));
    }
}
