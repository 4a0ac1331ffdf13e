//! What becomes of each published tensor: its name, its rows and its numbers. It reads no weights.

use std::collections::BTreeSet;

use crate::FloatFormat;
use crate::error::Fault;
use crate::gguf::Format;
use crate::number::Number;
use crate::source::{Published, Weights};

/// Longest name of a tensor in ggml.
const NAME_BYTES: usize = 63;

/// Where the numbers of a tensor come from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum NumberSource {
    /// A shard, from a byte on.
    Stored { shard: usize, begin: u64, number: Number },
    /// The configuration.
    Made(Vec<f32>),
}

/// In which order the rows of a tensor are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// As they are stored.
    AsStored,
    /// Of each of so many heads, a row of the first half, then one of the second half, and so on. Rotary positions turn
    /// pairs of neighbours in llama.cpp's `llama`, and pairs of halves in the published form.
    Interleaved {
        /// Attention heads.
        heads: u64,
    },
}

/// A tensor that is written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    /// Sides, the innermost last.
    pub(crate) shape: Vec<u64>,
    pub(crate) origin: NumberSource,
    pub(crate) order: Order,
    /// Added to each number.
    pub(crate) shift: f32,
}

impl Tensor {
    /// How many numbers it has.
    pub(crate) fn elements(&self) -> u64 {
        self.shape.iter().product()
    }

    /// Bytes that are read for it.
    pub(crate) fn source_bytes(&self) -> u64 {
        match &self.origin {
            NumberSource::Stored { number, .. } => self.elements() * number.bytes(),
            NumberSource::Made(values) => values.len() as u64 * 4,
        }
    }

    /// Bytes of the rows that must be in memory together.
    pub(crate) fn together_bytes(&self) -> u64 {
        match self.order {
            Order::AsStored => 0,
            Order::Interleaved { heads } => self.source_bytes() / heads,
        }
    }

    /// How its numbers are written.
    ///
    /// *Source:* llama.cpp's converter: its engines read vectors, norms and tables that are added to something as F32 alone.
    pub(crate) fn format(&self, float: FloatFormat) -> Format {
        let is_table = ["position_embd.weight", "token_types.weight"].contains(&self.name.as_str());
        let is_wide = self.shape.len() < 2 || is_table || !self.name.ends_with(".weight");
        if is_wide || self.name.ends_with("_norm.weight") {
            return Format::F32;
        }
        let is_bf16 = match float {
            FloatFormat::AsPublished => {
                matches!(self.origin, NumberSource::Stored { number: Number::Bf16, .. })
            }
            FloatFormat::F16 => false,
            FloatFormat::Bf16 => true,
        };
        if is_bf16 { Format::Bf16 } else { Format::F16 }
    }
}

/// What is done to a tensor on its way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Change {
    /// Nothing.
    Keep,
    /// Its rows are interleaved within each of so many heads.
    Interleave(u64),
    /// One is added to each number.
    AddOne,
    /// So many rows at its beginning are left out.
    SkipRows(u64),
    /// Rows behind those of its shape are left out.
    CutRows,
}

/// Maps published tensors to written ones, and knows at the end which ones no rule asked for.
pub(crate) struct Mapper<'a> {
    weights: &'a Weights,
    left: BTreeSet<&'a str>,
    tensors: Vec<Tensor>,
}

impl<'a> Mapper<'a> {
    pub(crate) fn new(weights: &'a Weights) -> Self {
        let left = weights.tensors.keys().map(String::as_str).collect();
        Self { weights, left, tensors: Vec::new() }
    }

    /// The first of these prefixes with which there is a tensor of this name; the first of all where there is none.
    pub(crate) fn prefix(&self, prefixes: &[&'static str], name: &str) -> &'static str {
        let found = prefixes.iter().find(|prefix| self.has(&format!("{prefix}{name}")));
        found.or(prefixes.first()).copied().unwrap_or_default()
    }

    /// Whether there is a tensor of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.weights.tensors.contains_key(name)
    }

    /// The sides of a tensor.
    pub(crate) fn shape(&self, name: &str) -> Option<&'a [u64]> {
        self.weights.tensors.get(name).map(|published| published.shape.as_slice())
    }

