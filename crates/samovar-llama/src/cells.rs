//! The book of the KV cache's cells: which sequences hold each, and how many are free.
//!
//! ```text
//!   cells      0  1  2  3  4  5  6  7
//!   holders    2  2  2  1  1  1  .  .      free: 6 7
//!   A          └──┴──┴──┘                  A and B share their first three tokens
//!   B          └──┴──┘─────┴──┘
//! ```
//!
//! llama.cpp keeps the real cells and does not say how many it uses; with a unified cache its rules are
//! simple enough to follow exactly. This never touches native state.

/// The cells of one sequence, in the order of its tokens.
#[derive(Debug, Default)]
pub(crate) struct Holding(Vec<u32>);

impl Holding {
    /// Tokens that lie in the cache.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Who holds which cell.
#[derive(Debug)]
pub(crate) struct Cells {
    holders: Vec<u16>,
    free: Vec<u32>,
}

impl Cells {
    pub(crate) fn new(total: u32) -> Self {
        Self { holders: vec![0; total as usize], free: (0..total).rev().collect() }
    }

    pub(crate) fn total(&self) -> usize {
        self.holders.len()
    }

    pub(crate) fn free(&self) -> usize {
        self.free.len()
    }

    pub(crate) fn used(&self) -> usize {
        self.total() - self.free()
    }

    /// Appends `count` new cells to a holding; the caller has made sure that they are free.
    pub(crate) fn take(&mut self, holding: &mut Holding, count: usize) {
        for _ in 0..count {
            let cell = self.free.pop().expect("invariant: room was made before the batch was built");
            self.holders[cell as usize] = 1;
            holding.0.push(cell);
        }
    }

    /// A second holding of the first `count` cells of `source`.
    pub(crate) fn share(&mut self, source: &Holding, count: usize) -> Holding {
        let cells = source.0[..count].to_vec();
        for &cell in &cells {
            self.holders[cell as usize] += 1;
        }
        Holding(cells)
    }

    /// Gives back all but the first `keep` cells of a holding.
    pub(crate) fn truncate(&mut self, holding: &mut Holding, keep: usize) {
        for cell in holding.0.drain(keep.min(holding.0.len())..) {
            let holders = &mut self.holders[cell as usize];
            *holders -= 1;
            if *holders == 0 {
                self.free.push(cell);
            }
        }
    }

    /// Gives back a whole holding.
    pub(crate) fn release(&mut self, mut holding: Holding) {
        self.truncate(&mut holding, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_cell_is_free_only_when_its_last_holder_leaves() {
        let mut cells = Cells::new(8);
        let mut first = Holding::default();
        cells.take(&mut first, 4);
        let mut second = cells.share(&first, 3);
        cells.take(&mut second, 2);
        assert_eq!((cells.used(), first.len(), second.len()), (6, 4, 5));

        cells.release(first);
        assert_eq!(cells.used(), 5, "three shared and two own cells stay with the second");
        cells.truncate(&mut second, 1);
        assert_eq!(cells.used(), 1);
        cells.release(second);
        assert_eq!(cells.free(), 8);
    }

    #[test]
    fn truncating_to_more_than_there_is_changes_nothing() {
        let mut cells = Cells::new(2);
        let mut holding = Holding::default();
        cells.take(&mut holding, 2);
        cells.truncate(&mut holding, 5);
        assert_eq!(holding.len(), 2);
    }
}
