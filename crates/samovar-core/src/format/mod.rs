//! Readers of foreign bytes. They check everything and trust nothing.

pub mod gguf;
