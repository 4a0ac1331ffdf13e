//! Memory set aside for work in the background, such as packing a model's weights.
//!
//! ```text
//!   set_aside(bytes) ─► free now, below the soft limit, and nobody waits: yes ─► counted as reserved until it is back
//!                       else: no                                       somebody needs it: asked back, and awaited
//! ```
//!
//! Nobody leaves for such work, and nobody who asked for a model is refused for it. It is asked back before anything that
//! is idle has to leave.

use super::Turn;
use crate::protocol::{Effect, TicketId};

/// Memory that is out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Aside {
    pub(super) bytes: u64,
    pub(super) is_wanted_back: bool,
}

impl Turn<'_> {
    pub(super) fn set_aside(&mut self, ticket: TicketId, bytes: u64) {
        let used_bytes = self.state.ledger.used() + self.state.ledger.owed();
        let free_bytes = self.state.config.soft_bytes().saturating_sub(used_bytes);
        let is_calm = !self.state.is_leaving && self.state.wants.is_empty();
        let is_granted = is_calm && bytes <= free_bytes && self.state.ledger.set_aside(bytes);
        if is_granted {
            self.state.asides.insert(ticket, Aside { bytes, is_wanted_back: false });
        }
        self.effects.push(Effect::SetAside { ticket, is_granted });
    }

    /// It is back. Gives whether it was that.
    pub(super) fn give_back(&mut self, ticket: TicketId) -> bool {
        let Some(aside) = self.state.asides.remove(&ticket) else { return false };
        self.state.ledger.give_back(aside.bytes);
        true
    }

    /// Asks for so many bytes, or all that there are; gives how many will come beside those asked for before.
    pub(super) fn ask_back(&mut self, shortfall: u64) -> u64 {
        let mut asked_bytes = 0;
        for (ticket, aside) in &mut self.state.asides {
            if asked_bytes >= shortfall {
                break;
            }
            if !std::mem::replace(&mut aside.is_wanted_back, true) {
                asked_bytes += aside.bytes;
                self.effects.push(Effect::WantBack { ticket: *ticket });
            }
        }
        asked_bytes
    }

    /// Bytes that nobody has asked for yet.
    pub(super) fn could_be_asked_back(&self) -> u64 {
        let asides = self.state.asides.values().filter(|aside| !aside.is_wanted_back);
        asides.map(|aside| aside.bytes).sum()
    }

    /// Bytes that have been asked for and are not back.
    pub(super) fn coming_back(&self) -> u64 {
        let asides = self.state.asides.values().filter(|aside| aside.is_wanted_back);
        asides.map(|aside| aside.bytes).sum()
    }
}
