//! Rules: which lie is told where, and how many times.

use serde::{Deserialize, Serialize};

use crate::bad_answer::{BadAnswer, Topic};
use crate::count::Route;

/// How many times a lie is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Times {
    /// Whenever it applies.
    #[default]
    Always,
    /// So many times, then no more.
    Only(u64),
}

/// A lie with its place: `BadAnswer::WrongBytes.on("model.gguf").once()`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// The lie.
    pub lie: BadAnswer,
    /// Only in this repository.
    #[serde(default)]
    pub repo: Option<String>,
    /// Only about this file.
    #[serde(default)]
    pub path: Option<String>,
    /// Only on this route.
    #[serde(default)]
    pub route: Option<Route>,
    /// Only to this method.
    #[serde(default)]
    pub method: Option<String>,
    /// How many times.
    #[serde(default)]
    pub times: Times,
    /// How many occasions pass before the first time.
    #[serde(default)]
    pub skip: u64,
}

impl From<BadAnswer> for Rule {
    fn from(lie: BadAnswer) -> Self {
        Self { lie, repo: None, path: None, route: None, method: None, times: Times::Always, skip: 0 }
    }
}

impl BadAnswer {
    /// Only in this repository.
    pub fn within(self, repo: &str) -> Rule {
        Rule::from(self).within(repo)
    }

    /// Only about this file.
    pub fn on(self, path: &str) -> Rule {
        Rule::from(self).on(path)
    }

    /// Only on this route.
    pub fn at(self, route: Route) -> Rule {
        Rule::from(self).at(route)
    }

    /// One time.
    pub fn once(self) -> Rule {
        Rule::from(self).once()
    }

    /// So many times.
    pub fn times(self, count: u64) -> Rule {
        Rule::from(self).times(count)
    }
}

impl Rule {
    /// Only in this repository.
    #[must_use]
    pub fn within(mut self, repo: &str) -> Self {
        self.repo = Some(repo.to_owned());
        self
    }

    /// Only about this file.
    #[must_use]
    pub fn on(mut self, path: &str) -> Self {
        self.path = Some(path.to_owned());
        self
    }

    /// Only on this route.
    #[must_use]
    pub fn at(mut self, route: Route) -> Self {
        self.route = Some(route);
        self
    }

    /// Only to this method: `GET` or `HEAD`.
    #[must_use]
    pub fn to(mut self, method: &str) -> Self {
        self.method = Some(method.to_owned());
        self
    }

    /// One time.
    #[must_use]
    pub fn once(self) -> Self {
        self.times(1)
    }

    /// So many times.
    #[must_use]
    pub fn times(mut self, count: u64) -> Self {
        self.times = Times::Only(count);
        self
    }

    /// Not on the first so many occasions.
    #[must_use]
    pub fn after_occasions(mut self, count: u64) -> Self {
        self.skip = count;
        self
    }
}

/// An occasion for a lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Occasion<'a> {
    pub(crate) route: Route,
    pub(crate) method: &'a str,
    pub(crate) repo: &'a str,
    pub(crate) path: &'a str,
}

/// The rules in force, and how often each was followed.
#[derive(Debug, Default)]
pub(crate) struct Rules(Vec<InForce>);

#[derive(Debug)]
struct InForce {
    rule: Rule,
    passed: u64,
    told: u64,
    /// Addresses that had been given out when the rule came into force.
    addresses: u64,
}

/// A lie that is to be told now.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) lie: BadAnswer,
    /// The only file that it is about; a listing tells of many at once.
    pub(crate) path: Option<String>,
    /// See [`BadAnswer::ExpireUrls`].
    pub(crate) addresses: u64,
}

impl Rules {
    pub(crate) fn add(&mut self, rule: Rule, addresses: u64) {
        self.0.push(InForce { rule, passed: 0, told: 0, addresses });
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// How many times each was followed, in the order in which they came.
    pub(crate) fn told(&self) -> Vec<u64> {
        self.0.iter().map(|rule| rule.told).collect()
    }

    /// The lies to tell on this occasion, each of which is one time fewer to be told.
    pub(crate) fn draw(&mut self, topic: Topic, occasion: Occasion<'_>) -> Vec<Told> {
        self.0.iter_mut().filter_map(|rule| rule.draw(topic, occasion)).collect()
    }

    /// Whether a lie in force or spent ever named this file.
    pub(crate) fn invented(&self, repo: &str, path: &str) -> bool {
        self.0.iter().any(|InForce { rule, .. }| {
            let names = matches!(&rule.lie, BadAnswer::Names(names) if names.iter().any(|name| name == path));
            let endless = rule.lie == BadAnswer::EndlessPages && path.starts_with("endless/");
            (names || endless) && rule.repo.as_deref().is_none_or(|only| only == repo)
        })
    }
}

impl InForce {
    fn draw(&mut self, topic: Topic, occasion: Occasion<'_>) -> Option<Told> {
        let rule = &self.rule;
        let suits = match rule.route {
            Some(route) => route == occasion.route,
            None => rule.lie.suits(occasion.route),
        };
        let applies = rule.lie.topic() == topic
            && suits
            && rule.repo.as_deref().is_none_or(|repo| repo == occasion.repo)
            && (topic == Topic::Listing || rule.path.as_deref().is_none_or(|path| path == occasion.path))
            && rule.method.as_deref().is_none_or(|method| method == occasion.method);
        if !applies {
            return None;
        }
        if self.passed < rule.skip {
            self.passed += 1;
            return None;
        }
        if matches!(rule.times, Times::Only(times) if self.told >= times) {
            return None;
        }
        self.told += 1;
        Some(Told { lie: rule.lie.clone(), path: rule.path.clone(), addresses: self.addresses })
    }
}
