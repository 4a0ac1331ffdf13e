//! Counts by day, client and model, within a bound: what finds no row of its own is added to that of the others.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Rows of a day.
pub(super) const DAY_MAX_ROWS: usize = 4_096;
/// The client and the model of what found no row of its own.
pub(super) const OTHERS: &str = "(others)";

/// What is counted together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// Such as `2026-11-30`.
    pub(super) day: String,
    pub(super) client: String,
    pub(super) model: String,
}

/// What was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Count {
    pub(super) requests: u64,
    pub(super) prompt_tokens: u64,
    pub(super) cached_tokens: u64,
    pub(super) answer_tokens: u64,
}

impl Count {
    pub(super) fn add(&mut self, more: Self) {
        self.requests = self.requests.saturating_add(more.requests);
        self.prompt_tokens = self.prompt_tokens.saturating_add(more.prompt_tokens);
        self.cached_tokens = self.cached_tokens.saturating_add(more.cached_tokens);
        self.answer_tokens = self.answer_tokens.saturating_add(more.answer_tokens);
    }
}

/// Counts of some days.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rows {
    counts: BTreeMap<Key, Count>,
    /// Rows of each day, that of the others not counted.
    of_day: BTreeMap<String, usize>,
}

impl Rows {
    pub(super) fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    pub(super) fn add(&mut self, key: Key, count: Count) {
        if let Some(known) = self.counts.get_mut(&key) {
            known.add(count);
            return;
        }
        let is_others = key.client == OTHERS && key.model == OTHERS;
        if is_others {
            self.counts.insert(key, count);
            return;
        }
        let rows = self.of_day.entry(key.day.clone()).or_default();
        if *rows < DAY_MAX_ROWS {
            *rows += 1;
            self.counts.insert(key, count);
            return;
        }
        let others = Key { day: key.day, client: OTHERS.to_owned(), model: OTHERS.to_owned() };
        self.counts.entry(others).or_default().add(count);
    }

    pub(super) fn extend(&mut self, rows: impl IntoIterator<Item = (Key, Count)>) {
        for (key, count) in rows {
            self.add(key, count);
        }
    }

    /// The rows of this day and later ones.
    pub(super) fn since(&self, day: &str) -> Vec<(Key, Count)> {
        let rows = self.counts.iter().filter(|(key, _)| key.day.as_str() >= day);
        rows.map(|(key, count)| (key.clone(), *count)).collect()
    }

    /// The rows of each day, in their order.
    pub(super) fn by_day(self) -> BTreeMap<String, Self> {
        let mut days: BTreeMap<String, Self> = BTreeMap::new();
        for (key, count) in self.counts {
            days.entry(key.day.clone()).or_default().add(key, count);
        }
        days
    }
}

impl IntoIterator for Rows {
    type Item = (Key, Count);
    type IntoIter = std::collections::btree_map::IntoIter<Key, Count>;

    fn into_iter(self) -> Self::IntoIter {
        self.counts.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(day: &str, client: &str) -> Key {
        Key { day: day.to_owned(), client: client.to_owned(), model: "m".to_owned() }
    }

    #[test]
    fn a_day_has_so_many_rows_and_the_rest_is_in_one() {
        let one = Count { requests: 1, ..Count::default() };
        let mut rows = Rows::default();
        for client in 0..DAY_MAX_ROWS + 10 {
            rows.add(key("2026-11-30", &format!("client {client}")), one);
        }
        rows.add(key("2026-12-01", "client"), one);
        rows.add(key("2026-11-30", "client 0"), one);
        let of_day = rows.clone().by_day().remove("2026-11-30").expect("a day");
        assert_eq!(of_day.clone().into_iter().count(), DAY_MAX_ROWS + 1);
        let others = of_day.into_iter().find(|(key, _)| key.client == OTHERS).expect("a row of the others");
        assert_eq!(others.1.requests, 10);
        assert_eq!(rows.since("2026-12-01").len(), 1);
        let all: u64 = rows.into_iter().map(|(_, count)| count.requests).sum();
        assert_eq!(all, DAY_MAX_ROWS as u64 + 12, "none is lost");
    }
}
