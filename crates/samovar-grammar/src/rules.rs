//! One answer's state under its grammar: which tokens it took in, which are forced, which may come next.

use std::fmt;

use llguidance::Matcher;
use llguidance::earley::Parser;
use samovar_core::Failure;
use toktrie::TokEnv;

use crate::error::Error;
use crate::limits;
use crate::mask::Mask;
use crate::memory::GrammarShare;

/// One answer's state. A failure is final: every later call fails too, so no text passes that the grammar does not allow. Only
/// a mask for which there was no memory can be had when there is some.
pub struct Rules {
    matcher: Matcher,
    environment: TokEnv,
    /// Of the tokens taken in so far; made when it is asked for.
    mask: Option<Mask>,
    spent_fuel: u64,
    spent_items: u64,
    size: Size,
}

/// How much memory an answer's grammar takes.
pub(crate) struct Size {
    /// Has the lexer of the answer's parser, and is asked for its size alone. It must not be asked once the parser has failed.
    pub(crate) lexer: Parser,
    /// Everything but the lexer.
    pub(crate) compiled_bytes: usize,
    pub(crate) share: GrammarShare,
}

impl Size {
    /// Counts what it takes now.
    fn count(&mut self) -> Result<(), Error> {
        let bytes = self.lexer.lexer_stats().num_bytes.saturating_add(self.compiled_bytes);
        self.share.resize(bytes)
    }
}

impl Rules {
    pub(crate) fn new(matcher: Matcher, environment: TokEnv, size: Size) -> Self {
        Self { matcher, environment, mask: None, spent_fuel: 0, spent_items: 0, size }
    }

    /// Takes in the token that was chosen. After the last token of a grammar, only an end token is taken in.
    ///
    /// # Errors
    /// `Internal` if the token was not allowed, `InvalidRequest` if the grammar became too costly.
    pub fn accept(&mut self, token: u32) -> Result<(), Failure> {
        self.mask = None;
        if self.is_finished() {
            return if self.is_end(token) {
                Ok(())
            } else {
                let detail = format!("token {token} follows its end");
                Err(Error::Left { detail }.into_failure(None))
            };
        }
        self.check_spent()?;
        self.matcher.consume_token(token).map_err(|error| in_answer(&error.to_string()))
    }

    /// Which tokens may come next: end tokens exactly where the answer may end, and nothing else where it must.
    ///
    /// # Errors
    /// `InvalidRequest` if the grammar became too costly, or no token of the model can follow; `Busy` if it needs more memory
    /// than those of other answers leave.
    pub fn mask(&mut self) -> Result<&Mask, Failure> {
        let mask = match self.mask.take() {
            Some(mask) => mask,
            None => self.compute()?,
        };
        Ok(&*self.mask.insert(mask))
    }

    /// Up to `most` tokens that must come next, not yet taken in. They are what the model's own tokenizer makes of the
    /// forced text, without those at its end that could be part of a longer token.
    ///
    /// # Errors
    /// As [`mask`](Self::mask).
    pub fn forced(&mut self, most: usize) -> Result<Vec<u32>, Failure> {
        if most == 0 || self.is_finished() {
            return Ok(Vec::new());
        }
        let mut tokens = self.matcher.compute_ff_tokens();
        if let Some(words) = self.matcher.get_error() {
            return Err(in_answer(&words));
        }
        tokens.truncate(most);
        Ok(tokens)
    }

    /// How many of a draft's tokens are allowed, from the first on. Takes none of them in.
    pub fn allows(&mut self, tokens: &[u32]) -> usize {
        if self.is_finished() {
            return usize::from(tokens.first().is_some_and(|token| self.is_end(*token)));
        }
        let size = self.environment.tok_trie().vocab_size();
        let known = tokens.iter().take_while(|token| (**token as usize) < size).count();
        self.matcher.validate_tokens(&tokens[..known]).unwrap_or(0)
    }

    /// Whether nothing but an end token may follow.
    pub fn is_finished(&self) -> bool {
        self.matcher.is_stopped() && !self.matcher.is_error()
    }

    fn is_end(&self, token: u32) -> bool {
        self.environment.tok_trie().eos_tokens().contains(&token)
    }

    fn compute(&mut self) -> Result<Mask, Failure> {
        let bits = self.matcher.compute_mask_or_eos().map_err(|error| in_answer(&error.to_string()))?;
        if let Ok(stats) = self.matcher.last_step_stats() {
            self.spent_fuel += stats.lexer_cost;
            self.spent_items += stats.all_items as u64;
        }
        self.check_spent()?;
        self.size.count().map_err(|error| error.into_failure(None))?;
        Ok(Mask::new(bits))
    }

    fn check_spent(&self) -> Result<(), Failure> {
        if self.spent_fuel > limits::ANSWER_FUEL || self.spent_items > limits::ANSWER_ITEMS {
            let detail = "all of its steps together cost more than one answer may".to_owned();
            return Err(Error::TooCostly { detail }.into_failure(None));
        }
        Ok(())
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Rules").field("is_finished", &self.is_finished()).finish_non_exhaustive()
    }
}

fn in_answer(words: &str) -> Failure {
    Error::in_answer(words).into_failure(None)
}
