//! What a model needs at least, and the most that it can be given; who would be refused, and who would give up a place.

use std::collections::BTreeMap;
use std::sync::Arc;

use samovar_core::port::Millis;
use samovar_core::{Arena, Bytes, Memory};

use crate::ask::ModelSpec;
use crate::decide::state::{DEPTH, ModelId, Who};
use crate::decide::view::{View, while_backing_off};
use crate::error::Error;
use crate::protocol::TicketId;

impl View<'_> {
    pub(in crate::decide) fn reason_to_refuse(
        &self,
        model: ModelId,
        spec: &ModelSpec,
        deadline: Option<Millis>,
    ) -> Option<Error> {
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
            .or_else(|| self.growth_blocked_group(model, spec))
            .or_else(|| self.does_not_fit(model, spec))
    }

    /// The refusal of a model that can not be loaded, whatever unpinned instances leave.
    pub(in crate::decide) fn does_not_fit(&self, model: ModelId, spec: &ModelSpec) -> Option<Error> {
        let needed = self.needed_by_group(model, (model, spec));
        let largest = self.largest_for(model);
        let arena = largest.short_of(needed)?;
        Some(Error::TooLarge {
            model: spec.name.clone(),
            needed_bytes: needed.of(arena),
            budget_bytes: self.state.config.budgets().of(arena),
            largest_bytes: largest.of(arena),
            arena,
            context_that_fits: context_that_fits(spec, needed, largest),
        })
    }

    /// What a model takes with all that it needs, the one part of them as given here. What is pinned is not made smaller.
    pub(in crate::decide) fn needed_by_group(
        &self,
        model: ModelId,
        (part, as_given): (ModelId, &ModelSpec),
    ) -> Bytes {
        let of_model = self.state.model(model);
        let first = of_model.first_waiting().map(|ticket| &self.state.tickets[&ticket].spec);
        let own = std::iter::once((model, first.unwrap_or(&of_model.spec)));
        let all = own.chain(of_model.members.iter().map(|(member, spec)| (*member, spec)));
        let bytes = all.map(|(id, spec)| {
            let spec = if id == part { as_given } else { spec };
            self.needed_alone(id, spec)
        });
        bytes.sum()
    }

    /// What a model takes so that it serves this. What it has stays, if it is pinned, but for one that may grow.
    pub(in crate::decide) fn needed_alone(&self, model: ModelId, spec: &ModelSpec) -> Bytes {
        let expected = self.state.model(model).expected(spec);
        let mut staying = self.state.staying(model);
        if !self.state.is_pinned(model) || self.state.model(model).instances.is_empty() {
            return expected.total();
        }
        let counted = self.counted(model);
        if staying.any(|(_, instance)| instance.will_satisfy(spec)) {
            // One that is parked counts for less than it will.
            return counted.total().max(expected.total());
        }
        let private = self.state.staying(model).map(|(id, _)| self.state.ledger.memory(id).private);
        let of_others = counted.private.minus(private.reduce(Bytes::min).unwrap_or_default());
        of_others + expected.private + expected.mapped_bytes().max(counted.mapped_bytes())
    }

    /// What all instances of a model count for that stay.
    fn counted(&self, model: ModelId) -> Memory {
        self.state.ledger.together(self.state.staying(model).map(|(id, _)| id))
    }

    fn pinned(&self) -> &[ModelId] {
        let pinned = || self.state.models.keys().copied().filter(|id| self.state.is_pinned(*id)).collect();
        self.derived.pinned.get_or_init(pinned)
    }

    /// The most that a group can be given: the budget without what is pinned of other models.
    pub(in crate::decide) fn largest_for(&self, model: ModelId) -> Bytes {
        let group = self.state.group(model);
        let others = self.pinned().iter().filter(|id| !group.contains(id));
        let pinned: Bytes = others.map(|id| self.counted(*id).total()).sum();
        self.state.config.budgets().minus(pinned)
    }

    /// Of the name with the most requests in these lines the one that came last, if it has at least two more than that
    /// of `who` beside it: the names of clients first, then those within the client of `who`, and so on.
    pub(in crate::decide) fn last_of_the_greediest(
        &self,
        lines: &[ModelId],
        who: &Who,
    ) -> Option<(ModelId, TicketId)> {
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
    pub(in crate::decide) fn latest_beside(
        &self,
        lines: &[ModelId],
        model: ModelId,
        who: &Who,
    ) -> Option<(ModelId, TicketId)> {
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
    pub(in crate::decide) fn counts(
        &self,
        lines: &[ModelId],
        within: &[Arc<str>],
    ) -> BTreeMap<Arc<str>, usize> {
        let mut counts = BTreeMap::new();
        for (name, waiting) in lines.iter().flat_map(|model| self.state.model(*model).queue.counts(within)) {
            *counts.entry(Arc::clone(name)).or_default() += waiting;
        }
        counts
    }

    pub(in crate::decide) fn busy(&self, model: ModelId, queued: u32) -> Error {
        let name = self.state.model(model).spec.name.clone();
        Error::Busy { model: name, queued, retry_after_ms: self.retry_after_ms(model) }
    }
}

/// The longest context, in whole blocks of 256 tokens, with which the model would fit: all but the cells stays.
fn context_that_fits(spec: &ModelSpec, needed: Bytes, largest: Bytes) -> Option<u32> {
    let context_tokens = u64::from(spec.options.context_tokens);
    let cells = spec.cost.of_cells(&spec.options);
    let tokens_in = |arena: Arena| {
        let per_context_token = cells.of(arena).checked_div(context_tokens)?;
        let rest = needed.of(arena).checked_sub(cells.of(arena))?;
        largest.of(arena).checked_sub(rest)?.checked_div(per_context_token)
    };
    let mut tokens = context_tokens;
    for arena in Arena::all().filter(|arena| needed.of(*arena) > largest.of(*arena)) {
        tokens = tokens.min(tokens_in(arena)?);
    }
    let blocks = tokens / 256;
    (blocks > 0).then_some(blocks as u32 * 256)
}
