//! Room for what is to be fetched: asked for before the first byte, and made where that is needed.
//!
//! ```text
//!   reserve(sizes) ─► survey ─► plan with what comes ─► fits? ─► collect what must go ─► Reservation
//!                                                        └ no ─► NoRoom, nothing changed
//! ```
//!
//! Downloads of other processes count by the size that they declared, those of this one by their
//! reservations, so that two who ask at once are not both promised the last gigabyte.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::collect::survey::{Survey, free_disk_bytes};
use crate::collect::{self, LeftoverKind, Short};
use crate::error::Error;
use crate::partial::PartialId;
use crate::store::Inner;

/// How often it is tried again when what should have gone was taken into use meanwhile.
const TRIES: u32 = 3;
/// How long a look at the store is good for, while there is more than enough room.
const GOOD_FOR: Duration = Duration::from_secs(5);

/// What this process has been promised.
#[derive(Debug, Default)]
pub(crate) struct Room {
    promised: Mutex<HashMap<PartialId, Promised>>,
    /// One decides at a time.
    deciding: Mutex<Option<Known>>,
}

/// What the last look at the store found, good for a moment: an artifact of many files asks for each.
#[derive(Clone, Copy, Debug)]
struct Known {
    at: Instant,
    /// Bytes that may come before anything must go.
    spare_bytes: u64,
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

/// Reserves room for downloads of these sizes; collects when that is needed and enough. Blocks.
///
/// # Errors
/// [`Error::NoRoom`] when the quota or the disk cannot hold it whatever is collected; then nothing was removed.
pub(crate) fn reserve(
    inner: &Inner,
    subject: &str,
    needs: &[(PartialId, u64)],
) -> Result<Reservation, Error> {
    seek(inner, subject, needs, false)
}

/// As [`reserve`], for a copy of what is here that can be made again: only what can be, too, goes for it.
///
/// # Errors
/// As [`reserve`].
pub(crate) fn reserve_for_copy(
    inner: &Inner,
    subject: &str,
    id: PartialId,
    bytes: u64,
) -> Result<Reservation, Error> {
    seek(inner, subject, &[(id, bytes)], true)
}

fn seek(
    inner: &Inner,
    subject: &str,
    needs: &[(PartialId, u64)],
    is_for_copy: bool,
) -> Result<Reservation, Error> {
    let mut known = lock(&inner.room.deciding);
    let reservation = Room::promise(&inner.room, needs);
    let asked_bytes: u64 = needs.iter().map(|(_, bytes)| bytes).sum();
    if let Some(known) = known.as_mut().filter(|known| known.at.elapsed() < GOOD_FOR)
        && known.grant(inner, asked_bytes)
    {
        return Ok(reservation);
    }
    *known = None;
    for _ in 0..TRIES {
        let mut survey = collect::survey(inner, true)?;
        let incoming_bytes = take_incoming(&mut survey, needs);
        let limits = collect::Limits { is_for_copy, ..collect::limits(inner, &survey, incoming_bytes) };
        let plan = collect::plan(&survey.view, &limits);
        if let Some(Short { limit, free_bytes }) = plan.short {
            let subject = subject.to_owned();
            return Err(Error::NoRoom { subject, needed_bytes: incoming_bytes, free_bytes, limit });
        }
        let collected = collect::settle(inner, &survey, &plan, &limits, false)?;
        if collected.removed.len() == plan.artifacts.len() && has_swept(&survey, &plan, &collected) {
            let spare_bytes = collect::spare_bytes(&survey.view, &limits);
            *known = Some(Known { at: Instant::now(), spare_bytes });
            return Ok(reservation);
        }
    }
    Ok(reservation)
}

/// Whether all packed files went that should have.
fn has_swept(survey: &Survey, plan: &collect::Collection, collected: &collect::Collected) -> bool {
    let kind = LeftoverKind::Packed;
    let planned = plan.leftovers.iter().filter(|index| survey.view.leftovers[**index].kind == kind).count();
    planned as u64 == collected.leftovers.get(&kind).map_or(0, |swept| swept.count)
}

impl Known {
    /// Takes so many bytes of what is to spare, if the disk has them too.
    fn grant(&mut self, inner: &Inner, bytes: u64) -> bool {
        let free_bytes = free_disk_bytes(inner.layout.root()).unwrap_or(0);
        let is_free = free_bytes >= inner.config.min_free_bytes.saturating_add(bytes);
        match self.spare_bytes.checked_sub(bytes) {
            Some(left) if is_free => {
                self.spare_bytes = left;
                true
            }
            _ => false,
        }
    }
}

/// Takes what is asked for out of what is promised already, and gives the bytes of it that are still to be written.
fn take_incoming(survey: &mut Survey, needs: &[(PartialId, u64)]) -> u64 {
    let mut seen = HashSet::new();
    let written = |id: &PartialId| {
        let place = survey.leftovers.iter().position(|place| place.partial == Some(*id));
        place.map_or(0, |place| survey.view.leftovers[place].bytes)
    };
    let bytes: u64 = needs
        .iter()
        .filter(|(id, _)| seen.insert(*id))
        .map(|(id, size)| size.saturating_sub(written(id)))
        .sum();
    survey.view.promised_bytes = survey.view.promised_bytes.saturating_sub(bytes);
    for (place, leftover) in survey.leftovers.iter().zip(&mut survey.view.leftovers) {
        // What is about to be taken up again is not in the way.
        leftover.is_held |= place.partial.is_some_and(|id| seen.contains(&id));
    }
    bytes
}

impl Room {
    fn promise(room: &Arc<Self>, needs: &[(PartialId, u64)]) -> Reservation {
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
    pub(crate) fn promised_bytes(&self, id: &PartialId) -> Option<u64> {
        lock(&self.promised).get(id).map(|promised| promised.bytes)
    }

    /// What was promised to all other downloads than these.
    pub(crate) fn promised_bytes_besides(&self, ids: &HashSet<PartialId>) -> u64 {
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
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
