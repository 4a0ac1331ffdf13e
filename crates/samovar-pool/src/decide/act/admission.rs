//! Who may wait, and who is refused at once.
//!
//! A refusal costs no more than looking at the numbers. For a request that can not be served nothing is begun and nothing
//! leaves; for one that could only be served too late the load is begun that it would have waited for (see `estimates`), as
//! long as fewer wait than may.

use std::sync::Arc;

use samovar_core::port::Millis;

use super::StepContext;
use crate::ask::{AcquireRequest, ModelSpec};
use crate::decide::state::{ModelId, TurnedAway, Who};
use crate::decision::{Reason, What};
use crate::error::Error;
use crate::protocol::{Effect, TicketId};

/// Refusals of one model are noted at most once in so long, lest a crowd fill the memory of decisions.
const NOTE_REFUSALS_EVERY_MS: u64 = 1_000;

/// Of a model so many are remembered that found no place.
const TURNED_AWAY_MAX: usize = 1_024;

impl StepContext<'_> {
    pub(super) fn request(&mut self, ticket: TicketId, ask: &AcquireRequest) {
        let model = self.state.know(&ask.model, self.now);
        self.state.count(model, |tally| tally.requests += 1);
        let refusal = self.view().reason_to_refuse(model, &ask.model, ask.deadline);
        if refusal.is_none()
            && let Some(why) = self.view().too_late(model, ask)
        {
            self.turn_down(ticket, model, why);
            self.begin_for_the_next(model, &ask.model);
            return;
        }
        if let Some(why) = refusal.or_else(|| self.find_place(model, Some(&Who::of(ask))).err()) {
            self.turn_down(ticket, model, why);
            return;
        }
        self.enqueue(ticket, model, ask);
        self.review(model);
    }

    pub(super) fn warm(&mut self, ticket: TicketId, spec: &Arc<ModelSpec>) {
        let model = self.state.know(spec, self.now);
        let refusal = self.view().reason_to_refuse(model, spec, None);
        if let Some(why) = refusal.or_else(|| self.find_place(model, None).err()) {
            self.effects.push(Effect::Refuse { ticket, why });
            return;
        }
        self.enqueue_warm(ticket, model, spec);
        self.review(model);
    }

    /// Refuses and counts it.
    pub(super) fn turn_down(&mut self, ticket: TicketId, model: ModelId, why: Error) {
        self.state.count(model, |tally| tally.refused += 1);
        self.note_refusal(model, &why);
        self.effects.push(Effect::Refuse { ticket, why });
    }

    /// A place in the queue. Where there is none left, the client that has filled it gives up the one that came last,
    /// unless the newcomer would only change places with it. Within a client the same holds between those who share it.
    fn find_place(&mut self, model: ModelId, who: Option<&Who>) -> Result<(), Error> {
        let config = &self.state.config;
        let (waiting, in_all) = (self.state.model(model).waiting_count(), self.state.tickets.len() as u32);
        let (queued, lines) = if waiting >= config.queue_per_model {
            (waiting, vec![model])
        } else if in_all >= config.queue_total {
            (in_all, self.state.models.keys().copied().collect())
        } else {
            return Ok(());
        };
        // A queue of length 0 still serves what can be served at once.
        if waiting == 0 && self.view().has_free_slot(model) {
            return Ok(());
        }
        let last = who.and_then(|who| self.view().last_of_the_greediest(&lines, who));
        let last = last.or_else(|| self.view().latest_beside(&lines, model, who?));
        let Some((greedy, ticket)) = last else {
            self.remember_turned_away(model, who, self.now);
            return Err(self.view().busy(model, queued));
        };
        let why = self.view().busy(greedy, queued);
        if let Some(displaced) = self.take_ticket(ticket) {
            self.remember_turned_away(greedy, Some(&displaced.who), displaced.asked_at);
        }
        self.turn_down(ticket, greedy, why);
        self.left_the_queue(greedy);
        Ok(())
    }

    fn remember_turned_away(&mut self, model: ModelId, who: Option<&Who>, asked: Millis) {
        let Some(who) = who else { return };
        let now = self.now;
        let turned_away = &mut self.state.model_mut(model).turned_away;
        if let Some(known) = turned_away.get_mut(who).filter(|known| known.is_expected(now)) {
            known.last = now;
            return;
        }
        if turned_away.len() >= TURNED_AWAY_MAX {
            turned_away.retain(|_, known| known.is_expected(now));
        }
        if turned_away.len() < TURNED_AWAY_MAX {
            turned_away.insert(who.clone(), TurnedAway { first: asked, last: now });
        }
    }

    pub(super) fn note_refusal(&mut self, model: ModelId, why: &Error) {
        let last = self.state.model(model).last_refusal_noted;
        if last.is_some_and(|last| self.now.since(last) < NOTE_REFUSALS_EVERY_MS) {
            return;
        }
        let reason = match why {
            Error::TooLarge { needed_bytes, budget_bytes, largest_bytes, arena, .. } => Reason::DoesNotFit {
                needed_bytes: *needed_bytes,
                budget_bytes: *budget_bytes,
                largest_bytes: *largest_bytes,
                arena: *arena,
            },
            Error::Busy { queued, .. } => Reason::QueueFull { queued: *queued },
            Error::TooLate { expected_ms, allowed_ms, .. } => {
                Reason::WouldBeLate { expected_ms: *expected_ms, allowed_ms: *allowed_ms }
            }
            Error::DeadlineExceeded { waited_ms, .. } => Reason::TooLate { waited_ms: *waited_ms },
            Error::LoadFailed { failure, retry_after_ms, .. }
            | Error::BackingOff { failure, retry_after_ms, .. } => Reason::Failed {
                kind: failure.kind,
                message: failure.message.clone(),
                retry_in_ms: *retry_after_ms,
            },
            Error::GivenUp { failures, failure, retry_after_ms, .. } => Reason::FailedOften {
                failures: *failures,
                kind: failure.kind,
                message: failure.message.clone(),
                retry_in_ms: *retry_after_ms,
            },
            Error::ShuttingDown => Reason::Leaving,
        };
        self.state.model_mut(model).last_refusal_noted = Some(self.now);
        self.note(model, What::Refused, reason);
    }
}
