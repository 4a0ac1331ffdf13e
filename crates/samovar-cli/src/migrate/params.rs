//! Parameters of answers by the names that Ollama and clients of HTTP APIs give them.

use serde_json::{Map, Value};

use super::entry::ModelEntry;
use crate::settings::value::Raw;

/// Names of other programs, with the key of `[models.NAME]` that means the same.
const SAME: [(&str, &str); 13] = [
    ("temperature", "temperature"),
    ("top_k", "top_k"),
    ("top_p", "top_p"),
    ("min_p", "min_p"),
    ("repeat_penalty", "repeat_penalty"),
    ("repeat_last_n", "repeat_last_tokens"),
    ("frequency_penalty", "frequency_penalty"),
    ("presence_penalty", "presence_penalty"),
    ("seed", "seed"),
    ("num_ctx", "context_tokens"),
    ("num_thread", "threads"),
    ("max_tokens", "max_tokens"),
    ("max_completion_tokens", "max_tokens"),
];
/// Parameters that say how another program computes.
const MACHINE: [&str; 9] =
    ["num_gpu", "main_gpu", "num_batch", "use_mmap", "use_mlock", "low_vram", "f16_kv", "numa", "vocab_only"];

/// Takes parameters over; `what` is where they stand.
pub(super) fn apply(entry: &mut ModelEntry, what: &str, params: &Map<String, Value>) {
    for (name, value) in params {
        let place =
            if what.is_empty() { format!("{name} {value}") } else { format!("{what}.{name} {value}") };
        if let Some((_, key)) = SAME.iter().find(|(known, _)| known == name) {
            match number(value) {
                Some(number) => entry.set(key, &place, number),
                None => entry.cannot(place, "is no number"),
            }
            continue;
        }
        match (name.as_str(), value) {
            ("stop", Value::String(stop)) => {
                entry.set("stop", &place, Raw::List(vec![Raw::Text(stop.clone())]));
            }
            ("stop", Value::Array(stops)) if stops.iter().all(Value::is_string) => {
                let stops = stops.iter().filter_map(|stop| Some(Raw::Text(stop.as_str()?.to_owned())));
                entry.set("stop", &place, Raw::List(stops.collect()));
            }
            // -1 and -2 stand for no limit.
            ("num_predict", value) => match value.as_i64() {
                Some(tokens) if tokens > 0 => entry.set("max_tokens", &place, Raw::Integer(tokens)),
                Some(_) => {}
                None => entry.cannot(place, "is no number"),
            },
            ("reasoning_effort", Value::String(effort)) => {
                entry.set("thinking", &place, Raw::Text(effort.clone()));
            }
            ("chat_template_kwargs", Value::Object(arguments)) => {
                template_arguments(entry, &place, arguments);
            }
            (name, _) if MACHINE.contains(&name) => {
                entry.cannot(place, "Samovar chooses by itself how it computes");
            }
            _ => entry.cannot(place, "this parameter has no equal here"),
        }
    }
}

fn number(value: &Value) -> Option<Raw> {
    match value.as_i64() {
        Some(whole) => Some(Raw::Integer(whole)),
        None => value.as_f64().map(Raw::Float),
    }
}

/// Of the variables of a template, those that say how much a model thinks.
pub(super) fn template_arguments(entry: &mut ModelEntry, what: &str, arguments: &Map<String, Value>) {
    for (name, value) in arguments {
        match (name.as_str(), value) {
            ("enable_thinking", Value::Bool(false)) => {
                entry.set("thinking", what, Raw::Text("off".to_owned()));
            }
            ("enable_thinking", Value::Bool(true)) => {}
            ("reasoning_effort", Value::String(effort)) => {
                entry.set("thinking", what, Raw::Text(effort.clone()));
            }
            _ => entry.cannot(
                format!("{what}: {name}"),
                "variables of templates are set by requests: chat_template_kwargs",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::migrate::entry::Remark;

    #[test]
    fn parameters_become_settings_and_the_rest_is_named() {
        let mut entry = ModelEntry::new("m");
        let params = json!({
            "temperature": 1, "top_p": 0.5, "num_ctx": 8192, "num_predict": -1, "stop": ["</s>", "\n\n"], "num_gpu": 1,
            "mirostat": 2, "top_k": "many", "repeat_last_n": -1,
        });
        apply(&mut entry, "", params.as_object().expect("an object"));
        let stops = ["</s>", "\n\n"].map(|stop| Raw::Text(stop.to_owned())).to_vec();
        let expected = [
            ("temperature", Raw::Integer(1)),
            ("top_p", Raw::Float(0.5)),
            ("context_tokens", Raw::Integer(8192)),
            ("stop", Raw::List(stops)),
        ];
        assert_eq!(entry.settings, expected);
        let whats: Vec<&str> = entry.remarks.iter().map(|remark| remark.what.as_str()).collect();
        assert_eq!(whats, ["num_gpu 1", "mirostat 2", "top_k \"many\"", "repeat_last_n -1"]);
        let mut other = ModelEntry::new("m");
        apply(&mut other, "setParams", json!({ "x": 1 }).as_object().expect("an object"));
        assert_eq!(other.remarks, [Remark::new("m", "setParams.x 1", "this parameter has no equal here")]);
    }
}
