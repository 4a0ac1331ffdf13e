//! Models that differ from a sound one in a way that is known.

use super::{Data, Tensor, Writer};

impl Writer {
    /// The same with zeros in the tensor of this name.
    #[must_use]
    pub fn zeroed(mut self, name: &str) -> Self {
        for (tensor, data) in &mut self.tensors {
            if tensor.name == name.as_bytes() {
                *data = zeros(tensor);
            }
        }
        self
    }

    /// The same llama model with `count` further blocks that add nothing: it writes the same text, and takes longer.
    #[must_use]
    pub fn with_idle_blocks(mut self, count: usize) -> Self {
        const FIRST: &[u8] = b"blk.0.";
        let is_first = |tensor: &Tensor| tensor.name.starts_with(FIRST);
        let first: Vec<_> = self.tensors.iter().filter(|(tensor, _)| is_first(tensor)).cloned().collect();
        let norms = self.tensors.iter().filter(|(tensor, _)| tensor.name.ends_with(b".attn_norm.weight"));
        let blocks = norms.count();
        for block in blocks..blocks + count {
            for (tensor, data) in &first {
                let part = &tensor.name[FIRST.len()..];
                let is_output = part == b"attn_output.weight" || part == b"ffn_down.weight";
                let data = if is_output { zeros(tensor) } else { data.clone() };
                let name = [format!("blk.{block}.").as_bytes(), part].concat();
                self.tensors.push((Tensor { name, ..tensor.clone() }, data));
            }
        }
        self.u32("llama.block_count", (blocks + count) as u32)
    }
}

fn zeros(tensor: &Tensor) -> Data {
    Data::Given(vec![0; tensor.bytes as usize])
}
