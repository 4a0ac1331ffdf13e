//! Memory by where it is: what an engine says that a model takes, and what a pool counts.
//!
//! ```text
//!   Arena    host │ device1 │ device2 …      each with a budget of its own
//!   Bytes    so many in each arena
//!   Memory   private bytes, and mapped bytes by the file that they are of, which all who map it share
//!   Cost     the memory of one size, and what another size changes about it
//! ```
//!
//! Numbers only: nothing here knows why a model takes so much.

use std::collections::BTreeMap;
use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign};

use serde::{Deserialize, Serialize};

use crate::footprint::{Footprint, Layout, LoadOptions};
use crate::model::Descriptor;

/// A place for memory with a budget of its own: this machine's, or that of one device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Arena(u8);

impl Arena {
    /// The machine's own memory.
    pub const HOST: Self = Self(0);
    /// So many there may be.
    pub const MAX: usize = 8;

    /// The memory of a device, by its number from 1; `None` beyond what is counted.
    pub const fn device(number: u8) -> Option<Self> {
        if number >= 1 && (number as usize) < Self::MAX { Some(Self(number)) } else { None }
    }

    /// Every one that there may be, the host first.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..Self::MAX as u8).map(Self)
    }

    /// Whether it is the machine's own memory.
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference whether to leave it out")]
    pub const fn is_host(&self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_host() { f.write_str("host") } else { write!(f, "device{}", self.0) }
    }
}

impl From<Arena> for String {
    fn from(arena: Arena) -> Self {
        arena.to_string()
    }
}

impl TryFrom<String> for Arena {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let known = Self::all().find(|arena| arena.to_string() == text);
        known.ok_or_else(|| format!("{text:?} is no arena: host, or device1 to device{}", Self::MAX - 1))
    }
}

/// So many bytes in each arena. Sums and products stay at the largest number instead of going beyond it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes([u64; Arena::MAX]);

impl Bytes {
    /// None anywhere.
    pub const NONE: Self = Self([0; Arena::MAX]);
    /// The largest number everywhere.
    pub const ALL: Self = Self([u64::MAX; Arena::MAX]);

    /// So many on the host.
    pub const fn host(bytes: u64) -> Self {
        Self::on(Arena::HOST, bytes)
    }

    /// So many in one arena.
    pub const fn on(arena: Arena, bytes: u64) -> Self {
        let mut all = [0; Arena::MAX];
        all[arena.0 as usize] = bytes;
        Self(all)
    }

    /// The same with so many in one arena instead.
    #[must_use]
    pub const fn with(mut self, arena: Arena, bytes: u64) -> Self {
        self.0[arena.0 as usize] = bytes;
        self
    }

    /// How many there are in this arena.
    pub const fn of(self, arena: Arena) -> u64 {
        self.0[arena.0 as usize]
    }

    /// How many there are on the host.
    pub const fn on_host(self) -> u64 {
        self.of(Arena::HOST)
    }

    /// How many there are on each device that has some.
    pub fn on_devices(self) -> BTreeMap<Arena, u64> {
        let devices = Arena::all().filter(|arena| !arena.is_host());
        devices.map(|arena| (arena, self.of(arena))).filter(|(_, bytes)| *bytes > 0).collect()
    }

    /// All of them together.
    pub fn sum(self) -> u64 {
        self.0.into_iter().fold(0, u64::saturating_add)
    }

