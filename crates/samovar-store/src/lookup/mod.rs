//! What is here: the artifact that a name means, and its files for as long as they are used. Asks no source.

mod chosen;
pub(crate) mod find;
pub(crate) mod opened;
