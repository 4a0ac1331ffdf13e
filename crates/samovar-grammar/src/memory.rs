//! How much memory the grammars of one vocabulary take: counted for each as it grows, and bounded for all together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::Error;
use crate::limits;

/// Bytes of all compiled grammars of one vocabulary.
#[derive(Debug, Default)]
pub(crate) struct GrammarMemory {
    bytes: AtomicUsize,
}

/// What one compiled grammar has of them, until it is dropped.
#[derive(Debug)]
pub(crate) struct GrammarShare {
    memory: Arc<GrammarMemory>,
    bytes: usize,
}

impl GrammarMemory {
    /// Bytes now.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Refuses one grammar more, where those that are there need the rest to grow.
    pub(crate) fn check_room(&self) -> Result<(), Error> {
        let bytes = self.bytes();
        if bytes < limits::GRAMMARS_FULL_BYTES { Ok(()) } else { Err(full(bytes)) }
    }
}

impl GrammarShare {
    /// A share that has nothing yet.
    pub(crate) fn new(memory: &Arc<GrammarMemory>) -> Self {
        Self { memory: Arc::clone(memory), bytes: 0 }
    }

    /// Its grammar takes so many bytes now. Bytes that are refused are not counted: what takes them ends.
    pub(crate) fn resize(&mut self, bytes: usize) -> Result<(), Error> {
        if bytes > limits::GRAMMARS_BYTES {
            return Err(Error::TooBig { bytes, most: limits::GRAMMARS_BYTES });
        }
        let Some(more) = bytes.checked_sub(self.bytes) else {
            self.memory.bytes.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
            self.bytes = bytes;
            return Ok(());
        };
        let before = self.memory.bytes.fetch_add(more, Ordering::Relaxed);
        if more > 0 && before + more > limits::GRAMMARS_BYTES {
            self.memory.bytes.fetch_sub(more, Ordering::Relaxed);
            return Err(full(before));
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for GrammarShare {
    fn drop(&mut self) {
        self.memory.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn full(bytes: usize) -> Error {
    Error::Full { bytes, most: limits::GRAMMARS_BYTES }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: usize = limits::GRAMMARS_BYTES;

    #[test]
    fn shares_are_counted_until_they_are_dropped() {
        let memory = Arc::<GrammarMemory>::default();
        let (mut one, mut other) = (GrammarShare::new(&memory), GrammarShare::new(&memory));
        assert!(one.resize(300).is_ok() && other.resize(50).is_ok() && one.resize(200).is_ok());
        assert_eq!(memory.bytes(), 250);
        drop(one);
        assert_eq!(memory.bytes(), 50);
        drop(other);
        assert_eq!(memory.bytes(), 0);
    }

    #[test]
    fn what_is_too_much_alone_is_refused_for_good_and_what_is_too_much_now_for_now() {
        let memory = Arc::<GrammarMemory>::default();
        let (mut one, mut other) = (GrammarShare::new(&memory), GrammarShare::new(&memory));
        assert_eq!(one.resize(ALL + 1), Err(Error::TooBig { bytes: ALL + 1, most: ALL }));
        assert_eq!(memory.bytes(), 0);
        assert!(one.resize(ALL - 10).is_ok() && other.resize(10).is_ok());
        for _ in 0..2 {
            assert_eq!(other.resize(11), Err(full(ALL)));
        }
        assert!(other.resize(10).is_ok(), "an answer that needs no more goes on");
        assert_eq!(memory.check_room(), Err(full(ALL)));
        drop(one);
        assert!(other.resize(11).is_ok() && memory.check_room().is_ok());
    }
}
