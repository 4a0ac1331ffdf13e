//! What having a model in memory costs in a replay, and what is assumed where it was not measured.

use std::sync::Arc;

use samovar_core::footprint::{KvType, Layout};
use samovar_core::port::{Capabilities, EngineId};
use samovar_core::units::KeepAlive;
use samovar_core::{Arena, Bytes, Cost, Descriptor, Footprint, Format, LoadOptions, ModelFiles, ModelKey};
use serde::Serialize;

use super::log::{ModelCosts, Named};
use crate::ask::{Instances, ModelSpec};

/// Of what an instance holds, the part that is left when it is parked, unless the log knows: between what was
/// measured of two models (bench/runs/memory.json: 45 of 250 MiB, 9 of 285).
const PARKED_PART: u64 = 8;
/// Bytes that a load from disk brings in a millisecond, and what it takes besides (docs/design: 1.8 GB/s).
const LOAD_BYTES_PER_MS: u64 = 1_800_000;
const LOAD_BEGIN_MS: u64 = 100;
/// Bytes of working memory that a resume makes in a millisecond, and what it takes besides.
const RESUME_BYTES_PER_MS: u64 = 2_800_000;
const RESUME_BEGIN_MS: u64 = 10;
/// Requests that a model of which nothing is known serves at the same time.
const SLOTS: u32 = 4;

/// What having a model in memory costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Costs {
    /// Memory of the host when it is ready.
    pub footprint: Footprint,
    /// Memory of devices when it is ready; none when it is parked.
    #[serde(skip)]
    pub devices: Bytes,
    /// Memory when it is parked.
    pub parked_bytes: u64,
    /// What a load takes, in milliseconds.
    pub load_ms: u64,
    /// What a resume takes, in milliseconds.
    pub resume_ms: u64,
}

impl Costs {
    /// What parking takes, in milliseconds.
    pub(super) const PARK_MS: u64 = 5;
    /// What a probe takes, in milliseconds; less than parking, which waits for it.
    pub(super) const PROBE_MS: u64 = 1;
    /// What unloading takes, in milliseconds.
    pub(super) const UNLOAD_MS: u64 = 20;

    /// What is known of the model: its measured footprint and load time, else its predicted footprint, and a
    /// load at 1.8 GB/s.
    pub fn of(spec: &ModelSpec) -> Self {
        let footprint = spec.footprint();
        let weights = spec.descriptor.file_bytes.max(footprint.mapped_bytes);
        let load_ms = spec.load_ms.unwrap_or(LOAD_BEGIN_MS + weights / LOAD_BYTES_PER_MS);
        let devices = spec.cost.memory.total().with(Arena::HOST, 0);
        Self { devices, ..Self::assumed(footprint, load_ms) }
    }

    fn assumed(footprint: Footprint, load_ms: u64) -> Self {
        let resume_ms = RESUME_BEGIN_MS + footprint.held_bytes / RESUME_BYTES_PER_MS;
        Self {
            footprint,
            devices: Bytes::NONE,
            parked_bytes: footprint.held_bytes / PARKED_PART,
            load_ms,
            resume_ms: resume_ms.min(load_ms),
        }
    }

    /// What the log says, where it says something.
    fn corrected(mut self, facts: &ModelCosts) -> Self {
        let told = facts.device_bytes.iter().filter(|(arena, _)| !arena.is_host());
        let told = told.fold(Bytes::NONE, |all, (arena, bytes)| all.with(*arena, *bytes));
        let devices = if told.is_none() { self.devices } else { told };
        if facts.held_bytes.is_some() || facts.mapped_bytes.is_some() {
            let (held_bytes, mapped_bytes) = (facts.held_bytes, facts.mapped_bytes);
            self.footprint =
                Footprint { held_bytes: held_bytes.unwrap_or(0), mapped_bytes: mapped_bytes.unwrap_or(0) };
            self = Self::assumed(self.footprint, self.load_ms);
        } else if let Some(bytes) = facts.bytes {
            // Weights are nearly all of it.
            let held_bytes = bytes / PARKED_PART;
            self.footprint = Footprint { held_bytes, mapped_bytes: bytes - held_bytes };
            self = Self::assumed(self.footprint, self.load_ms);
        }
        self.load_ms = facts.load_ms.unwrap_or(self.load_ms);
        self.resume_ms = facts.resume_ms.unwrap_or(self.resume_ms).min(self.load_ms);
        self.parked_bytes = facts.parked_bytes.unwrap_or(self.parked_bytes).min(self.footprint.total_bytes());
        self.devices = devices;
        self
    }

    /// What a model of these costs takes in all.
    pub(super) fn of_all(&self, spec: &ModelSpec) -> Cost {
        let mut cost = Cost::on_host(&spec.descriptor, &spec.options, self.footprint);
        cost.memory.private += self.devices;
        cost
    }
}

/// A model of a trace, with what it costs.
#[derive(Clone, Debug)]
pub struct Subject {
    pub(super) spec: Arc<ModelSpec>,
    /// What it costs.
    pub costs: Costs,
}

