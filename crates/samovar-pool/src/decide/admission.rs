//! Who may wait, and who is refused at once.
//!
//! A refusal costs no more than looking at the numbers. For a request that can not be served nothing is begun and nothing
//! leaves; for one that could only be served too late the load is begun that it would have waited for (see `outlook`), as
//! long as fewer wait than may.

use std::collections::BTreeMap;
use std::sync::Arc;

use samovar_core::Footprint;
use samovar_core::port::Millis;

use super::demand::kv_bytes;
use super::health::while_backing_off;
use super::line::{DEPTH, Who};
use super::state::{ModelId, TurnedAway};
use super::{Call, Turn};
use crate::ask::ModelSpec;
use crate::decision::{Reason, What};
use crate::error::Error;
use crate::protocol::{Effect, TicketId};

/// Refusals of one model are noted at most once in so long, lest a crowd fill the memory of decisions.
const NOTE_REFUSALS_EVERY_MS: u64 = 1_000;
/// Of a model so many are remembered that found no place.
const TURNED_AWAY_MAX: usize = 1_024;

impl Turn<'_> {
    pub(super) fn request(&mut self, ticket: TicketId, spec: &Arc<ModelSpec>, call: &Call) {
        let model = self.state.know(spec, self.now);
        self.state.count(model, |tally| tally.requests += 1);
        let refusal = self.reason_to_refuse(model, spec, call.deadline);
        if refusal.is_none()
            && let Some(why) = self.too_late(model, spec, call)
        {
            self.turn_down(ticket, model, why);
            self.begin_for_the_next(model, spec);
            return;
        }
        if let Some(why) = refusal.or_else(|| self.find_place(model, Some(&call.who)).err()) {
            self.turn_down(ticket, model, why);
            return;
        }
        self.enqueue(ticket, model, spec, call);
        self.review(model);
    }

    pub(super) fn warm(&mut self, ticket: TicketId, spec: &Arc<ModelSpec>) {
        let model = self.state.know(spec, self.now);
        let refusal = self.reason_to_refuse(model, spec, None);
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

    fn reason_to_refuse(&self, model: ModelId, spec: &ModelSpec, deadline: Option<Millis>) -> Option<Error> {
        if self.state.is_leaving {
            return Some(Error::ShuttingDown);
        }
        if deadline.is_some_and(|deadline| deadline <= self.now) {
            return Some(Error::DeadlineExceeded { model: spec.name.clone(), waited_ms: 0 });
        }
        if self.is_served(model, spec) && self.members_ready(model).is_some() {
            return None;
        }
        self.remembered_failure_of_group(model)
            .map(while_backing_off)
            .or_else(|| self.stunted_group(model, spec))
            .or_else(|| self.does_not_fit(model, spec))
    }

    /// The refusal of a model that can not be loaded, whatever unpinned instances leave.
    pub(super) fn does_not_fit(&self, model: ModelId, spec: &ModelSpec) -> Option<Error> {
        let needed_bytes = self.needed_by_group(model, (model, spec));
        let budget_bytes = self.state.config.budget.bytes;
        let largest_bytes = self.largest_for(model);
        (needed_bytes > largest_bytes).then(|| Error::TooLarge {
            model: spec.name.clone(),
            needed_bytes,
            budget_bytes,
            largest_bytes,
            context_that_fits: context_that_fits(spec, needed_bytes, largest_bytes),
        })
    }

    /// What a model takes with all that it needs, the one part of them as given here. What is pinned is not made smaller.
    pub(super) fn needed_by_group(&self, model: ModelId, (part, as_given): (ModelId, &ModelSpec)) -> u64 {
        let of_model = self.state.model(model);
        let first = of_model.waiting().first().map(|ticket| &self.state.tickets[ticket].spec);
        let own = std::iter::once((model, first.unwrap_or(&of_model.spec)));
        let all = own.chain(of_model.members.iter().map(|(member, spec)| (*member, spec)));
        let bytes = all.map(|(id, spec)| {
            let spec = if id == part { as_given } else { spec };
            self.needed_alone(id, spec)
        });
        bytes.sum()
    }

    /// What a model takes so that it serves this. What it has stays, if it is pinned, but for one that may grow.
    pub(super) fn needed_alone(&self, model: ModelId, spec: &ModelSpec) -> u64 {
        let expected = self.state.model(model).expected(spec);
        let mut staying = self.state.staying(model);
        if !self.state.is_pinned(model) || self.state.model(model).instances.is_empty() {
            return expected.total_bytes();
        }
        let counted = self.counted(model);
        if staying.any(|(_, instance)| instance.will_satisfy(spec)) {
            // One that is parked counts for less than it will.
            return counted.total_bytes().max(expected.total_bytes());
        }
        let held = self.state.staying(model).map(|(id, _)| self.state.ledger.footprint(id).held_bytes);
        let others_bytes = counted.held_bytes - held.min().unwrap_or(0);
        others_bytes + expected.held_bytes + expected.mapped_bytes.max(counted.mapped_bytes)
    }

    /// What all instances of a model count for that stay.
    fn counted(&self, model: ModelId) -> Footprint {
        self.state.ledger.together(self.state.staying(model).map(|(id, _)| id))
    }

    /// The most that a group can be given: the budget without what is pinned of other models.
    pub(super) fn largest_for(&self, model: ModelId) -> u64 {
        let group = self.state.group(model);
        let others = self.state.models.keys().filter(|id| !group.contains(id) && self.state.is_pinned(**id));
        let pinned_bytes: u64 = others.map(|id| self.counted(*id).total_bytes()).sum();
        self.state.config.budget.bytes.saturating_sub(pinned_bytes)
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
        if waiting == 0 && self.has_free_slot(model) {
            return Ok(());
        }
        let last = who.and_then(|who| self.last_of_the_greediest(&lines, who));
        let last = last.or_else(|| self.latest_beside(&lines, model, who?));
        let Some((greedy, ticket)) = last else {
            self.remember_turned_away(model, who, self.now);
            return Err(self.busy(model, queued));
        };
        let why = self.busy(greedy, queued);
        if let Some(displaced) = self.take_ticket(ticket) {
            self.remember_turned_away(greedy, Some(&displaced.who), displaced.asked_at);
        }
        self.turn_down(ticket, greedy, why);
        self.left_the_queue(greedy);
        Ok(())
    }

    /// Of the name with the most requests in these lines the one that came last, if it has at least two more than that
    /// of `who` beside it: the names of clients first, then those within the client of `who`, and so on.
    fn last_of_the_greediest(&self, lines: &[ModelId], who: &Who) -> Option<(ModelId, TicketId)> {
        let names = who.names();
        for depth in 0..names.len() {
            let (within, own) = (&names[..depth], &names[depth]);
            let counts = self.counts(lines, within);
            let own_count = counts.get(own).copied().unwrap_or(0);
            let others = counts.into_iter().filter(|(name, _)| name != own);
            if let Some((greediest, most)) = others.max_by_key(|(_, count)| *count)
                && most >= own_count + 2
            {
                return self.last_within(lines, [within, &[greediest]].concat());
            }
            if own_count == 0 {
                return None;
            }
        }
        None
    }

    /// Of those who share all names but the last with `who`, the one that asked latest, if that was after `who` was turned
    /// away first: else those that ask again at once would keep out those that wait as they were told.
    fn latest_beside(&self, lines: &[ModelId], model: ModelId, who: &Who) -> Option<(ModelId, TicketId)> {
        let turned_away = self.state.model(model).turned_away.get(who);
        let since = turned_away.filter(|known| known.is_expected(self.now))?.first;
        let beside = |id: &TicketId| {
            let ticket = &self.state.tickets[id];
            let names = (ticket.who.names().split_last()?.1, who.names().split_last()?.1);
            let turned_away = self.state.model(ticket.model).turned_away.get(&ticket.who);
            let asked = turned_away.map_or(ticket.asked_at, |known| known.first);
            (names.0 == names.1 && ticket.who != *who && asked > since).then_some((asked, *id, ticket.model))
        };
        let waiting = lines.iter().flat_map(|model| self.state.model(*model).queue.in_order());
        waiting.filter_map(|id| beside(&id)).max().map(|(_, id, model)| (model, id))
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

    /// Going from these names to the one within them that has the most requests, and on: the one that came last.
    fn last_within(&self, lines: &[ModelId], mut names: Vec<Arc<str>>) -> Option<(ModelId, TicketId)> {
        while names.len() < DEPTH {
            let greediest = self.counts(lines, &names).into_iter().max_by_key(|(_, count)| *count);
            names.push(greediest?.0);
        }
        let last_of = |model: &ModelId| Some((self.state.model(*model).queue.last_of(&names)?, *model));
        lines.iter().filter_map(last_of).max().map(|((_, ticket), model)| (model, ticket))
    }

    /// How many requests wait in these lines for each name within these names.
    fn counts(&self, lines: &[ModelId], within: &[Arc<str>]) -> BTreeMap<Arc<str>, usize> {
        let mut counts = BTreeMap::new();
        for (name, waiting) in lines.iter().flat_map(|model| self.state.model(*model).queue.counts(within)) {
            *counts.entry(Arc::clone(name)).or_default() += waiting;
        }
        counts
    }

    fn busy(&self, model: ModelId, queued: u32) -> Error {
        let name = self.state.model(model).spec.name.clone();
        Error::Busy { model: name, queued, retry_after_ms: self.retry_after_ms(model) }
    }

    pub(super) fn note_refusal(&mut self, model: ModelId, why: &Error) {
        let last = self.state.model(model).last_refusal_noted;
        if last.is_some_and(|last| self.now.since(last) < NOTE_REFUSALS_EVERY_MS) {
            return;
        }
        let reason = match why {
            Error::TooLarge { needed_bytes, budget_bytes, largest_bytes, .. } => Reason::DoesNotFit {
                needed_bytes: *needed_bytes,
                budget_bytes: *budget_bytes,
                largest_bytes: *largest_bytes,
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

/// The longest context, in whole blocks of 256 tokens, with which the model would fit: all but the KV cache stays.
fn context_that_fits(spec: &ModelSpec, needed_bytes: u64, largest_bytes: u64) -> Option<u32> {
    let kv_bytes = kv_bytes(spec, &spec.options);
    let per_context_token = kv_bytes.checked_div(u64::from(spec.options.context_tokens))?;
    let rest = needed_bytes.checked_sub(kv_bytes)?;
    let tokens = largest_bytes.checked_sub(rest)?.checked_div(per_context_token)?;
    let blocks = tokens.min(u64::from(spec.options.context_tokens)) / 256;
    (blocks > 0).then_some(blocks as u32 * 256)
}
