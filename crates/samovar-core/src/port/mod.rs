//! What the runtime needs from others: an engine that runs models, a clock that tells time.

pub mod clock;
pub mod engine;
pub mod prompt_control;

pub use clock::{Clock, Millis, SystemClock};
pub use engine::{Capabilities, Engine, Instance, LoadControl, ModelFiles, PackedFile};
pub use prompt_control::{PromptControl, Unconfined};
