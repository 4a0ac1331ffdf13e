//! What a fake model does.

use std::time::Duration;

use crate::error::Failure;
use crate::footprint::{Footprint, Speed};
use crate::memory::Bytes;

/// What a fake model does. The default loads at once, speaks as fast as it can and never fails.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// Real time that a load takes.
    pub load_time: Duration,
    /// Loads go on although they were cancelled.
    pub ignores_load_cancel: bool,
    /// Every load fails so.
    pub load_failure: Option<Failure>,
    /// What [`Engine::footprint`](crate::port::Engine::footprint) answers; `None` = computed from the descriptor.
    pub footprint: Option<Footprint>,
    /// Memory on devices, beside that on the host.
    pub device_bytes: Bytes,
    /// Of these, what each token of context takes in each slot.
    pub device_bytes_per_cell: Bytes,
    /// What [`Engine::packing`](crate::port::Engine::packing) answers; `None` = the model's weights cannot be packed.
    pub packing: Option<String>,
    /// Every packing fails so, after it has written half of the file.
    pub pack_failure: Option<Failure>,
    /// Every packed file is refused so, also a sound one.
    pub packed_refusal: Option<String>,
    /// What [`Engine::calibrate`](crate::port::Engine::calibrate) finds of the layouts that its files allow.
    pub speeds: Vec<Speed>,
    /// Real time for each prompt token that is not cached.
    pub prefill_time_per_token: Duration,
    /// Real time for each token generated.
    pub time_per_token: Duration,
    /// Tokens of an answer until the end-of-sequence token; `None` = depends on the prompt, 12 to 43.
    pub answer_tokens: Option<u32>,
    /// The instance dies, without a word, after so many tokens in all.
    pub crash_after_tokens: Option<u64>,
    /// The instance falls silent after so many tokens in all, until it is dropped. It no longer
    /// looks whether it has a reader.
    pub hang_after_tokens: Option<u64>,
    /// Real time for each input that is embedded.
    pub time_per_input: Duration,
    /// An input with this text in it is computed to no number, and its request fails.
    pub not_a_number: Option<String>,
    /// The instance dies, without a word, after so many inputs in all.
    pub crash_after_inputs: Option<u64>,
    /// Parking fails so.
    pub park_failure: Option<Failure>,
    /// Resuming fails so.
    pub resume_failure: Option<Failure>,
    /// Probing fails so.
    pub probe_failure: Option<Failure>,
}
