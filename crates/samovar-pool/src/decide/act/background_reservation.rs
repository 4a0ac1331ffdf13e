//! Memory set aside for work in the background, such as packing a model's weights.
//!
//! ```text
//!   reserve_background(bytes) ─► free now, below the soft limit, and no request waits: yes ─► counted as reserved until it is back
//!                       else: no                                       it is needed: asked back, and awaited
//! ```
//!
//! No instance leaves for such work, and no request for a model is refused for it. It is asked back before anything that
//! is idle has to leave.

use samovar_core::Bytes;

use super::StepContext;
use crate::decide::state::Background;
use crate::protocol::{Effect, TicketId};

impl StepContext<'_> {
    pub(super) fn reserve_background(&mut self, ticket: TicketId, bytes: u64) {
        let used = self.state.ledger.used() + self.state.ledger.owed();
        let free = self.state.config.soft().minus(used);
        let is_calm = !self.state.is_leaving && self.state.awaiting_memory.is_empty();
        let is_granted = is_calm
            && free.covers(Bytes::host(bytes))
            && self.state.ledger.reserve_background(Bytes::host(bytes));
        if is_granted {
            self.state.background_reservations.insert(ticket, Background { bytes, is_wanted_back: false });
        }
        self.effects.push(Effect::BackgroundReservation { ticket, is_granted });
    }

    /// It is back. Gives whether it was that.
    pub(super) fn give_back(&mut self, ticket: TicketId) -> bool {
        let Some(background) = self.state.background_reservations.remove(&ticket) else { return false };
        self.state.ledger.give_back(Bytes::host(background.bytes));
        true
    }

    /// Asks for so many bytes of the host, or all that there are; gives how many will come beside those asked for before.
    pub(super) fn ask_back(&mut self, shortfall: Bytes) -> Bytes {
        let shortfall_bytes = shortfall.on_host();
        let mut asked_bytes = 0;
        if shortfall_bytes == 0 || self.state.background_reservations.is_empty() {
            return Bytes::NONE;
        }
        for (ticket, background) in &mut self.state.background_reservations {
            if asked_bytes >= shortfall_bytes {
                break;
            }
            if !std::mem::replace(&mut background.is_wanted_back, true) {
                asked_bytes += background.bytes;
                self.effects.push(Effect::WantBack { ticket: *ticket });
            }
        }
        Bytes::host(asked_bytes)
    }
}
