//! Prompt state in a file: a head of ours, then what llama.cpp wrote.
//!
//! ```text
//!   magic  version  checksum  lengths │ what it is of │ tokens │ native state
//!   └──────────── head ─────────────┘ └──────── under the checksum ─────────┘
//! ```
//!
//! The file is mapped, so that a state of gigabytes goes from the context to the disk's cache and back without
//! a copy in memory that no budget counts. Nothing reaches native code before the head has been compared
//! with the model, every length with the file, and the checksum with the bytes.
#![allow(unsafe_code, reason = "mapping a file is unsafe: someone else could cut it short meanwhile")]

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};

use memmap2::{Mmap, MmapMut};
use rustix::fs::{FallocateFlags, fallocate};
use samovar_core::Descriptor;
use samovar_core::footprint::KvType;

use crate::error::Error;

const MAGIC: [u8; 8] = *b"SMVSTATE";
const VERSION: u32 = 1;
/// Magic, version, three lengths and the checksum.
const HEAD_BYTES: usize = 8 + 4 + 4 + 4 + 8 + 8;
/// What one token costs beside its keys and values: positions and sequences, in each of several caches.
const TOKEN_BYTES: u64 = 128;
/// What a state costs whatever its length: a few numbers a layer.
const STATE_BYTES: u64 = 1 << 20;
/// What is written at once where room cannot be reserved.
const CHUNK_BYTES: usize = 1 << 20;

/// What saved state must be of, to be of use to one loaded model.
#[derive(Clone, Debug)]
pub(crate) struct Kind {
    description: String,
    token_bytes: u64,
}

impl Kind {
    /// State of this model, with this KV format, in this build of the engine.
    pub(crate) fn new(engine: &str, descriptor: &Descriptor, kv_type: KvType) -> Self {
        let d = descriptor;
        let description = format!(
            "{} of {} blocks, {}×{} and {}, width {}, {} tokens, {} weights in {} bytes; KV {kv_type:?}; {engine}",
            d.architecture,
            d.blocks,
            d.kv_heads,
            d.key_width,
            d.value_width,
            d.embedding_width,
            d.vocabulary,
            d.parameters,
            d.tensor_bytes
        );
        // Twice what the header says: layers may differ from each other.
        Self { description, token_bytes: 2 * d.kv_bytes_per_token() + TOKEN_BYTES }
    }

    /// A file with room for a state of `state_bytes`, all but the state written.
    pub(crate) fn create(&self, file: &File, tokens: &[u32], state_bytes: usize) -> Result<Outgoing, Error> {
        let begin = HEAD_BYTES + self.description.len() + tokens.len() * 4;
        let write = |error: io::Error| Error::StateFile { action: "write", detail: error.to_string() };
        reserve(file, (begin + state_bytes) as u64).map_err(write)?;
        // SAFETY: the file was handed to us to be written, and its blocks are reserved; no other process has it yet.
        let mut map = unsafe { MmapMut::map_mut(file) }.map_err(write)?;
        let mut head = &mut map[..begin];
        let mut put = |bytes: &[u8]| head.write_all(bytes).map_err(write);
        put(&MAGIC)?;
        put(&VERSION.to_le_bytes())?;
        put(&(self.description.len() as u32).to_le_bytes())?;
        put(&(tokens.len() as u32).to_le_bytes())?;
        put(&(state_bytes as u64).to_le_bytes())?;
        put(&0_u64.to_le_bytes())?;
        put(self.description.as_bytes())?;
        tokens.iter().try_for_each(|token| put(&token.to_le_bytes()))?;
        Ok(Outgoing { map, begin })
    }

    /// Opens a file with the state of `tokens`, all of it checked.
    pub(crate) fn open(&self, file: &File, tokens: &[u32]) -> Result<Incoming, Error> {
        let wrong = |detail: &str| Error::SavedState { detail: detail.to_owned() };
        let read = |error: io::Error| Error::StateFile { action: "read", detail: error.to_string() };
        let file_bytes = file.metadata().map_err(read)?.len();
        let most = (tokens.len() as u64).saturating_mul(self.token_bytes + 4) + STATE_BYTES;
        if file_bytes < HEAD_BYTES as u64 || file_bytes > most {
            return Err(Error::SavedState { detail: format!("{file_bytes} bytes cannot be right") });
        }
        // SAFETY: the caller vouches for the file; the keeper of such files replaces and removes them, but does
        // not cut them short.
        let map = unsafe { Mmap::map(file) }.map_err(read)?;
        let (head, body) = map.split_at(HEAD_BYTES);
        let number = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("invariant: 4 bytes"));
        let large = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("invariant: 8 bytes"));
        if head[..8] != MAGIC {
            return Err(wrong("it is no such state"));
        }
        if number(8) != VERSION {
            return Err(wrong("it was written in another version of the format"));
        }
        let lengths = [u64::from(number(12)), u64::from(number(16)) * 4, large(20)];
        let total = lengths.iter().try_fold(0_u64, |sum, more| sum.checked_add(*more));
        if total != Some(body.len() as u64) {
            return Err(wrong("it is cut short"));
        }
        let [described, listed, _] = lengths.map(|bytes| bytes as usize);
        if body[..described] != *self.description.as_bytes() {
            let theirs = String::from_utf8_lossy(&body[..described.min(256)]).into_owned();
            let detail =
                format!("it is of another model or engine: of {theirs:?}, not {:?}", self.description);
            return Err(Error::SavedState { detail });
        }
        let saved = body[described..described + listed].as_chunks::<4>().0;
        if !saved.iter().map(|bytes| u32::from_le_bytes(*bytes)).eq(tokens.iter().copied()) {
            return Err(wrong("it is of other tokens"));
        }
        if large(28) != checksum(body) {
            return Err(wrong("it is damaged"));
        }
        let begin = HEAD_BYTES + described + listed;
        Ok(Incoming { map, begin })
    }
}

