//! The gate for adapters (LoRA): small files of pairs of matrices that are added to a model's.
//!
//! ```text
//!   blk.0.attn_q.weight         of the model    [in, out]
//!   blk.0.attn_q.weight.lora_a  of the adapter  [in, rank]  ┐ in → rank → out, scaled by alpha / rank
//!   blk.0.attn_q.weight.lora_b  of the adapter  [rank, out] ┘
//! ```
//!
//! The sides that the model's descriptor knows are compared with it; the engine compares the others. It never
//! looks at the weights.
//!
//! *Source:* `llama-adapter.cpp` and `convert_lora_to_gguf.py` of llama.cpp.

use std::collections::HashMap;
use std::io::{Read, Seek};

use super::error::Fault;
use super::limits;
use super::metadata::Metadata;
use super::reader::Reader;
use super::tensors::{Tally, Tensor};
use super::value::{ValueType, shown};
use crate::model::Descriptor;

const ALPHA: &str = "adapter.lora.alpha";
/// Prompts that turn the adapter on: not done here, so that its answers would be wrong.
const INVOCATION: &str = "adapter.alora.invocation_tokens";
/// The formats that converters write; with some others an engine cannot compute.
const FORMATS: [&str; 4] = ["F32", "F16", "BF16", "Q8_0"];
/// Matrices that take the residual stream in, and those that give it out.
const FROM_STREAM: [&str; 5] =
    ["attn_q.weight", "attn_k.weight", "attn_v.weight", "ffn_gate.weight", "ffn_up.weight"];
const TO_STREAM: [&str; 2] = ["attn_output.weight", "ffn_down.weight"];

/// Facts of an adapter from its header.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterHeader {
    /// `general.name`, if the file has one.
    pub name: Option<String>,
    /// Matrices of the model that it changes.
    pub matrices: u32,
    /// The largest rank of its pairs.
    pub rank: u64,
    /// Its weight over its rank scales what it adds; `None` = not scaled.
    pub alpha: Option<f32>,
    /// Bytes of all tensors: what it takes in memory.
    pub tensor_bytes: u64,
    /// Size of the file in bytes.
    pub file_bytes: u64,
}

/// Reads and checks the header of an adapter for `base`.
pub(super) fn read<R: Read + Seek>(reader: Reader<R>, base: &Descriptor) -> Result<AdapterHeader, Fault> {
    let file_bytes = reader.file_bytes();
    let mut metadata = Metadata::read(reader)?;
    check_kind(&mut metadata, base)?;
    metadata.check_type(ALPHA, ValueType::F32)?;
    let alpha = metadata.float(ALPHA)?.map(|alpha| alpha as f32);
    if alpha.is_some_and(|alpha| !alpha.is_finite()) {
        return Err(Fault::OutOfRange {
            key: ALPHA.to_owned(),
            value: "not a number".to_owned(),
            range: "finite".to_owned(),
        });
    }
    let name = metadata.text("general.name", limits::NAME_BYTES)?;
    if metadata.tensor_count() > limits::ADAPTER_TENSORS {
        let (count, limit) = (metadata.tensor_count(), limits::ADAPTER_TENSORS);
        return Err(Fault::TooMany { what: "tensors", count, limit });
    }
    let mut pairs = Pairs::default();
    let mut tally = Tally::new();
    tally.add_each(&mut metadata, |tensor| pairs.add(tensor))?;
    let (matrices, rank) = pairs.check(base)?;
    let tensor_bytes = tally.finish().bytes;
    Ok(AdapterHeader { name, matrices, rank, alpha, tensor_bytes, file_bytes })
}

fn check_kind<R: Read + Seek>(metadata: &mut Metadata<R>, base: &Descriptor) -> Result<(), Fault> {
    let mut word = |key| metadata.text(key, limits::IDENTIFIER_BYTES).map(Option::unwrap_or_default);
    let (kind, method, architecture) =
        (word("general.type")?, word("adapter.type")?, word("general.architecture")?);
    match (kind.as_str(), method.as_str()) {
        ("adapter", "lora") => {}
        ("adapter", other) => return Err(Fault::NotAnAdapter(format!("an adapter of type {other:?}"))),
        ("" | "model", _) => return Err(Fault::NotAnAdapter("a model".to_owned())),
        (other, _) => return Err(Fault::NotAnAdapter(format!("of type {other:?}"))),
    }
    if architecture != base.architecture {
        let (found, expected) = (architecture, base.architecture.clone());
        return Err(Fault::AdapterOfOther { found, expected });
    }
    if metadata.array(INVOCATION, &[ValueType::U32], "an array of u32")?.is_some() {
        return Err(Fault::AdapterUnsupported("is turned on by a phrase of the prompt (aLoRA)".to_owned()));
    }
    Ok(())
}

/// Pairs by the matrix that they change, one half or both.
#[derive(Default)]
struct Pairs(HashMap<String, [Option<[u64; 2]>; 2]>);

