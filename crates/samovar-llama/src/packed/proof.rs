//! Looks at a packed file that has just been written as a load would, before the first load.
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

use std::ops::Range as Span;

use fs_err::File;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use samovar_core::digest::Hasher;

use super::PackedFile;
use super::mapping::Mapping;
use super::stretch::Stretch;
use super::trailer::Trailer;
use super::weight_views::WeightViews;
use super::writer::{CHUNK_BYTES, Packing};
use super::{Refusal, Unfit};
use crate::context::{Batch, Context, DecodeError};
use crate::error::Error;
use crate::native::{self, ModelInput, WeightOptions};
use crate::plan::ContextOptions;

/// Sequences whose logits are compared, at several steps.
const SEQUENCES: usize = 4;
/// Tokens that each begins with: together they are a batch for the kernels of prompts.
const PROMPT_TOKENS: usize = 4;
/// Steps of one sequence at a time, for the kernels of single rows.
const SINGLE_STEPS: usize = 5;
/// How far the numbers may be apart, as a part of how far they spread. What was seen: less than 0.0001 in all formats and
/// shapes of the tests; 0.36 where two weights had changed places.
pub(super) const MOST_ERROR: f64 = 0.05;

/// Compares the file with the source, and returns how far the logits are apart. `into` is readable.
pub(super) fn prove(
    job: &Packing<'_>,
    trailer: &Trailer,
    source: &[u8],
    into: &std::fs::File,
    stretch: Stretch<'_>,
) -> Result<f64, Error> {
    let unfit = |unfit: Unfit| match unfit {
        Unfit::Refused(refusal) => wrong(job, &refusal),
        Unfit::Unseen(detail) => Error::PackedFile { action: "read", detail },
    };
    let file = File::from_parts(into.try_clone().map_err(|error| unreadable(&error))?, "the packed file");
    let written = file.metadata().and_then(|facts| Mapping::part(&file, 0, facts.len()));
    let written = written.map_err(|error| unreadable(&error))?;
    Bytes { job, written: written.bytes(), source, stretch: stretch.part(0.0, 0.5) }.check(trailer)?;
    let opened = PackedFile::of(file, job.source, job.path, job.descriptor).map_err(unfit)?;
    let plain = {
        let stretch = stretch.part(0.5, 0.75);
        let model = load(job, ModelInput::Path(job.path), stretch.part(0.0, 0.5))?;
        logits(job, &model, stretch.part(0.5, 1.0))?
    };
    let packed = {
        let stretch = stretch.part(0.75, 1.0);
        let model = load(job, ModelInput::File(opened.file()), stretch.part(0.0, 0.5))?;
        let _weight_views = WeightViews::of_packed(&model, &opened, false).map_err(unfit)?;
        logits(job, &model, stretch.part(0.5, 1.0))?
    };
    let error = distance(&plain, &packed);
    tracing::debug!(error, "logits of packed weights compared");
    if error <= MOST_ERROR {
        Ok(error)
    } else {
        Err(wrong(job, &Refusal::new(format!("its logits differ ({error:.3})"))))
    }
}

fn wrong(job: &Packing<'_>, refusal: &Refusal) -> Error {
    let detail = format!("what was written is of no use: {refusal}");
    Error::NotPacked { path: job.path.to_owned(), detail }
}

fn unreadable(error: &std::io::Error) -> Error {
    Error::PackedFile { action: "read", detail: error.to_string() }
}

/// Every byte of the file against what it was made of.
struct Bytes<'a> {
    job: &'a Packing<'a>,
    written: &'a [u8],
    source: &'a [u8],
    stretch: Stretch<'a>,
}

impl Bytes<'_> {
    fn check(&self, trailer: &Trailer) -> Result<(), Error> {
        let mut compared = 0;
        for row in &trailer.tensors {
            let (slot, packed) = (row.slot, row.packed());
            self.check_plain(compared..slot.offset as usize, &row.name)?;
            let mut hasher = Hasher::new();
            for chunk in self.written[packed.offset as usize..packed.end() as usize].chunks(CHUNK_BYTES) {
                hasher.update(chunk);
                self.pause(slot.offset as usize)?;
            }
            if hasher.finish().to_string() != row.digest {
                let reason = format!("{} is not as it was packed", row.name);
                return Err(wrong(self.job, &Refusal::new(reason)));
            }
            compared = slot.end() as usize;
        }
        self.check_plain(compared..self.source.len(), "the end")
    }

    /// What lies before something.
    fn check_plain(&self, span: Span<usize>, before: &str) -> Result<(), Error> {
        let chunks = self.written[span.clone()].chunks(CHUNK_BYTES);
        let mut place = span.start;
        for (written, source) in chunks.zip(self.source[span].chunks(CHUNK_BYTES)) {
            if written != source {
                let reason = format!("something before {before} is not as it was");
                return Err(wrong(self.job, &Refusal::new(reason)));
            }
            place += written.len();
            self.pause(place)?;
        }
        Ok(())
    }

    fn pause(&self, done: usize) -> Result<(), Error> {
        self.stretch.go_on(done as f32 / self.source.len() as f32)
    }
}

