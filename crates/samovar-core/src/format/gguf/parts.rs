//! A model in several files, each of which passes the gate, and all of which must make one model.
//!
//! ```text
//!   part 0      metadata ─► facts ┐
//!               tensors ──────────┤
//!   part 1..n   tensors ──────────┴─► names distinct, sums as announced ─► descriptor
//! ```

use std::io::{Read, Seek};

use super::descriptor::HeaderFields;
use super::error::Fault;
use super::metadata::Metadata;
use super::reader::Reader;
use super::split::{self, Split};
use super::tensors::Tally;
use crate::model::Descriptor;

/// The parts of one model, taken in one after another.
pub(super) struct Parts {
    count: usize,
    added: usize,
    file_bytes: u64,
    first: Option<(HeaderFields, Split)>,
    tally: Tally,
}

impl Parts {
    /// For a model of so many parts.
    pub(super) fn new(count: usize) -> Self {
        Self { count, added: 0, file_bytes: 0, first: None, tally: Tally::new() }
    }

    /// Checks the next part.
    pub(super) fn add<R: Read + Seek>(&mut self, reader: Reader<R>) -> Result<(), Fault> {
        let file_bytes = reader.file_bytes();
        let mut metadata = Metadata::read(reader)?;
        let split = self.check_place(split::read(&mut metadata)?)?;
        match &self.first {
            None => self.first = Some((HeaderFields::read(&mut metadata)?, split)),
            Some((_, first)) if split.tensors.is_some_and(|tensors| Some(tensors) != first.tensors) => {
                return Err(Fault::SplitLies(format!(
                    "part 1 announces {} tensors, part {} announces {}",
                    first.tensors.unwrap_or_default(),
                    self.added + 1,
                    split.tensors.unwrap_or_default()
                )));
            }
            Some(_) => {}
        }
        self.tally.add(&mut metadata)?;
        self.file_bytes = self.file_bytes.checked_add(file_bytes).ok_or_else(|| {
            Fault::SplitLies("its parts together have more bytes than can be counted".to_owned())
        })?;
        self.added += 1;
        Ok(())
    }

    fn check_place(&self, found: Option<Split>) -> Result<Split, Fault> {
        let is_expected =
            |split: &Split| split.number as usize == self.added && split.count as usize == self.count;
        found.filter(is_expected).ok_or_else(|| Fault::WrongPart {
            found: match found {
                Some(split) => format!("part {} of {}", split.number + 1, split.count),
                None => "a whole model".to_owned(),
            },
            number: self.added + 1,
            count: self.count,
        })
    }

    /// The facts of the whole model.
    pub(super) fn finish(self) -> Result<Descriptor, Fault> {
        let (facts, split) = self.first.ok_or(Fault::Missing)?;
        let found = self.tally.count();
        match split.tensors {
            Some(announced) if announced != found => Err(Fault::SplitLies(format!(
                "{announced} tensors in {} parts, which have {found}",
                self.count
            ))),
            _ => facts.of_model(self.file_bytes, split.count, self.tally),
        }
    }
}
