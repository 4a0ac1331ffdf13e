//! A draft model: a smaller one that is loaded with another, to say what that one may say next.

use serde::{Deserialize, Serialize};

use super::{Descriptor, WeightsId};

/// What a load is told of a draft model; its files are among the model's, as
/// [`FileRole::Draft`](super::FileRole::Draft).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DraftModel {
    /// Which bytes its weights are.
    pub weights: WeightsId,
    /// Facts from its header.
    pub descriptor: Descriptor,
}

impl DraftModel {
    /// Of these weights. Its chat template is left out: it is never rendered.
    pub fn new(weights: WeightsId, descriptor: &Descriptor) -> Self {
        Self { weights, descriptor: Descriptor { chat_template: None, ..descriptor.clone() } }
    }
}
