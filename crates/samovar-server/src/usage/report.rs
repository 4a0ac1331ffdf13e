//! The counts of use as people ask for them: summed up by client, model and day, within a bound.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::rows::{Count, Key, OTHERS};

/// Rows of a report; the smallest ones beyond are in one.
const REPORT_MAX_ROWS: usize = 10_000;
/// Rows from which those of a report are chosen; what comes beyond is in one.
const SUMS_MAX_GROUPS: usize = 100_000;

/// What a report has a row for each of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupBy {
    /// The client: the name of its key, or what it is known by without one.
    Client,
    /// The model.
    Model,
    /// The day, in UTC.
    Day,
}

impl GroupBy {
    /// Its word on the command line and in queries.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Model => "model",
            Self::Day => "day",
        }
    }
}

impl FromStr for GroupBy {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let known = [Self::Client, Self::Model, Self::Day];
        let meant = known.into_iter().find(|known| known.word() == word);
        meant.ok_or_else(|| format!("{word:?} is none of client, model and day"))
    }
}

/// What was used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageReport {
    /// The first day that counts, such as `2026-11-30`, where not all do; days are those of UTC.
    pub since: Option<String>,
    /// By what was asked for; the rows with the most tokens come first, or by day the first day.
    pub rows: Vec<UsageRow>,
}

/// What was used by one client, of one model, on one day, or of several of them together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UsageRow {
    /// The day, if the report is by day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub day: Option<String>,
    /// The client, if the report is by client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The model, if the report is by model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Requests that were granted a slot.
    pub requests: u64,
    /// Tokens of their prompts.
    pub prompt_tokens: u64,
    /// Of these, the ones that were taken from a cached prefix.
    pub cached_tokens: u64,
    /// Tokens of their answers.
    pub answer_tokens: u64,
}

impl UsageRow {
    fn of(group: Group, count: Count) -> Self {
        let Group { day, client, model } = group;
        let Count { requests, prompt_tokens, cached_tokens, answer_tokens } = count;
        Self { day, client, model, requests, prompt_tokens, cached_tokens, answer_tokens }
    }
}

/// What a row is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    day: Option<String>,
    client: Option<String>,
    model: Option<String>,
}

/// Sums rows up by what was asked for, within a bound whatever comes.
#[derive(Debug)]
pub(super) struct Sums {
    day: bool,
    client: bool,
    model: bool,
    groups: BTreeMap<Group, Count>,
}

impl Sums {
    pub(super) fn by(groups: &[GroupBy]) -> Self {
        let has = |group: GroupBy| groups.contains(&group);
        Self {
            day: has(GroupBy::Day),
            client: has(GroupBy::Client),
            model: has(GroupBy::Model),
            groups: BTreeMap::new(),
        }
    }

    pub(super) fn add(&mut self, key: Key, count: Count) {
        let mut group = Group {
            day: self.day.then_some(key.day),
            client: self.client.then_some(key.client),
            model: self.model.then_some(key.model),
        };
        if self.groups.len() >= SUMS_MAX_GROUPS && !self.groups.contains_key(&group) {
            group = self.others();
        }
        self.groups.entry(group).or_default().add(count);
    }

    /// What has no row of its own.
    fn others(&self) -> Group {
        let name = |is_named: bool| is_named.then(|| OTHERS.to_owned());
        Group { day: name(self.day), client: name(self.client), model: name(self.model) }
    }

    /// The report: the rows with the most tokens, or all by day.
    pub(super) fn report(mut self, since: Option<String>) -> UsageReport {
        let others = self.others();
        let groups = std::mem::take(&mut self.groups);
        let mut rows: Vec<(Group, Count)> = groups.into_iter().collect();
        // Rows of the same size stay in the order of their names.
        rows.sort_by_key(|(_, count)| {
            Reverse((count.prompt_tokens.saturating_add(count.answer_tokens), count.requests))
        });
        fold(&mut rows, REPORT_MAX_ROWS, others);
        if self.day {
            rows.sort_by(|(one, _), (other, _)| one.day.cmp(&other.day));
        }
        UsageReport {
            since,
            rows: rows.into_iter().map(|(group, count)| UsageRow::of(group, count)).collect(),
        }
    }
}

