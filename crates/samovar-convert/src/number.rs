//! Floats of 16 bits and of 32, by the crate `half`: rounded to the nearest, and to the even one of two; never clamped.

use half::slice::HalfFloatSliceExt as _;
use half::{bf16, f16};

use crate::gguf::Format;

/// Numbers that are converted at once.
const BLOCK: usize = 1024;

/// The numbers that weights are published in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    F32,
    F16,
    Bf16,
}

impl Number {
    /// The one that a safetensors header calls so.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "F32" => Some(Self::F32),
            "F16" => Some(Self::F16),
            "BF16" => Some(Self::Bf16),
            _ => None,
        }
    }

    /// Bytes of one.
    pub(crate) const fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// Puts what these bytes stand for at the beginning of `values`, and returns that part.
    fn read<'a>(self, bytes: &[u8], values: &'a mut [f32; BLOCK]) -> &'a mut [f32] {
        let values = &mut values[..bytes.len() / self.bytes() as usize];
        match self {
            Self::F32 => {
                for (value, bytes) in values.iter_mut().zip(bytes.as_chunks::<4>().0) {
                    *value = f32::from_le_bytes(*bytes);
                }
            }
            Self::F16 => {
                let mut halves = [f16::ZERO; BLOCK];
                let halves = &mut halves[..values.len()];
                for (half, bytes) in halves.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *half = f16::from_le_bytes(*bytes);
                }
                halves.convert_to_f32_slice(values);
            }
            Self::Bf16 => {
                for (value, bytes) in values.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *value = bf16::from_le_bytes(*bytes).to_f32();
                }
            }
        }
        values
    }
}

/// Why numbers were not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// One is infinite or no number.
    NotFinite,
    /// One is finite, and too large for the format.
    Beyond,
}

/// Appends the numbers in `source` to `out` in another format, with `shift` added to each.
pub(crate) fn encode(
    number: Number,
    source: &[u8],
    shift: f32,
    format: Format,
    out: &mut Vec<u8>,
) -> Result<(), Refusal> {
    let mut block = [0.0; BLOCK];
    let (mut is_finite, mut is_within) = (true, true);
    for bytes in source.chunks(BLOCK * number.bytes() as usize) {
        let values = number.read(bytes, &mut block);
        is_finite &= values.iter().all(|value| value.is_finite());
        // Adding nothing must keep the sign of zero.
        if shift != 0.0 {
            for value in values.iter_mut() {
                *value += shift;
            }
        }
        is_within &= write(values, format, out);
    }
    match (is_finite, is_within) {
        (false, _) => Err(Refusal::NotFinite),
        (true, false) => Err(Refusal::Beyond),
        (true, true) => Ok(()),
    }
}

/// Appends no more numbers than a block has, and says whether all of them are within the range of the format.
fn write(values: &[f32], format: Format, out: &mut Vec<u8>) -> bool {
    match format {
        Format::F32 => {
            for value in values {
                out.extend_from_slice(&value.to_le_bytes());
            }
            values.iter().all(|value| value.is_finite())
        }
        Format::F16 => {
            let mut halves = [f16::ZERO; BLOCK];
            let halves = &mut halves[..values.len()];
            halves.convert_from_f32_slice(values);
            for half in halves.iter() {
                out.extend_from_slice(&half.to_le_bytes());
            }
            halves.iter().all(|half| half.is_finite())
        }
        Format::Bf16 => {
            let mut is_within = true;
            for value in values {
                let half = bf16::from_f32(*value);
                is_within &= half.is_finite();
                out.extend_from_slice(&half.to_le_bytes());
            }
            is_within
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(number: Number, source: &[u8], format: Format) -> Vec<u8> {
        let mut out = Vec::new();
        encode(number, source, 0.0, format, &mut out).expect("within the range");
        out
    }

    #[test]
    fn every_sixteen_bit_float_comes_back() {
        for (number, format, infinity) in
            [(Number::F16, Format::F16, 0x7c00), (Number::Bf16, Format::Bf16, 0x7f80)]
        {
            let finite = (0..=u16::MAX).filter(|bits| bits & 0x7fff < infinity);
            let all: Vec<u8> = finite.flat_map(u16::to_le_bytes).collect();
            assert!(encoded(number, &all, format) == all, "{number:?}");
            let wide = encoded(number, &all, Format::F32);
            assert!(encoded(Number::F32, &wide, format) == all, "{number:?}");
        }
    }

    #[test]
    fn halves_are_rounded_to_even() {
        let step = f32::from_bits(0x3380_0000);
        for (value, bits) in [
            (0.0, 0x0000_u16),
            (-0.0, 0x8000),
            (1.0, 0x3c00),
            (1.0 + 1.0 / 2048.0, 0x3c00),
            (1.0 + 3.0 / 2048.0, 0x3c02),
            (65_504.0, 0x7bff),
            (65_519.0, 0x7bff),
            (step, 0x0001),
            (step / 2.0, 0x0000),
            (step * 1.5, 0x0002),
            (step * 0.75, 0x0001),
            (step * 1023.75, 0x0400),
        ] {
            let found = encoded(Number::F32, &f32::to_le_bytes(value), Format::F16);
            assert_eq!(found, bits.to_le_bytes(), "{value}");
        }
        for (value, bits) in [(0x3f80_8000, 0x3f80_u16), (0x3f81_8000, 0x3f82)] {
            let found = encoded(Number::F32, &u32::to_le_bytes(value), Format::Bf16);
            assert_eq!(found, bits.to_le_bytes(), "{value:#x}");
        }
    }

    #[test]
    fn what_f16_cannot_hold_is_refused_and_not_clamped() {
        let mut out = Vec::new();
        for large in [65_520.0_f32, 70_000.0, -70_000.0] {
            let large = large.to_le_bytes();
            assert_eq!(encode(Number::F32, &large, 0.0, Format::F16, &mut out), Err(Refusal::Beyond));
            assert_eq!(encode(Number::F32, &large, 0.0, Format::Bf16, &mut out), Ok(()));
        }
        for no_number in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let source = no_number.to_le_bytes();
            assert_eq!(encode(Number::F32, &source, 0.0, Format::F32, &mut out), Err(Refusal::NotFinite));
        }
    }

    #[test]
    fn a_shift_is_added_in_32_bits() {
        let mut out = Vec::new();
        encode(Number::Bf16, &0x3dcd_u16.to_le_bytes(), 1.0, Format::F32, &mut out).unwrap();
        let shifted = f32::from_le_bytes(out.try_into().unwrap());
        assert!((shifted - (1.0 + bf16::from_bits(0x3dcd).to_f32())).abs() < f32::EPSILON);
    }
}
