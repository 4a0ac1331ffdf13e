//! What an answer must look like, as the tokens that may come next.
//!
//! ```text
//!   vocabulary   the bytes of every token of a model, kept once
//!   compile      a grammar → rules, on a thread of its own with bounds in time and stack
//!     schema/    a JSON schema: read, bounded, refused by keyword and place
//!     lark       a Lark grammar: the schemas in it
//!     gbnf/      llama.cpp's grammars, written again as Lark
//!   rules        one answer's state: tokens taken in, forced tokens, mask
//!   mask         which tokens may come next
//!   memory       how much all compiled grammars take
//!   ahead        the thread that computes the next mask while the model computes the next logits
//!   limits       what all of that may cost
//!   error        how each of them fails, and what to do about it
//! ```
//!
//! Grammars are code from strangers. They are compiled where the model runs, in the model's worker, and never in the daemon.
//! Rules that fail end an answer with an error; they never let a text pass that the grammar does not allow. This crate calls
//! nothing native and knows no engine.
#![forbid(unsafe_code)]

mod ahead;
mod compile;
mod error;
mod gbnf;
mod lark;
mod limits;
mod mask;
mod memory;
mod rules;
mod schema;
mod vocabulary;

pub use ahead::{Ahead, Next, Pending};
pub use compile::Grammar;
pub use mask::Mask;
pub use rules::Rules;
pub use vocabulary::{Vocabulary, VocabularyToken};