impl Subject {
    /// A model by what this machine knows of it (`spec`) and by what the log says, which wins. `None` when
    /// neither tells how large it is.
    pub fn new(model: &Named, spec: Option<&ModelSpec>) -> Option<Self> {
        let facts = model.facts.clone().unwrap_or_default();
        let is_sized = facts.bytes.or(facts.held_bytes).or(facts.mapped_bytes).is_some();
        if spec.is_none() && !is_sized {
            return None;
        }
        let mut spec = spec.cloned().unwrap_or_else(|| unknown(&model.name));
        let known = if spec.load_ms.is_none() && is_sized {
            // A load of something of the size that the log says.
            let bytes = facts.bytes.or(facts.mapped_bytes).or(facts.held_bytes).unwrap_or(0);
            Costs::assumed(spec.footprint(), LOAD_BEGIN_MS + bytes / LOAD_BYTES_PER_MS)
        } else {
            Costs::of(&spec)
        };
        let costs = known.corrected(&facts);
        spec.cost = costs.of_all(&spec);
        spec.load_ms = Some(costs.load_ms);
        spec.options.slots = facts.slots.unwrap_or(spec.options.slots).max(1);
        Some(Self { spec: Arc::new(spec), costs })
    }

    /// The same, kept ready for so long after its last use.
    #[must_use]
    pub fn kept(mut self, keep_alive: KeepAlive) -> Self {
        Arc::make_mut(&mut self.spec).keep_alive = keep_alive;
        self
    }

    /// Whether the engine that runs it can park it.
    pub fn can_park(&self) -> bool {
        self.spec.capabilities.can_park
    }
}

/// A model that is not on this machine.
fn unknown(name: &str) -> ModelSpec {
    ModelSpec {
        key: ModelKey::new(name),
        name: name.to_owned(),
        files: ModelFiles::of(""),
        descriptor: Arc::new(blank()),
        engine: EngineId::new("unknown"),
        // As what most engines run.
        capabilities: Capabilities { can_park: true, can_generate: true, ..Capabilities::default() },
        options: LoadOptions {
            context_tokens: 4_096,
            slots: SLOTS,
            layout: Layout::Mapped,
            kv_type: KvType::F16,
            threads: 1,
            lock_memory: false,
            pooling: None,
            draft: None,
        },
        cost: Cost::default(),
        load_ms: None,
        keep_alive: KeepAlive::default(),
        instances: Instances::default(),
        needs: Vec::new(),
        has_fixed_slots: false,
        usual: None,
    }
}

/// Facts of a header that has not been read.
fn blank() -> Descriptor {
    Descriptor {
        format: Format::default(),
        name: None,
        architecture: String::new(),
        parameters: 0,
        parts: 1,
        file_bytes: 0,
        tensor_bytes: 0,
        formats: Vec::new(),
        quantization: String::new(),
        context_tokens: 0,
        embedding_width: 0,
        blocks: 0,
        heads: 0,
        kv_heads: 0,
        key_width: 0,
        value_width: 0,
        feed_forward_width: 0,
        state_bytes: 0,
        pooling: None,
        is_causal: true,
        has_classifier: false,
        vocabulary: 0,
        chat_template: None,
        bos_token: None,
        eos_token: None,
        adds_bos: false,
        infill: None,
    }
}

#[cfg(test)]
mod tests {
    use samovar_core::Memory;

    use super::*;

    fn named(facts: Option<ModelCosts>) -> Named {
        Named { name: "m".into(), facts }
    }

    #[test]
    fn a_model_that_is_nowhere_and_of_which_the_log_says_nothing_is_unknown() {
        assert!(Subject::new(&named(None), None).is_none());
        let only_time = ModelCosts { load_ms: Some(3), ..ModelCosts::default() };
        assert!(Subject::new(&named(Some(only_time)), None).is_none());
    }

    #[test]
    fn the_log_wins_over_the_machine_and_assumptions_fill_the_rest() {
        let mut here = unknown("m");
        here.cost.memory = Memory::on_host(80, 900);
        here.load_ms = Some(700);
        let known = Subject::new(&named(None), Some(&here)).expect("known").costs;
        assert_eq!((known.load_ms, known.footprint.total_bytes(), known.parked_bytes), (700, 980, 10));
        let facts =
            ModelCosts { bytes: Some(1_600), load_ms: Some(5), resume_ms: Some(9), ..ModelCosts::default() };
        let told = Subject::new(&named(Some(facts)), Some(&here)).expect("known").costs;
        assert_eq!((told.load_ms, told.resume_ms, told.footprint.total_bytes()), (5, 5, 1_600));
    }

    #[test]
    fn a_load_that_nobody_measured_takes_its_bytes_at_the_speed_of_a_disk() {
        let facts = ModelCosts { bytes: Some(3_600_000_000), ..ModelCosts::default() };
        assert_eq!(Subject::new(&named(Some(facts)), None).expect("sized").costs.load_ms, 2_100);
    }
}
