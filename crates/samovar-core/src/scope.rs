//! Whose the state of a prompt is, and who may take it over.
//!
//! ```text
//!   shared   any request takes over any other's state; each is told only of what was its own client's
//!   private  a request takes over its own client's state alone
//! ```
//!
//! State that is taken over is quicker than state that is computed, and is counted in the answer. Both would tell a
//! stranger, word by word, what another client asked.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// Whose the state of a prompt is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Scope {
    /// Tells the client from all others; `None` = the anonymous client.
    pub client: Option<Digest>,
    /// No other client may take the state over, and no other client's is taken.
    pub is_private: bool,
}

impl Scope {
    /// The scope of the client of this name; an empty one is the anonymous client.
    pub fn of_client(name: &str, is_private: bool) -> Self {
        let client = (!name.is_empty()).then(|| Digest::of_bytes(name.as_bytes()));
        Self { client, is_private }
    }

    /// Whether a request of this scope may take over state of that one.
    pub fn may_use(&self, of: &Self) -> bool {
        self.is_own(of) || !(self.is_private || of.is_private)
    }

    /// Whether both are of one client, who may be told of it.
    pub fn is_own(&self, of: &Self) -> bool {
        self.client == of.client
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_scope_neither_gives_nor_takes() {
        let (alice, bob) = (Scope::of_client("alice", false), Scope::of_client("bob", false));
        assert!(alice.may_use(&bob) && !alice.is_own(&bob));
        let private = Scope { is_private: true, ..alice };
        assert!(!private.may_use(&bob) && !bob.may_use(&private));
        assert!(private.may_use(&alice) && alice.may_use(&private), "they are one client's");
        assert_eq!(Scope::of_client("", false), Scope::default());
    }
}
