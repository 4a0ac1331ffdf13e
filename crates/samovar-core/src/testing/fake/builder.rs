//! How a fake engine is made.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::{FakeEngine, Script, Shared, info};
use crate::error::{ErrorKind, Failure};
use crate::model::Format;
use crate::port::{Capabilities, EngineInfo};
use crate::testing::gate::Gate;

/// How a [`FakeEngine`] is made.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent gates, each closed by name")]
pub struct Builder {
    info: EngineInfo,
    capabilities: Capabilities,
    capabilities_by_model: HashMap<String, Capabilities>,
    script: Script,
    script_by_model: HashMap<String, Script>,
    gates_loads: bool,
    gates_tokens: bool,
    gates_packs: bool,
    gates_requests: bool,
    gates_batches: bool,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            info: info("fake", [Format::Gguf]),
            capabilities: FakeEngine::CAPABILITIES,
            capabilities_by_model: HashMap::new(),
            script: Script::default(),
            script_by_model: HashMap::new(),
            gates_loads: false,
            gates_tokens: false,
            gates_packs: false,
            gates_requests: false,
            gates_batches: false,
        }
    }

    /// What every model does that has no script of its own.
    #[must_use]
    pub fn script(mut self, script: Script) -> Self {
        self.script = script;
        self
    }

    /// What the model whose descriptor has this name does.
    #[must_use]
    pub fn script_for(mut self, model: impl Into<String>, script: Script) -> Self {
        self.script_by_model.insert(model.into(), script);
        self
    }

    /// Loads wait at [`FakeEngine::loads_gate`], which begins closed.
    #[must_use]
    pub fn gate_loads(mut self) -> Self {
        self.gates_loads = true;
        self
    }

    /// Each token of every answer waits at [`FakeEngine::tokens_gate`], which begins closed.
    #[must_use]
    pub fn gate_tokens(mut self) -> Self {
        self.gates_tokens = true;
        self
    }

    /// Packings wait at [`FakeEngine::packs_gate`], which begins closed, when half of the file is written.
    #[must_use]
    pub fn gate_packs(mut self) -> Self {
        self.gates_packs = true;
        self
    }

    /// Each request waits at [`FakeEngine::requests_gate`], which begins closed, before `generate` or `embed` returns.
    #[must_use]
    pub fn gate_requests(mut self) -> Self {
        self.gates_requests = true;
        self
    }

    /// Each batch of inputs to be embedded waits at [`FakeEngine::batches_gate`], which begins closed, before it is chosen.
    #[must_use]
    pub fn gate_batches(mut self) -> Self {
        self.gates_batches = true;
        self
    }

    /// Which engine it says that it is, and which models it runs. Default: `fake`, which runs GGUF models.
    #[must_use]
    pub fn identity(mut self, id: &str, formats: impl IntoIterator<Item = Format>) -> Self {
        self.info = info(id, formats);
        self
    }

    /// What the engine can do with every model that has no capabilities of its own.
    #[must_use]
    pub fn capabilities(mut self, capabilities: Capabilities) -> Self {
        self.capabilities = capabilities;
        self
    }

    /// What the engine can do with the model whose descriptor has this name.
    #[must_use]
    pub fn capabilities_for(mut self, model: impl Into<String>, capabilities: Capabilities) -> Self {
        self.capabilities_by_model.insert(model.into(), capabilities);
        self
    }

    /// The engine.
    pub fn build(self) -> FakeEngine {
        let gate = |is_closed| if is_closed { Gate::closed() } else { Gate::opened() };
        FakeEngine {
            shared: Arc::new(Shared {
                info: self.info,
                capabilities: self.capabilities,
                capabilities_by_model: self.capabilities_by_model,
                script: self.script,
                script_by_model: self.script_by_model,
                loads: gate(self.gates_loads),
                tokens: Arc::new(gate(self.gates_tokens)),
                packs: gate(self.gates_packs),
                requests: Arc::new(gate(self.gates_requests)),
                batches: Arc::new(gate(self.gates_batches)),
                failing_loads: Mutex::new((
                    0,
                    Failure::new(ErrorKind::EngineFailed, "scripted load failure"),
                )),
                ledger: Arc::default(),
            }),
        }
    }
}
