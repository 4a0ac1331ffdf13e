//! The fields of LM Studio's settings: `{ "operation": { "fields": [{ "key": …, "value": … }] }, "load": { … } }`.

use serde_json::Value;

use super::super::entry::ModelEntry;
use crate::settings::value::Raw;

const CPU: &str = "this build computes on the processor";
/// The number formats of keys and of values in the KV cache.
const KV_TYPES: [&str; 2] =
    ["llm.load.llama.kCacheQuantizationType", "llm.load.llama.vCacheQuantizationType"];

/// Takes the fields of a preset or of a model's defaults over.
pub(super) fn apply(entry: &mut ModelEntry, settings: &Value) {
    let of = |section: &str| settings[section]["fields"].as_array().cloned().unwrap_or_default();
    let mut kv_types = [None, None];
    for field in of("operation").iter().chain(&of("load")) {
        let Some(key) = field["key"].as_str() else { continue };
        // Many have a box to tick; without it, their value does not count.
        let value = &field["value"];
        let value = match value["checked"].as_bool() {
            Some(false) => continue,
            Some(true) => &value["value"],
            None => value,
        };
        match (KV_TYPES.iter().position(|known| *known == key), value.as_str()) {
            (Some(at), Some(kind)) => kv_types[at] = Some(kind.to_owned()),
            (Some(_), None) => entry.cannot(key, "is no text"),
            (None, _) => one(entry, key, value),
        }
    }
    entry.set_kv_type(KV_TYPES, kv_types);
}

fn one(entry: &mut ModelEntry, key: &str, value: &Value) {
    match key {
        "llm.prediction.temperature" => number(entry, "temperature", key, value),
        "llm.prediction.topKSampling" => number(entry, "top_k", key, value),
        "llm.prediction.topPSampling" => number(entry, "top_p", key, value),
        "llm.prediction.minPSampling" => number(entry, "min_p", key, value),
        "llm.prediction.repeatPenalty" => number(entry, "repeat_penalty", key, value),
        "llm.prediction.llama.frequencyPenalty" => number(entry, "frequency_penalty", key, value),
        "llm.prediction.llama.presencePenalty" => number(entry, "presence_penalty", key, value),
        "llm.prediction.maxPredictedTokens" => number(entry, "max_tokens", key, value),
        "llm.prediction.seed" if value.as_i64() == Some(-1) => {}
        "llm.prediction.seed" => number(entry, "seed", key, value),
        "llm.prediction.llama.cpuThreads" | "llm.load.llama.cpuThreadPoolSize" => {
            number(entry, "threads", key, value);
        }
        "llm.load.contextLength" | "embedding.load.contextLength" => {
            number(entry, "context_tokens", key, value);
        }
        "llm.load.numParallelSessions" => number(entry, "slots", key, value),
        "llm.prediction.systemPrompt" => match value.as_str() {
            Some(text) if text.trim().is_empty() => {}
            Some(text) => entry.set("system", key, Raw::Text(text.to_owned())),
            None => entry.cannot(key, "is no text"),
        },
        "llm.prediction.stopStrings" => stops(entry, key, value),
        "llm.prediction.promptTemplate" => template(entry, key, value),
        "llm.load.llama.keepModelInMemory" => {
            if value.as_bool() == Some(true) {
                entry.set("lock_memory", key, Raw::Flag(true));
            }
        }
        // Those say what holds here anyway, or how LM Studio shows an answer.
        "llm.prediction.contextOverflowPolicy"
        | "llm.prediction.reasoning.parsing"
        | "llm.prediction.contextPrefill"
        | "llm.prediction.toolCallStopStrings"
        | "llm.load.llama.tryMmap"
        | "embedding.load.llama.tryMmap"
        | "embedding.load.llama.keepModelInMemory"
        | "llm.load.llama.flashAttention" => {}
        "llm.prediction.structured" | "llm.prediction.tools" if value["type"] == "none" => {}
        key if key.contains("acceleration")
            || key.contains("offload")
            || key.contains("Offload")
            || key.starts_with("load.gpu") =>
        {
            entry.cannot(key, CPU);
        }
        key if key.starts_with("llm.prediction.speculativeDecoding") => {
            entry.cannot(key, "Samovar measures how many tokens to draft; name a draft model with `draft`");
        }
        key => entry.cannot(key, "has no equal here"),
    }
}

fn number(entry: &mut ModelEntry, key: &'static str, what: &str, value: &Value) {
    let number = match (value.as_i64(), value.as_f64()) {
        (Some(whole), _) => Raw::Integer(whole),
        // Whole numbers are written with a point as well.
        (None, Some(number)) if number.fract() == 0.0 && number.abs() < 1e15 => Raw::Integer(number as i64),
        (None, Some(number)) => Raw::Float(number),
        (None, None) => return entry.cannot(what, "is no number"),
    };
    entry.set(key, what, number);
}

fn stops(entry: &mut ModelEntry, what: &str, value: &Value) {
    let stops = value.as_array().into_iter().flatten().filter_map(Value::as_str);
    let stops: Vec<Raw> =
        stops.filter(|stop| !stop.is_empty()).map(|stop| Raw::Text(stop.to_owned())).collect();
    if !stops.is_empty() {
        entry.set("stop", what, Raw::List(stops));
    }
}

fn template(entry: &mut ModelEntry, what: &str, value: &Value) {
    stops(entry, what, &value["stopStrings"]);
    let jinja = value["jinjaPromptTemplate"]["template"].as_str().or_else(|| value.as_str());
    match jinja {
        Some(template) if !template.trim().is_empty() => entry.template = Some(template.to_owned()),
        _ if value["type"] == "manual" => {
            entry.cannot(what, "a template without Jinja is not taken over: the model's own is used");
        }
        _ => {}
    }
}
