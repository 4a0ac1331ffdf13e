//! Measures an instance anew when a request leaves it: what it holds changes with its requests. It decides nothing.

use super::Owner;
use crate::protocol::{Event, TicketId};

impl Owner {
    /// Tells what the instance of this lease holds, where the pool counts something else for it.
    pub(super) fn weigh(&mut self, ticket: TicketId) {
        let Some((id, model, counted)) = self.state.weighable(ticket) else { return };
        let Some(instance) = self.instances.get(&id) else { return };
        let memory = self.executor.weigh(&**instance, model);
        // An engine that measures nothing is believed in its prediction.
        if !memory.is_none() && memory.private != counted {
            self.step(Event::Weighed { instance: id, memory });
        }
    }
}
