//! Routes of text-embeddings-inference, and those of llama-server that have the same paths: `/embed`, `/tokenize`, `/detokenize`,
//! `/decode` and `/info`. Neither API names a model; errors look as OpenAI's.

pub(crate) mod detokenize;
pub(crate) mod embed;
pub(crate) mod info;
pub(crate) mod tokenize;
