//! Which bytes are still to be asked for, and by whom next.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// The smallest piece that is asked for at once, ends of gaps apart.
pub(crate) const CHUNK_BYTES: u64 = 8 << 20;
/// The largest. Larger ones would let the front, which is hashed, wait for the slowest connection.
const PIECE_BYTES: u64 = 64 << 20;

/// How long a piece may take.
const PIECE_SECONDS: u64 = 4;

/// Gaps of a file, handed out from the front.
pub(crate) struct Queue(Mutex<VecDeque<Range<u64>>>);

impl Queue {
    /// Of these gaps, which are in order and do not touch.
    pub(crate) fn new(gaps: Vec<Range<u64>>) -> Self {
        Self(Mutex::new(gaps.into()))
    }

    /// Bytes that no connection has taken.
    pub(crate) fn bytes(&self) -> u64 {
        self.gaps().iter().map(|gap| gap.end - gap.start).sum()
    }

    /// The next piece for one of `lanes` connections, which can do `bytes_per_s`: what it does in some
    /// seconds, so that a far server's round trips do not count, and less towards the end, so that all
    /// connections end together.
    pub(crate) fn take(&self, lanes: u64, bytes_per_s: u64) -> Option<Range<u64>> {
        if lanes <= 1 {
            // No other connection to share with: one request per gap.
            return self.gaps().pop_front();
        }
        let share = self.bytes() / lanes / 2;
        let wish =
            bytes_per_s.saturating_mul(PIECE_SECONDS).min(share).min(PIECE_BYTES) / CHUNK_BYTES * CHUNK_BYTES;
        let mut gaps = self.gaps();
        let gap = gaps.front_mut()?;
        let end = gap.start.saturating_add(wish.max(CHUNK_BYTES)).min(gap.end);
        // A little rest is not worth a request of its own.
        let end = if gap.end - end < CHUNK_BYTES / 4 { gap.end } else { end };
        let piece = gap.start..end;
        gap.start = end;
        if gap.is_empty() {
            gaps.pop_front();
        }
        Some(piece)
    }

    /// Puts back what was taken and not done.
    pub(crate) fn give_back(&self, piece: Range<u64>) {
        if piece.is_empty() {
            return;
        }
        let mut gaps = self.gaps();
        let place = gaps.partition_point(|gap| gap.start < piece.start);
        gaps.insert(place, piece);
    }

    fn gaps(&self) -> std::sync::MutexGuard<'_, VecDeque<Range<u64>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "a list of gaps may have one")]
mod tests {
    use super::*;

    #[test]
    fn a_small_file_is_one_piece() {
        let queue = Queue::new(vec![0..100, 200..300]);
        assert_eq!(queue.take(4, 0), Some(0..100));
        assert_eq!(queue.take(4, u64::MAX), Some(200..300));
        assert_eq!(queue.take(4, 0), None);
    }

    #[test]
    fn pieces_grow_with_the_rate_and_shrink_towards_the_end() {
        let size = 1 << 30;
        let queue = Queue::new(vec![0..size]);
        let first = queue.take(4, 0).unwrap();
        assert_eq!(first, 0..CHUNK_BYTES);
        let second = queue.take(4, 1 << 40).unwrap();
        assert_eq!(second, CHUNK_BYTES..CHUNK_BYTES + PIECE_BYTES);
        let mut last = second;
        while let Some(piece) = queue.take(4, 1 << 40) {
            assert_eq!(piece.start, last.end);
            last = piece;
        }
        assert_eq!(last.end, size);
        assert!(last.end - last.start <= CHUNK_BYTES * 5 / 4);
    }

    #[test]
    fn what_is_given_back_comes_first() {
        let queue = Queue::new(vec![0..CHUNK_BYTES * 3]);
        let piece = queue.take(2, 0).unwrap();
        queue.give_back(piece.start + 5..piece.end);
        queue.give_back(7..7);
        assert_eq!(queue.take(2, 0), Some(5..CHUNK_BYTES));
        assert_eq!(queue.bytes(), CHUNK_BYTES * 2);
    }

    #[test]
    fn who_is_alone_takes_a_gap_at_once() {
        let queue = Queue::new(vec![0..100, 200..1 << 40]);
        assert_eq!(queue.take(1, 0), Some(0..100));
        assert_eq!(queue.take(1, 0), Some(200..1 << 40));
    }
}
