//! Opens a packed file, believing nothing of it.
//!
//! ```text
//!   table whole? key ours? ──► as long as the source? ──► header as long, and equal, byte by byte?
//!                                                    ──► what is not packed equal, where it is looked at?
//! ```
//!
//! The source's header has passed the gate, so an equal one has, too; where it ends is read there, not here. That the weights are those of the source is
//! vouched for by their keeper; the spots that are compared tell a source that was replaced.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use fs_err::File;
use samovar_core::format::gguf;
use samovar_core::{Descriptor, port};

use super::trailer::{Range, Trailer, Where};
use super::{Refusal, Unfit, probe};

/// Bytes compared at once.
const CHUNK_BYTES: u64 = 1 << 20;
/// Places among unpacked weights that are compared with the source.
const SPOTS: u64 = 16;
/// Bytes of each.
const SPOT_BYTES: u64 = 64;

/// A packed file that is what it says, for one source on this machine.
#[derive(Debug)]
pub(crate) struct PackedFile {
    pub(super) file: File,
    pub(super) trailer: Trailer,
}

impl PackedFile {
    /// Opens the packed form of the model at `model`, which `descriptor` describes.
    pub(crate) fn open(
        packed: port::PackedFile<'_>,
        model: &Path,
        descriptor: &Descriptor,
    ) -> Result<Self, Unfit> {
        let file = File::open(packed.path).map_err(|error| Unfit::of_file(&error))?;
        Self::of(file, packed.source, model, descriptor)
    }

    /// The same of a file that is open already.
    pub(super) fn of(file: File, source: &str, model: &Path, descriptor: &Descriptor) -> Result<Self, Unfit> {
        probe::packable(descriptor).map_err(Refusal::new)?;
        let refused = |reason: &str| Err(Refusal::new(reason).into());
        let trailer = Trailer::read(&file)?;
        if Some(trailer.key.as_str()) != probe::key() {
            return refused(&format!("it was packed for another build or CPU ({})", trailer.key));
        }
        if trailer.source != source {
            return refused("it was made of another model");
        }
        let unread = |error: io::Error| Unfit::of_model(&error);
        let model = File::open(model).map_err(unread)?;
        let source_bytes = model.metadata().map_err(unread)?.len();
        if trailer.source_bytes != source_bytes || trailer.source_bytes != descriptor.file_bytes {
            return refused("it was made of a file of another length");
        }
        // The first tensor that is used may not be the first there is: `WeightViews` compares it with what was loaded.
        let header =
            gguf::header_bytes(model.file(), source_bytes).map_err(|error| Unfit::of_model(&error))?;
        if trailer.header_bytes < header {
            return refused("it has a shorter header than the model");
        }
        if !is_equal(&file, &model, Range { offset: 0, bytes: trailer.header_bytes })? {
            return refused("its header is not that of the model");
        }
        for spot in spots(&trailer) {
            if !is_equal(&file, &model, spot)? {
                return refused("its weights are not those of the model");
            }
        }
        Ok(Self { file, trailer })
    }

    /// What llama.cpp is to map: the very file that was looked at.
    pub(crate) fn file(&self) -> &std::fs::File {
        self.file.file()
    }

    /// Bytes of weights that are packed.
    pub(crate) fn packed_bytes(&self) -> u64 {
        self.trailer.tensors.iter().map(|row| row.packed_bytes).sum()
    }

    /// Of those, bytes behind the model.
    pub(crate) fn tail_bytes(&self) -> u64 {
        let tail = self.trailer.tensors.iter().filter(|row| row.place != Where::Slot);
        tail.map(|row| row.packed_bytes).sum()
    }
}

/// Whether the packed file has the model's bytes there.
fn is_equal(packed: &File, model: &File, range: Range) -> Result<bool, Unfit> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let mut place = range.offset;
    while place < range.end() {
        let bytes = CHUNK_BYTES.min(range.end() - place) as usize;
        ours.resize(bytes, 0);
        theirs.resize(bytes, 0);
        packed.file().read_exact_at(&mut ours, place).map_err(|error| Unfit::of_file(&error))?;
        model.file().read_exact_at(&mut theirs, place).map_err(|error| Unfit::of_model(&error))?;
        if ours != theirs {
            return Ok(false);
        }
        place += bytes as u64;
    }
    Ok(true)
}

/// Places spread over all that is not packed.
fn spots(trailer: &Trailer) -> Vec<Range> {
    let starts =
        std::iter::once(trailer.header_bytes).chain(trailer.tensors.iter().map(|row| row.slot.end()));
    let ends = trailer.tensors.iter().map(|row| row.slot.offset).chain([trailer.source_bytes]);
    let gaps: Vec<_> = starts
        .zip(ends)
        .filter(|(start, end)| end - start >= SPOT_BYTES)
        .map(|(start, end)| Range { offset: start, bytes: end - start })
        .collect();
    let room: u64 = gaps.iter().map(|gap| gap.bytes - SPOT_BYTES).sum();
    let mut spots = Vec::new();
    for spot in 0..SPOTS {
        let mut place = room / SPOTS * spot + room / SPOTS / 2;
        for gap in &gaps {
            let most = gap.bytes - SPOT_BYTES;
            if place <= most {
                spots.push(Range { offset: gap.offset + place, bytes: SPOT_BYTES });
                break;
            }
            place -= most;
        }
    }
    spots
}
