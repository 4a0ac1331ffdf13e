//! In which files the weights of an instance lie that it maps.
//!
//! ```text
//!   mapped, repacked   the model's own file
//!   packed                                   the packed file
//!   hybrid             the model's own file, the packed file
//! ```
//!
//! Of each file what is mapped counts once, whoever maps it.

use samovar_core::Layout;

use crate::ask::ModelSpec;

/// In which files an instance's mapped weights lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Files {
    layout: Layout,
    /// All weights of the model's own file.
    own: u64,
}

impl Files {
    pub(super) fn of(spec: &ModelSpec) -> Self {
        Self::new(spec.options.layout, spec.descriptor.tensor_bytes)
    }

    pub(super) const fn new(layout: Layout, own: u64) -> Self {
        Self { layout, own }
    }

    pub(super) fn split(self, bytes: u64) -> Mapped {
        let own = match self.layout {
            Layout::Mapped | Layout::Repacked => bytes,
            Layout::Packed => 0,
            Layout::Hybrid => bytes.min(self.own),
        };
        Mapped { own, packed: bytes - own }
    }
}

/// Weights mapped of the model's own file, and of the one that was packed for it. All instances that map a file share
/// what is mapped of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mapped {
    own: u64,
    packed: u64,
}

impl Mapped {
    pub(super) fn total(self) -> u64 {
        self.own + self.packed
    }

    pub(super) fn max(self, other: Self) -> Self {
        Self { own: self.own.max(other.own), packed: self.packed.max(other.packed) }
    }

    pub(super) fn min(self, other: Self) -> Self {
        Self { own: self.own.min(other.own), packed: self.packed.min(other.packed) }
    }

    /// This, and of what `full` has beyond it so many bytes; no more than `full`.
    pub(super) fn towards(self, full: Self, bytes: u64) -> Self {
        let own = full.own.min(self.own + bytes);
        let rest = bytes - own.saturating_sub(self.own);
        Self { own, packed: full.packed.min(self.packed + rest) }
    }

    pub(super) fn beyond(self, other: Self) -> Self {
        let (own, packed) = (self.own.saturating_sub(other.own), self.packed.saturating_sub(other.packed));
        Self { own, packed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_lie_in_the_files_of_their_layout() {
        let split = |layout, bytes| Files::new(layout, 50).split(bytes);
        let is = |own, packed| Mapped { own, packed };
        assert_eq!(split(Layout::Mapped, 50), is(50, 0));
        assert_eq!(split(Layout::Repacked, 7), is(7, 0));
        assert_eq!(split(Layout::Packed, 52), is(0, 52));
        assert_eq!(split(Layout::Hybrid, 102), is(50, 52));
        assert_eq!(split(Layout::Hybrid, 40), is(40, 0));
    }

    #[test]
    fn files_are_compared_each_by_itself() {
        let (one, other) = (Mapped { own: 50, packed: 10 }, Mapped { own: 20, packed: 30 });
        assert_eq!(one.max(other), Mapped { own: 50, packed: 30 });
        assert_eq!(one.min(other), Mapped { own: 20, packed: 10 });
        assert_eq!((one.beyond(other).total(), other.beyond(one).total()), (30, 20));
        assert_eq!(one.towards(other, 15), Mapped { own: 20, packed: 25 });
        assert_eq!(other.towards(one, 35), Mapped { own: 50, packed: 10 });
    }
}
