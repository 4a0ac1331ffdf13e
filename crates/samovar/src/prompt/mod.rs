//! From messages to the text that the model reads.

mod template;

pub(crate) use template::render;
