//! Whose conversations a request sees.
//!
//! ```text
//!   the owner's socket                                   the machine's owner
//!   over TCP, with a key                                 the key's; a user's whom a trusted header names, of that key
//!   over TCP, no key needed, a trusted header            the named user's
//!   over TCP, no key needed, from this machine           the machine's owner
//!   over TCP, no key needed, from another machine        that address's
//! ```

use crate::client::{Asker, ConversationOwner};

/// The name under which they are kept; the empty one is the machine's owner. Parts are told apart by a line break, which no name has.
pub(super) fn owner(asker: &Asker) -> String {
    match asker.conversation_owner() {
        ConversationOwner::Machine => String::new(),
        ConversationOwner::Key { name, user: None } => format!("key\n{name}"),
        ConversationOwner::Key { name, user: Some(user) } => format!("key\n{name}\n{user}"),
        ConversationOwner::User(user) => format!("user\n{user}"),
        ConversationOwner::Address(address) => format!("address\n{address}"),
    }
}
