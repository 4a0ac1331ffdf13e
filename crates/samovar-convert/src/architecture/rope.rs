//! Rotary positions: their base, and how they are stretched to longer contexts. What llama.cpp cannot compute is refused.

use serde_json::{Map, Value};

use crate::config::{Config, finite, shown};
use crate::error::Fault;
use crate::gguf::Metadata;

/// Numbers in a list of factors: half of a head's width at most.
const FACTORS: usize = 4096;

/// How positions become rotations.
#[derive(Debug, PartialEq)]
pub struct Rope {
    /// The base of the frequencies.
    pub base: Option<f64>,
    /// That of layers that look at a window only.
    pub window_base: Option<f64>,
    /// How they are stretched.
    pub scaling: Scaling,
    /// The part of each head that is rotated.
    pub partial: Option<f64>,
    /// The context before it was stretched.
    pub original_context: Option<f64>,
    /// What the configuration says besides.
    said: Map<String, Value>,
}

/// How rotations are stretched.
#[derive(Debug, PartialEq)]
pub enum Scaling {
    /// Not at all.
    None,
    /// All by the same factor.
    Linear {
        /// The factor.
        factor: f64,
    },
    /// Low frequencies by a factor, high ones not.
    Yarn {
        /// The factor.
        factor: f64,
    },
    /// Each frequency has a factor of its own, which this formula gives.
    Llama3 {
        /// The largest factor.
        factor: f64,
        /// Below so many turns within the original context a frequency has the largest factor.
        low: f64,
        /// Above so many turns it has none.
        high: f64,
        /// The original context, in tokens.
        original: f64,
    },
    /// Each frequency has two factors of its own.
    Long {
        /// Those for long contexts.
        long: Vec<f32>,
        /// Those for short ones.
        short: Vec<f32>,
    },
}

impl Rope {
    /// What the configuration says, in the words of any version of transformers.
    pub(crate) fn read(config: &Config) -> Result<Self, Fault> {
        let said = ["rope_parameters", "rope_scaling"].into_iter().find_map(|key| config.value(key));
        let mut said = match said {
            None => Map::new(),
            Some(Value::Object(map)) => map.clone(),
            Some(other) => return Err(Fault::Config(format!("rope_parameters is {}", shown(other)))),
        };
        let first = |keys: &[&str]| -> Result<Option<f64>, Fault> {
            for key in keys {
                if let Some(number) = config.number(key)? {
                    return Ok(Some(number));
                }
            }
            Ok(None)
        };
        let base = first(&["global_rope_theta", "rope_theta", "rotary_emb_base"])?;
        let mut window_base = first(&["local_rope_theta", "rope_local_base_freq"])?;
        if let Some(Value::Object(window)) = said.remove("sliding_attention") {
            window_base = number(&window, "rope_theta")?.or(window_base);
        }
        if let Some(Value::Object(full)) = said.remove("full_attention") {
            said = full;
        }
        let scaling = scaling(&said, config)?;
        let original = "original_max_position_embeddings";
        Ok(Self {
            base: number(&said, "rope_theta")?.or(base),
            window_base,
            scaling,
            partial: number(&said, "partial_rotary_factor")?.or(config.number("partial_rotary_factor")?),
            original_context: number(&said, original)?.or(config.number(original)?),
            said,
        })
    }

    /// Refuses what an architecture whose heads are rotated as a whole cannot compute.
    pub(super) fn expect_whole(&self) -> Result<(), Fault> {
        match self.partial {
            Some(part) if part < 1.0 => {
                Err(Fault::Unsupported { what: format!("a model with partial_rotary_factor = {part}") })
            }
            _ => Ok(()),
        }
    }

    /// Writes base and stretching.
    pub(super) fn write(
        &self,
        metadata: &mut Metadata,
        architecture: &str,
        base: f64,
        context: u64,
    ) -> Result<(), Fault> {
        let key = |suffix: &str| format!("{architecture}.rope.{suffix}");
        metadata.float(key("freq_base"), self.base.unwrap_or(base));
        if let Some(base) = self.window_base {
            metadata.float(key("freq_base_swa"), base);
        }
        match &self.scaling {
            // The last has its factors in a tensor.
            Scaling::None | Scaling::Llama3 { .. } => (),
            Scaling::Linear { factor } => {
                metadata.text(key("scaling.type"), "linear");
                metadata.float(key("scaling.factor"), *factor);
            }
            Scaling::Yarn { factor } => {
                metadata.text(key("scaling.type"), "yarn");
                metadata.float(key("scaling.factor"), *factor);
                let original = self.original_context.unwrap_or(context as f64);
                metadata.whole(key("scaling.original_context_length"), original as u64);
                for (said, suffix) in [
                    ("extrapolation_factor", "scaling.yarn_ext_factor"),
                    // The second spelling counts more where both stand.
                    ("attn_factor", "scaling.yarn_attn_factor"),
                    ("attention_factor", "scaling.yarn_attn_factor"),
                    ("beta_fast", "scaling.yarn_beta_fast"),
                    ("beta_slow", "scaling.yarn_beta_slow"),
                ] {
                    if let Some(number) = number(&self.said, said)? {
                        metadata.float(key(suffix), number);
                    }
                }
            }
            Scaling::Long { .. } => metadata.text(key("scaling.type"), "longrope"),
        }
        Ok(())
    }

