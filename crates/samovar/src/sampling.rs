//! How tokens are chosen, as far as a request or a model's author says so. What holds otherwise is said elsewhere.

use samovar_core::generation::Sampling;
use serde::{Deserialize, Serialize};

/// How tokens are chosen, as far as a request or a model's author says so; `None` leaves it open. [`Sampling`] says what
/// each means.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SamplingOptions {
    /// 0 = greedy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// Keep the k most likely tokens; 0 = all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// Keep the smallest set of tokens whose probability reaches p.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f32>,
    /// Drop tokens less likely than `min_p` × the most likely one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f32>,
    /// Multiplicative penalty on repeated tokens; 1 = off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat_penalty: Option<f32>,
    /// How many of the last tokens the penalties look at; 0 = off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat_last_tokens: Option<u32>,
    /// Additive penalty by count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frequency_penalty: Option<f32>,
    /// Additive penalty by presence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presence_penalty: Option<f32>,
    /// Seed of the draw; left open, it is different each time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u32>,
    /// Added to the logit of a token before anything else; `-inf` bans it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub logit_bias: Vec<(u32, f32)>,
}

impl SamplingOptions {
    /// What is said here, and `fallback`'s where nothing is.
    #[must_use]
    pub fn or(&self, fallback: &Self) -> Self {
        let bias = if self.logit_bias.is_empty() { &fallback.logit_bias } else { &self.logit_bias };
        Self {
            temperature: self.temperature.or(fallback.temperature),
            top_k: self.top_k.or(fallback.top_k),
            top_p: self.top_p.or(fallback.top_p),
            min_p: self.min_p.or(fallback.min_p),
            repeat_penalty: self.repeat_penalty.or(fallback.repeat_penalty),
            repeat_last_tokens: self.repeat_last_tokens.or(fallback.repeat_last_tokens),
            frequency_penalty: self.frequency_penalty.or(fallback.frequency_penalty),
            presence_penalty: self.presence_penalty.or(fallback.presence_penalty),
            seed: self.seed.or(fallback.seed),
            logit_bias: bias.clone(),
        }
    }

    /// What is said here, and `otherwise` for what is left open.
    #[must_use]
    pub fn over(&self, otherwise: &Sampling) -> Sampling {
        let bias = if self.logit_bias.is_empty() { &otherwise.logit_bias } else { &self.logit_bias };
        Sampling {
            temperature: self.temperature.unwrap_or(otherwise.temperature),
            top_k: self.top_k.unwrap_or(otherwise.top_k),
            top_p: self.top_p.unwrap_or(otherwise.top_p),
            min_p: self.min_p.unwrap_or(otherwise.min_p),
            repeat_penalty: self.repeat_penalty.unwrap_or(otherwise.repeat_penalty),
            repeat_last_tokens: self.repeat_last_tokens.unwrap_or(otherwise.repeat_last_tokens),
            frequency_penalty: self.frequency_penalty.unwrap_or(otherwise.frequency_penalty),
            presence_penalty: self.presence_penalty.unwrap_or(otherwise.presence_penalty),
            seed: self.seed.or(otherwise.seed),
            logit_bias: bias.clone(),
        }
    }
}

impl From<Sampling> for SamplingOptions {
    /// Leaves nothing open, but for a seed that is different each time.
    fn from(sampling: Sampling) -> Self {
        Self {
            temperature: Some(sampling.temperature),
            top_k: Some(sampling.top_k),
            top_p: Some(sampling.top_p),
            min_p: Some(sampling.min_p),
            repeat_penalty: Some(sampling.repeat_penalty),
            repeat_last_tokens: Some(sampling.repeat_last_tokens),
            frequency_penalty: Some(sampling.frequency_penalty),
            presence_penalty: Some(sampling.presence_penalty),
            seed: sampling.seed,
            logit_bias: sampling.logit_bias,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_counts_and_what_is_left_open_is_said_by_others() {
        let otherwise = Sampling { seed: Some(3), logit_bias: vec![(1, 2.0)], ..Sampling::greedy() };
        assert_eq!(SamplingOptions::default().over(&otherwise), otherwise);
        let all = Sampling {
            temperature: 0.1,
            top_k: 2,
            top_p: 0.3,
            min_p: 0.4,
            repeat_penalty: 1.5,
            repeat_last_tokens: 6,
            frequency_penalty: 0.7,
            presence_penalty: 0.8,
            seed: Some(9),
            logit_bias: vec![(10, 1.0)],
        };
        assert_eq!(SamplingOptions::from(all.clone()).over(&otherwise), all);
        let some = SamplingOptions { top_k: Some(0), ..SamplingOptions::default() };
        assert_eq!(some.over(&otherwise), Sampling { top_k: 0, ..otherwise });
        let other = SamplingOptions { top_k: Some(7), top_p: Some(0.5), ..SamplingOptions::default() };
        let both = SamplingOptions { top_k: Some(0), top_p: Some(0.5), ..SamplingOptions::default() };
        assert_eq!(some.or(&other), both);
        let json = serde_json::to_value(&some).expect("JSON");
        assert_eq!(json, serde_json::json!({ "top_k": 0 }), "what is left open is not sent");
    }
}
