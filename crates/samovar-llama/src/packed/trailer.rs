//! What stands behind the weights in a packed file: whose it is, and where which tensor lies packed.
//!
//! ```text
//!   GGUF header │ tensors, packed in their slots │ packed tensors too large for theirs │ table │ footer
//!               └──────────── as long as the source ───────────┘                        JSON    56 bytes
//!
//!   footer = length of the table (8) │ SHA-256 of the table (32) │ version (8) │ magic (8)
//! ```
//!
//! Nothing is read from a table whose digest does not fit. The digest tells damage, not malice. Pure, but for
//! reading and writing the file.

use std::io;
use std::os::unix::fs::FileExt;

use fs_err::File;
use samovar_core::Digest;
use serde::{Deserialize, Serialize};

use super::{Refusal, Unfit};

const MAGIC: [u8; 8] = *b"SMVPACK\n";
const VERSION: u64 = 1;
const FOOTER_BYTES: u64 = 8 + 32 + 8 + 8;
/// A row has some 300 bytes, and the gate lets no more than 65,536 tensors through.
const MOST_TABLE_BYTES: u64 = 32 << 20;

/// The table of a packed file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Trailer {
    /// Key of what packed it: the engine on the machine.
    pub(super) key: String,
    /// The caller's name of the file that was packed.
    pub(super) source: String,
    /// Bytes of that file.
    pub(super) source_bytes: u64,
    /// Bytes before the first tensor that is used.
    pub(super) header_bytes: u64,
    /// Its packed tensors, in the order of their slots.
    pub(super) tensors: Vec<Row>,
}

/// One packed tensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row {
    pub(super) name: String,
    /// ggml's name of the number format.
    pub(super) format: String,
    /// Dimensions, the innermost first.
    pub(super) shape: [i64; 4],
    /// ggml's name of the buffer type that packed it.
    pub(super) buffer: String,
    /// Where it lies in the source.
    pub(super) slot: Range,
    /// Where its packed bytes are.
    pub(super) place: Where,
    /// How many they are.
    pub(super) packed_bytes: u64,
    /// SHA-256 of them.
    pub(super) digest: String,
}

/// A part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Range {
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

impl Range {
    /// The first byte behind it.
    pub(super) fn end(self) -> u64 {
        self.offset.saturating_add(self.bytes)
    }
}

/// Where packed bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Where {
    /// From the beginning of the tensor's slot on.
    Slot,
    /// Behind the model, from this byte of the file on; the slot is a hole.
    Tail(u64),
}

impl Row {
    /// Where its packed bytes are.
    pub(super) fn packed(&self) -> Range {
        let offset = match self.place {
            Where::Slot => self.slot.offset,
            Where::Tail(offset) => offset,
        };
        Range { offset, bytes: self.packed_bytes }
    }
}

impl Trailer {
    /// Writes it at `offset`, which is to be the end of everything else. Returns the length of the file.
    pub(super) fn write(&self, file: &std::fs::File, offset: u64) -> io::Result<u64> {
        let mut bytes = serde_json::to_vec(self)?;
        let (length, digest) = (bytes.len() as u64, Digest::of_bytes(&bytes));
        bytes.extend(length.to_le_bytes());
        bytes.extend(digest.as_bytes());
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(MAGIC);
        file.write_all_at(&bytes, offset)?;
        Ok(offset + bytes.len() as u64)
    }

    /// Reads it from the end of a file and checks it against itself and the file's length.
    pub(super) fn read(file: &File) -> Result<Self, Unfit> {
        let io = |error: io::Error| Unfit::of_file(&error);
        let refused = |reason: &str| Err(Refusal::new(reason).into());
        let file_bytes = file.metadata().map_err(io)?.len();
        let Some(table_end) = file_bytes.checked_sub(FOOTER_BYTES) else {
            return refused("it is cut short");
        };
        let mut footer = [0; FOOTER_BYTES as usize];
        file.file().read_exact_at(&mut footer, table_end).map_err(io)?;
        let number = |at: usize| {
            u64::from_le_bytes(footer[at..at + 8].try_into().expect("invariant: a slice of 8 bytes"))
        };
        if footer[48..] != MAGIC {
            return refused("it has no table at its end: it is cut short, or no packed file");
        }
        if number(40) != VERSION {
            return refused("it is of another version of the format");
        }
        let length = number(0);
        let Some(table_start) = table_end.checked_sub(length).filter(|_| length <= MOST_TABLE_BYTES) else {
            return refused("its table is damaged");
        };
        let mut table = vec![0; length as usize];
        file.file().read_exact_at(&mut table, table_start).map_err(io)?;
        if Digest::of_bytes(&table).as_bytes()[..] != footer[8..40] {
            return refused("its table is damaged");
        }
        let trailer: Self = serde_json::from_slice(&table)
            .map_err(|error| Refusal::new(format!("its table makes no sense: {error}")))?;
        trailer.check(table_start)?;
        Ok(trailer)
    }

