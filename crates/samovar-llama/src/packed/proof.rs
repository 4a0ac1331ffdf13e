//! Looks at a packed file that has just been written as those who load it will, before anybody does.
//!
//! ```text
//!   bytes    every packed tensor has the digest of what ggml packed; everything else equals the source
//!   numbers  logits from the packed file, loaded as it always will be, against those from the source
//! ```
//!
//! The bytes come from ggml's own packing, so what can go wrong is where they were put and what the weights are told.
//! Both show in the numbers: plain and packed kernels round differently, but a weight at the wrong place, in the wrong
//! form or under the wrong kernel makes other numbers altogether. A second load with packing would be compared bit by
//! bit, but costs a copy of the weights in memory, on a machine that may have no room for one; the tests do that.

use fs_err::File;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use samovar_core::Digest;
use samovar_core::port::LoadControl;

use super::mapping::Mapping;
use super::trailer::Trailer;
use super::wardrobe::Wardrobe;
use super::writer::Packing;
use super::{PackedFile, Refusal};
use crate::context::{Batch, Context, DecodeError};
use crate::error::Error;
use crate::native::{self, Origin, WeightOptions};
use crate::plan::ContextOptions;

/// Sequences whose logits are compared, at several steps.
const SEQUENCES: i32 = 4;
/// Tokens that each begins with: together they are a batch for the kernels of prompts.
const PROMPT_TOKENS: usize = 4;
/// How far the numbers may be apart, as a part of how far they spread. What was seen: less than 0.0001 in all formats and
/// shapes of the tests; 0.36 where two weights had changed places.
pub(super) const MOST_ERROR: f64 = 0.05;

/// Compares the file with the source, and returns how far the logits are apart. `into` is readable.
pub(super) fn prove(
    job: &Packing<'_>,
    trailer: &Trailer,
    source: &[u8],
    into: &std::fs::File,
    control: &LoadControl,
) -> Result<f64, Error> {
    let wrong = |refusal: Refusal| Error::NotPacked {
        path: job.path.to_owned(),
        detail: format!("what was written is of no use: {refusal}"),
    };
    let file =
        into.try_clone().map_err(|error| Error::PackedFile { action: "read", detail: error.to_string() })?;
    let file = File::from_parts(file, "the packed file");
    check_bytes(trailer, source, &file).map_err(wrong)?;
    let opened = PackedFile::of(file, job.source, job.path, job.descriptor).map_err(wrong)?;
    let plain = {
        let model = load(job, Origin::Path(job.path))?;
        logits(&model, control).map_err(|error| stopped(job, error))?
    };
    let packed = {
        let model = load(job, Origin::File(opened.file()))?;
        let _wardrobe = Wardrobe::of_packed(&model, &opened).map_err(wrong)?;
        logits(&model, control).map_err(|error| stopped(job, error))?
    };
    let error = distance(&plain, &packed);
    tracing::debug!(error, "logits of packed weights compared");
    if error <= MOST_ERROR {
        Ok(error)
    } else {
        Err(wrong(Refusal::new(format!("its logits differ ({error:.3})"))))
    }
}

/// Every byte of the file against what it was made of.
fn check_bytes(trailer: &Trailer, source: &[u8], file: &File) -> Result<(), Refusal> {
    let unreadable = |error: std::io::Error| Refusal::new(format!("it cannot be read: {error}"));
    let written = Mapping::part(file, 0, file.metadata().map_err(unreadable)?.len()).map_err(unreadable)?;
    let written = written.bytes();
    let mut compared = 0;
    for row in &trailer.tensors {
        let (slot, packed) = (row.slot, row.packed());
        if written[compared..slot.offset as usize] != source[compared..slot.offset as usize] {
            return Err(Refusal::new(format!("something before {} is not as it was", row.name)));
        }
        let digest = Digest::of_bytes(&written[packed.offset as usize..packed.end() as usize]);
        if digest.to_string() != row.digest {
            return Err(Refusal::new(format!("{} is not as it was packed", row.name)));
        }
        compared = slot.end() as usize;
    }
    if written[compared..source.len()] != source[compared..] {
        return Err(Refusal::new("the end is not as it was"));
    }
    Ok(())
}

