//! What serving vectors, scores and token ids takes in every API: inputs are read and checked, the model is chosen where an
//! API names none, all is computed, and the answer is written piece by piece.
//!
//! ```text
//!   API: body ─► terms, inputs ─► target (which model) ─► Embed ─► compute ─► Computed ─► pieces ─► API: bytes
//!                                                                     (Running)
//! ```
//!
//! The status is decided when everything is computed: no answer begins that cannot be completed. Nothing here knows a wire
//! format beyond single fields: how bodies and answers look is their API's (`openai/`, `tei/`, `rerank`).

pub(crate) mod compute;
pub(crate) mod inputs;
pub(crate) mod number;
pub(crate) mod pieces;
pub(crate) mod target;
pub(crate) mod terms;
