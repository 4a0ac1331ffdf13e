//! What the runtime needs from others: an engine that runs models, a clock that tells time.

pub mod clock;
pub mod engine;
pub mod engines;
pub mod identity;
pub mod load;
pub mod prepare;
pub mod prompt_control;

pub use clock::{Clock, Millis, SystemClock};
pub use engine::{Capabilities, Engine, Instance};
pub use engines::Engines;
pub use identity::{EngineId, EngineInfo};
pub use load::{LoadControl, LoadRequest, PackRequest, PackedFile};
pub use prepare::{
    ADAPTER_HELD_BYTES, Conversion, ConvertedWeights, Converter, PreparePlan, PrepareRequest, Preparer,
    PublishedFacts,
};
pub use prompt_control::{PromptControl, Unconfined};