fn load(job: &Packing<'_>, origin: Origin<'_>) -> Result<LlamaModel, Error> {
    let options = WeightOptions { is_repacked: false, is_locked: false };
    native::load_model(origin, options, |_| true)
        .ok_or_else(|| Error::Load { path: job.path.to_owned(), detail: crate::log::take_complaints() })
}

fn stopped(job: &Packing<'_>, error: DecodeError) -> Error {
    match error {
        DecodeError::Interrupted => Error::LoadCancelled { path: job.path.to_owned() },
        DecodeError::NoRoom => Error::Decode { code: 1, detail: crate::log::take_complaints() },
        DecodeError::Failed(code) => Error::Decode { code, detail: crate::log::take_complaints() },
    }
}

/// Logits after a batch of prompts, after a step of all sequences, and after a step of one.
fn logits(model: &LlamaModel, control: &LoadControl) -> Result<Vec<Vec<f32>>, DecodeError> {
    let options = ContextOptions {
        cells: 256,
        batch_tokens: 64,
        sequences: SEQUENCES as u32,
        threads: 1,
        kv_type: llama_cpp_sys_2::GGML_TYPE_F16,
    };
    let mut context = Context::new(model, options).ok_or(DecodeError::NoRoom)?;
    let vocabulary = model.n_vocab().max(1);
    let token =
        |sequence: i32, place: usize| LlamaToken((7 + sequence * 131 + place as i32 * 29) % vocabulary);
    let mut seen = Vec::new();
    let mut batch = Batch::default();
    for (places, sequences) in [
        (0..PROMPT_TOKENS, SEQUENCES),
        (PROMPT_TOKENS..PROMPT_TOKENS + 1, SEQUENCES),
        (PROMPT_TOKENS + 1..PROMPT_TOKENS + 2, 1),
    ] {
        batch.clear();
        let mut outputs = Vec::new();
        for sequence in 0..sequences {
            for place in places.clone() {
                let is_last = place + 1 == places.end;
                let output = batch.add(token(sequence, place), place, sequence, is_last);
                outputs.extend(is_last.then_some(output));
            }
        }
        context.decode(&mut batch, &|| control.is_cancelled())?;
        for output in outputs {
            seen.push(context.logits(output).ok_or(DecodeError::Failed(0))?.to_vec());
        }
    }
    Ok(seen)
}

/// How far two sets of logits are apart, as a part of how far they spread: the median of all rows, because a model that
/// chooses among experts may choose another one by a hair.
fn distance(plain: &[Vec<f32>], packed: &[Vec<f32>]) -> f64 {
    let mut errors: Vec<f64> =
        plain.iter().zip(packed).map(|(plain, packed)| row_distance(plain, packed)).collect();
    errors.sort_by(f64::total_cmp);
    errors.get(errors.len() / 2).copied().unwrap_or(f64::INFINITY)
}

fn row_distance(plain: &[f32], packed: &[f32]) -> f64 {
    if plain.iter().zip(packed).all(|(a, b)| a.to_bits() == b.to_bits()) {
        return 0.0;
    }
    let count = plain.len().max(1) as f64;
    let mean = plain.iter().map(|x| f64::from(*x)).sum::<f64>() / count;
    let spread = plain.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>();
    let apart = plain.iter().zip(packed).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>();
    let error = (apart / spread).sqrt();
    if error.is_nan() { f64::INFINITY } else { error }
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "exact by construction")]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_near_and_other_numbers_are_far() {
        let plain: Vec<f32> = (0..1000).map(|i| ((i * 37) % 101) as f32 / 10.0).collect();
        let rounded: Vec<f32> = plain.iter().enumerate().map(|(i, x)| x + [0.01, -0.01][i % 2]).collect();
        let shifted: Vec<f32> = plain.iter().cycle().skip(1).take(plain.len()).copied().collect();
        assert!(row_distance(&plain, &rounded) < MOST_ERROR);
        assert!(row_distance(&plain, &shifted) > 10.0 * MOST_ERROR);
        assert_eq!(row_distance(&plain, &[f32::NAN; 1000]), f64::INFINITY);
        assert_eq!(row_distance(&[1.5; 9], &[1.5; 9]), 0.0);
        assert_eq!(distance(&[], &[]), f64::INFINITY);
        let mut rows = vec![plain.clone(); 5];
        rows[3] = shifted;
        assert_eq!(distance(&vec![plain; 5], &rows), 0.0);
    }
}
