//! The room that this process has been promised, until it is used or given back.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::disk::partial::PartialId;

/// What this process has been promised.
#[derive(Debug, Default)]
pub(crate) struct Room {
    promised: Mutex<HashMap<PartialId, Promised>>,
    /// One decides at a time.
    pub(super) deciding: Mutex<Option<Known>>,
}

/// What the last look at the store found, good for a moment: an artifact of many files asks for each.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) at: Instant,
    /// Bytes that may come before anything must go.
    pub(super) spare_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Promised {
    bytes: u64,
    holders: u32,
}

/// Room that is kept free until this is dropped.
#[derive(Debug)]
#[must_use = "dropping it gives the room back"]
pub(crate) struct Reservation {
    room: Arc<Room>,
    ids: Vec<PartialId>,
}

impl Known {
    /// Takes so many bytes of what is to spare, if the disk has them too.
    pub(super) fn grant(&mut self, free_disk_bytes: u64, min_free_bytes: u64, bytes: u64) -> bool {
        let is_free = free_disk_bytes >= min_free_bytes.saturating_add(bytes);
        match self.spare_bytes.checked_sub(bytes) {
            Some(left) if is_free => {
                self.spare_bytes = left;
                true
            }
            _ => false,
        }
    }
}

impl Room {
    pub(super) fn promise(room: &Arc<Self>, needs: &[(PartialId, u64)]) -> Reservation {
        let mut promised = lock(&room.promised);
        for (id, bytes) in needs {
            let entry = promised.entry(*id).or_insert(Promised { bytes: 0, holders: 0 });
            *entry = Promised { bytes: entry.bytes.max(*bytes), holders: entry.holders + 1 };
        }
        drop(promised);
        Reservation { room: Arc::clone(room), ids: needs.iter().map(|(id, _)| *id).collect() }
    }

    fn give_back(&self, ids: &[PartialId]) {
        let mut promised = lock(&self.promised);
        for id in ids {
            if let Some(entry) = promised.get_mut(id) {
                entry.holders -= 1;
                if entry.holders == 0 {
                    promised.remove(id);
                }
            }
        }
    }

    /// What was promised to this download, written or not.
    pub(super) fn promised_bytes(&self, id: &PartialId) -> Option<u64> {
        lock(&self.promised).get(id).map(|promised| promised.bytes)
    }

    /// What was promised to all other downloads than these.
    pub(super) fn promised_bytes_besides(&self, ids: &HashSet<PartialId>) -> u64 {
        lock(&self.promised)
            .iter()
            .filter(|(id, _)| !ids.contains(*id))
            .map(|(_, promised)| promised.bytes)
            .sum()
    }
}

impl Reservation {
    /// Gives back the room of one download, which is here now.
    pub(crate) fn release(&mut self, id: &PartialId) {
        if let Some(place) = self.ids.iter().position(|held| held == id) {
            self.room.give_back(&[self.ids.swap_remove(place)]);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.room.give_back(&self.ids);
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use samovar_core::Digest;

    use super::*;

    fn id(n: u8) -> PartialId {
        PartialId::of_digest(Digest::of_bytes(&[n]))
    }

    #[test]
    fn a_promise_lasts_until_its_last_holder_goes() {
        let room = Arc::new(Room::default());
        let first = Room::promise(&room, &[(id(1), 10), (id(2), 20)]);
        let second = Room::promise(&room, &[(id(2), 20)]);
        assert_eq!(room.promised_bytes_besides(&HashSet::new()), 30);
        assert_eq!(room.promised_bytes_besides(&[id(1)].into()), 20);
        drop(first);
        assert_eq!((room.promised_bytes(&id(1)), room.promised_bytes(&id(2))), (None, Some(20)));
        drop(second);
        assert_eq!(room.promised_bytes_besides(&HashSet::new()), 0);
    }
}
