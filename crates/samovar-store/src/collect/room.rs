//! Room for what is to be fetched: asked for before the first byte, and made where that is needed.
//!
//! ```text
//!   reserve(sizes) ─► survey ─► plan with what comes ─► fits? ─► collect what must go ─► Reservation
//!                                                        └ no ─► NoRoom, nothing changed
//! ```
//!
//! Downloads of other processes count by the size that they declared, those of this one by their
//! reservations, so that two who ask at once are not both promised the last gigabyte.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::promise::{Known, Reservation, Room, lock};
use super::survey::Survey;
use crate::collect::{self, LeftoverKind, Short};
use crate::disk::partial::PartialId;
use crate::disk::space::free_disk_bytes;
use crate::error::Error;
use crate::local::Local;

/// How often it is tried again when what should have gone was taken into use meanwhile.
const TRIES: u32 = 3;
/// How long a look at the store is good for, while there is more than enough room.
const GOOD_FOR: Duration = Duration::from_secs(5);

/// Reserves room for downloads of these sizes; collects when that is needed and enough. Blocks.
///
/// # Errors
/// [`Error::NoRoom`] when the quota or the disk cannot hold it whatever is collected; then nothing was removed.
pub(crate) fn reserve(
    local: &Local,
    subject: &str,
    needs: &[(PartialId, u64)],
) -> Result<Reservation, Error> {
    seek(local, subject, needs, false)
}

/// As [`reserve`], for a copy of what is here that can be made again: only what can be, too, goes for it.
///
/// # Errors
/// As [`reserve`].
pub(crate) fn reserve_for_copy(
    local: &Local,
    subject: &str,
    id: PartialId,
    bytes: u64,
) -> Result<Reservation, Error> {
    seek(local, subject, &[(id, bytes)], true)
}

fn seek(
    local: &Local,
    subject: &str,
    needs: &[(PartialId, u64)],
    is_for_copy: bool,
) -> Result<Reservation, Error> {
    let root = local.cache.layout.root();
    let mut known = lock(&local.room.deciding);
    let reservation = Room::promise(&local.room, needs);
    let asked_bytes: u64 = needs.iter().map(|(_, bytes)| bytes).sum();
    if let Some(known) = known.as_mut().filter(|known| known.at.elapsed() < GOOD_FOR)
        && known.grant(free_disk_bytes(root).unwrap_or(0), local.config.min_free_bytes, asked_bytes)
    {
        return Ok(reservation);
    }
    *known = None;
    for _ in 0..TRIES {
        let mut survey = collect::survey(local, true)?;
        let incoming_bytes = take_incoming(&mut survey, needs);
        let limits = collect::Limits { is_for_copy, ..collect::limits(local, &survey, incoming_bytes) };
        let plan = collect::plan(&survey.view, &limits);
        if let Some(Short { limit, free_bytes }) = plan.short {
            let subject = subject.to_owned();
            return Err(Error::NoRoom { subject, needed_bytes: incoming_bytes, free_bytes, limit });
        }
        let collected = collect::settle(&local.cache, &survey, &plan, &limits, false)?;
        if collected.removed.len() == plan.artifacts.len() && has_swept(&survey, &plan, &collected) {
            let spare_bytes = collect::spare_bytes(&survey.view, &limits);
            *known = Some(Known { at: Instant::now(), spare_bytes });
            return Ok(reservation);
        }
    }
    Ok(reservation)
}

/// Whether all packed and prepared files went that should have.
fn has_swept(survey: &Survey, plan: &collect::Collection, collected: &collect::Collected) -> bool {
    let has_swept = |kind| {
        let is_of_kind = |index: &&usize| survey.view.leftovers[**index].kind == kind;
        let planned = plan.leftovers.iter().filter(is_of_kind).count();
        planned as u64 == collected.leftovers.get(&kind).map_or(0, |swept| swept.count)
    };
    has_swept(LeftoverKind::Packed) && has_swept(LeftoverKind::Prepared)
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
