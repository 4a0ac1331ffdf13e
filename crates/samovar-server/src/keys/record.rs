//! A key as the file of keys has it: its name, its digest, and what it may do. Never the key.

use samovar_core::{Digest, ModelRef};
use serde::{Deserialize, Serialize};

use super::gcra::LIMIT_MAX;
use super::scope::Scope;
use crate::moment::now_unix_s;

const NAME_BYTES_MAX: usize = 64;
const MODELS_MAX: usize = 256;
const MODEL_BYTES_MAX: usize = 512;
const CONCURRENCY_MAX: u32 = 1_000_000;
/// No client weighs more than this many others.
const WEIGHT_MAX: u32 = 1_000;

/// What a key may do, and how much of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyTerms {
    /// What it may be used for; at least one.
    pub scopes: Vec<Scope>,
    /// The models that its requests may name; none = all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// Requests that it may send per minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u32>,
    /// Tokens of prompts and answers that it may use per minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u32>,
    /// Requests that it may have under way at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Requests that it has in each turn of a model's clients; `None` = one, or what `pool.client_weights` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// When it stops to be valid, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_unix_s: Option<u64>,
}

impl Default for KeyTerms {
    /// Models may be asked, without limits or end.
    fn default() -> Self {
        Self {
            scopes: vec![Scope::Infer],
            models: Vec::new(),
            requests_per_minute: None,
            tokens_per_minute: None,
            concurrency: None,
            weight: None,
            expires_unix_s: None,
        }
    }
}

/// A key as the file has it.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRecord {
    /// Its name: that of the client in queues, logs and counts.
    pub name: String,
    /// SHA-256 of the key.
    pub sha256: Digest,
    /// When it was made, in seconds since 1970.
    pub created_unix_s: u64,
    /// What it may do.
    pub terms: KeyTerms,
}

impl KeyRecord {
    /// A key that is made now.
    pub(super) fn new(name: &str, sha256: Digest, terms: KeyTerms) -> Self {
        Self { name: name.to_owned(), sha256, created_unix_s: now_unix_s(), terms }
    }

    /// Whether it is not valid any more at this time.
    pub fn has_expired(&self, now_unix_s: u64) -> bool {
        self.terms.expires_unix_s.is_some_and(|end| end <= now_unix_s)
    }

    /// What is wrong with it, if anything is.
    pub(super) fn fault(&self) -> Option<String> {
        name_fault(&self.name).or_else(|| self.terms.fault())
    }
}

impl KeyTerms {
    /// What is wrong with them, if anything is.
    pub(super) fn fault(&self) -> Option<String> {
        if self.scopes.is_empty() || self.scopes.contains(&Scope::Open) {
            let words = Scope::OF_KEYS.map(Scope::word).join(", ");
            return Some(format!("a key has one or more of the scopes {words}"));
        }
        if self.models.len() > MODELS_MAX {
            return Some(format!("a key may name {MODELS_MAX} models at most"));
        }
        if self.models.iter().any(|model| model.trim().is_empty() || model.len() > MODEL_BYTES_MAX) {
            return Some(format!("the name of a model has 1 to {MODEL_BYTES_MAX} bytes"));
        }
        let limits = [
            ("requests per minute", self.requests_per_minute, LIMIT_MAX),
            ("tokens per minute", self.tokens_per_minute, LIMIT_MAX),
            ("requests at the same time", self.concurrency, CONCURRENCY_MAX),
            ("the weight", self.weight, WEIGHT_MAX),
        ];
        limits.into_iter().find_map(|(what, limit, most)| {
            let is_off = limit.is_some_and(|limit| limit == 0 || limit > most);
            is_off.then(|| format!("{what}: from 1 to {most}"))
        })
    }

    /// Whether a request may name this model.
    pub(crate) fn allow_model(&self, name: &str) -> bool {
        self.models.is_empty() || self.models.iter().any(|allowed| is_same_model(allowed, name))
    }
}

/// Whether two names are written differently at most in what a reference may leave out.
fn is_same_model(one: &str, other: &str) -> bool {
    one == other
        // As Ollama's clients write a model of its registry.
        || other.strip_prefix("ollama://") == Some(one)
        || match (one.parse::<ModelRef>(), other.parse::<ModelRef>()) {
            // A file's name says where it lies, and that is not compared with links and such.
            (Ok(ModelRef::File(_)), _) | (_, Ok(ModelRef::File(_))) => false,
            (Ok(one), Ok(other)) => one == other,
            _ => false,
        }
}

/// What is wrong with a key's name, if anything is. It becomes a label and a word in logs.
fn name_fault(name: &str) -> Option<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@');
    let is_fine = (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.chars().all(is_plain)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric());
    (!is_fine).then(|| {
        format!("a key's name has 1 to {NAME_BYTES_MAX} letters, digits, `.`, `_`, `-` and `@`, and begins with a letter or digit")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(json: serde_json::Value) -> Result<KeyRecord, serde_json::Error> {
        serde_json::from_value(json)
    }

    #[test]
    fn a_record_is_read_as_it_is_written() {
        let terms =
            KeyTerms { models: vec!["demo".into()], requests_per_minute: Some(60), ..KeyTerms::default() };
        let made = KeyRecord::new("ci", Digest::of_bytes(b"x"), terms);
        let json = serde_json::to_value(&made).expect("writes");
        assert_eq!(json["terms"]["scopes"], serde_json::json!(["infer"]));
        assert!(json["terms"].get("weight").is_none());
        assert_eq!(record(json.clone()).expect("reads"), made);
        let mut unknown = json;
        unknown["terms"]["forbidden_models"] = serde_json::json!(["demo"]);
        assert!(record(unknown).is_err(), "what bounds a key must not be passed over");
    }

    #[test]
    fn names_and_numbers_that_no_key_can_have_are_faults() {
        for name in ["", "a b", "-x", "é", "a/b", "a\nb", &"x".repeat(65)] {
            assert!(name_fault(name).is_some(), "{name:?}");
        }
        for name in ["ci", "10.0.0.7", "ann@box", "A_b-c", &"x".repeat(64)] {
            assert_eq!(name_fault(name), None, "{name:?}");
        }
        let terms = |change: fn(&mut KeyTerms)| {
            let mut terms = KeyTerms::default();
            change(&mut terms);
            terms.fault()
        };
        assert_eq!(terms(|_| ()), None);
        assert!(terms(|terms| terms.scopes.clear()).is_some());
        assert!(terms(|terms| terms.scopes.push(Scope::Open)).is_some());
        assert!(terms(|terms| terms.requests_per_minute = Some(0)).is_some());
        assert!(terms(|terms| terms.weight = Some(1_001)).is_some());
        assert!(terms(|terms| terms.models.push(" ".into())).is_some());
    }

    #[test]
    fn a_key_without_models_may_name_all_and_others_those_that_are_listed() {
        assert!(KeyTerms::default().allow_model("demo"));
        let models = ["tiny", "org/name:Q4_K_M", "qwen3:4b"].map(str::to_owned).into();
        let terms = KeyTerms { models, ..KeyTerms::default() };
        for (name, is_allowed) in [
            ("tiny", true),
            ("Tiny", false),
            ("demo", false),
            ("org/name:Q4_K_M", true),
            ("hf://org/name:Q4_K_M", true),
            ("org/name", false),
            ("ollama://qwen3:4b", true),
            ("ollama://qwen3:8b", false),
            ("", false),
            ("./tiny", false),
        ] {
            assert_eq!(terms.allow_model(name), is_allowed, "{name}");
        }
    }
}