fn load(job: &Packing<'_>, origin: ModelInput<'_>, stretch: Stretch<'_>) -> Result<LlamaModel, Error> {
    let options = WeightOptions { is_repacked: false, is_locked: false };
    native::load_model(origin, options, |done| stretch.report(done))
        .ok_or_else(|| Error::not_loaded(job.path, stretch.is_cancelled()))
}

/// Logits of the sequences that were computed in the same way.
type Phase = Vec<Vec<f32>>;

/// Logits after a batch of prompts, after a step of all sequences, and after steps of one at a time: each is computed by
/// kernels of its own.
fn logits(job: &Packing<'_>, model: &LlamaModel, stretch: Stretch<'_>) -> Result<[Phase; 3], Error> {
    let options = ContextOptions {
        cells: 256,
        batch_tokens: 64,
        sequences: SEQUENCES as u32,
        threads: 1,
        kv_type: llama_cpp_sys_2::GGML_TYPE_F16,
        pooled: None,
    };
    let failed = |error| Error::not_computed(job.path, error);
    let context = Context::new(model, options).ok_or_else(|| failed(DecodeError::NoRoom))?;
    let vocabulary = model.n_vocab().max(1);
    let mut pupil = Pupil { context, vocabulary, lengths: [0; SEQUENCES], batch: Batch::default(), stretch };
    let all: Vec<usize> = (0..SEQUENCES).collect();
    let prompts = pupil.compute(&all, PROMPT_TOKENS).map_err(failed)?;
    stretch.go_on(0.5)?;
    let together = pupil.compute(&all, 1).map_err(failed)?;
    let mut alone = Phase::new();
    for step in 0..SINGLE_STEPS {
        stretch.go_on(0.6 + 0.4 * step as f32 / SINGLE_STEPS as f32)?;
        alone.extend(pupil.compute(&[step % SEQUENCES], 1).map_err(failed)?);
    }
    Ok([prompts, together, alone])
}

/// A model that is being asked.
struct Pupil<'m> {
    context: Context<'m>,
    vocabulary: i32,
    /// Tokens of each sequence until now.
    lengths: [usize; SEQUENCES],
    batch: Batch,
    stretch: Stretch<'m>,
}

impl Pupil<'_> {
    /// Logits of these sequences after so many more tokens of each.
    fn compute(&mut self, sequences: &[usize], tokens: usize) -> Result<Phase, DecodeError> {
        self.batch.clear();
        let mut outputs = Vec::new();
        for &sequence in sequences {
            for index in 0..tokens {
                let place = self.lengths[sequence];
                self.lengths[sequence] += 1;
                let token = LlamaToken((7 + sequence as i32 * 131 + place as i32 * 29) % self.vocabulary);
                let is_last = index + 1 == tokens;
                let output = self.batch.add(token, place, sequence as i32, is_last);
                outputs.extend(is_last.then_some(output));
            }
        }
        let stretch = self.stretch;
        self.context.decode(&mut self.batch, &|| stretch.is_cancelled())?;
        let mut row = |output| self.context.logits(output).map(<[f32]>::to_vec);
        outputs.into_iter().map(|output| row(output).ok_or(DecodeError::Failed(0))).collect()
    }
}

/// How far two sets of logits are apart, as a part of how far they spread: the worst of the phases, and in each the median
/// of its sequences, because a model that chooses among experts may choose another one by a hair.
fn distance(plain: &[Phase], packed: &[Phase]) -> f64 {
    let phases = plain.iter().zip(packed).map(|(plain, packed)| phase_distance(plain, packed));
    phases.max_by(f64::total_cmp).unwrap_or(f64::INFINITY)
}

fn phase_distance(plain: &Phase, packed: &Phase) -> f64 {
    let mut errors: Vec<f64> =
        plain.iter().zip(packed).map(|(plain, packed)| row_distance(plain, packed)).collect();
    errors.sort_by(f64::total_cmp);
    errors.get(errors.len().saturating_sub(1) / 2).copied().unwrap_or(f64::INFINITY)
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
    }

    #[test]
    fn one_sequence_may_choose_another_expert_but_no_way_of_computing_may_be_wrong() {
        let plain: Vec<f32> = (0..1000).map(|i| ((i * 37) % 101) as f32 / 10.0).collect();
        let shifted: Vec<f32> = plain.iter().cycle().skip(1).take(plain.len()).copied().collect();
        let rows = |count: usize| vec![plain.clone(); count];
        let good = [rows(SEQUENCES), rows(SEQUENCES), rows(SINGLE_STEPS)];
        assert_eq!(distance(&good, &good), 0.0);
        for phase in 0..good.len() {
            let mut one = good.clone();
            one[phase][1].clone_from(&shifted);
            assert_eq!(distance(&good, &one), 0.0);
            let mut all = good.clone();
            all[phase].fill(shifted.clone());
            assert!(distance(&good, &all) > MOST_ERROR, "kernels of phase {phase}");
        }
        assert_eq!(distance(&[], &[]), f64::INFINITY);
        assert_eq!(distance(&[Phase::new()], &[Phase::new()]), f64::INFINITY);
    }
}
