//! Keys and values of tokens that were computed: made once with the context, written in place, and reused by the next requests
//! that begin alike. Nothing is copied for a token, and a finished request's state is cut, not cleared.

use candle_core::{DType, Device, Result, Tensor};
use samovar_core::Scope;

use crate::config::DecoderConfig;

/// The state of one sequence.
#[derive(Debug)]
pub(crate) struct Sequence {
    /// Keys and values of each layer: heads × tokens × width.
    layers: Vec<(Tensor, Tensor)>,
    /// The tokens whose state it has.
    pub(crate) tokens: Vec<u32>,
    /// Whose they are; `None` = no other request may take them over.
    scope: Option<Scope>,
    /// When it was used last; 0 = nothing is in it.
    last_use: u64,
}

/// Everything that a context takes.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) sequences: Vec<Sequence>,
    /// Cosines and sines of each kind of rotation: tokens × half the width of a head.
    pub(crate) rotations: Vec<(Tensor, Tensor)>,
    bytes: u64,
    /// Counts uses over all sequences.
    uses: u64,
}

/// Where a prompt was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    /// The sequence.
    pub(crate) sequence: usize,
    /// Tokens of the prompt whose state it has already.
    pub(crate) computed: usize,
    /// Those of them that were the client's own, who is told of no others.
    pub(crate) told: usize,
}

impl Sequence {
    /// Room for so many tokens. Untouched pages of it cost nothing.
    pub(crate) fn new(config: &DecoderConfig, tokens: usize, dtype: DType, device: &Device) -> Result<Self> {
        let shape = (config.sides.kv_heads as usize, tokens, config.sides.head as usize);
        let room = || {
            Ok::<_, candle_core::Error>((
                Tensor::zeros(shape, dtype, device)?,
                Tensor::zeros(shape, dtype, device)?,
            ))
        };
        let layers = config.layers.iter().map(|_| room()).collect::<Result<_>>()?;
        Ok(Self { layers, tokens: Vec::new(), scope: None, last_use: 0 })
    }

    /// Keys and values of a layer.
    pub(crate) fn layer(&self, layer: usize) -> &(Tensor, Tensor) {
        &self.layers[layer]
    }

    /// Writes the state of the first `count` tokens of another over its own. Which tokens it has is not changed.
    fn copy_from(&self, other: &Self, count: usize) -> Result<()> {
        for (own, theirs) in self.layers.iter().zip(&other.layers) {
            own.0.slice_set(&theirs.0.narrow(1, 0, count)?.contiguous()?, 1, 0)?;
            own.1.slice_set(&theirs.1.narrow(1, 0, count)?.contiguous()?, 1, 0)?;
        }
        Ok(())
    }

    /// How many of these tokens it begins with.
    fn common(&self, tokens: &[u32]) -> usize {
        self.tokens.iter().zip(tokens).take_while(|(own, theirs)| own == theirs).count()
    }
}

impl Workspace {
    /// So many sequences of so many tokens.
    pub(crate) fn new(
        config: &DecoderConfig,
        slots: usize,
        context_tokens: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let sequence = |_| Sequence::new(config, context_tokens, dtype, device);
        let sequences = (0..slots).map(sequence).collect::<Result<_>>()?;
        let rotation = |frequencies: &Vec<f32>| rotation(frequencies, context_tokens, dtype, device);
        let rotations = config.rotations.iter().map(rotation).collect::<Result<_>>()?;
        let cells = slots as u64 * context_tokens as u64;
        let bytes = cells * cell_bytes(config, dtype);
        Ok(Self { sequences, rotations, bytes, uses: 0 })
    }

    /// Puts a prompt into one of the free sequences: where most of it is computed already, or where nothing was used for the
    /// longest time. `scope` says whose state it may take over, and whose its own is; `None` = it takes and leaves none.
    pub(crate) fn place(
        &mut self,
        prompt: &[u32],
        scope: Option<Scope>,
        is_free: impl Fn(usize) -> bool,
    ) -> Option<Placed> {
        // The last token is always computed: its logits are wanted.
        let most = prompt.len().saturating_sub(1);
        let (mut best, mut own) = (None, 0);
        for (place, sequence) in self.sequences.iter().enumerate() {
            let (Some(scope), Some(of)) = (scope, sequence.scope) else { continue };
            let common = sequence.common(prompt).min(most);
            if !scope.may_use(&of) || common == 0 {
                continue;
            }
            let is_own = scope.is_own(&of);
            if is_own {
                own = own.max(common);
            }
            best = best.max(Some((common, is_own, place)));
        }
        // Little of a long conversation is no reason to cut it.
        let in_place = best.filter(|(common, is_own, place)| {
            is_free(*place) && *is_own && common * 2 >= self.sequences[*place].tokens.len()
        });
        let oldest = (0..self.sequences.len()).filter(|place| is_free(*place));
        let oldest = oldest.min_by_key(|place| self.sequences[*place].last_use);
        let target = in_place.map(|(_, _, place)| place).or(oldest)?;
        let mut computed = best.map_or(0, |(common, ..)| common);
        if let Some((common, _, source)) = best.filter(|(_, _, source)| *source != target)
            && let Err(error) = self.sequences[target].copy_from(&self.sequences[source], common)
        {
            tracing::warn!("the state of a prompt could not be taken over: {error}");
            computed = 0;
        }
        self.uses += 1;
        let sequence = &mut self.sequences[target];
        sequence.tokens.clear();
        sequence.tokens.extend_from_slice(&prompt[..computed]);
        sequence.scope = scope;
        sequence.last_use = self.uses;
        Some(Placed { sequence: target, computed, told: computed.min(own) })
    }

    /// Notes that a request has left its sequence.
    pub(crate) fn release(&mut self, place: usize) {
        self.uses += 1;
        let sequence = &mut self.sequences[place];
        if sequence.scope.is_none() {
            sequence.tokens.clear();
        }
        sequence.last_use = if sequence.tokens.is_empty() { 0 } else { self.uses };
    }

    /// Bytes of all keys and values.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Tokens whose state it has.
    pub(crate) fn used_tokens(&self) -> usize {
        self.sequences.iter().map(|sequence| sequence.tokens.len()).sum()
    }
}

/// Bytes of the keys and values of one token.
fn cell_bytes(config: &DecoderConfig, dtype: DType) -> u64 {
    2 * config.sides.blocks * config.sides.key() * dtype.size_in_bytes() as u64
}

fn rotation(frequencies: &[f32], tokens: usize, dtype: DType, device: &Device) -> Result<(Tensor, Tensor)> {
    let angles = |of: fn(f32) -> f32| -> Vec<f32> {
        let row = |position: usize| frequencies.iter().map(move |frequency| of(position as f32 * frequency));
        (0..tokens).flat_map(row).collect()
    };
    let table = |values| Tensor::from_vec(values, (tokens, frequencies.len()), device)?.to_dtype(dtype);
    Ok((table(angles(f32::cos))?, table(angles(f32::sin))?))
}
