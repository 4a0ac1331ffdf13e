//! What serving an answer takes in every API: numbers are checked, choices run at the same time, and their opening is awaited,
//! which decides the status and the headers.
//!
//! ```text
//!   API: body ─► params, deadline ─► Request × choices ─► Choices ─► open ─► Opening ─► heading    ─► API: bytes
//!                    thinking            (copies)             (Running each)     (AnswerPhase, waiting)   (Collected, Parts,
//!                                                                                                            event_stream)
//! ```
//!
//! Tools, their results and constraints are checked by the runtime. Nothing here knows a wire format: how bodies are read and answers
//! look is their API's (`openai/`, `admin/`).

pub(crate) mod allowed_tools;
pub(crate) mod choices;
pub(crate) mod collected;
pub(crate) mod copies;
pub(crate) mod deadline;
pub(crate) mod event_stream;
pub(crate) mod heading;
pub(crate) mod long_list;
pub(crate) mod opening;
pub(crate) mod params;
pub(crate) mod parts;
pub(crate) mod phase;
pub(crate) mod request_terms;
pub(crate) mod running;
pub(crate) mod thinking;
