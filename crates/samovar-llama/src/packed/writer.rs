//! Makes a packed file: a copy of a GGUF with the tensors that llama.cpp would pack in their packed form.
//!
//! ```text
//!   sketch ──► which tensors, by which packer        (llama.cpp's own decision: a load without weights)
//!   plan   ──► where each goes: its slot, or the tail if it has become larger
//!   source ──tensor by tensor──► scratch ──► file    (memory: the largest tensor)
//!   the rest is copied, the table goes to the end, and the whole is proved (proof)
//! ```

use std::collections::{HashMap, HashSet};
use std::io;
use std::ops::Range as Span;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use samovar_core::port::LoadControl;
use samovar_core::{Descriptor, Digest};

use super::mapping::Mapping;
use super::packer::{Format, Packer, Scratch, Shape, Unpacked};
use super::stretch::Stretch;
use super::trailer::{Range, Row, Trailer, Where};
use super::weights::{self, TensorLocation, Weight};
use super::{Refusal, probe, proof};
use crate::error::Error;
use crate::log;

/// Where packed tensors begin in the tail: kernels want them aligned, and pages are mapped whole.
const TAIL_ALIGNMENT: u64 = 4096;
/// What is read or written between two questions whether to go on.
pub(super) const CHUNK_BYTES: usize = 32 << 20;
/// What writing is of the whole; the rest is the proof.
const WRITTEN: f32 = 0.6;

/// What is to be packed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packing<'a> {
    /// The GGUF file. It has passed the gate.
    pub(crate) path: &'a Path,
    /// Its facts.
    pub(crate) descriptor: &'a Descriptor,
    /// The caller's name for its content.
    pub(crate) source: &'a str,
    /// Whether every packed tensor goes to the tail, as if it did not fit into its slot.
    pub(crate) is_tail_forced: bool,
}

/// A tensor that llama.cpp would pack.
struct Wish {
    name: String,
    format: Format,
    shape: Shape,
    packer: &'static Packer,
    packed_bytes: u64,
}

/// Writes the packed form of a model into an empty file that can be read, too, proves that it is of use, and returns its
/// length. Nothing is synced.
pub(crate) fn write(job: Packing<'_>, into: &std::fs::File, control: &LoadControl) -> Result<u64, Error> {
    let _ = log::take_complaints();
    let refused =
        |refusal: Refusal| Error::NotPacked { path: job.path.to_owned(), detail: refusal.to_string() };
    probe::packable(job.descriptor).map_err(|reason| refused(Refusal::new(reason)))?;
    let key = probe::key().ok_or_else(|| refused(Refusal::new("this build packs nothing on this CPU")))?;
    let mapping = Mapping::whole(job.path).map_err(|error| unreadable(job.path, &error))?;
    let sketch = sketch(job.path)?;
    let places = weights::places(job.path).ok_or_else(|| Error::not_loaded(job.path, false))?;
    if mapping.bytes().len() as u64 != job.descriptor.file_bytes {
        let changed = io::Error::other("the file has changed since it was looked at");
        return Err(unreadable(job.path, &changed));
    }
    let trailer = plan(key, job, mapping.bytes().len() as u64, &sketch, &places).map_err(refused)?;
    let whole = Stretch::whole(control, job.path);
    let stretch = whole.part(0.0, WRITTEN);
    let (trailer, length) =
        Copy { job, bytes: mapping.bytes(), into, stretch }.run(trailer, &sketch.wishes)?;
    proof::prove(&job, &trailer, mapping.bytes(), into, whole.part(WRITTEN, 1.0))?;
    Ok(length)
}

/// What llama.cpp would do with a model.
struct Sketch {
    /// What it would pack.
    wishes: HashMap<String, Wish>,
    /// All that it would load.
    loaded: HashSet<String>,
}

/// Asks llama.cpp. A tensor that serves two purposes is left as it is: it could not be both.
fn sketch(path: &Path) -> Result<Sketch, Error> {
    let model = weights::sketch(path).ok_or_else(|| Error::not_loaded(path, false))?;
    let weights = weights::weights(&model);
    let mut uses = HashMap::<&str, u32>::new();
    for weight in &weights {
        *uses.entry(weight.name()).or_default() += 1;
    }
    let wish = |weight: &Weight<'_>| {
        let packer = weight.packer().filter(|_| uses[weight.name()] == 1)?;
        Some(Wish {
            name: weight.name().to_owned(),
            format: weight.format(),
            shape: weight.shape(),
            packer,
            packed_bytes: weight.packed_bytes(packer),
        })
    };
    let wishes: HashMap<_, _> =
        weights.iter().filter_map(wish).map(|wish| (wish.name.clone(), wish)).collect();
    if wishes.is_empty() {
        let detail = "none of its tensors is packed on this CPU".to_owned();
        return Err(Error::NotPacked { path: path.to_owned(), detail });
    }
    Ok(Sketch { wishes, loaded: uses.into_keys().map(str::to_owned).collect() })
}

