//! What a model is called and what its header says about it.

pub mod descriptor;
pub mod key;
pub mod reference;

pub use descriptor::{Descriptor, TensorFormat};
pub use key::ModelKey;
pub use reference::{ArtifactRef, HubRef, ModelRef, RemoteRef};
