//! Tokens that one request may say next, to be computed together with its last one.
//!
//! What follows a draft's first token that the request does not say itself is taken back by the loop. So a draft changes
//! how many tokens a step gives, and never which ones.

use std::time::Duration;

use llama_cpp_2::token::LlamaToken;

use crate::speculate::{Controller, Costs, DRAFT_MAX, Drafting, Lookup, ModelController};

/// The drafts of one request.
#[derive(Debug)]
pub(crate) struct Drafts {
    lookup: Lookup,
    controller: Controller,
    /// For the next step.
    draft: Vec<LlamaToken>,
    /// What it took, if it is a draft model's.
    drafting: Option<Drafting>,
    /// It makes none any more.
    is_off: bool,
}

impl Drafts {
    /// For a request that begins; one that `is_off` never has any.
    pub(crate) fn new(is_off: bool) -> Self {
        let (lookup, controller) = (Lookup::new(), Controller::new());
        Self { lookup, controller, draft: Vec::new(), drafting: None, is_off }
    }

    /// Drafts what may follow these tokens, at most so many, where that pays.
    pub(crate) fn make(&mut self, tokens: &[LlamaToken], most: usize, costs: &Costs) {
        self.clear();
        if self.is_off {
            return;
        }
        let found = self.lookup.draft(tokens, most.min(DRAFT_MAX));
        let count = self.controller.k(found, costs);
        self.draft.extend_from_slice(&found.tokens[..count]);
    }

    /// The next step has this draft of a draft model.
    pub(crate) fn put(&mut self, draft: Vec<LlamaToken>, drafting: Drafting) {
        (self.draft, self.drafting) = (draft, Some(drafting));
    }

    /// The draft for the next step; empty = none.
    pub(crate) fn current(&self) -> &[LlamaToken] {
        &self.draft
    }

    /// Whether it is a draft model's.
    pub(crate) fn is_of_model(&self) -> bool {
        self.drafting.is_some()
    }

    /// Whether there will be none any more.
    pub(crate) fn is_off(&self) -> bool {
        self.is_off
    }

    /// There is none for the next step.
    pub(crate) fn clear(&mut self) {
        self.draft.clear();
        self.drafting = None;
    }

    /// There will be none any more.
    pub(crate) fn end(&mut self) {
        self.clear();
        self.is_off = true;
    }

    /// Takes note of a step of this request alone that computed `rows` of it, of which so many of the draft's were
    /// `accepted`.
    pub(crate) fn note(
        &mut self,
        rows: usize,
        accepted: usize,
        time: Duration,
        costs: &mut Costs,
        model_controller: &mut ModelController,
    ) {
        if let Some(drafting) = self.drafting.take() {
            self.controller.said(1 + accepted);
            model_controller.step(rows, accepted, time, &drafting, costs);
        } else {
            self.controller.step(rows, accepted, time, costs);
            model_controller.said(1 + accepted, rows == 1);
        }
    }
}
