//! Which matrices of a model an adapter may change: their names in both forms, their sides and the order of their rows. Sides
//! are those that the header of the model's own file says.

use samovar_core::Descriptor;

use crate::error::Fault;
use crate::tensor::Change;

/// Architectures whose files have the rows of queries and keys interleaved.
const INTERLEAVED: [&str; 3] = ["llama", "granite", "smollm3"];
/// Those whose files have them as they are published.
const AS_PUBLISHED: [&str; 3] = ["qwen2", "qwen3", "gemma3"];
/// One whose matrices of attention are one, and whose gates are in the matrix after them.
const FUSED: &str = "phi3";

/// A matrix of a model.
#[derive(Debug)]
pub(super) struct AdaptedMatrix {
    /// As GGUF calls it.
    pub(super) name: String,
    pub(super) rows: u64,
    pub(super) columns: u64,
    /// What is done to the order of its rows.
    pub(super) change: Change,
}

/// The architecture of the model, as GGUF calls it, if adapters of it are converted.
pub(super) fn architecture(base: &Descriptor) -> Result<&'static str, Fault> {
    let mut known = INTERLEAVED.into_iter().chain(AS_PUBLISHED).chain([FUSED]);
    known.find(|known| *known == base.architecture).ok_or_else(|| Fault::AdapterWith {
        what: format!("a model of the architecture {:?}", base.architecture),
    })
}

/// The matrix of a layer, as its class calls it.
pub(super) fn find(base: &Descriptor, layer: &str) -> Result<AdaptedMatrix, Fault> {
    let unknown = || Fault::Adapter(format!("a {} model has no layer {layer:?}", base.architecture));
    let inner = layer.strip_prefix("model.").unwrap_or(layer);
    let width = u64::from(base.embedding_width);
    if inner == "lm_head" {
        let (name, rows) = ("output.weight".to_owned(), u64::from(base.vocabulary));
        return Ok(AdaptedMatrix { name, rows, columns: width, change: Change::Keep });
    }
    let (block, part) =
        inner.strip_prefix("layers.").and_then(|rest| rest.split_once('.')).ok_or_else(unknown)?;
    let block: u32 = block.parse().map_err(|_| unknown())?;
    if block >= base.blocks {
        let what = format!("it changes the layer {layer:?}, and the model has {} blocks", base.blocks);
        return Err(Fault::Adapter(what));
    }
    let [heads, kv_heads, key, value, wide] =
        [base.heads, base.kv_heads, base.key_width, base.value_width, base.feed_forward_width].map(u64::from);
    let is_interleaved = INTERLEAVED.contains(&base.architecture.as_str());
    let turned = |heads: u64| if is_interleaved { Change::Interleave(heads) } else { Change::Keep };
    let keep = Change::Keep;
    let (name, rows, columns, change) = match (part, base.architecture == FUSED) {
        ("self_attn.q_proj", false) => ("attn_q", heads * key, width, turned(heads)),
        ("self_attn.k_proj", false) => ("attn_k", kv_heads * key, width, turned(kv_heads)),
        ("self_attn.v_proj", false) => ("attn_v", kv_heads * value, width, keep),
        ("self_attn.qkv_proj", true) => ("attn_qkv", heads * key + kv_heads * (key + value), width, keep),
        ("self_attn.o_proj", _) => ("attn_output", width, heads * value, keep),
        ("mlp.gate_proj", false) => ("ffn_gate", wide, width, keep),
        ("mlp.up_proj", false) => ("ffn_up", wide, width, keep),
        ("mlp.gate_up_proj", true) => ("ffn_up", 2 * wide, width, keep),
        ("mlp.down_proj", _) => ("ffn_down", width, wide, keep),
        _ => return Err(unknown()),
    };
    Ok(AdaptedMatrix { name: format!("blk.{block}.{name}.weight"), rows, columns, change })
}
