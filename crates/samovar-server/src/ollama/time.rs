//! Moments as Ollama writes them: with nanoseconds.

pub(super) use crate::moment::{now, since_1970, written};
