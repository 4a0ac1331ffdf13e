//! What the variants of a model are, by their headers: read in part, at their source. One header is read of each family, since the
//! files of a model in several quantizations differ in little else; the others are scaled by the bytes of their weights.

use std::collections::BTreeMap;

use samovar_core::{Descriptor, ErrorKind, Failure, Format};
use samovar_store::{FetchPlan, Store};
use serde::{Deserialize, Serialize};

use super::published;
use crate::catalog::{Catalog, HeaderBytes};
use crate::fetch::HEAD_MOST_BYTES;

/// First bytes that are read; then twice as many each time.
const FIRST_BYTES: u64 = 512 << 10;
/// No model is larger.
const WEIGHTS_BYTES_MAX: u64 = 1 << 50;
/// Families of one repository of which headers are read.
const FAMILIES_MAX: usize = 4;

/// In which form a variant is, or comes to be.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VariantForm {
    /// GGUF, which is mapped as it is.
    Mapped,
    /// As its author published it, which no engine maps.
    Published,
    /// What can be prepared of a published model.
    Prepared,
}

/// A variant by its header.
#[derive(Clone, Debug)]
pub(crate) struct SizedVariant {
    /// Which of the plans brings it.
    pub(crate) plan: usize,
    pub(crate) form: VariantForm,
    pub(crate) quantization: String,
    /// Bytes of its weights; of what is prepared, an estimate.
    pub(crate) bytes: u64,
    /// What its header says, or would say.
    pub(crate) descriptor: Option<Descriptor>,
    /// Why that is not known, or why it cannot be prepared.
    pub(crate) problem: Option<String>,
}

/// What the header of one file of a family says, and the bytes of all its weights.
#[derive(Clone, Debug)]
struct FamilyHeader {
    descriptor: Descriptor,
    weights_bytes: u64,
}

/// All variants that these plans bring, the largest first.
pub(crate) async fn variants(store: &Store, catalog: &Catalog, plans: &[FetchPlan]) -> Vec<SizedVariant> {
    let mut places: Vec<usize> = (0..plans.len()).collect();
    // The smallest of a family is read: where a server knows no ranges, that costs least.
    places.sort_by_key(|place| weights_bytes(&plans[*place]));
    let mut headers: BTreeMap<String, Result<FamilyHeader, String>> = BTreeMap::new();
    let mut variants = Vec::new();
    for place in places {
        let plan = &plans[place];
        if format_of(plan) == Some(Format::Safetensors) {
            variants.extend(published::variants(store, catalog, plan, place).await);
            continue;
        }
        let family = plan.family();
        let header = match headers.get(&family) {
            Some(known) => known.clone(),
            None if headers.len() == FAMILIES_MAX => Err("its header was not read".to_owned()),
            None => {
                let read = Box::pin(header(store, plan)).await.map_err(|failure| failure.message);
                headers.insert(family, read.clone());
                read
            }
        };
        variants.push(mapped(plan, place, header));
    }
    variants.sort_by_key(|variant| std::cmp::Reverse(variant.bytes));
    variants
}

fn mapped(plan: &FetchPlan, place: usize, header: Result<FamilyHeader, String>) -> SizedVariant {
    let bytes = weights_bytes(plan);
    let (descriptor, problem) = match (bytes, header) {
        (Some(bytes), Ok(header)) => (Some(header.scaled_to(bytes)), None),
        (None, Ok(_)) => (None, Some("its source does not say how large it is".to_owned())),
        (_, Err(problem)) => (None, Some(problem)),
    };
    let said = &plan.listing.key.quant;
    let quantization = match &descriptor {
        Some(descriptor) if said.is_empty() => descriptor.quantization.clone(),
        _ => said.clone(),
    };
    let bytes = bytes.unwrap_or_default();
    SizedVariant { plan: place, form: VariantForm::Mapped, quantization, bytes, descriptor, problem }
}

/// Bytes of all weights, if their source says them, and not too many to be true.
pub(super) fn weights_bytes(plan: &FetchPlan) -> Option<u64> {
    let bytes: Option<u64> = plan.weights().map(|file| file.size).sum();
    bytes.filter(|bytes| *bytes <= WEIGHTS_BYTES_MAX)
}

/// How the weights are written, by their names.
pub(super) fn format_of(plan: &FetchPlan) -> Option<Format> {
    Format::of_extension(&plan.weights().next()?.path.extension()?)
}

/// Reads as much of the first file as its header has.
async fn header(store: &Store, plan: &FetchPlan) -> Result<FamilyHeader, Failure> {
    let known = plan.weights().next().and_then(|file| Some((file, file.size?, weights_bytes(plan)?)));
    let Some((file, file_bytes, total_bytes)) = known else {
        let message = "its source does not say how large it is";
        return Err(Failure::new(ErrorKind::Unsupported, message));
    };
    let mut wanted_bytes = FIRST_BYTES;
    let mut head = Vec::new();
    loop {
        let end = wanted_bytes.min(file_bytes);
        head.extend_from_slice(&store.read_part(plan, file, head.len() as u64..end).await?);
        let header_bytes = HeaderBytes { bytes: &head, file_bytes, total_bytes };
        match header_bytes.descriptor()? {
            Ok(descriptor) => return Ok(FamilyHeader { descriptor, weights_bytes: total_bytes }),
            Err(needed_bytes) if wanted_bytes < HEAD_MOST_BYTES.min(file_bytes) => {
                wanted_bytes = needed_bytes.max(wanted_bytes * 2).min(HEAD_MOST_BYTES);
            }
            Err(_) => {
                let message = "its header is longer than any sound one";
                return Err(Failure::new(ErrorKind::InvalidModel, message));
            }
        }
    }
}

impl FamilyHeader {
    /// The same model with so many bytes of weights.
    fn scaled_to(self, bytes: u64) -> Descriptor {
        let Self { descriptor, weights_bytes } = self;
        if bytes == weights_bytes {
            return descriptor;
        }
        let tensors_before = descriptor.tensor_bytes.max(1);
        let header_bytes = weights_bytes.saturating_sub(descriptor.tensor_bytes);
        let tensor_bytes = bytes.saturating_sub(header_bytes);
        let scaled = |part: u64| {
            let part = u128::from(part) * u128::from(tensor_bytes) / u128::from(tensors_before);
            u64::try_from(part).unwrap_or(u64::MAX)
        };
        let mut formats = descriptor.formats;
        for format in &mut formats {
            format.bytes = scaled(format.bytes);
            format.matrix_bytes = scaled(format.matrix_bytes);
        }
        Descriptor { file_bytes: bytes, tensor_bytes, formats, ..descriptor }
    }
}

#[cfg(test)]
mod tests {
    use samovar_core::testing::fake::FakeEngine;

    use super::*;

    #[test]
    fn a_header_stands_for_the_same_model_in_other_sizes() {
        let mut descriptor = FakeEngine::descriptor("m", 1_000);
        descriptor.file_bytes = 1_100;
        let header = FamilyHeader { descriptor: descriptor.clone(), weights_bytes: 1_100 };
        assert_eq!(header.clone().scaled_to(1_100), descriptor);
        let twice = header.clone().scaled_to(2_100);
        assert_eq!(
            (twice.file_bytes, twice.tensor_bytes, twice.formats[0].matrix_bytes),
            (2_100, 2_000, 2_000)
        );
        let (kept, before) = (twice.kv_bytes_per_token(), descriptor.kv_bytes_per_token());
        assert_eq!(kept, before, "what does not depend on the format of weights stays");
        assert_eq!(header.scaled_to(50).tensor_bytes, 0, "less than its header");
    }
}