/// Adds the last rows up in one, that of `others`.
fn fold(rows: &mut Vec<(Group, Count)>, most: usize, others: Group) {
    if rows.len() <= most {
        return;
    }
    let mut count = Count::default();
    for (_, more) in rows.split_off(most - 1) {
        count.add(more);
    }
    rows.push((others, count));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(day: &str, client: &str, model: &str, answer_tokens: u64) -> (Key, Count) {
        let key = Key { day: day.into(), client: client.into(), model: model.into() };
        (key, Count { requests: 1, answer_tokens, ..Count::default() })
    }

    fn rows() -> Vec<(Key, Count)> {
        vec![
            row("2026-11-29", "bob", "b", 7),
            row("2026-11-30", "alice", "a", 5),
            row("2026-11-30", "bob", "a", 1),
        ]
    }

    fn sums(by: &[GroupBy]) -> Sums {
        let mut sums = Sums::by(by);
        for (key, count) in rows() {
            sums.add(key, count);
        }
        sums
    }

    fn shown(by: &[GroupBy]) -> Vec<(String, u64)> {
        let report = sums(by).report(None);
        let name = |row: &UsageRow| {
            let parts = [&row.day, &row.client, &row.model];
            parts.into_iter().flatten().cloned().collect::<Vec<_>>().join(" ")
        };
        report.rows.iter().map(|row| (name(row), row.answer_tokens)).collect()
    }

    #[test]
    fn rows_are_summed_up_by_what_was_asked_for() {
        let expect = |rows: &[(&str, u64)]| -> Vec<(String, u64)> {
            rows.iter().map(|(name, tokens)| ((*name).to_owned(), *tokens)).collect()
        };
        assert_eq!(shown(&[]), expect(&[("", 13)]));
        assert_eq!(shown(&[GroupBy::Client]), expect(&[("bob", 8), ("alice", 5)]));
        assert_eq!(shown(&[GroupBy::Model]), expect(&[("b", 7), ("a", 6)]));
        assert_eq!(shown(&[GroupBy::Day]), expect(&[("2026-11-29", 7), ("2026-11-30", 6)]));
        let by_all = [("2026-11-29 bob b", 7), ("2026-11-30 alice a", 5), ("2026-11-30 bob a", 1)];
        assert_eq!(shown(&[GroupBy::Model, GroupBy::Client, GroupBy::Day]), expect(&by_all));
    }

    #[test]
    fn the_smallest_rows_beyond_the_bound_are_one() {
        let sums = sums(&[GroupBy::Client, GroupBy::Model]);
        let others = sums.others();
        let mut rows: Vec<_> = sums.groups.into_iter().collect();
        fold(&mut rows, 2, others);
        let (group, count) = rows.pop().expect("a row");
        assert_eq!((rows.len(), count.requests, count.answer_tokens), (1, 2, 8));
        let names = (group.client.as_deref(), group.model.as_deref(), group.day.as_deref());
        assert_eq!(names, (Some(OTHERS), Some(OTHERS), None));
    }

    #[test]
    fn a_report_is_made_within_a_bound_and_loses_nothing() {
        let mut sums = Sums::by(&[GroupBy::Client]);
        for client in 0..SUMS_MAX_GROUPS + 5 {
            let (key, count) = row("2026-11-30", &client.to_string(), "m", 1);
            sums.add(key, count);
        }
        assert_eq!(sums.groups.len(), SUMS_MAX_GROUPS + 1);
        let report = sums.report(None);
        assert_eq!(report.rows.len(), REPORT_MAX_ROWS);
        let requests: u64 = report.rows.iter().map(|row| row.requests).sum();
        assert_eq!(requests, SUMS_MAX_GROUPS as u64 + 5);
    }

    #[test]
    fn words_are_read() {
        assert_eq!("day".parse(), Ok(GroupBy::Day));
        assert!("week".parse::<GroupBy>().expect_err("no such word").contains("client, model and day"));
    }
}