impl Pairs {
    fn add(&mut self, tensor: &Tensor) -> Result<(), Fault> {
        let name = &tensor.name;
        let half = name.strip_suffix(".lora_a").map(|matrix| (matrix, 0));
        let Some((matrix, half)) = half.or_else(|| name.strip_suffix(".lora_b").map(|matrix| (matrix, 1)))
        else {
            // Engines leave norms as they are.
            return if name.ends_with("_norm.weight") {
                Ok(())
            } else {
                Err(Fault::AdapterTensor { name: shown(name) })
            };
        };
        if matrix.is_empty() || matrix.contains(".lora_") {
            return Err(Fault::AdapterTensor { name: shown(name) });
        }
        if !FORMATS.contains(&tensor.format()) {
            return Err(Fault::AdapterUnsupported(format!("holds {} in {}", shown(name), tensor.format())));
        }
        match tensor.shape[..] {
            [first, second] => {
                self.0.entry(matrix.to_owned()).or_default()[half] = Some([first, second]);
                Ok(())
            }
            [_] => Err(shape_fault(matrix, tensor.shape.clone(), "two dimensions".to_owned())),
            _ => Err(Fault::AdapterUnsupported(format!("changes the experts of {}", shown(matrix)))),
        }
    }

    /// How many there are, and their largest rank.
    fn check(self, base: &Descriptor) -> Result<(u32, u64), Fault> {
        if self.0.is_empty() {
            return Err(Fault::NotAnAdapter("a header without weights".to_owned()));
        }
        let mut largest = 0;
        let count = self.0.len() as u32;
        for (matrix, halves) in self.0 {
            let [Some(a), Some(b)] = halves else {
                let missing = if halves[0].is_none() { "lora_a" } else { "lora_b" };
                return Err(Fault::AdapterHalf { name: shown(&matrix), missing });
            };
            largest = largest.max(check_pair(&matrix, a, b, base)?);
        }
        Ok((count, largest))
    }
}

/// The rank of a pair whose sides fit each other and the model.
fn check_pair(matrix: &str, a: [u64; 2], b: [u64; 2], base: &Descriptor) -> Result<u64, Fault> {
    let width = u64::from(base.embedding_width);
    let wrong = |found: [u64; 2], expected: String| Err(shape_fault(matrix, found.to_vec(), expected));
    if matrix == "token_embd.weight" {
        // Rows are looked up in it, so that its first half lies the other way round.
        return match (a, b) {
            ([rank, _], [other, _]) if rank != other => wrong(b, format!("a rank of {rank}")),
            ([_, _], [_, out]) if out != width => wrong(b, format!("{width} as second side")),
            ([rank, _], _) => Ok(rank),
        };
    }
    let ([input, rank], [other, output]) = (a, b);
    if rank != other {
        return wrong(b, format!("a rank of {rank}"));
    }
    let Some((block, part)) = matrix.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) else {
        return Ok(rank);
    };
    if block.parse::<u32>().is_ok_and(|block| block >= base.blocks) {
        return wrong(a, format!("a block below {}", base.blocks));
    }
    if FROM_STREAM.contains(&part) && input != width {
        return wrong(a, format!("{width} as first side"));
    }
    if TO_STREAM.contains(&part) && output != width {
        return wrong(b, format!("{width} as second side"));
    }
    Ok(rank)
}

