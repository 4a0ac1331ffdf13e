//! Loaded weights, and what they are told about their bytes.
//!
//! ```text
//!   Packed   every packed weight lies in the mapped file, and knows it from the beginning
//!   Hybrid   llama.cpp has mapped the source; the packed file is mapped beside it:
//!            large batch ──► plain kernels on plain bytes       small batch ──► packed on packed
//! ```
//!
//! A weight is changed by its model's thread alone, between two steps. Nothing is changed before every row of the
//! table has been compared with the weight that llama.cpp loaded.
#![allow(unsafe_code, reason = "a weight is told where its bytes lie")]

use std::cell::Cell;
use std::collections::HashMap;
use std::ptr::NonNull;

use llama_cpp_2::model::LlamaModel;

use super::mapping::Mapping;
use super::packer::Packer;
use super::reader::PackedFile;
use super::trailer::{Range, Row, Where};
use super::weights::{self, Weight, WeightView};
use super::{Refusal, Unfit};

/// Batches of so many tokens are computed faster from plain weights.
pub(super) const PLAIN_FROM_TOKENS: usize = 32;

/// The packed weights of a model, with both ways to see them.
#[derive(Debug)]
pub(crate) struct WeightViews<'m> {
    pieces: Vec<Piece<'m>>,
    is_packed: Cell<bool>,
    /// Where packed bytes lie that llama.cpp has not mapped.
    _mapping: Option<Mapping>,
}

#[derive(Debug)]
struct Piece<'m> {
    weight: Weight<'m>,
    plain: WeightView,
    packed: WeightView,
}

impl<'m> WeightViews<'m> {
    /// For a model that llama.cpp has loaded from the packed file: its weights wear what they are at once.
    pub(crate) fn of_packed(
        model: &'m LlamaModel,
        file: &PackedFile,
        is_locked: bool,
    ) -> Result<Self, Unfit> {
        let tail = file.trailer.tensors.iter().filter(|row| row.place != Where::Slot);
        let mapping = map(file, tail, is_locked)?;
        let weight_views = Self::fit(model, file, mapping, |row| row.place != Where::Slot)?;
        weight_views.switch_to(true);
        Ok(weight_views)
    }

    /// For a model that llama.cpp has loaded from the source.
    pub(crate) fn beside(model: &'m LlamaModel, file: &PackedFile, is_locked: bool) -> Result<Self, Unfit> {
        let mapping = map(file, file.trailer.tensors.iter(), is_locked)?;
        Ok(Self::fit(model, file, mapping, |_| true)?)
    }

    fn fit(
        model: &'m LlamaModel,
        file: &PackedFile,
        mapping: Option<(Mapping, u64)>,
        is_mapped: impl Fn(&Row) -> bool,
    ) -> Result<Self, Refusal> {
        let weights = weights::weights(model);
        let mut by_name = HashMap::with_capacity(weights.len());
        for weight in weights {
            by_name.entry(weight.name()).or_insert_with(Vec::new).push(weight);
        }
        let piece = |row: &Row| {
            let weight = match by_name.get(row.name.as_str()).map(Vec::as_slice) {
                Some([weight]) => *weight,
                _ => return Err(Refusal::new(format!("{} is not one tensor of the model", row.name))),
            };
            let packer = check(row, weight, file.trailer.header_bytes)?;
            let data = match &mapping {
                Some((mapping, start)) if is_mapped(row) => {
                    let range = row.packed();
                    let place = (range.offset - start) as usize;
                    let bytes = mapping.bytes().get(place..place + range.bytes as usize);
                    let bytes = bytes.ok_or_else(|| Refusal::new(format!("{} lies outside", row.name)))?;
                    Some(NonNull::from(bytes).cast::<u8>())
                }
                _ => None,
            };
            let packed = weight
                .fitting(packer, data)
                .ok_or_else(|| Refusal::new(format!("{} is not packed by {} here", row.name, row.buffer)))?;
            Ok(Piece { weight, plain: weight.weight_view(), packed })
        };
        let pieces = file.trailer.tensors.iter().map(piece).collect::<Result<_, _>>()?;
        Ok(Self { pieces, is_packed: Cell::new(false), _mapping: mapping.map(|(mapping, _)| mapping) })
    }

    /// Lets every weight wear what is faster for a batch of so many tokens. To be called while nothing computes.
    pub(crate) fn select_for_batch(&self, tokens: usize) {
        self.switch_to(tokens < PLAIN_FROM_TOKENS);
    }

    /// Lets every weight wear its packed or its plain bytes. To be called while nothing computes.
    pub(super) fn switch_to(&self, is_packed: bool) {
        if self.is_packed.replace(is_packed) == is_packed {
            return;
        }
        for piece in &self.pieces {
            // SAFETY: the view was made for this weight, whose packed bytes are where the checked table says: in
            // llama.cpp's mapping of the packed file, or in ours, which lives as long as these weight views. The model's
            // thread alone comes here, between two steps.
            unsafe { piece.weight.bind(if is_packed { piece.packed } else { piece.plain }) };
        }
    }
}

/// Maps what these rows span, and asks the kernel to read them, and to keep them if they are to be locked. `None` if there
/// are none.
fn map<'r>(
    file: &PackedFile,
    rows: impl Iterator<Item = &'r Row> + Clone,
    is_locked: bool,
) -> Result<Option<(Mapping, u64)>, Unfit> {
    let Some(start) = rows.clone().map(|row| row.packed().offset).min() else { return Ok(None) };
    let end = rows.clone().map(|row| row.packed().end()).max().unwrap_or(start);
    let mapping = Mapping::part(&file.file, start, end - start).map_err(|error| Unfit::of_file(&error))?;
    let mut unlocked = None;
    for Range { offset, bytes } in rows.map(Row::packed) {
        let (offset, bytes) = ((offset - start) as usize, bytes as usize);
        mapping.will_need(offset, bytes);
        // Between the rows lies what is unused here.
        if is_locked && unlocked.is_none() {
            unlocked = mapping.lock(offset, bytes).err();
        }
    }
    if let Some(error) = unlocked {
        tracing::warn!(%error, "packed weights cannot be locked in memory");
    }
    Ok(Some((mapping, start)))
}

/// Compares a row with the weight that llama.cpp loaded.
fn check(row: &Row, weight: Weight<'_>, header_bytes: u64) -> Result<&'static Packer, Refusal> {
    let wrong = |what: &str| Err(Refusal::new(format!("{}: {what}", row.name)));
    let Some(packer) = Packer::named(&row.buffer) else {
        return wrong("nothing packs it here");
    };
    if weight.format().name() != row.format || weight.shape() != row.shape {
        return wrong("it has another format or shape in the model");
    }
    if weight.bytes() != row.slot.bytes || weight.offset() != Some(row.slot.offset - header_bytes) {
        return wrong("it lies elsewhere in the model");
    }
    if weight.packed_bytes(packer) != row.packed_bytes {
        return wrong("its packed form has another size here");
    }
    Ok(packer)
}
