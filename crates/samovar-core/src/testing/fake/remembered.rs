//! Finished sequences whose prompts count as cached, and the files that a fake saves them in.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

use crate::error::{ErrorKind, Failure};
use crate::generation::CachedPrefix;
use crate::model::Descriptor;
use crate::scope::Scope;

/// How many are remembered.
const MOST: usize = 8;

/// Finished sequences, the longest unused first.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    prefixes: VecDeque<CachedPrefix>,
    next_id: u64,
}

impl Remembered {
    pub(super) fn iter(&self) -> impl Iterator<Item = &CachedPrefix> {
        self.prefixes.iter()
    }

    pub(super) fn forget(&mut self) {
        self.prefixes.clear();
    }

    /// Remembers a sequence, unless it is the beginning of one of the same client that is remembered already.
    pub(super) fn add(&mut self, tokens: Vec<u32>, scope: Scope) {
        let begins = |kept: &CachedPrefix| kept.scope == scope && kept.tokens.starts_with(&tokens);
        if let Some(place) = self.prefixes.iter().position(begins) {
            return self.touch(place);
        }
        self.prefixes.retain(|kept| kept.scope != scope || !tokens.starts_with(&kept.tokens));
        self.prefixes.push_back(CachedPrefix { id: self.next_id, tokens, scope });
        self.next_id += 1;
        if self.prefixes.len() > MOST {
            self.prefixes.pop_front();
        }
    }

    /// Tokens that a prompt has in common at most with a remembered sequence that it may use, and with one of its own
    /// client.
    pub(super) fn longest_common(&mut self, prompt: &[u32], scope: &Scope) -> (usize, usize) {
        let common = |kept: &CachedPrefix| kept.tokens.iter().zip(prompt).take_while(|(a, b)| a == b).count();
        let own = self.prefixes.iter().filter(|kept| scope.is_own(&kept.scope)).map(common).max();
        let usable = self.prefixes.iter().enumerate().filter(|(_, kept)| scope.may_use(&kept.scope));
        let best = usable.map(|(place, kept)| (place, common(kept))).max_by_key(|(_, common)| *common);
        let Some((place, common)) = best.filter(|(_, common)| *common > 0) else { return (0, 0) };
        self.touch(place);
        (common, own.unwrap_or(0))
    }

    fn touch(&mut self, place: usize) {
        let used = self.prefixes.remove(place);
        self.prefixes.extend(used);
    }
}

/// What stands in a file with the state of `tokens`.
fn content(descriptor: &Descriptor, tokens: &[u32]) -> Vec<u8> {
    let head = format!("fake state of {:?}, {} bytes\n", descriptor.name, descriptor.tensor_bytes);
    head.into_bytes().into_iter().chain(tokens.iter().flat_map(|token| token.to_le_bytes())).collect()
}

pub(super) fn write(descriptor: &Descriptor, tokens: &[u32], mut into: &File) -> Result<u64, Failure> {
    let content = content(descriptor, tokens);
    let refuse = |error: std::io::Error| Failure::new(ErrorKind::Storage, error.to_string());
    into.write_all(&content).map_err(refuse)?;
    Ok(content.len() as u64)
}

pub(super) fn check(descriptor: &Descriptor, tokens: &[u32], mut from: &File) -> Result<(), Failure> {
    let expected = content(descriptor, tokens);
    let mut found = Vec::new();
    let refuse = |error: std::io::Error| Failure::new(ErrorKind::Storage, error.to_string());
    from.seek(SeekFrom::Start(0)).map_err(refuse)?;
    from.take(expected.len() as u64 + 1).read_to_end(&mut found).map_err(refuse)?;
    if found == expected && !tokens.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(ErrorKind::InvalidRequest, "this is not the state of these tokens in this model"))
    }
}