fn shape_fault(matrix: &str, shape: Vec<u64>, expected: String) -> Fault {
    Fault::AdapterShape { name: shown(matrix), shape, expected }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::error::ErrorKind;
    use crate::testing::gguf::{LlamaShape, Tensor as Made, Writer, llama, lora};

    fn base() -> Descriptor {
        let bytes = llama(LlamaShape::TINY).build();
        super::super::inspect_reader(Cursor::new(&bytes), bytes.len() as u64).unwrap()
    }

    fn inspect(writer: &Writer) -> Result<AdapterHeader, Fault> {
        let bytes = writer.build();
        read(Reader::new(Cursor::new(&bytes), bytes.len() as u64), &base())
    }

    #[test]
    fn a_sound_adapter_tells_its_facts() {
        let header = inspect(&lora(&base(), 4)).unwrap();
        assert_eq!((header.matrices, header.rank, header.alpha), (4, 4, Some(8.0)));
        // Of each of two blocks attn_q [64, 64] and ffn_down [128, 64], rank 4, 32 bits.
        assert_eq!(header.tensor_bytes, 2 * 4 * ((64 + 64) + (128 + 64)) * 4);
    }

    #[test]
    fn what_is_no_adapter_for_this_model_is_refused_for_the_right_reason() {
        type IsExpected = fn(&Fault) -> bool;
        let sound = || lora(&base(), 4);
        let with = |name: &str, shape: &[u64]| sound().tensor(name, shape);
        let pair = |a: &[u64], b: &[u64], matrix: &str| {
            sound().tensor(&format!("{matrix}.lora_a"), a).tensor(&format!("{matrix}.lora_b"), b)
        };
        let is_shape: IsExpected = |fault| matches!(fault, Fault::AdapterShape { .. });
        let is_other: IsExpected = |fault| matches!(fault, Fault::NotAnAdapter(_));
        let is_tensor: IsExpected = |fault| matches!(fault, Fault::AdapterTensor { .. });
        let is_unsupported: IsExpected = |fault| matches!(fault, Fault::AdapterUnsupported(_));
        let cases: Vec<(&str, Writer, IsExpected)> = vec![
            ("a model", llama(LlamaShape::TINY), is_other),
            ("another method", sound().text("adapter.type", "ia3"), is_other),
            ("no method", sound().without("adapter.type"), is_other),
            ("another kind", sound().text("general.type", "mmproj"), is_other),
            ("no tensors", sound().without_tensors(), is_other),
            ("another architecture", sound().text("general.architecture", "qwen2"), |fault| {
                matches!(fault, Fault::AdapterOfOther { .. })
            }),
            ("text as alpha", sound().text("adapter.lora.alpha", "8"), |fault| {
                matches!(fault, Fault::WrongType { .. })
            }),
            ("no number as alpha", sound().f32("adapter.lora.alpha", f32::NAN), |fault| {
                matches!(fault, Fault::OutOfRange { .. })
            }),
            ("a phrase", sound().array(INVOCATION, 4, 1, &[1, 0, 0, 0]), is_unsupported),
            ("a stray tensor", with("blk.0.attn_q.weight", &[64, 64]), is_tensor),
            ("half of a half", with("blk.0.attn_q.weight.lora_a.lora_a", &[64, 4]), is_tensor),
            ("nothing changed", with(".lora_a", &[64, 4]), is_tensor),
            ("one half", with("blk.0.attn_k.weight.lora_a", &[64, 4]), |fault| {
                matches!(fault, Fault::AdapterHalf { missing: "lora_b", .. })
            }),
            ("a vector", with("blk.0.attn_k.weight.lora_a", &[64]), is_shape),
            ("experts", with("blk.0.ffn_up_exps.weight.lora_a", &[64, 4, 8]), is_unsupported),
            ("two ranks", pair(&[64, 4], &[8, 32], "blk.0.attn_k.weight"), is_shape),
            ("another width in", pair(&[32, 4], &[4, 32], "blk.0.attn_k.weight"), is_shape),
            ("another width out", pair(&[64, 4], &[4, 32], "blk.0.attn_output.weight"), is_shape),
            ("a block too many", pair(&[64, 4], &[4, 32], "blk.2.attn_k.weight"), is_shape),
            ("two ranks of the embedding", pair(&[4, 272], &[8, 64], "token_embd.weight"), is_shape),
            ("another embedding", pair(&[4, 272], &[4, 32], "token_embd.weight"), is_shape),
            (
                "integers",
                with("blk.0.attn_k.weight.lora_a", &[64, 4]).last_tensor(|tensor| tensor.tensor_type = 26),
                is_unsupported,
            ),
            ("cut short", sound().cut(100), |fault| matches!(fault, Fault::DataBeyondFile { .. })),
        ];
        for (what, writer, is_expected) in cases {
            match inspect(&writer) {
                Ok(_) => panic!("{what} was accepted"),
                Err(fault) => {
                    assert!(is_expected(&fault), "{what}: {fault:?}");
                    assert!(!fault.hint().is_empty(), "{what}");
                    assert!(matches!(fault.kind(), ErrorKind::InvalidModel | ErrorKind::Unsupported));
                }
            }
        }
    }

    #[test]
    fn what_engines_ignore_or_know_better_is_let_through() {
        inspect(&lora(&base(), 4).tensor("blk.0.attn_norm.weight", &[64])).unwrap();
        let embedding = lora(&base(), 4)
            .tensor("token_embd.weight.lora_a", &[4, 272])
            .tensor("token_embd.weight.lora_b", &[4, 64]);
        assert_eq!(inspect(&embedding).unwrap().matrices, 5);
    }

    #[test]
    fn more_tensors_than_an_adapter_may_have_are_not_read() {
        let many = Writer::default()
            .text("general.type", "adapter")
            .text("adapter.type", "lora")
            .text("general.architecture", "llama");
        let tensor = |index: u64| Made {
            name: format!("t{index}.lora_a").into_bytes(),
            shape: vec![8, 1],
            tensor_type: 0,
            bytes: 0,
            offset: Some(0),
        };
        let many = (0..=limits::ADAPTER_TENSORS).fold(many, |writer, index| writer.raw_tensor(tensor(index)));
        assert!(matches!(inspect(&many), Err(Fault::TooMany { .. })));
    }
}
