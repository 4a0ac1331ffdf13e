//! The tensor types that a model may use, with their block sizes.
//!
//! *Source:* `ggml-common.h` of llama.cpp; the sizes were printed by a program compiled against it.

/// How weights of one type lie in a file: `block_bytes` for each `block` weights of a row.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TensorType {
    id: u32,
    pub(super) name: &'static str,
    pub(super) block: u64,
    pub(super) block_bytes: u64,
}

const fn row(id: u32, name: &'static str, block: u64, block_bytes: u64) -> TensorType {
    TensorType { id, name, block, block_bytes }
}

/// Types that engines can compute with. Left out on purpose: `Q8_1`, `Q8_K` (only for activations),
/// `F64`, `I8`, `I16` (no kernels), and all that were withdrawn.
pub(super) const TYPES: [TensorType; 30] = [
    row(0, "F32", 1, 4),
    row(1, "F16", 1, 2),
    row(2, "Q4_0", 32, 18),
    row(3, "Q4_1", 32, 20),
    row(6, "Q5_0", 32, 22),
    row(7, "Q5_1", 32, 24),
    row(8, "Q8_0", 32, 34),
    row(10, "Q2_K", 256, 84),
    row(11, "Q3_K", 256, 110),
    row(12, "Q4_K", 256, 144),
    row(13, "Q5_K", 256, 176),
    row(14, "Q6_K", 256, 210),
    row(16, "IQ2_XXS", 256, 66),
    row(17, "IQ2_XS", 256, 74),
    row(18, "IQ3_XXS", 256, 98),
    row(19, "IQ1_S", 256, 50),
    row(20, "IQ4_NL", 32, 18),
    row(21, "IQ3_S", 256, 110),
    row(22, "IQ2_S", 256, 82),
    row(23, "IQ4_XS", 256, 136),
    row(26, "I32", 1, 4),
    row(27, "I64", 1, 8),
    row(29, "IQ1_M", 256, 56),
    row(30, "BF16", 1, 2),
    row(34, "TQ1_0", 256, 54),
    row(35, "TQ2_0", 256, 66),
    row(39, "MXFP4", 32, 17),
    row(40, "NVFP4", 64, 36),
    row(41, "Q1_0", 128, 18),
    row(42, "Q2_0", 64, 18),
];

/// Position of a type in [`TYPES`].
pub(super) fn position_of(id: u32) -> Option<usize> {
    TYPES.iter().position(|known| known.id == id)
}

/// The usual short name of a file type, `general.file_type`.
///
/// *Source:* `enum llama_ftype` in `llama.h`.
pub(super) const fn file_type_name(file_type: u64) -> Option<&'static str> {
    Some(match file_type {
        0 => "F32",
        1 => "F16",
        2 => "Q4_0",
        3 => "Q4_1",
        7 => "Q8_0",
        8 => "Q5_0",
        9 => "Q5_1",
        10 => "Q2_K",
        11 => "Q3_K_S",
        12 => "Q3_K_M",
        13 => "Q3_K_L",
        14 => "Q4_K_S",
        15 => "Q4_K_M",
        16 => "Q5_K_S",
        17 => "Q5_K_M",
        18 => "Q6_K",
        19 => "IQ2_XXS",
        20 => "IQ2_XS",
        21 => "Q2_K_S",
        22 => "IQ3_XS",
        23 => "IQ3_XXS",
        24 => "IQ1_S",
        25 => "IQ4_NL",
        26 => "IQ3_S",
        27 => "IQ3_M",
        28 => "IQ2_S",
        29 => "IQ2_M",
        30 => "IQ4_XS",
        31 => "IQ1_M",
        32 => "BF16",
        36 => "TQ1_0",
        37 => "TQ2_0",
        38 => "MXFP4",
        39 => "NVFP4",
        40 => "Q1_0",
        41 => "Q2_0",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_sorted_and_each_stands_once() {
        assert!(TYPES.windows(2).all(|pair| pair[0].id < pair[1].id));
    }

    #[test]
    fn types_for_activations_and_withdrawn_ones_are_not_weights() {
        for id in [4, 5, 9, 15, 24, 25, 28, 31, 33, 36, 38, 43, u32::MAX] {
            assert_eq!(position_of(id), None, "{id}");
        }
        assert_eq!(TYPES[position_of(12).unwrap()].name, "Q4_K");
    }
}
