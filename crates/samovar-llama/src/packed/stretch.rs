//! How far a packing has come: each of its parts knows only its own way.
//!
//! ```text
//!   0 ──── tensors packed and written ──── 0.6 ── bytes compared ── 0.8 ── logits compared ── 1
//! ```

use std::path::Path;

use samovar_core::port::LoadControl;

use crate::error::Error;

/// A part of the way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch<'a> {
    control: &'a LoadControl,
    path: &'a Path,
    from: f32,
    to: f32,
}

impl<'a> Stretch<'a> {
    /// All of it, for the model at `path`.
    pub(super) fn whole(control: &'a LoadControl, path: &'a Path) -> Self {
        Self { control, path, from: 0.0, to: 1.0 }
    }

    /// A part of this one, both ends from 0 to 1.
    pub(super) fn part(self, from: f32, to: f32) -> Self {
        Self { from: self.at(from), to: self.at(to), ..self }
    }

    /// Says how much of it is done, from 0 to 1, gives way to models that answer, and says whether to go on.
    pub(super) fn report(&self, done: f32) -> bool {
        self.control.report(self.at(done));
        self.control.give_way();
        !self.is_cancelled()
    }

    /// The same for code that stops by an error.
    pub(super) fn go_on(&self, done: f32) -> Result<(), Error> {
        if self.report(done) { Ok(()) } else { Err(Error::LoadCancelled { path: self.path.to_owned() }) }
    }

    /// Whether it is no longer wanted.
    pub(super) fn is_cancelled(&self) -> bool {
        self.control.is_cancelled()
    }

    fn at(&self, done: f32) -> f32 {
        self.from + (self.to - self.from) * done.clamp(0.0, 1.0)
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "exact by construction")]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn every_report_gives_way() {
        let given = Arc::<AtomicU32>::default();
        let counted = Arc::clone(&given);
        let control = LoadControl::silent().giving_way(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        let whole = Stretch::whole(&control, Path::new("m"));
        assert!(whole.report(0.5) && whole.go_on(1.0).is_ok());
        assert_eq!(given.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn parts_of_parts_lie_where_they_should() {
        let control = LoadControl::silent();
        let half = Stretch::whole(&control, Path::new("m")).part(0.5, 1.0);
        assert_eq!((half.at(0.0), half.at(0.5), half.at(2.0)), (0.5, 0.75, 1.0));
        let quarter = half.part(0.5, 1.0);
        assert_eq!((quarter.at(0.0), quarter.at(1.0)), (0.75, 1.0));
    }
}
