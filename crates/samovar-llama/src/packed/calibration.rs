//! How fast this machine computes with plain and with packed weights.
//!
//! ```text
//!   one load, both files mapped; in turns plain and packed:
//!   a prompt │ steps of one sequence │ steps of eight          the best of up to three rounds, some seconds in all;
//!                                                              a few more while other programs have the cores
//! ```
//!
//! Repacking at load is not measured: its kernels and bytes are those of packed weights.

use std::time::{Duration, Instant};

use llama_cpp_2::token::LlamaToken;
use samovar_core::port::{LoadControl, LoadRequest};
use samovar_core::{Layout, Speed};

use super::weight_views::{PLAIN_FROM_TOKENS, WeightViews};
use super::{PackedFile, Unfit};
use crate::context::{Batch, Context, DecodeError};
use crate::error::Error;
use crate::log;
use crate::native::{self, ModelInput, WeightOptions};
use crate::plan::{ContextOptions, LoadPlan};
use crate::threads::Stopwatch;

/// No further round begins after so long.
const ENOUGH: Duration = Duration::from_secs(4);
const ROUNDS: u32 = 3;
/// Rounds, and time, where other programs had the cores in all of them.
const ROUNDS_MOST: u32 = 6;
const LONGEST: Duration = Duration::from_secs(10);
/// What a prompt may take.
const PROMPT_TIME: Duration = Duration::from_millis(1200);
const PROMPT_TOKENS: [usize; 2] = [64, 512];
const SEQUENCES: usize = 8;
const STEPS_OF_ONE: usize = 4;
const STEPS_OF_EIGHT: usize = 2;

/// Measures the layouts that these files allow: plain weights always, packed ones and both if the packed file is of use.
pub(crate) fn calibrate(request: LoadRequest<'_>, plan: &LoadPlan) -> Result<Vec<Speed>, Error> {
    let LoadRequest { files, packed, descriptor, control, .. } = request;
    let _ = log::take_complaints();
    let options = WeightOptions { is_repacked: false, is_locked: false };
    let model = native::load_model(ModelInput::Files(files), options, |_| !control.is_cancelled());
    let model = model.ok_or_else(|| Error::not_loaded(files.main(), control.is_cancelled()))?;
    let opened = packed.map(|packed| PackedFile::open(packed, files.main(), descriptor)).transpose();
    let weight_views =
        opened.and_then(|file| file.map(|file| WeightViews::beside(&model, &file, false)).transpose());
    let weight_views = match weight_views {
        Ok(weight_views) => weight_views,
        Err(Unfit::Refused(reason)) => {
            tracing::warn!(%reason, "packed weights are not measured");
            None
        }
        // Figures without them would be kept for ever.
        Err(Unfit::Unseen(detail)) => {
            return Err(Error::PackedUnseen { path: files.main().to_owned(), detail });
        }
    };
    let cells = PROMPT_TOKENS[1] as u32;
    let context = ContextOptions {
        cells,
        batch_tokens: cells,
        sequences: SEQUENCES as u32,
        threads: plan.threads,
        kv_type: plan.context(false).kv_type,
        pooled: None,
    };
    let context = Context::new(&model, context)
        .ok_or_else(|| Error::Context { cells, detail: log::take_complaints() })?;
    let vocabulary = model.n_vocab().max(1);
    let (batch, threads) = (Batch::default(), plan.threads);
    let track = Track { context, weight_views, vocabulary, batch, control, threads, round: (0.0, 0.0) };
    track.run().map_err(|error| Error::not_computed(files.main(), error))
}

/// A model, ready to be timed.
struct Track<'m> {
    context: Context<'m>,
    weight_views: Option<WeightViews<'m>>,
    vocabulary: i32,
    batch: Batch,
    control: &'m LoadControl,
    threads: u32,
    /// Wall time and processor time of the round's steps, in seconds.
    round: (f64, f64),
}

/// Tokens a second.
#[derive(Clone, Copy, Default)]
struct Pace {
    prompt: f64,
    one: f64,
    eight: f64,
    /// Of the round in which others took the least.
    lacked: f64,
}

impl Pace {
    fn best(self, other: Self) -> Self {
        Self {
            prompt: self.prompt.max(other.prompt),
            one: self.one.max(other.one),
            eight: self.eight.max(other.eight),
            lacked: self.lacked.min(other.lacked),
        }
    }

    fn of(self, layout: Layout) -> Speed {
        let Self { prompt, one, eight, lacked } = self;
        Speed { layout, prefill: prompt, decode: one, decode_eight: eight, lacked }
    }
}

