//! Templates as they are published, from `tests/corpus`.

mod dialects;
mod transformers;
