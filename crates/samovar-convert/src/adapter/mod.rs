//! Adapters (LoRA) as PEFT publishes them: pairs of small matrices and how strongly they count. It never reads the model that
//! an adapter is for; what its header says is enough.
//!
//! ```text
//!   adapter_config.json ─► settings ─► alpha          alpha / rank scales what a pair adds, in GGUF as in PEFT
//!   adapter_model.safetensors ─► pairs ─► matrices    names, sides and order of rows, as the model's own file has them
//! ```
//!
//! *Source:* PEFT's `LoraConfig` and names of weights, and llama.cpp's `convert_lora_to_gguf.py` and `llama-adapter.cpp`.

mod matrices;
mod settings;

use std::collections::{BTreeMap, BTreeSet};

use samovar_core::Descriptor;

use crate::architecture::Model;
use crate::error::Fault;
use crate::gguf::Metadata;
use crate::source::{Folder, Published, Weights};
use crate::tensor::{Change, Tensor, tensor};
use matrices::AdaptedMatrix;
use settings::AdapterSettings;

pub(crate) use settings::FILE as SETTINGS_FILE;

/// The weights of an adapter.
pub(crate) const WEIGHTS_FILE: &str = "adapter_model.safetensors";
/// The same as a pickle.
const PICKLE: &str = "adapter_model.bin";
/// Before the name of every layer.
const PREFIX: &str = "base_model.model.";
/// How the names of both halves of a pair end.
const ENDINGS: [&str; 2] = [".lora_A.weight", ".lora_B.weight"];

/// Both halves of a pair, as far as there are any.
type Halves<'a> = [Option<(&'a str, &'a Published)>; 2];

/// Makes the adapter of a folder for a model like `base`, and says which weights it is made of.
pub(crate) fn build(folder: &Folder, base: &Descriptor) -> Result<(Model, Weights), Fault> {
    let settings = AdapterSettings::read(folder)?;
    let architecture = matrices::architecture(base)?;
    let weights = read_weights(folder)?;
    let (mut tensors, mut ranks) = (Vec::new(), BTreeSet::new());
    for (layer, pair) in pairs(&weights)? {
        let [Some(first), Some(second)] = pair else {
            let missing = ENDINGS[usize::from(pair[0].is_some())];
            return Err(Fault::unsound(
                WEIGHTS_FILE,
                format!("it has no tensor {:?}", [layer, missing].concat()),
            ));
        };
        let matrix = matrices::find(base, layer)?;
        ranks.insert(add(&mut tensors, &matrix, first, second)?);
    }
    if tensors.is_empty() {
        return Err(Fault::unsound(WEIGHTS_FILE, "it has no weights"));
    }
    let mut metadata = Metadata::default();
    metadata.text("general.architecture", architecture);
    metadata.text("general.type", "adapter");
    metadata.text("adapter.type", "lora");
    metadata.float("adapter.lora.alpha", settings.alpha(&ranks)?);
    Ok((Model { architecture, metadata, tensors }, weights))
}

fn read_weights(folder: &Folder) -> Result<Weights, Fault> {
    if !folder.has(WEIGHTS_FILE) && folder.has(PICKLE) {
        return Err(Fault::Pickle { file: PICKLE.to_owned() });
    }
    let mut weights = Weights::default();
    weights.add(folder, WEIGHTS_FILE, "")?;
    Ok(weights)
}

/// The pairs, by the layer that each changes.
fn pairs(weights: &Weights) -> Result<BTreeMap<&str, Halves<'_>>, Fault> {
    let mut pairs = BTreeMap::<&str, Halves<'_>>::new();
    for (name, published) in &weights.tensors {
        let mut endings = ENDINGS.into_iter().enumerate();
        let found = endings.find_map(|(half, ending)| Some((name.strip_suffix(ending)?, half)));
        let Some((layer, half)) = found else { return Err(Fault::AdapterWith { what: kind_of(name) }) };
        let Some(layer) = layer.strip_prefix(PREFIX) else {
            let what = format!("the tensor {name:?} is not named as PEFT names them");
            return Err(Fault::unsound(WEIGHTS_FILE, what));
        };
        pairs.entry(layer).or_default()[half] = Some((name.as_str(), published));
    }
    Ok(pairs)
}

/// What a tensor is that is no half of a pair, in words.
fn kind_of(name: &str) -> String {
    let what = if name.contains("lora_magnitude_vector") {
        "DoRA"
    } else if name.contains("lora_embedding") {
        "changes of the token embedding"
    } else if name.rsplit('.').next() == Some("bias") {
        "biases of its own"
    } else {
        "whole layers of its own"
    };
    format!("{what} ({name:?})")
}

/// Adds both halves of a pair, and returns their rank.
fn add(
    tensors: &mut Vec<Tensor>,
    matrix: &AdaptedMatrix,
    first: (&str, &Published),
    second: (&str, &Published),
) -> Result<u64, Fault> {
    let AdaptedMatrix { name, rows, columns, change } = matrix;
    let rank = first.1.shape.first().copied().unwrap_or(0);
    // Rows of the matrix are rows of the second half: what is done to the order of the ones is done to the others.
    for ((from, published), to, shape, change) in
        [(first, "lora_a", [rank, *columns], Change::Keep), (second, "lora_b", [*rows, rank], *change)]
    {
        if published.shape != shape || rank == 0 {
            let what = format!("{from:?} has the shape {:?}, and the model needs {shape:?}", published.shape);
            return Err(Fault::Adapter(what));
        }
        tensors.push(tensor(from, published, &format!("{name}.{to}"), &shape, change)?);
    }
    Ok(rank)
}
