//! From a conversation to the text of a prompt, by the model's own chat template.
//!
//! ```text
//!   renderer      one model's template, compiled once; a conversation → the prompt's text
//!   script        the compiled template, and what it makes of a conversation
//!   conversation  what the template sees
//!   template/     Jinja as the Hugging Face libraries run it: functions, filters, tests, refusals
//!   bounds        what a template may use: steps, depth, output
//!   fitting       a conversation for a template that has no system role, or takes no parts; history: tools and calls
//!   dialect/      how the model writes thoughts and calls of tools
//!   answer        what an answer's bytes say: text, thoughts, calls; text_gate: stop strings, whole characters
//!   control       the control tokens of a vocabulary
//!   marks         which of them in a rendered text the template wrote, and which people did
//! ```
//!
//! A template is code from a stranger. It runs where the model runs, in the model's worker, and never in the daemon.
//! This crate tokenizes nothing and calls nothing native.
#![forbid(unsafe_code)]

pub mod answer;
mod bounds;
mod control;
mod conversation;
pub mod dialect;
mod fitting;
mod history;
mod marks;
mod renderer;
mod script;
mod template;
mod text_gate;

pub use control::ControlTokens;
pub use renderer::{Rendered, Renderer};