/// Where each packed tensor goes.
fn plan(
    key: &str,
    job: Packing<'_>,
    source_bytes: u64,
    Sketch { wishes, loaded }: &Sketch,
    places: &[TensorLocation],
) -> Result<Trailer, Refusal> {
    // llama.cpp maps from the first tensor on that it uses.
    let used = places.iter().filter(|place| loaded.contains(&place.name));
    let header_bytes = used.map(|place| place.offset).min().unwrap_or(0);
    let mut tail = source_bytes;
    let mut tensors = Vec::with_capacity(wishes.len());
    let mut places: Vec<_> = places.iter().collect();
    places.sort_unstable_by_key(|place| place.offset);
    for place in places {
        let Some(wish) = wishes.get(&place.name) else { continue };
        let slot = Range { offset: place.offset, bytes: place.bytes };
        if slot.end() > source_bytes {
            return Err(Refusal::new("the file is cut short"));
        }
        let is_in_slot = wish.packed_bytes <= slot.bytes && !job.is_tail_forced;
        let place = if is_in_slot { Where::Slot } else { Where::Tail(tail.next_multiple_of(TAIL_ALIGNMENT)) };
        if let Where::Tail(offset) = place {
            tail = offset + wish.packed_bytes;
        }
        tensors.push(Row {
            name: wish.name.clone(),
            format: wish.format.name().to_owned(),
            shape: wish.shape,
            buffer: wish.packer.name().to_owned(),
            slot,
            place,
            packed_bytes: wish.packed_bytes,
            digest: String::new(),
        });
    }
    if tensors.len() != wishes.len() {
        return Err(Refusal::new("llama.cpp names tensors that the file does not have"));
    }
    Ok(Trailer { key: key.to_owned(), source: job.source.to_owned(), source_bytes, header_bytes, tensors })
}

/// The work itself.
struct Copy<'a> {
    job: Packing<'a>,
    bytes: &'a [u8],
    into: &'a std::fs::File,
    stretch: Stretch<'a>,
}

impl Copy<'_> {
    fn run(&self, mut trailer: Trailer, wishes: &HashMap<String, Wish>) -> Result<(Trailer, u64), Error> {
        let is_in_place = trailer.tensors.iter().all(|row| row.place == Where::Slot);
        let packed_end = trailer.tensors.iter().map(|row| row.packed().end()).max().unwrap_or(0);
        let end = packed_end.max(trailer.source_bytes);
        // Slots whose tensors lie in the tail stay holes.
        let start = if is_in_place { 0 } else { trailer.source_bytes };
        reserve(self.into, Range { offset: start, bytes: end - start })?;
        let mut scratches = HashMap::<&str, Scratch>::new();
        let mut copied = 0;
        for row in &mut trailer.tensors {
            let wish = &wishes[&row.name];
            self.copy(copied..row.slot.offset as usize)?;
            let plain = &self.bytes[row.slot.offset as usize..row.slot.end() as usize];
            let scratch = scratches.entry(wish.packer.name()).or_insert_with(|| Scratch::new(wish.packer));
            let packed = scratch
                .pack(wish.format, wish.shape, plain)
                .map_err(|unpacked| self.not_packed(row, unpacked))?;
            row.digest = Digest::of_bytes(packed).to_string();
            self.put(packed, row.packed().offset)?;
            copied = row.slot.end() as usize;
            self.pause(copied)?;
        }
        self.copy(copied..self.bytes.len())?;
        let length = trailer.write(self.into, end).map_err(|error| unwritable(&error))?;
        Ok((trailer, length))
    }

    fn not_packed(&self, row: &Row, unpacked: Unpacked) -> Error {
        match unpacked {
            Unpacked::NoMemory => Error::PackMemory { tensor: row.name.clone(), bytes: row.slot.bytes },
            Unpacked::NotTaken => Error::NotPacked {
                path: self.job.path.to_owned(),
                detail: format!("{} could not be packed: {}", row.name, log::take_complaints()),
            },
        }
    }

    /// Copies a part that stays as it is.
    fn copy(&self, span: Span<usize>) -> Result<(), Error> {
        let mut place = span.start;
        while place < span.end {
            let end = span.end.min(place + CHUNK_BYTES);
            self.put(&self.bytes[place..end], place as u64)?;
            place = end;
            self.pause(place)?;
        }
        Ok(())
    }

    fn put(&self, bytes: &[u8], offset: u64) -> Result<(), Error> {
        self.into.write_all_at(bytes, offset).map_err(|error| unwritable(&error))
    }

    /// Says how far it is, and asks whether to go on.
    fn pause(&self, done: usize) -> Result<(), Error> {
        self.stretch.go_on(done as f32 / self.bytes.len() as f32)
    }
}

/// Takes room on the disk, so that a full one is found out before the work is done. Not all file systems can.
fn reserve(file: &std::fs::File, range: Range) -> Result<(), Error> {
    match fallocate(file, FallocateFlags::empty(), range.offset, range.bytes) {
        Err(full @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => Err(unwritable(&full.into())),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn unwritable(error: &io::Error) -> Error {
    Error::PackedFile { action: "write", detail: error.to_string() }
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    Error::PackSource { path: path.to_owned(), detail: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_disk_has_room_for_is_found_out_before() {
        let file = tempfile::tempfile().unwrap();
        let range = Range { offset: 0, bytes: i64::MAX as u64 - 4096 };
        assert!(matches!(reserve(&file, range), Err(Error::PackedFile { action: "write", .. })));
        let length = file.metadata().unwrap().len();
        assert_eq!(length, 0);
    }
}
