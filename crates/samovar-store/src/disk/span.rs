//! Which bytes of a file are there: ranges that neither touch nor overlap, in order.

use std::collections::BTreeMap;
use std::ops::Range;

/// A set of byte ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spans(BTreeMap<u64, u64>);

impl Spans {
    /// Adds a range; empty ones add nothing.
    pub(crate) fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let Range { mut start, mut end } = range;
        // Everything that touches the new range melts into it.
        while let Some((&from, &to)) = self.0.range(..=end).next_back().filter(|(_, to)| **to >= start) {
            start = start.min(from);
            end = end.max(to);
            self.0.remove(&from);
        }
        self.0.insert(start, end);
    }

    /// Bytes in all.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.iter().map(|(from, to)| to - from).sum()
    }

    /// Where the bytes that are there without a gap from 0 end.
    pub(crate) fn front(&self) -> u64 {
        self.0.get(&0).copied().unwrap_or(0)
    }

    /// The ranges, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Range<u64>> {
        self.0.iter().map(|(from, to)| *from..*to)
    }

    /// What is missing of `0..size`, in pieces of at most `chunk_bytes`.
    pub(crate) fn missing(&self, size: u64, chunk_bytes: u64) -> Vec<Range<u64>> {
        let chunk_bytes = chunk_bytes.max(1);
        let mut pieces = Vec::new();
        let mut at = 0;
        for span in self.iter().chain(std::iter::once(size..size)) {
            while at < span.start.min(size) {
                let end = (at + chunk_bytes).min(span.start).min(size);
                pieces.push(at..end);
                at = end;
            }
            at = at.max(span.end);
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_that_touch_become_one() {
        let mut spans = Spans::default();
        spans.insert(4..8);
        spans.insert(0..4);
        spans.insert(10..12);
        assert_eq!(spans.iter().collect::<Vec<_>>(), [0..8, 10..12]);
        assert_eq!((spans.front(), spans.bytes()), (8, 10));
        assert_eq!(spans.missing(16, 3), [8..10, 12..15, 15..16]);
    }

    proptest! {
        #[test]
        fn agrees_with_a_set_of_bytes(ranges in prop::collection::vec((0u64..64, 0u64..16), 0..12), size in 0u64..80, chunk in 1u64..9) {
            let mut spans = Spans::default();
            let mut bytes = [false; 96];
            for (start, length) in ranges {
                spans.insert(start..start + length);
                bytes[start as usize..(start + length) as usize].fill(true);
            }
            prop_assert_eq!(spans.bytes(), bytes.iter().filter(|there| **there).count() as u64);
            prop_assert_eq!(spans.front(), bytes.iter().take_while(|there| **there).count() as u64);
            let missing = spans.missing(size, chunk);
            for at in 0..size {
                let is_missing = missing.iter().any(|range| range.contains(&at));
                prop_assert_eq!(is_missing, !bytes[at as usize]);
            }
            prop_assert!(missing.iter().all(|range| !range.is_empty() && range.end - range.start <= chunk));
            prop_assert!(missing.windows(2).all(|pair| pair[0].end <= pair[1].start));
        }
    }
}