    /// Whether there are none.
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }

    /// Whether there are as many as `wanted` in every arena.
    pub fn covers(self, wanted: Self) -> bool {
        self.0.iter().zip(wanted.0).all(|(have, want)| *have >= want)
    }

    /// The first arena in which there are fewer than `wanted`.
    pub fn short_of(self, wanted: Self) -> Option<Arena> {
        Arena::all().find(|arena| self.of(*arena) < wanted.of(*arena))
    }

    /// Whether freeing these is of use to a demand that is short of `wanted`: it gives some of them, or it gives nothing at all
    /// and is in no other's way.
    pub fn helps(self, wanted: Self) -> bool {
        self.is_none() || !self.min(wanted).is_none()
    }

    /// What is left after so many are taken away; no less than none.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        self.each(other, u64::saturating_sub)
    }

    /// In each arena the lower of both.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        self.each(other, u64::min)
    }

    /// In each arena the higher of both.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        self.each(other, u64::max)
    }

    /// So many times as many.
    #[must_use]
    pub fn times(self, times: u64) -> Self {
        Self(self.0.map(|bytes| bytes.saturating_mul(times)))
    }

    /// A part of them, between 0 and 1.
    #[must_use]
    pub fn part(self, part: f64) -> Self {
        Self(self.0.map(|bytes| (bytes as f64 * part) as u64))
    }

    fn each(self, other: Self, of_both: impl Fn(u64, u64) -> u64) -> Self {
        let mut all = self.0;
        for (mine, theirs) in all.iter_mut().zip(other.0) {
            *mine = of_both(*mine, theirs);
        }
        Self(all)
    }
}

impl Add for Bytes {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.each(other, u64::saturating_add)
    }
}

impl AddAssign for Bytes {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Bytes {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::NONE, Self::add)
    }
}

/// One of the files that a model is mapped from. All instances that map the same file of the same model share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(u8);

impl FileId {
    /// The model's own file, or files.
    pub const OWN: Self = Self(0);
    /// What was made of it for this machine.
    pub const MADE: Self = Self(1);
    /// The file, or files, of its draft model.
    pub const DRAFT: Self = Self(2);
}

/// Mapped bytes by the file that they are of.
pub type Mapped = BTreeMap<FileId, Bytes>;

/// The memory of one instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Of this instance alone.
    pub private: Bytes,
    /// Shared by all that map the same file.
    pub mapped: Mapped,
}

impl Memory {
    /// So many private bytes, and so many of the model's own file, on the host.
    pub fn on_host(held_bytes: u64, mapped_bytes: u64) -> Self {
        let mapped = (mapped_bytes > 0).then(|| (FileId::OWN, Bytes::host(mapped_bytes)));
        Self { private: Bytes::host(held_bytes), mapped: mapped.into_iter().collect() }
    }

    /// All mapped bytes.
    pub fn mapped_bytes(&self) -> Bytes {
        self.mapped.values().copied().sum()
    }

    /// What it takes where no other instance maps its files.
    pub fn total(&self) -> Bytes {
        self.private + self.mapped_bytes()
    }

    /// Whether it is nothing, as an engine says that measures nothing.
    pub fn is_none(&self) -> bool {
        self.total().is_none()
    }

    /// Its parts on devices.
    pub fn on_devices(&self) -> BTreeMap<Arena, u64> {
        self.total().on_devices()
    }

    /// Its part on the host.
    pub fn footprint(&self) -> Footprint {
        Footprint { held_bytes: self.private.on_host(), mapped_bytes: self.mapped_bytes().on_host() }
    }
}

/// What an instance takes, by its size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// With the context and the slots that its options say.
    pub memory: Memory,
    /// Of the private bytes, what each token of context takes in each slot.
    pub per_cell: Bytes,
    /// Whether parking gives back no more than that; else it gives back everything.
    pub keeps_the_rest: bool,
}

impl Cost {
    /// That of a model on the host, of which so much memory is predicted, or was measured.
    pub fn on_host(descriptor: &Descriptor, options: &LoadOptions, memory: Footprint) -> Self {
        let Footprint { held_bytes, mapped_bytes } = memory;
        // A draft model is mapped as it lies on the disk, whatever the layout.
        let draft_bytes = options.draft.as_ref().map_or(0, |draft| draft.descriptor.tensor_bytes);
        let draft_bytes = draft_bytes.min(mapped_bytes);
        let mapped_bytes = mapped_bytes - draft_bytes;
        let own_bytes = match options.layout {
            Layout::Mapped | Layout::Repacked => mapped_bytes,
            Layout::Packed => 0,
            Layout::Hybrid => mapped_bytes.min(descriptor.tensor_bytes),
        };
        let made_bytes = mapped_bytes - own_bytes;
        let files = [(FileId::OWN, own_bytes), (FileId::MADE, made_bytes), (FileId::DRAFT, draft_bytes)];
        let mapped = files.into_iter().filter(|(_, bytes)| *bytes > 0);
        Self {
            memory: Memory {
                private: Bytes::host(held_bytes),
                mapped: mapped.map(|(file, bytes)| (file, Bytes::host(bytes))).collect(),
            },
            per_cell: Bytes::host(options.kv_type.bytes(descriptor.kv_bytes_per_token())),
            keeps_the_rest: options.layout == Layout::Repacked,
        }
    }