impl Track<'_> {
    fn run(mut self) -> Result<Vec<Speed>, DecodeError> {
        let start = Instant::now();
        let sides: &[bool] = if self.weight_views.is_some() { &[false, true] } else { &[false] };
        // Reads all weights, so that no round pays for the disk.
        for &is_packed in sides {
            self.switch_to(is_packed);
            self.steps(SEQUENCES, 1)?;
        }
        let pilot = self.steps(SEQUENCES, 1)?;
        let tokens = (PROMPT_TIME.as_secs_f64() * pilot) as usize / 64 * 64;
        let tokens = tokens.clamp(PROMPT_TOKENS[0], PROMPT_TOKENS[1] - 64);
        let mut paces = [Pace { lacked: 1.0, ..Pace::default() }; 2];
        for round in 0..ROUNDS_MOST {
            for &is_packed in sides {
                self.switch_to(is_packed);
                self.round = (0.0, 0.0);
                let mut pace = Pace {
                    prompt: self.prompt(tokens)?,
                    one: self.steps(1, STEPS_OF_ONE)?,
                    eight: self.steps(SEQUENCES, STEPS_OF_EIGHT)?,
                    lacked: 0.0,
                };
                pace.lacked = self.lacked();
                let best = &mut paces[usize::from(is_packed)];
                *best = best.best(pace);
            }
            let is_quiet = paces[..sides.len()].iter().all(|pace| !pace.of(Layout::Mapped).is_provisional());
            let (rounds, longest) = if is_quiet { (ROUNDS, ENOUGH) } else { (ROUNDS_MOST, LONGEST) };
            self.control.report(((round + 1) as f32 / rounds as f32).min(1.0));
            if round + 1 >= rounds || start.elapsed() > longest {
                break;
            }
        }
        let [plain, packed] = paces;
        let mut speeds = vec![plain.of(Layout::Mapped)];
        if sides.len() > 1 {
            let prompt = if tokens >= PLAIN_FROM_TOKENS { plain.prompt } else { packed.prompt };
            speeds.push(packed.of(Layout::Packed));
            speeds.push(Pace { prompt, ..packed }.of(Layout::Hybrid));
        }
        Ok(speeds)
    }

    fn switch_to(&self, is_packed: bool) {
        if let Some(weight_views) = &self.weight_views {
            weight_views.switch_to(is_packed);
        }
    }

    /// Part of its threads' time that the steps of this round did not get.
    fn lacked(&self) -> f64 {
        let (wall, cpu) = self.round;
        (1.0 - cpu / (wall * f64::from(self.threads)).max(1e-9)).clamp(0.0, 1.0)
    }

    /// Tokens a second of one prompt.
    fn prompt(&mut self, tokens: usize) -> Result<f64, DecodeError> {
        self.batch.clear();
        for place in 0..tokens {
            self.add(0, place, place + 1 == tokens);
        }
        let seconds = self.decode()?;
        self.forget(1);
        Ok(tokens as f64 / seconds)
    }

    /// Tokens a second of so many sequences, a token of each in a step.
    fn steps(&mut self, sequences: usize, steps: usize) -> Result<f64, DecodeError> {
        let mut seconds = 0.0;
        for place in 0..steps {
            self.batch.clear();
            for sequence in 0..sequences {
                self.add(sequence, place, true);
            }
            seconds += self.decode()?;
        }
        self.forget(sequences);
        Ok((sequences * steps) as f64 / seconds)
    }

    fn add(&mut self, sequence: usize, place: usize, wants_logits: bool) {
        let token = LlamaToken((11 + sequence as i32 * 137 + place as i32 * 31) % self.vocabulary);
        self.batch.add(token, place, sequence as i32, wants_logits);
    }

    /// Computes the batch, after giving way to models that answer; returns how many seconds that took.
    fn decode(&mut self) -> Result<f64, DecodeError> {
        self.control.give_way();
        let watch = Stopwatch::start();
        let control = self.control;
        self.context.decode(&mut self.batch, &|| control.is_cancelled())?;
        let (wall, cpu) = watch.elapsed();
        self.round.0 += wall.as_secs_f64();
        self.round.1 += cpu.as_secs_f64();
        Ok(wall.as_secs_f64().max(1e-9))
    }

    fn forget(&mut self, sequences: usize) {
        for sequence in 0..sequences {
            self.context.remove(sequence as i32, 0);
        }
    }
}