    /// The factor of each frequency of a head of this width, where Llama 3's formula gives them.
    pub fn llama3_factors(&self, width: u64, base: f64) -> Option<Vec<f32>> {
        let Scaling::Llama3 { factor, low, high, original } = self.scaling else { return None };
        let base = self.base.unwrap_or(base) as f32;
        let (factor, low, high, original) = (factor as f32, low as f32, high as f32, original as f32);
        let factor_of = |pair: u64| {
            let frequency = 1.0 / base.powf((pair * 2) as f32 / width as f32);
            let length = 2.0 * std::f32::consts::PI / frequency;
            if length < original / high {
                1.0
            } else if length > original / low {
                factor
            } else {
                let smooth = (original / length - low) / (high - low);
                1.0 / ((1.0 - smooth) / factor + smooth)
            }
        };
        Some((0..width / 2).map(factor_of).collect())
    }
}

fn scaling(said: &Map<String, Value>, config: &Config) -> Result<Scaling, Fault> {
    let kind = ["rope_type", "type"].into_iter().find_map(|key| said.get(key)?.as_str()).unwrap_or("default");
    let needed = |key: &str| -> Result<f64, Fault> {
        let positive = number(said, key)?.filter(|number| *number > 0.0);
        positive
            .ok_or_else(|| Fault::Config(format!("rope_scaling of the type {kind:?} has no positive {key}")))
    };
    let or = |key: &str, default: f64| -> Result<f64, Fault> {
        if said.get(key).is_none_or(Value::is_null) { Ok(default) } else { needed(key) }
    };
    match kind {
        "default" | "none" => Ok(Scaling::None),
        "linear" => Ok(Scaling::Linear { factor: needed("factor")? }),
        "yarn" => Ok(Scaling::Yarn { factor: needed("factor")? }),
        "llama3" => {
            let (low, high) = (or("low_freq_factor", 1.0)?, or("high_freq_factor", 4.0)?);
            if low >= high {
                return Err(Fault::Config(format!(
                    "low_freq_factor {low} is not below high_freq_factor {high}"
                )));
            }
            let original = or("original_max_position_embeddings", 8192.0)?;
            Ok(Scaling::Llama3 { factor: or("factor", 8.0)?, low, high, original })
        }
        "longrope" | "su" => {
            Ok(Scaling::Long { long: factors(said, "long_factor")?, short: factors(said, "short_factor")? })
        }
        other => {
            let other = shown(&Value::from(other));
            let class = config.class().unwrap_or("?");
            Err(Fault::Unsupported { what: format!("{class} with rope_scaling of the type {other}") })
        }
    }
}

fn number(map: &Map<String, Value>, key: &str) -> Result<Option<f64>, Fault> {
    map.get(key).filter(|value| !value.is_null()).map(|value| finite(key, value)).transpose()
}

fn factors(map: &Map<String, Value>, key: &str) -> Result<Vec<f32>, Fault> {
    let refuse = || Fault::Config(format!("rope_scaling has no list of numbers {key}"));
    let list =
        map.get(key).and_then(Value::as_array).filter(|list| list.len() <= FACTORS).ok_or_else(refuse)?;
    list.iter().map(|value| Ok(finite(key, value)? as f32)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn frequencies_of_llama_3_are_stretched_where_waves_are_long() {
        let config = Config::of(
            json!({"rope_theta": 500_000.0, "rope_scaling": {"rope_type": "llama3", "factor": 32.0,
            "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}}),
        );
        let factors = Rope::read(&config).unwrap().llama3_factors(64, 10_000.0).unwrap();
        assert_eq!(factors.len(), 32);
        assert!((factors[0] - 1.0).abs() < f32::EPSILON && (factors[31] - 32.0).abs() < f32::EPSILON);
        assert!(factors.windows(2).all(|pair| pair[0] <= pair[1]), "{factors:?}");
    }

    #[test]
    fn both_spellings_say_the_same() {
        let old = json!({"rope_theta": 1e6, "rope_local_base_freq": 1e4});
        let new = json!({"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}});
        for value in [old, new] {
            let rope = Rope::read(&Config::of(value)).unwrap();
            assert_eq!((rope.base, rope.window_base, rope.scaling), (Some(1e6), Some(1e4), Scaling::None));
        }
    }

    #[test]
    fn kinds_that_llama_cpp_does_not_compute_are_refused_by_name() {
        let config = Config::of(json!({"rope_scaling": {"type": "dynamic", "factor": 2.0}}));
        assert!(Rope::read(&config).unwrap_err().to_string().contains("dynamic"));
    }
}
