//! What a conversion will read, write and need, before it reads any weights.

use std::path::{Path, PathBuf};

use samovar_core::Descriptor;

use crate::adapter;
use crate::architecture::{self, Model, Source};
use crate::config::Config;
use crate::error::Fault;
use crate::gguf::{self, Description, Metadata};
use crate::source::{Folder, Shard, Weights};
use crate::tensor::Tensor;
use crate::{FloatFormat, write};

/// Memory that is needed whatever the model is: pieces, buffers, and what a program takes.
const FIXED_BYTES: u64 = 48 << 20;

/// A file that decides which bytes are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Its name in the folder; of files in folders of their own with `/` between.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
}

/// A tensor of the file that is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedTensor {
    /// Its name.
    pub name: String,
    /// Its sides, the innermost first, as GGUF has them.
    pub shape: Vec<u64>,
}

/// A model or an adapter that can be converted, and what it takes.
#[derive(Clone, Debug)]
pub struct ConversionPlan {
    pub(crate) folder: PathBuf,
    pub(crate) class: String,
    pub(crate) architecture: &'static str,
    pub(crate) metadata: Metadata,
    pub(crate) tensors: Vec<Tensor>,
    pub(crate) shards: Vec<Shard>,
    source_bytes: u64,
    inputs: Vec<Input>,
}

impl ConversionPlan {
    /// The class of the model, as `config.json` names it, such as `LlamaForCausalLM`; of an adapter, `LORA`.
    pub fn class(&self) -> &str {
        &self.class
    }

    /// The architecture, as GGUF files call it, such as `llama`.
    pub fn architecture(&self) -> &str {
        self.architecture
    }

    /// The tensors that will be written, in their order.
    pub fn tensors(&self) -> impl Iterator<Item = PlannedTensor> + '_ {
        self.tensors.iter().map(|tensor| PlannedTensor {
            name: tensor.name.clone(),
            shape: tensor.shape.iter().rev().copied().collect(),
        })
    }

    /// Every file that decides which bytes are written, sorted by name. Their contents, [`VERSION`](crate::VERSION) and the
    /// [`Options`](crate::Options) stand for the result.
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    /// Bytes of the published weights.
    pub fn source_bytes(&self) -> u64 {
        self.source_bytes
    }

    /// Bytes of the file that will be written, without a name in it. Both kinds of 16-bit floats take the same.
    pub fn output_bytes(&self) -> u64 {
        let (descriptions, data_bytes) = describe(&self.tensors, FloatFormat::F16);
        gguf::header(&self.metadata, &[write::file_type(FloatFormat::F16)], &descriptions).len() as u64
            + data_bytes
    }

    /// Private memory that a conversion takes, at most: no more than three times the largest tensor and 200 MiB for
    /// vocabularies of usual sizes.
    pub fn peak_memory_bytes(&self) -> u64 {
        let together = self.tensors.iter().map(Tensor::together_bytes).max().unwrap_or(0);
        let vocabulary =
            self.inputs.iter().filter(|input| input.name.starts_with("tokenizer")).map(|input| input.bytes);
        // Judging holds a vocabulary as text and as what it says; converting holds the metadata and the header made of it.
        let texts = (3 * vocabulary.sum::<u64>()).max(2 * self.metadata.held_bytes());
        FIXED_BYTES + 2 * together + texts
    }
}

/// Where each tensor will lie, and how many bytes all of them take.
pub(crate) fn describe(tensors: &[Tensor], float: FloatFormat) -> (Vec<Description<'_>>, u64) {
    let mut offset = 0_u64;
    let mut descriptions = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let format = tensor.format(float);
        descriptions.push(Description { name: &tensor.name, shape: &tensor.shape, format, offset });
        offset = (offset + tensor.elements() * format.bytes()).next_multiple_of(gguf::ALIGNMENT);
    }
    (descriptions, offset)
}

/// Makes the plan of the model in `folder`.
pub(crate) fn plan(path: &Path) -> Result<ConversionPlan, Fault> {
    let folder = Folder::open(path)?;
    let config = Config::read(&folder)?;
    if let Some(method) = config.quantization() {
        return Err(Fault::Quantized { method });
    }
    let class = config.class()?.to_owned();
    let mut weights = Weights::read(&folder)?;
    architecture::add_more(&folder, &config, &mut weights)?;
    let source = Source { folder: &folder, config: &config, weights: &weights };
    let Model { architecture, metadata, tensors } = architecture::build(&source)?;
    Ok(ConversionPlan {
        folder: path.to_owned(),
        class,
        architecture,
        metadata,
        tensors,
        source_bytes: weights.bytes(),
        inputs: folder.opened().into_iter().map(|(name, bytes)| Input { name, bytes }).collect(),
        shards: weights.shards,
    })
}

/// Makes the plan of the adapter in `folder` for a model like `base`.
pub(crate) fn plan_adapter(path: &Path, base: &Descriptor) -> Result<ConversionPlan, Fault> {
    let folder = Folder::open(path)?;
    let (Model { architecture, metadata, tensors }, weights) = adapter::build(&folder, base)?;
    Ok(ConversionPlan {
        folder: path.to_owned(),
        class: "LORA".to_owned(),
        architecture,
        metadata,
        tensors,
        source_bytes: weights.bytes(),
        inputs: folder.opened().into_iter().map(|(name, bytes)| Input { name, bytes }).collect(),
        shards: weights.shards,
    })
}
