//! The parts that all transformers are made of: matrices with a bias or without, and norms.

use candle_core::{Result, Tensor};

use crate::config::Activation;
use crate::error::Error;
use crate::weights::WeightReader;

/// A matrix, and what is added behind it.
#[derive(Debug)]
pub(crate) struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// That of this name; its bias only where there is one.
    pub(crate) fn read(
        reader: &WeightReader<'_>,
        name: &str,
        rows: u64,
        width: u64,
    ) -> std::result::Result<Self, Error> {
        let weight = reader.tensor(&format!("{name}.weight"), &[rows, width])?;
        Ok(Self { weight, bias: reader.optional(&format!("{name}.bias"), &[rows])? })
    }

    /// Rows of the matrix.
    pub(crate) fn rows(&self) -> usize {
        self.weight.dims().first().copied().unwrap_or(0)
    }

    /// Of each row of `x`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = x.matmul(&self.weight.t()?)?;
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }
}

/// A norm by the root of the mean of squares.
#[derive(Debug)]
pub(crate) struct RmsNorm {
    weight: Tensor,
    epsilon: f32,
}

impl RmsNorm {
    /// That of this name, whose weights are counted from `shift` on.
    pub(crate) fn read(
        reader: &WeightReader<'_>,
        name: &str,
        width: u64,
        epsilon: f64,
        shift: f64,
    ) -> std::result::Result<Self, Error> {
        let weight = reader.tensor(&format!("{name}.weight"), &[width])?;
        let weight = if shift == 0.0 { weight } else { (weight + shift)? };
        Ok(Self { weight, epsilon: epsilon as f32 })
    }

    /// Of the last dimension of `x`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        candle_nn::ops::rms_norm(&x.contiguous()?, &self.weight, self.epsilon)
    }
}

/// A norm by mean and variance.
#[derive(Debug)]
pub(crate) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    epsilon: f32,
}

impl LayerNorm {
    /// That of this name.
    pub(crate) fn read(
        reader: &WeightReader<'_>,
        name: &str,
        width: u64,
        epsilon: f64,
    ) -> std::result::Result<Self, Error> {
        let weight = reader.tensor(&format!("{name}.weight"), &[width])?;
        let bias = reader.tensor(&format!("{name}.bias"), &[width])?;
        Ok(Self { weight, bias, epsilon: epsilon as f32 })
    }

    /// Of the last dimension of `x`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        candle_nn::ops::layer_norm(&x.contiguous()?, &self.weight, &self.bias, self.epsilon)
    }
}

impl Activation {
    /// Of each number.
    pub(crate) fn apply(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Silu => x.silu(),
            Self::Gelu => x.gelu_erf(),
            Self::GeluTanh => x.gelu(),
            Self::Relu => x.relu(),
        }
    }
}
