//! What a listener knows: sections with a value each, sections with rows, and the latest decisions; and what differs between two
//! such states.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Map, Value, json};

/// Decisions in a snapshot.
pub(super) const DECISIONS: usize = 64;
/// Moments that are computed from ages differ by this much without having changed, in milliseconds.
const SAME_MOMENT_MS: u64 = 1_000;

/// All that is shown, at a moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct State {
    /// By section: `daemon`, `pool`, `disk`, `workers`.
    pub(super) values: BTreeMap<&'static str, Value>,
    /// By section, then by what names a row: `models`, `requests`, `downloads`.
    pub(super) rows: BTreeMap<&'static str, BTreeMap<String, Value>>,
    /// The latest decisions of the pool, the oldest first.
    pub(super) decisions: VecDeque<Value>,
    /// The number of the latest.
    pub(super) last_decision: u64,
}

impl State {
    /// Adds decisions, and forgets those that are too old for a snapshot.
    pub(super) fn decided(&mut self, decisions: impl IntoIterator<Item = (u64, Value)>) {
        for (number, decision) in decisions {
            self.last_decision = number;
            self.decisions.push_back(decision);
        }
        let old = self.decisions.len().saturating_sub(DECISIONS);
        self.decisions.drain(..old);
    }

    /// A row of the state before, if it was there.
    pub(super) fn row(&self, section: &str, key: &str) -> Option<&Value> {
        self.rows.get(section)?.get(key)
    }

    /// Everything as one object.
    pub(super) fn snapshot(&self) -> Value {
        let mut object = Map::new();
        for (section, value) in &self.values {
            object.insert((*section).to_owned(), value.clone());
        }
        for (section, rows) in &self.rows {
            let rows = rows.iter().map(|(key, row)| (key.clone(), row.clone())).collect();
            object.insert((*section).to_owned(), Value::Object(rows));
        }
        object.insert("decisions".to_owned(), self.decisions.iter().cloned().collect());
        Value::Object(object)
    }

    /// What a listener that knows `before` is told; `None` when nothing changed. `set` has the shape of a snapshot, with what is new or
    /// changed alone; `gone` names the rows that are not there any more.
    pub(super) fn since(&self, before: &Self) -> Option<Value> {
        let (mut set, mut gone) = (Map::new(), Map::new());
        for (section, value) in &self.values {
            if before.values.get(section) != Some(value) {
                set.insert((*section).to_owned(), value.clone());
            }
        }
        for (section, rows) in &self.rows {
            let changed = rows.iter().filter(|(key, row)| before.row(section, key) != Some(*row));
            let changed: Map<String, Value> = changed.map(|(key, row)| (key.clone(), row.clone())).collect();
            if !changed.is_empty() {
                set.insert((*section).to_owned(), Value::Object(changed));
            }
        }
        for (section, rows) in &before.rows {
            let left: Vec<&String> = rows.keys().filter(|key| self.row(section, key).is_none()).collect();
            if !left.is_empty() {
                gone.insert((*section).to_owned(), json!(left));
            }
        }
        let news = self.last_decision.saturating_sub(before.last_decision);
        let known = self.decisions.len().saturating_sub(usize::try_from(news).unwrap_or(usize::MAX));
        let decisions: Vec<&Value> = self.decisions.iter().skip(known).collect();
        if set.is_empty() && gone.is_empty() && decisions.is_empty() {
            return None;
        }
        Some(json!({ "set": set, "gone": gone, "decisions": decisions }))
    }
}

