//! How long one answer's thoughts may be, and how they are ended.

use llama_cpp_2::token::LlamaToken;

/// Bounds the thoughts of one answer. Empty where it has none, or nothing bounds them.
#[derive(Debug, Default)]
pub(crate) struct Thought {
    /// Tokens of thought after which it is ended; `None` = as many as the model likes.
    budget_tokens: Option<u32>,
    /// What ends it; empty = nothing does.
    close: Vec<LlamaToken>,
    /// What ends it has been said, and it is not over yet.
    is_closing: bool,
}

impl Thought {
    pub(crate) fn new(budget_tokens: Option<u32>, close: Vec<LlamaToken>) -> Self {
        Self { budget_tokens, close, is_closing: false }
    }

    /// Whether an answer with so many tokens of thought has had enough of it, and it can be ended.
    pub(crate) fn is_spent(&self, tokens: u32) -> bool {
        self.budget_tokens.is_some_and(|budget| tokens >= budget) && self.can_close()
    }

    /// Whether something ends it that has not been tried.
    pub(crate) fn can_close(&self) -> bool {
        !self.is_closing && !self.close.is_empty()
    }

    /// The tokens that end it.
    pub(crate) fn close(&self) -> &[LlamaToken] {
        &self.close
    }

    /// What ends it is said now. Where that does not help, it is not said again.
    pub(crate) fn note_closing(&mut self) {
        self.is_closing = true;
    }

    /// It is over; another may be ended in its turn.
    pub(crate) fn note_end(&mut self) {
        self.is_closing = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thought_is_ended_once_and_the_next_one_in_its_turn() {
        let mut thought = Thought::new(Some(3), vec![LlamaToken(7)]);
        assert!(!thought.is_spent(2) && thought.is_spent(3));
        thought.note_closing();
        assert!(!thought.is_spent(4) && !thought.can_close());
        thought.note_end();
        assert!(thought.is_spent(4));
    }

    #[test]
    fn without_a_budget_or_a_mark_it_goes_on() {
        let unbounded = Thought::new(None, vec![LlamaToken(7)]);
        assert!(!unbounded.is_spent(u32::MAX) && unbounded.can_close());
        assert!(!Thought::new(Some(0), Vec::new()).is_spent(5));
        assert!(Thought::new(Some(0), vec![LlamaToken(7)]).is_spent(0), "no thought at all");
    }
}