    /// The weight of a layer, which must be there in this shape.
    pub(crate) fn weight(
        &mut self,
        from: &str,
        to: &str,
        shape: &[u64],
        change: Change,
    ) -> Result<(), Fault> {
        let name = format!("{from}.weight");
        if self.optional(&name, &format!("{to}.weight"), shape, change)? {
            return Ok(());
        }
        // Such a repository has them in place of the weight, and old ones do not say so in config.json.
        if let Some(packed) = self.left.iter().find(|other| other.starts_with(from) && is_quantized(other)) {
            return Err(Fault::Quantized { method: format!("it has a tensor {packed:?}") });
        }
        Err(Fault::Disagree(format!("there is no tensor {name:?}, which the architecture needs")))
    }

    /// The bias of a layer, if there is one.
    pub(crate) fn bias(&mut self, from: &str, to: &str, rows: u64, change: Change) -> Result<bool, Fault> {
        self.optional(&format!("{from}.bias"), &format!("{to}.bias"), &[rows], change)
    }

    /// Weight and bias of a layer, both of which must be there.
    pub(crate) fn both(&mut self, from: &str, to: &str, shape: &[u64]) -> Result<(), Fault> {
        self.weight(from, to, shape, Change::Keep)?;
        if self.bias(from, to, shape[0], Change::Keep)? {
            return Ok(());
        }
        Err(Fault::Disagree(format!("there is no tensor \"{from}.bias\", which the architecture needs")))
    }

    /// A tensor, if there is one of this name.
    fn optional(&mut self, from: &str, to: &str, shape: &[u64], change: Change) -> Result<bool, Fault> {
        let Some((name, published)) = self.weights.tensors.get_key_value(from) else { return Ok(false) };
        self.left.remove(name.as_str());
        let tensor = tensor(from, published, to, shape, change)?;
        self.tensors.push(tensor);
        Ok(true)
    }

    /// A tensor that the configuration gives.
    pub(crate) fn made(&mut self, to: &str, values: Vec<f32>) {
        let shape = vec![values.len() as u64];
        let origin = NumberSource::Made(values);
        self.tensors.push(Tensor { name: to.to_owned(), shape, origin, order: Order::AsStored, shift: 0.0 });
    }

    /// Leaves out the tensors that `is_dropped` knows.
    pub(crate) fn leave_out(&mut self, is_dropped: impl Fn(&str) -> bool) {
        self.left.retain(|name| !is_dropped(name));
    }

    /// The tensors that are written. Those that no rule asked for mean that the model is another than its configuration says.
    pub(crate) fn finish(mut self) -> Result<Vec<Tensor>, Fault> {
        // Tables that follow from the configuration; old files have them.
        self.leave_out(|name| {
            [".rotary_emb.inv_freq", ".attention.masked_bias", ".attention.bias", "position_ids"]
                .iter()
                .any(|ending| name.ends_with(ending))
        });
        if let Some(name) = self.left.iter().find(|name| is_quantized(name)) {
            return Err(Fault::Quantized { method: format!("it has a tensor {name:?}") });
        }
        match self.left.first() {
            None => Ok(self.tensors),
            Some(name) => {
                let what =
                    format!("the architecture has no tensor {name:?} ({} are unknown)", self.left.len());
                Err(Fault::Disagree(what))
            }
        }
    }
}

/// Whether a name is one of those that other quantizations use.
fn is_quantized(name: &str) -> bool {
    const ENDINGS: [&str; 10] = [
        ".qweight",
        ".qzeros",
        ".g_idx",
        ".scales",
        ".weight_packed",
        ".weight_scale",
        ".weight_scale_inv",
        ".absmax",
        "_blocks",
        "_scales",
    ];
    ENDINGS.iter().any(|ending| name.ends_with(ending))
}

