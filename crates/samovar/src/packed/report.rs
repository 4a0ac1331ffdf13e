//! What is told of packed weights: how one model's lie, and what was done for all.

use std::collections::BTreeMap;

use samovar_core::WeightsId;
use samovar_core::footprint::{Arrangement, Layout, LayoutWish, Speed};
use samovar_pool::ModelStats;
use serde::{Deserialize, Serialize};

use super::known::LayoutRegistry;
use super::subject::Subject;

/// What was done with packed weights in this life.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PackedTally {
    /// Loads by the layout that they came to have.
    pub loads: BTreeMap<String, u64>,
    /// Packed files that were not used, by reason: `refused` by the engine, or `gone` from the store.
    pub refused: BTreeMap<String, u64>,
    /// Packed files made.
    pub made: u64,
    /// Their bytes.
    pub made_bytes: u64,
    /// Seconds spent on them.
    pub made_seconds: f64,
    /// Attempts that failed.
    pub failed: u64,
    /// Attempts that were broken off because a request came.
    pub interrupted: u64,
    /// Times that the speeds of a model's layouts were measured.
    pub calibrations: u64,
}

/// How a model's weights lie, would lie at its next load, and why.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PackedInfo {
    /// What its settings wish for.
    pub wish: LayoutWish,
    /// The layout of the next load.
    pub layout: Layout,
    /// Why.
    pub why: String,
    /// What packed weights of it are known by, in this build and on this machine; absent where it packs nothing.
    #[serde(default)]
    pub key: Option<String>,
    /// Bytes of its packed file, if there is one.
    pub bytes: Option<u64>,
    /// When that was made, in milliseconds since 1970.
    pub made_unix_ms: Option<u64>,
    /// How much of one that is being made is done, 0 to 1.
    pub progress: Option<f32>,
    /// How fast its layouts were measured to be on this machine.
    pub speeds: Vec<Speed>,
    /// How its last load came out.
    pub arrangement: Option<Arrangement>,
    /// What went wrong last.
    #[serde(rename = "trouble")]
    pub last_error: Option<String>,
}

impl LayoutRegistry {
    /// How a model's weights lie and would lie.
    pub(crate) fn info(&self, subject: &Subject) -> PackedInfo {
        let choice = self.choose(subject);
        let record = self.with_record(subject, |record, _| record.clone());
        let speeds = record.speeds(subject).unwrap_or_default().to_vec();
        PackedInfo {
            wish: subject.wish,
            layout: choice.layout,
            why: choice.why,
            key: record.key,
            bytes: record.made.map(|made| made.bytes),
            made_unix_ms: record.made.map(|made| made.unix_ms),
            progress: record.progress,
            speeds,
            arrangement: self.state().latest(&subject.weights).cloned(),
            last_error: record.last_error,
        }
    }

    /// The models with the layouts that they came to have, which may be less than what was asked for.
    pub(crate) fn arranged(&self, mut models: Vec<ModelStats>) -> Vec<ModelStats> {
        let state = self.state();
        for ModelStats { key, options, .. } in &mut models {
            if let (Some(options), Some(subject)) = (options, state.subjects.peek(key)) {
                options.layout = state.reached(&subject.weights, options.layout);
            }
        }
        models
    }

    /// Bytes of a model's own files that the pool counts for its instances: those of one name, where several have some.
    pub(super) fn mapped_of(&self, weights: &WeightsId, models: &[ModelStats]) -> u64 {
        let state = self.state();
        let is_of_it = |model: &&ModelStats| {
            state.subjects.peek(&model.key).is_some_and(|subject| subject.weights == *weights)
        };
        let of_draft = |model: &ModelStats| {
            let draft = model.options.as_ref().and_then(|options| options.draft.as_ref());
            draft.map_or(0, |draft| draft.descriptor.tensor_bytes)
        };
        let own_bytes = |model: &ModelStats| model.mapped_bytes.saturating_sub(of_draft(model));
        models.iter().filter(is_of_it).map(own_bytes).max().unwrap_or(0)
    }

    /// What was done so far.
    pub(crate) fn tally(&self) -> PackedTally {
        self.state().tally.clone()
    }
}
