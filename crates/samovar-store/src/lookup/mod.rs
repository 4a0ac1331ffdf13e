//! What is here: the artifact that a name means, and its files for as long as somebody uses them. Asks no source.

pub(crate) mod find;
pub(crate) mod opened;