    /// Whether all that it names lies where it may, with the table beginning at `table_start`.
    fn check(&self, table_start: u64) -> Result<(), Refusal> {
        if self.header_bytes > self.source_bytes || self.source_bytes > table_start {
            return Err(Refusal::new("its table names more bytes than it has"));
        }
        if self.tensors.is_empty() {
            return Err(Refusal::new("nothing in it is packed"));
        }
        let (mut slots, mut tail) = (self.header_bytes, self.source_bytes);
        for row in &self.tensors {
            let (slot, packed) = (row.slot, row.packed());
            let is_in_place = slot.offset >= slots
                && slot.end() <= self.source_bytes
                && match row.place {
                    Where::Slot => packed.bytes <= slot.bytes,
                    Where::Tail(offset) => offset >= tail && packed.end() <= table_start,
                };
            if !is_in_place {
                return Err(Refusal::new(format!("{} lies where it cannot", row.name)));
            }
            slots = slot.end();
            if matches!(row.place, Where::Tail(_)) {
                tail = packed.end();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, offset: u64) -> Row {
        Row {
            name: name.to_owned(),
            format: "q4_0".to_owned(),
            shape: [32, 8, 1, 1],
            buffer: "CPU_REPACK".to_owned(),
            slot: Range { offset, bytes: 144 },
            place: Where::Slot,
            packed_bytes: 144,
            digest: "ab".repeat(32),
        }
    }

    fn trailer() -> Trailer {
        Trailer {
            key: "k".to_owned(),
            source: "s".to_owned(),
            source_bytes: 1000,
            header_bytes: 100,
            tensors: vec![
                row("a", 100),
                Row { place: Where::Tail(1024), packed_bytes: 200, ..row("b", 256) },
            ],
        }
    }

    fn file_with(bytes: &[u8]) -> (tempfile::TempDir, File) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("packed");
        fs_err::write(&path, bytes).unwrap();
        (folder, File::open(path).unwrap())
    }

    fn written(trailer: &Trailer) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("packed");
        let file = File::create(&path).unwrap();
        let length = trailer.write(file.file(), 1300).unwrap();
        let bytes = fs_err::read(path).unwrap();
        assert_eq!(bytes.len() as u64, length);
        bytes
    }

    fn refusal(bytes: &[u8]) -> String {
        let (_folder, file) = file_with(bytes);
        Trailer::read(&file).unwrap_err().to_string()
    }

    #[test]
    fn what_was_written_is_read() {
        let (_folder, file) = file_with(&written(&trailer()));
        assert_eq!(Trailer::read(&file).unwrap(), trailer());
    }

    #[test]
    fn a_change_of_any_byte_of_table_and_footer_is_refused() {
        let bytes = written(&trailer());
        for place in 1300..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= 0x04;
            refusal(&damaged);
        }
    }

    #[test]
    fn every_shorter_file_is_refused() {
        let bytes = written(&trailer());
        for length in 0..bytes.len() {
            refusal(&bytes[..length]);
        }
    }

    #[test]
    fn tensors_that_lie_where_they_cannot_are_refused() {
        let with = |change: fn(&mut Trailer)| {
            let mut changed = trailer();
            change(&mut changed);
            refusal(&written(&changed))
        };
        assert!(with(|t| t.tensors[1].slot.offset = 120).contains("b lies"));
        assert!(with(|t| t.tensors[0].slot.offset = 99).contains("a lies"));
        assert!(with(|t| t.tensors[0].packed_bytes = 145).contains("a lies"));
        assert!(with(|t| t.tensors[1].slot.bytes = u64::MAX).contains("b lies"));
        assert!(with(|t| t.tensors[1].place = Where::Tail(999)).contains("b lies"));
        assert!(with(|t| t.tensors[1].place = Where::Tail(u64::MAX)).contains("b lies"));
        assert!(with(|t| t.tensors[1].packed_bytes = 1000).contains("b lies"));
        assert!(with(|t| t.source_bytes = 1301).contains("more bytes"));
        assert!(with(|t| t.header_bytes = 1001).contains("more bytes"));
        assert!(with(|t| t.tensors.clear()).contains("nothing"));
    }
}
