//! What is kept of answers until their readers have them, and of requests more than once, counted with what requests hold.

use axum::body::Bytes;
use samovar_core::Failure;
use samovar_core::byte_budget::{ByteBudget, Charge};
use samovar_core::generation::TokenLogprob;

use crate::app::App;

/// Counts what is kept of one response. Dropped with it.
#[derive(Debug)]
pub(crate) struct BufferCharge(Charge);

impl BufferCharge {
    pub(crate) fn new(app: &App, client: &str) -> Self {
        Self::of(app.runtime.buffers(), client)
    }

    pub(crate) fn of(budget: &ByteBudget, client: &str) -> Self {
        Self(budget.charge(client))
    }

    /// Counts a piece of text with its probabilities.
    ///
    /// # Errors
    /// `Busy` when answers and requests take all the memory that there is for them.
    pub(crate) fn keep(&mut self, text: &str, logprob: Option<&TokenLogprob>) -> Result<(), Failure> {
        let of_one = |one: &TokenLogprob| size_of::<TokenLogprob>() + one.bytes.len();
        let of_token = |token: &TokenLogprob| of_one(token) + token.top.iter().map(of_one).sum::<usize>();
        self.add(text.len() + logprob.map_or(0, of_token))
    }

    /// Counts so many bytes more.
    ///
    /// # Errors
    /// As [`BufferCharge::keep`].
    pub(crate) fn add(&mut self, bytes: usize) -> Result<(), Failure> {
        Ok(self.0.grow(bytes as u64)?)
    }

    /// Counts these bytes in place of all that was counted, until the last part of them is dropped.
    ///
    /// # Errors
    /// As [`BufferCharge::keep`].
    pub(crate) fn becomes(mut self, bytes: Vec<u8>) -> Result<Bytes, Failure> {
        let (before, now) = (self.0.bytes(), bytes.len() as u64);
        if now > before {
            self.0.grow(now - before)?;
        } else {
            self.0.shrink(before - now);
        }
        Ok(Bytes::from_owner(Counted { bytes, _charge: self.0 }))
    }
}

/// Bytes and what they were counted with.
struct Counted {
    bytes: Vec<u8>,
    _charge: Charge,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_until_the_last_part_of_it_is_dropped() {
        let budget = ByteBudget::new(1 << 20);
        for kept_bytes in [100_000, 300_000] {
            let mut kept = BufferCharge(budget.charge("a"));
            kept.add(kept_bytes).expect("fits");
            let mut bytes = kept.becomes(vec![b'x'; 200_000]).expect("fits");
            assert_eq!(budget.used_bytes(), 200_000);
            let part = bytes.split_to(1);
            drop(bytes);
            assert_eq!(budget.used_bytes(), 200_000);
            drop(part);
            assert_eq!(budget.used_bytes(), 0);
        }
    }

    #[test]
    fn an_answer_that_finds_no_room_is_refused_and_holds_nothing() {
        let budget = ByteBudget::new(100_000);
        let failure = BufferCharge(budget.charge("a")).becomes(vec![b'x'; 80_000]).expect_err("no room");
        assert_eq!(failure.kind, samovar_core::ErrorKind::Busy);
        assert_eq!(budget.used_bytes(), 0);
    }
}
