//! What is kept of answers until they are complete, counted with what requests hold.

use samovar_core::Failure;
use samovar_core::byte_budget::Charge;
use samovar_core::generation::TokenLogprob;

use crate::app::App;

/// Counts what is kept of one response. Dropped with it.
#[derive(Debug)]
pub(crate) struct Kept(Charge);

impl Kept {
    pub(crate) fn new(app: &App, client: &str) -> Self {
        Self(app.runtime.buffers().charge(client))
    }

    /// Counts a piece of text with its probabilities.
    ///
    /// # Errors
    /// `Busy` when answers and requests take all the memory that there is for them.
    pub(crate) fn keep(&mut self, text: &str, logprob: Option<&TokenLogprob>) -> Result<(), Failure> {
        let of_one = |one: &TokenLogprob| size_of::<TokenLogprob>() + one.bytes.len();
        let of_token = |token: &TokenLogprob| of_one(token) + token.top.iter().map(of_one).sum::<usize>();
        self.0.grow((text.len() + logprob.map_or(0, of_token)) as u64)?;
        Ok(())
    }
}
