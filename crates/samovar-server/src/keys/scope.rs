//! What a key may be used for, and what a route needs. Nothing here knows a key.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a route needs of the key that a request over TCP is sent with, and what a key may be used for.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Needs no key. No key has this scope.
    Open,
    /// Models may be asked.
    Infer,
    /// Models may be fetched, loaded, unloaded and looked at.
    Manage,
    /// Everything on this machine: also the configuration, the files of models, and the end of the daemon.
    Admin,
    /// Other machines of a fleet.
    Fleet,
}

/// A word that names no scope of a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a scope")]
pub struct ParseScopeError(String);

impl Scope {
    /// Those that a key may have.
    pub const OF_KEYS: [Self; 4] = [Self::Infer, Self::Manage, Self::Admin, Self::Fleet];

    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Infer => "infer",
            Self::Manage => "manage",
            Self::Admin => "admin",
            Self::Fleet => "fleet",
        }
    }

    /// Whether a key of this scope may be used where `needed` is.
    pub const fn covers(self, needed: Self) -> bool {
        match needed {
            Self::Open => true,
            Self::Infer => matches!(self, Self::Infer | Self::Admin),
            Self::Manage => matches!(self, Self::Manage | Self::Admin),
            Self::Admin => matches!(self, Self::Admin),
            Self::Fleet => matches!(self, Self::Fleet),
        }
    }
}

impl FromStr for Scope {
    type Err = ParseScopeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::OF_KEYS.into_iter().find(|scope| scope.word() == text);
        known.ok_or_else(|| ParseScopeError(text.chars().take(40).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admin_may_all_but_speak_for_another_machine() {
        let may = |scope: Scope| Scope::OF_KEYS.map(|needed| scope.covers(needed));
        assert_eq!(may(Scope::Infer), [true, false, false, false]);
        assert_eq!(may(Scope::Manage), [false, true, false, false]);
        assert_eq!(may(Scope::Admin), [true, true, true, false]);
        assert_eq!(may(Scope::Fleet), [false, false, false, true]);
        assert!(Scope::OF_KEYS.iter().all(|scope| scope.covers(Scope::Open)));
    }

    #[test]
    fn a_scope_is_read_as_it_is_written_and_open_is_none_of_a_key() {
        for scope in Scope::OF_KEYS {
            assert_eq!(scope.word().parse(), Ok(scope));
            assert_eq!(serde_json::to_value(scope).expect("a word"), scope.word());
        }
        assert!("open".parse::<Scope>().is_err() && "".parse::<Scope>().is_err());
    }
}
