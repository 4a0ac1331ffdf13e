//! What a caller asks of the pool, and what it hears while it waits.

use std::path::Path;
use std::sync::Arc;

use samovar_core::port::{Capabilities, EngineId, Millis};
use samovar_core::units::KeepAlive;
use samovar_core::{Cost, Descriptor, Footprint, LoadOptions, ModelFiles, ModelKey};
use serde::{Deserialize, Serialize};

/// A model as the pool needs to know it: which bytes, how to load them, what that is predicted to cost.
///
/// Two specs with one key are one model. A loaded instance satisfies a spec when its context and, where their number is
/// fixed, its slots are at least those asked for; a larger wish makes the instance grow, its weights staying in memory.
/// Differences in layout, threads and number format never force a reload.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSpec {
    /// Identity of the bytes.
    pub key: ModelKey,
    /// What people call it; shown in statistics and reasons.
    pub name: String,
    /// The files that the engine loads.
    pub files: ModelFiles,
    /// Facts from the files' headers.
    pub descriptor: Arc<Descriptor>,
    /// The engine that runs it.
    pub engine: EngineId,
    /// What that engine can do with it.
    pub capabilities: Capabilities,
    /// How to load it.
    pub options: LoadOptions,
    /// What that is expected to take, and what another size would change about it: [`Engine::cost`] tells.
    ///
    /// [`Engine::cost`]: samovar_core::port::Engine::cost
    pub cost: Cost,
    /// What a load took in earlier lives of this program, in milliseconds; `None` when it is unknown. It counts
    /// until this pool has loaded the model itself.
    pub load_ms: Option<u64>,
    /// How long it stays ready after its last use, unless a request says otherwise.
    pub keep_alive: KeepAlive,
    /// How many instances of it there may be.
    pub instances: Instances,
    /// Models that must be in memory wherever this one is: reserved, loaded, leased and evicted with it.
    pub needs: Vec<Arc<ModelSpec>>,
    /// Whether the owner fixed the number of slots: then an instance with fewer does not satisfy it. Else slots are a wish.
    pub has_fixed_slots: bool,
    /// The spec without what a single request asks for beyond it; `None` = this is that. What is loaded for no request in
    /// particular is loaded so.
    pub usual: Option<Arc<ModelSpec>>,
}

impl ModelSpec {
    /// What it is expected to take on the host.
    pub fn footprint(&self) -> Footprint {
        self.cost.memory.footprint()
    }

    /// The model's file; of a split model, the first part.
    pub fn path(&self) -> &Path {
        self.files.main()
    }

    /// The same where neither it nor what it needs can be parked.
    pub(crate) fn without_parking(&self) -> Arc<Self> {
        Arc::new(Self {
            capabilities: Capabilities { can_park: false, ..self.capabilities },
            needs: self.needs.iter().map(|need| need.without_parking()).collect(),
            usual: self.usual.as_ref().map(|usual| usual.without_parking()),
            ..self.clone()
        })
    }
}

/// How many instances of a model there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instances {
    /// Loaded whenever the model is; at least 1.
    pub min: u32,
    /// The most, when requests wait and memory is free; at least `min`.
    pub max: u32,
}

impl Default for Instances {
    /// One.
    fn default() -> Self {
        Self { min: 1, max: 1 }
    }
}

/// One request for a slot of a model.
#[derive(Clone, Debug)]
pub struct AcquireRequest {
    /// The model.
    pub model: Arc<ModelSpec>,
    /// Who asks: clients of one model are served in turns. Any stable text; those without a name are one client.
    pub client: String,
    /// Who of that client asks, from the outermost name to the innermost: they divide the client's turns, and the
    /// places that it may take in a full queue. At most two names count.
    pub within: Vec<String>,
    /// How many requests the client has in each turn; `None` = as the configuration says, or one.
    pub weight: Option<u32>,
    /// A head start among the client's own requests, and among clients whose turn it is: each point counts as
    /// 100 ms of waiting. 0 is usual.
    pub priority: u8,
    /// When an answer is due at the latest, by the pool's clock; `None` = wait as long as it takes.
    pub deadline: Option<Millis>,
    /// How long the model stays ready after this use, instead of the spec's own wish. The pool's
    /// floor and ceiling win over it.
    pub keep_alive: Option<KeepAlive>,
    /// Stands for the beginning of the prompt: requests that begin alike have the same number. Of several free
    /// instances the one that served it last is preferred, since it may hold the prompt's state.
    pub affinity: Option<u64>,
}

impl AcquireRequest {
    /// A request without priority, deadline or keep-alive of its own.
    pub fn new(model: Arc<ModelSpec>) -> Self {
        Self {
            model,
            client: String::new(),
            within: Vec::new(),
            weight: None,
            priority: 0,
            deadline: None,
            keep_alive: None,
            affinity: None,
        }
    }
}

/// What a waiting caller is told.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Wait {
    /// The model has no free slot, or no memory yet.
    Queued {
        /// Place in the model's queue, counted from 1.
        position: u32,
        /// Expected wait in milliseconds, once there is experience to tell from.
        estimate_ms: Option<u64>,
    },
    /// The model is being loaded.
    Loading {
        /// Part done, 0 to 1.
        fraction: f32,
        /// Which of the model's instances, counted from 1.
        instance: u32,
        /// How many instances will be loaded.
        of: u32,
    },
    /// The model was parked and gets its working memory back.
    Resuming,
}