/// A file that waits for its state.
#[derive(Debug)]
pub(crate) struct Outgoing {
    map: MmapMut,
    begin: usize,
}

impl Outgoing {
    /// Where the native state belongs.
    pub(crate) fn state_mut(&mut self) -> &mut [u8] {
        &mut self.map[self.begin..]
    }

    /// Makes the file valid; returns its length.
    pub(crate) fn seal(mut self) -> u64 {
        let checksum = checksum(&self.map[HEAD_BYTES..]);
        self.map[28..HEAD_BYTES].copy_from_slice(&checksum.to_le_bytes());
        self.map.len() as u64
    }
}

/// A file whose state may be handed to native code.
#[derive(Debug)]
pub(crate) struct Incoming {
    map: Mmap,
    begin: usize,
}

impl Incoming {
    /// The native state.
    pub(crate) fn state(&self) -> &[u8] {
        &self.map[self.begin..]
    }
}

/// Gives the file its length and its blocks: writing to a mapping must not find the disk full.
fn reserve(mut file: &File, bytes: u64) -> io::Result<()> {
    file.set_len(0)?;
    if fallocate(file, FallocateFlags::empty(), 0, bytes).is_ok() {
        return Ok(());
    }
    file.seek(SeekFrom::Start(0))?;
    let zeros = vec![0; CHUNK_BYTES];
    let mut left = bytes;
    while left > 0 {
        let part = left.min(CHUNK_BYTES as u64);
        file.write_all(&zeros[..part as usize])?;
        left -= part;
    }
    file.seek(SeekFrom::Start(0)).map(drop)
}

/// Tells damaged bytes from sound ones at the speed of memory; it stops no forger.
fn checksum(bytes: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |sum: u64, word: u64| (sum ^ word).wrapping_mul(FACTOR).rotate_left(29);
    let mut sums = [1_u64, 2, 3, 4];
    let (blocks, rest) = bytes.as_chunks::<32>();
    for block in blocks {
        for (sum, word) in sums.iter_mut().zip(block.as_chunks::<8>().0) {
            *sum = mix(*sum, u64::from_le_bytes(*word));
        }
    }
    let rest = rest.iter().fold(bytes.len() as u64, |sum, byte| mix(sum, u64::from(*byte)));
    sums.into_iter().fold(rest, mix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::footprint::tests::descriptor;
    use std::io::Read;

    const TOKENS: [u32; 5] = [1, 2, 3, 70_000, 5];

    fn kind() -> Kind {
        Kind::new("llama.cpp 9", &descriptor(), KvType::F16)
    }

    fn saved(state: &[u8]) -> File {
        let file = tempfile::tempfile().unwrap();
        let mut outgoing = kind().create(&file, &TOKENS, state.len()).unwrap();
        outgoing.state_mut().copy_from_slice(state);
        assert_eq!(outgoing.seal(), file.metadata().unwrap().len());
        file
    }

    fn refused(kind: &Kind, file: &File, tokens: &[u32]) -> String {
        match kind.open(file, tokens) {
            Err(Error::SavedState { detail }) => detail,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_was_saved_comes_back() {
        let state: Vec<u8> = (0..100_000_u32).map(|i| (i % 251) as u8).collect();
        for bytes in [0, 1, 31, 32, 33, state.len()] {
            let file = saved(&state[..bytes]);
            assert_eq!(kind().open(&file, &TOKENS).unwrap().state(), &state[..bytes]);
        }
    }

    #[test]
    fn state_of_something_else_is_refused() {
        let file = saved(&[7; 1000]);
        assert!(refused(&kind(), &file, &[1, 2, 3, 4, 5]).contains("other tokens"));
        assert!(refused(&kind(), &file, &TOKENS[..4]).contains("other tokens"));
        for other in [
            Kind::new("llama.cpp 10", &descriptor(), KvType::F16),
            Kind::new("llama.cpp 9", &descriptor(), KvType::Q8_0),
            Kind::new("llama.cpp 9", &Descriptor { blocks: 23, ..descriptor() }, KvType::F16),
        ] {
            assert!(refused(&other, &file, &TOKENS).contains("another model"));
        }
    }

    #[test]
    fn damage_is_found_wherever_it_is() {
        let file = saved(&[7; 1000]);
        let mut bytes = Vec::new();
        (&file).seek(SeekFrom::Start(0)).unwrap();
        (&file).read_to_end(&mut bytes).unwrap();
        for place in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= 0x10;
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&damaged).unwrap();
            refused(&kind(), &file, &TOKENS);
        }
        for length in 0..bytes.len() {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&bytes[..length]).unwrap();
            refused(&kind(), &file, &TOKENS);
        }
    }

    #[test]
    fn a_file_much_too_large_is_not_even_mapped() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 40).unwrap();
        assert!(refused(&kind(), &file, &TOKENS).contains("cannot be right"));
    }
}