/// Replaces a length of time until or since `now_unix_ms` by the moment itself, which is the same at the next look.
pub(super) fn moment(
    row: &mut Map<String, Value>,
    [span, name]: [&str; 2],
    is_ahead: bool,
    now_unix_ms: u64,
    before: Option<&Value>,
) {
    let span_ms = row.remove(span).as_ref().and_then(Value::as_u64);
    let at = span_ms.map(|ms| {
        let at = if is_ahead { now_unix_ms.saturating_add(ms) } else { now_unix_ms.saturating_sub(ms) };
        let known = before.and_then(|before| before.get(name)).and_then(Value::as_u64);
        known.filter(|known| known.abs_diff(at) < SAME_MOMENT_MS).unwrap_or(at)
    });
    row.insert(name.to_owned(), json!(at));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(pool: u64, models: &[(&str, u64)]) -> State {
        let rows = models.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        State {
            values: [("pool", json!({ "loads": pool }))].into(),
            rows: [("models", rows)].into(),
            ..State::default()
        }
    }

    #[test]
    fn a_delta_has_what_changed_and_what_is_gone() {
        let before = state(1, &[("a", 1), ("b", 2), ("c", 3)]);
        assert_eq!(before.since(&before), None);
        let mut after = state(1, &[("a", 1), ("b", 5), ("d", 4)]);
        after.decided([(1, json!("first"))]);
        let delta = after.since(&before).expect("something changed");
        assert_eq!(
            delta,
            json!({
                "set": { "models": { "b": 5, "d": 4 } },
                "gone": { "models": ["c"] },
                "decisions": ["first"],
            })
        );
        assert_eq!(after.since(&after), None);
    }

    #[test]
    fn a_snapshot_and_the_deltas_after_it_are_the_state() {
        let states =
            [state(0, &[]), state(1, &[("a", 1)]), state(1, &[("a", 2), ("b", 1)]), state(2, &[("b", 1)])];
        let mut shown = states[0].snapshot();
        for pair in states.windows(2) {
            let delta = pair[1].since(&pair[0]).expect("something changed");
            for (section, set) in delta["set"].as_object().expect("object") {
                if section == "models" {
                    let rows = shown["models"].as_object_mut().expect("rows");
                    rows.extend(set.as_object().expect("rows").clone());
                } else {
                    shown[section] = set.clone();
                }
            }
            for (section, keys) in delta["gone"].as_object().expect("object") {
                for key in keys.as_array().expect("keys") {
                    shown[section].as_object_mut().expect("rows").remove(key.as_str().expect("a key"));
                }
            }
            assert_eq!(shown, pair[1].snapshot());
        }
    }

    #[test]
    fn only_decisions_that_are_new_are_told_and_few_are_kept() {
        let mut before = State::default();
        before.decided((1..=100).map(|number| (number, json!(number))));
        assert_eq!(before.decisions.len(), DECISIONS);
        let mut after = before.clone();
        after.decided([(101, json!(101)), (102, json!(102))]);
        assert_eq!(after.since(&before).expect("news")["decisions"], json!([101, 102]));
        let mut flood = before.clone();
        flood.decided((101..=1_000).map(|number| (number, json!(number))));
        let told = flood.since(&before).expect("news");
        assert_eq!(told["decisions"].as_array().map(Vec::len), Some(DECISIONS));
    }

    #[test]
    fn time_that_passes_is_no_change() {
        let mut row = json!({ "idle_ms": 1_000, "expires_in_ms": 5_000 });
        let mut shown = |idle_ms: u64, now: u64, before: Option<&Value>| {
            row["idle_ms"] = idle_ms.into();
            let mut row = row.as_object().expect("object").clone();
            moment(&mut row, ["idle_ms", "idle_since_unix_ms"], false, now, before);
            moment(&mut row, ["expires_in_ms", "expires_at_unix_ms"], true, now, before);
            moment(&mut row, ["retry_in_ms", "retry_at_unix_ms"], true, now, before);
            Value::Object(row)
        };
        let first = shown(1_000, 10_000, None);
        assert_eq!(
            first,
            json!({ "idle_since_unix_ms": 9_000, "expires_at_unix_ms": 15_000, "retry_at_unix_ms": null })
        );
        assert_eq!(shown(1_503, 10_500, Some(&first)), first);
        assert_eq!(shown(0, 12_000, Some(&first))["idle_since_unix_ms"], 12_000);
    }
}
