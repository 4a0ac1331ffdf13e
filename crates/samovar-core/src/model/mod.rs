//! What a model is called, which files it consists of, and what its header says about it.

pub mod descriptor;
pub mod draft;
pub mod files;
pub mod format;
pub mod key;
pub mod quantization;
pub mod reference;
pub mod weights;

pub use descriptor::{Descriptor, TensorFormat};
pub use draft::DraftModel;
pub use files::{FileRole, ModelFiles};
pub use format::Format;
pub use key::ModelKey;
pub use quantization::Quantization;
pub use reference::{ArtifactRef, HubRef, ModelRef, RemoteRef};
pub use weights::WeightsId;
