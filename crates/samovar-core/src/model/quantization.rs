//! The number formats that a published model's weights may be written in when it is prepared.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The number format of a prepared model's matrices. Vectors stay 32-bit floats in all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Quantization {
    /// 16-bit floats of the kind that its author published; of 32-bit floats, `F16`.
    #[serde(rename = "none")]
    AsPublished,
    /// 16-bit floats.
    #[default]
    F16,
    /// 8 bits for each weight, about.
    Q8_0,
    /// 6.6 bits for each weight, about.
    #[serde(rename = "Q6_K")]
    Q6K,
    /// 5.7 bits for each weight, about.
    #[serde(rename = "Q5_K_M")]
    Q5KM,
    /// 4.9 bits for each weight, about.
    #[serde(rename = "Q4_K_M")]
    Q4KM,
}

impl Quantization {
    /// Every one, in the order of the settings' reference.
    pub const ALL: [Self; 6] = [Self::AsPublished, Self::F16, Self::Q8_0, Self::Q6K, Self::Q5KM, Self::Q4KM];

    /// As settings and reports write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AsPublished => "none",
            Self::F16 => "F16",
            Self::Q8_0 => "Q8_0",
            Self::Q6K => "Q6_K",
            Self::Q5KM => "Q5_K_M",
            Self::Q4KM => "Q4_K_M",
        }
    }

    /// The one of this name, in upper or lower case.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(word))
    }

    /// What a model takes that takes so many bytes with 16 bits for each weight, at most: small models have a larger part of
    /// their weights in tensors that keep more bits.
    pub const fn bytes_of(self, f16_bytes: u64) -> u64 {
        let per_mille = match self {
            Self::AsPublished | Self::F16 => 1_000,
            Self::Q8_0 => 560,
            Self::Q6K => 460,
            Self::Q5KM => 420,
            Self::Q4KM => 380,
        };
        f16_bytes / 1_000 * per_mille + f16_bytes % 1_000
    }
}

impl fmt::Display for Quantization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_read_by_its_name_as_it_is_written() {
        for known in Quantization::ALL {
            assert_eq!(Quantization::named(known.as_str()), Some(known));
            assert_eq!(Quantization::named(&known.as_str().to_lowercase()), Some(known));
            assert_eq!(serde_json::to_string(&known).unwrap(), format!("\"{known}\""));
        }
        assert_eq!(Quantization::named("Q2_K"), None);
        assert_eq!(Quantization::Q4KM.bytes_of(2_000_000_000), 760_000_000);
    }
}
