//! What serving vectors, scores and token ids takes in every dialect: inputs are read and checked, the model is chosen where a
//! dialect names none, all is computed, and the answer is written piece by piece.
//!
//! ```text
//!   dialect: body ─► terms, inputs ─► target (which model) ─► Embed ─► compute ─► Computed ─► pieces ─► dialect: bytes
//!                                                                     (Running)
//! ```
//!
//! The status is decided when everything is computed: no answer begins that cannot be completed. Nothing here knows a wire
//! format beyond single fields: how bodies and answers look is their dialect's (`openai/`, `tei/`, `rerank`).

pub(crate) mod compute;
pub(crate) mod inputs;
pub(crate) mod number;
pub(crate) mod pieces;
pub(crate) mod target;
pub(crate) mod terms;
