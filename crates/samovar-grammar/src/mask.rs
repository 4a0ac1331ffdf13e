//! Which tokens may come next, one bit for each token of the vocabulary.

use std::fmt;

use toktrie::SimpleVob;

/// Bits of a word of the mask.
const WORD_BITS: usize = u32::BITS as usize;

/// Which tokens may come next. It has a bit for each token of its vocabulary.
#[derive(Clone, PartialEq, Eq)]
pub struct Mask {
    bits: SimpleVob,
}

impl Mask {
    pub(crate) fn new(bits: SimpleVob) -> Self {
        Self { bits }
    }

    /// Whether this token may come next; false for one that the vocabulary does not have.
    pub fn allows(&self, token: u32) -> bool {
        (token as usize) < self.bits.len() && self.bits.is_allowed(token)
    }

    /// How many tokens may come next.
    pub fn count(&self) -> usize {
        self.bits.num_set()
    }

    /// The tokens that may come next, in their order.
    pub fn tokens(&self) -> impl Iterator<Item = u32> {
        self.bits.iter()
    }

    /// Makes every token impossible that may not come next. The index in `logits` is the token; what lies beyond the
    /// vocabulary becomes impossible too.
    pub fn apply(&self, logits: &mut [f32]) {
        let words = self.bits.as_slice();
        for (word, chunk) in words.iter().zip(logits.chunks_mut(WORD_BITS)) {
            match *word {
                u32::MAX => {}
                0 => chunk.fill(f32::NEG_INFINITY),
                word => {
                    for (bit, logit) in chunk.iter_mut().enumerate() {
                        if word & (1 << bit) == 0 {
                            *logit = f32::NEG_INFINITY;
                        }
                    }
                }
            }
        }
        if let Some(beyond) = logits.get_mut(words.len() * WORD_BITS..) {
            beyond.fill(f32::NEG_INFINITY);
        }
    }
}

impl fmt::Debug for Mask {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Mask").field("count", &self.count()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_allowed_becomes_impossible() {
        let mut bits = SimpleVob::alloc_with_capacity(70, 71);
        for token in (0..32).chain([40, 69]) {
            bits.allow_token(token);
        }
        let mask = Mask::new(bits);
        let mut logits = [1.0; 100];
        mask.apply(&mut logits);
        for (token, logit) in logits.iter().enumerate() {
            assert_eq!(logit.is_finite(), mask.allows(token as u32), "{token}");
        }
        assert_eq!(mask.count(), 34);
        assert_eq!(mask.tokens().skip(31).collect::<Vec<_>>(), [31, 40, 69]);
        assert!(!mask.allows(70) && !mask.allows(u32::MAX));
    }
}
