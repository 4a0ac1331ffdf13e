//! From a conversation to the text of a prompt, by the model's own chat template.
//!
//! ```text
//!   renderer      one model's template, compiled once; a conversation → the prompt's text
//!   conversation  what the template sees
//!   template/     Jinja as the Hugging Face libraries run it: functions, filters, tests, refusals
//!   bounds        what a template may use: steps, depth, output
//!   control       the control tokens of a vocabulary
//!   marks         which of them in a rendered text the template wrote, and which people did
//! ```
//!
//! A template is code from a stranger. It runs where the model runs, in the model's worker, and never in the daemon.
//! This crate tokenizes nothing and calls nothing native.
#![forbid(unsafe_code)]

mod bounds;
mod control;
mod conversation;
mod fitting;
mod marks;
mod renderer;
mod template;

pub use control::ControlTokens;
pub use renderer::{Rendered, Renderer};
