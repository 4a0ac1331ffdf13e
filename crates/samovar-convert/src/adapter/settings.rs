//! `adapter_config.json`: how strongly an adapter counts. What GGUF has no place for is refused here, by its name.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::config::shown;
use crate::error::Fault;
use crate::source::Folder;

pub(crate) const FILE: &str = "adapter_config.json";
const BYTES: u64 = 4 << 20;

/// What an adapter may have and GGUF has no place for, by the key that says so.
const REFUSED: [(&str, &str); 10] = [
    ("use_dora", "DoRA"),
    ("use_qalora", "QALoRA"),
    ("lora_bias", "biases of its own"),
    ("modules_to_save", "whole layers of its own"),
    ("trainable_token_indices", "tokens of its own"),
    ("target_parameters", "parameters that are no layers"),
    ("layer_replication", "repeated layers"),
    ("fan_in_fan_out", "transposed matrices"),
    ("alora_invocation_tokens", "a phrase that turns it on"),
    ("invocation_string", "a phrase that turns it on"),
];
/// Ways to begin a training that change the model's own matrices as well: the adapter fits the changed ones alone.
const CHANGING: [&str; 4] = ["pissa", "olora", "corda", "loftq"];

/// What an adapter says of itself.
#[derive(Debug)]
pub(super) struct AdapterSettings {
    alpha: f64,
    /// The rank of all pairs, where they have one.
    rank: Option<u64>,
    /// Whether what is added is scaled by the square root of the rank, and not by the rank.
    is_by_root: bool,
}

impl AdapterSettings {
    /// Those of the adapter in `folder`.
    pub(super) fn read(folder: &Folder) -> Result<Self, Fault> {
        let missing = || Fault::Missing { file: FILE.to_owned() };
        Self::of(&folder.json(FILE, BYTES)?.ok_or_else(missing)?)
    }

    fn of(map: &Map<String, Value>) -> Result<Self, Fault> {
        let value = |key: &str| map.get(key).filter(|value| !value.is_null());
        match value("peft_type") {
            None => (),
            Some(Value::String(kind)) if kind == "LORA" => (),
            Some(other) => return Err(with(format!("peft_type = {}", shown(other)))),
        }
        if let Some((key, what)) = REFUSED.into_iter().find(|&(key, _)| value(key).is_some_and(is_set)) {
            return Err(with(format!("{what} ({key})")));
        }
        if let Some(bias) = value("bias").filter(|bias| bias.as_str() != Some("none")) {
            return Err(with(format!("biases of its own (bias = {})", shown(bias))));
        }
        let begun = value("init_lora_weights").and_then(Value::as_str).unwrap_or_default();
        if CHANGING.iter().any(|changing| begun.to_ascii_lowercase().starts_with(changing)) {
            return Err(with(format!("changed matrices of its model (init_lora_weights = {begun:?})")));
        }
        let said = value("lora_alpha").ok_or_else(|| Fault::unsound(FILE, "it has no lora_alpha"))?;
        let alpha = said.as_f64().filter(|alpha| (*alpha as f32).is_finite() && *alpha as f32 != 0.0);
        let alpha = alpha.ok_or_else(|| {
            Fault::unsound(FILE, format!("lora_alpha is {}, and must be a number other than 0", shown(said)))
        })?;
        let of_each = |key: &str| value(key).and_then(Value::as_object).into_iter().flat_map(Map::values);
        if of_each("alpha_pattern").any(|other| other.as_f64() != Some(alpha)) {
            return Err(with("an alpha for each layer (alpha_pattern)".to_owned()));
        }
        let has_ranks = of_each("rank_pattern").next().is_some();
        let rank = if has_ranks { None } else { value("r").and_then(Value::as_u64) };
        Ok(Self { alpha, rank, is_by_root: value("use_rslora").is_some_and(is_set) })
    }

    /// The alpha of GGUF, which is divided by the rank of each pair.
    pub(super) fn alpha(&self, ranks: &BTreeSet<u64>) -> Result<f64, Fault> {
        if let Some((rank, found)) = self.rank.zip(ranks.iter().find(|found| Some(**found) != self.rank)) {
            let what =
                format!("{FILE} says that the rank is {rank}, and there are pairs of the rank {found}");
            return Err(Fault::Adapter(what));
        }
        match ranks.first() {
            Some(rank) if self.is_by_root && ranks.len() == 1 => Ok(self.alpha * (*rank as f64).sqrt()),
            _ if self.is_by_root => Err(with("several ranks and use_rslora".to_owned())),
            _ => Ok(self.alpha),
        }
    }
}

/// Whether a value turns something on.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(_) => true,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

fn with(what: String) -> Fault {
    Fault::AdapterWith { what }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings(more: &Value) -> Result<AdapterSettings, Fault> {
        let mut map = json!({"peft_type": "LORA", "r": 8, "lora_alpha": 16, "bias": "none", "use_dora": false,
            "modules_to_save": null, "alpha_pattern": {}, "rank_pattern": {}, "init_lora_weights": true});
        map.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        AdapterSettings::of(map.as_object().expect("an object"))
    }

    fn alpha(more: &Value, ranks: &[u64]) -> Result<f64, Fault> {
        settings(more)?.alpha(&ranks.iter().copied().collect())
    }

    #[test]
    fn alpha_stays_as_it_is_and_grows_by_the_root_of_the_rank_where_that_scales() {
        let is = |found: Result<f64, Fault>, wanted: f64| assert!((found.unwrap() - wanted).abs() < 1e-9);
        is(alpha(&json!({}), &[8]), 16.0);
        is(alpha(&json!({"rank_pattern": {"q_proj": 4}}), &[4, 8]), 16.0);
        is(alpha(&json!({"alpha_pattern": {"q_proj": 16.0}}), &[8]), 16.0);
        // alpha × √r / r = alpha / √r
        is(alpha(&json!({"use_rslora": true, "r": 4}), &[4]), 32.0);
        let several =
            alpha(&json!({"use_rslora": true, "rank_pattern": {"q_proj": 4}}), &[4, 8]).unwrap_err();
        assert!(several.to_string().contains("use_rslora"), "{several}");
        let other = alpha(&json!({}), &[4]).unwrap_err().to_string();
        assert!(other.contains("rank is 8") && other.contains("rank 4"), "{other}");
    }

    #[test]
    fn what_gguf_has_no_place_for_is_refused_by_its_name() {
        for (more, word) in [
            (json!({"peft_type": "IA3"}), "IA3"),
            (json!({"use_dora": true}), "DoRA"),
            (json!({"bias": "all"}), "biases"),
            (json!({"modules_to_save": ["lm_head"]}), "modules_to_save"),
            (json!({"alpha_pattern": {"q_proj": 32}}), "alpha_pattern"),
            (json!({"init_lora_weights": "pissa_niter_4"}), "pissa_niter_4"),
            (json!({"alora_invocation_tokens": [1, 2]}), "phrase"),
        ] {
            let fault = settings(&more).unwrap_err();
            assert!(matches!(fault, Fault::AdapterWith { .. }), "{fault}");
            assert!(fault.to_string().contains(word), "{fault}");
        }
        for wrong in [json!({"lora_alpha": null}), json!({"lora_alpha": "x"}), json!({"lora_alpha": 0})] {
            let fault = settings(&wrong).unwrap_err().to_string();
            assert!(fault.contains("lora_alpha") && fault.contains(FILE), "{fault}");
        }
    }
}
