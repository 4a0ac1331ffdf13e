//! What a reader says: deltas, neighbours joined, and which calls they tell of. It never takes back what it said.

use std::hash::{BuildHasher, RandomState};

use samovar_core::Delta;

/// Bytes of a tool's name at most.
const NAME_MAX_BYTES: usize = 256;
/// Calls of one answer at most; what looks like a further one is text.
const CALLS_MAX: u32 = 128;
/// Letters and digits of a call's id behind `call_`.
const ID_LENGTH: usize = 24;
const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

#[derive(Debug)]
pub(super) struct Output {
    deltas: Vec<Delta>,
    /// Calls that have begun.
    calls: u32,
    /// Calls whose arguments are at their end.
    whole_calls: u32,
    /// Makes the ids of this answer's calls, and those of no other.
    seed: u64,
}

impl Output {
    pub(super) fn new() -> Self {
        let seed = RandomState::new().hash_one(0_u8);
        Self { deltas: Vec::new(), calls: 0, whole_calls: 0, seed }
    }

    pub(super) fn calls(&self) -> u32 {
        self.calls
    }

    pub(super) fn has_whole_call(&self) -> bool {
        self.whole_calls > 0
    }

    /// At least one call, and none broke off.
    pub(super) fn is_made_of_whole_calls(&self) -> bool {
        self.calls > 0 && self.calls == self.whole_calls
    }

    pub(super) fn text(&mut self, text: &str) {
        match self.deltas.last_mut() {
            Some(Delta::Text(said)) => said.push_str(text),
            _ if text.is_empty() => {}
            _ => self.deltas.push(Delta::Text(text.to_owned())),
        }
    }

    pub(super) fn thinking(&mut self, text: &str) {
        match self.deltas.last_mut() {
            Some(Delta::Thinking(said)) => said.push_str(text),
            _ if text.is_empty() => {}
            _ => self.deltas.push(Delta::Thinking(text.to_owned())),
        }
    }

    /// Says that a call begins. False where it cannot be one: no name, one that is too long, or too many calls.
    pub(super) fn begin(&mut self, name: &str) -> bool {
        let is_name = !name.is_empty() && name.len() <= NAME_MAX_BYTES && !name.contains(char::is_control);
        if !is_name || self.calls == CALLS_MAX {
            return false;
        }
        let id = self.next_id();
        self.deltas.push(Delta::Call { index: self.calls, id, name: name.to_owned() });
        self.calls += 1;
        true
    }

    /// Appends to the arguments of the call that began last.
    pub(super) fn arguments(&mut self, piece: &str) {
        let own = self.calls.saturating_sub(1);
        match self.deltas.last_mut() {
            Some(Delta::Arguments { index, text }) if *index == own => text.push_str(piece),
            _ if piece.is_empty() => {}
            _ => self.deltas.push(Delta::Arguments { index: own, text: piece.to_owned() }),
        }
    }

    /// The arguments of the call that began last are at their end. Of no consequence a second time.
    pub(super) fn end_call(&mut self) {
        self.whole_calls = self.calls;
    }

    /// The first deltas that have not been taken, at most so many.
    pub(super) fn take(&mut self, most: usize) -> Vec<Delta> {
        let rest = self.deltas.split_off(most.min(self.deltas.len()));
        std::mem::replace(&mut self.deltas, rest)
    }

    fn next_id(&mut self) -> String {
        let mut id = String::from("call_");
        let mut bits = 0;
        for place in 0..ID_LENGTH {
            // Ten letters take less than the 64 bits of one draw.
            if place % 10 == 0 {
                bits = self.draw();
            }
            id.push(char::from(LETTERS[(bits % 62) as usize]));
            bits /= 62;
        }
        id
    }

    /// The next number, by `SplitMix64`.
    fn draw(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.seed ^ (self.seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Whether a character can be part of a tool's or an argument's name where marks stand around it.
pub(super) fn is_of_name(c: char) -> bool {
    !c.is_control() && !c.is_whitespace() && !matches!(c, '<' | '{' | '}' | '"')
}

/// What a name may have at most.
pub(super) const fn is_too_long(name: &str) -> bool {
    name.len() > NAME_MAX_BYTES
}