    /// What the cells of such options take.
    pub fn of_cells(&self, options: &LoadOptions) -> Bytes {
        self.per_cell.times(options.cells())
    }

    /// What parking leaves of so many private bytes of an instance with such options.
    pub fn residue(&self, private: Bytes, options: &LoadOptions) -> Bytes {
        if self.keeps_the_rest { private.minus(self.of_cells(options)) } else { Bytes::NONE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeEngine;

    fn device(number: u8) -> Arena {
        Arena::device(number).expect("it is counted")
    }

    #[test]
    fn bytes_are_compared_in_each_arena() {
        let have = Bytes::host(10).with(device(2), 5);
        assert!(have.covers(Bytes::host(10)) && !have.covers(Bytes::on(device(1), 1)));
        assert_eq!(have.short_of(Bytes::host(11).with(device(2), 6)), Some(Arena::HOST));
        assert_eq!(have.minus(Bytes::on(device(2), 7)), Bytes::host(10));
        assert_eq!((have + have, have.sum()), (have.times(2), 15));
        assert_eq!(Bytes::ALL + have, Bytes::ALL);
    }

    #[test]
    fn an_arena_is_written_as_it_is_read() {
        for arena in Arena::all() {
            assert_eq!(Arena::try_from(arena.to_string()), Ok(arena));
        }
        assert!(Arena::try_from("device8".to_owned()).is_err() && Arena::device(8).is_none());
    }

    #[test]
    fn weights_lie_in_the_files_of_their_layout() {
        let descriptor = FakeEngine::descriptor("a model", 50);
        let split = |layout, mapped_bytes| {
            let options = LoadOptions { layout, ..FakeEngine::options() };
            let memory = Footprint { held_bytes: 1, mapped_bytes };
            let mapped = Cost::on_host(&descriptor, &options, memory).memory.mapped;
            [FileId::OWN, FileId::MADE].map(|file| mapped.get(&file).map_or(0, |bytes| bytes.on_host()))
        };
        assert_eq!(split(Layout::Mapped, 50), [50, 0]);
        assert_eq!(split(Layout::Repacked, 7), [7, 0]);
        assert_eq!(split(Layout::Packed, 52), [0, 52]);
        assert_eq!(split(Layout::Hybrid, 102), [50, 52]);
        assert_eq!(split(Layout::Hybrid, 40), [40, 0]);
    }

    #[test]
    fn the_weights_of_a_draft_model_are_a_file_of_their_own() {
        let descriptor = FakeEngine::descriptor("a model", 50);
        let draft = FakeEngine::draft("a draft", 10);
        for (layout, mapped_bytes, expected) in [
            (Layout::Mapped, 60, [50, 0, 10]),
            (Layout::Packed, 62, [0, 52, 10]),
            (Layout::Hybrid, 112, [50, 52, 10]),
            (Layout::Repacked, 10, [0, 0, 10]),
        ] {
            let options =
                LoadOptions { layout, draft: Some(Box::new(draft.clone())), ..FakeEngine::options() };
            let memory = Footprint { held_bytes: 1, mapped_bytes };
            let mapped = Cost::on_host(&descriptor, &options, memory).memory.mapped;
            let files = [FileId::OWN, FileId::MADE, FileId::DRAFT];
            let bytes = files.map(|file| mapped.get(&file).map_or(0, |bytes| bytes.on_host()));
            assert_eq!(bytes, expected, "{layout}");
        }
    }
}