/// A tensor of `shape` that is made of a published one, in which it must be found.
pub(crate) fn tensor(
    from: &str,
    published: &Published,
    to: &str,
    shape: &[u64],
    change: Change,
) -> Result<Tensor, Fault> {
    let Published { shard, kind, shape: stored, begin } = published;
    let Some(number) = Number::named(kind) else {
        if ["F64", "I64", "U64", "BOOL"].contains(kind) {
            return Err(Fault::Unsupported { what: format!("a model whose weights are {kind} ({from:?})") });
        }
        return Err(Fault::Quantized { method: format!("{from:?} holds {kind}") });
    };
    let skipped = if let Change::SkipRows(rows) = change { rows } else { 0 };
    let rows = shape[0] + skipped;
    let is_longer = change == Change::CutRows && stored.first().is_some_and(|found| *found > rows);
    let is_fitting = stored.len() == shape.len() && stored[1..] == shape[1..];
    if !is_fitting || !(stored[0] == rows || is_longer) {
        let mut wanted = shape.to_vec();
        wanted[0] = rows;
        let what = format!("{from:?} has the shape {stored:?}, and by the configuration it is {wanted:?}");
        return Err(Fault::Disagree(what));
    }
    let row_bytes = shape[1..].iter().product::<u64>() * number.bytes();
    let order = match change {
        Change::Interleave(heads) if heads == 0 || !shape[0].is_multiple_of(heads * 2) => {
            return Err(Fault::Disagree(format!(
                "the {} rows of {from:?} are not {heads} heads of pairs",
                shape[0]
            )));
        }
        Change::Interleave(heads) => Order::Interleaved { heads },
        _ => Order::AsStored,
    };
    if to.len() > NAME_BYTES {
        return Err(Fault::Disagree(format!("the name {to:?} is too long")));
    }
    Ok(Tensor {
        name: to.to_owned(),
        shape: shape.to_vec(),
        origin: NumberSource::Stored { shard: *shard, begin: begin + skipped * row_bytes, number },
        order,
        shift: if change == Change::AddOne { 1.0 } else { 0.0 },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(tensors: &[(&str, &'static str, &[u64])]) -> Weights {
        let of = |(name, kind, shape): &(&str, &'static str, &[u64])| {
            let published = Published { shard: 0, kind, shape: shape.to_vec(), begin: 100 };
            ((*name).to_owned(), published)
        };
        Weights { tensors: tensors.iter().map(of).collect(), ..Weights::default() }
    }

    #[test]
    fn rows_that_are_skipped_move_the_beginning() {
        let weights = weights(&[("p.weight", "F16", &[6, 4])]);
        let mut mapper = Mapper::new(&weights);
        mapper.weight("p", "position_embd", &[4, 4], Change::SkipRows(2)).unwrap();
        let tensors = mapper.finish().unwrap();
        let begin = 100 + 2 * 4 * 2;
        assert_eq!(tensors[0].origin, NumberSource::Stored { shard: 0, begin, number: Number::F16 });
        assert_eq!(tensors[0].format(FloatFormat::F16), Format::F32);
    }

    #[test]
    fn tensors_of_another_model_are_named() {
        let weights = weights(&[("a.weight", "F16", &[2, 4]), ("b.weight", "F16", &[2])]);
        let mut mapper = Mapper::new(&weights);
        let shape = mapper.weight("a", "a", &[4, 2], Change::Keep).unwrap_err().to_string();
        assert!(shape.contains("[2, 4]") && shape.contains("[4, 2]"), "{shape}");
        assert!(mapper.weight("c", "c", &[1], Change::Keep).unwrap_err().to_string().contains("c.weight"));
        mapper.weight("a", "a", &[2, 4], Change::Keep).unwrap();
        assert!(mapper.finish().unwrap_err().to_string().contains("b.weight"));
    }

    #[test]
    fn quantized_weights_are_told_by_their_tensors() {
        let packed = weights(&[("a.weight", "I32", &[2, 4])]);
        let fault = Mapper::new(&packed).weight("a", "a", &[2, 4], Change::Keep).unwrap_err();
        assert!(matches!(fault, Fault::Quantized { .. }), "{fault}");
        let gptq = weights(&[("model.layers.0.q_proj.qweight", "I32", &[2, 4])]);
        assert!(matches!(Mapper::new(&gptq).finish(), Err(Fault::Quantized { .. })));
    }
}
