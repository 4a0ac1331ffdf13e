//! A home as LM Studio lays it out.

use serde_json::json;

use super::*;

fn write(home: &Path, name: &str, text: &str) {
    let path = home.join(name);
    fs_err::create_dir_all(path.parent().expect("a parent")).expect("folder");
    fs_err::write(path, text).expect("written");
}

#[test]
fn models_have_the_names_and_settings_of_lm_studio() {
    let dir = tempfile::tempdir().expect("a folder");
    let home = dir.path();
    for file in ["pub/One-GGUF/One-Q4_K_M.gguf", "pub/One-GGUF/mmproj-F16.gguf", "pub/Two-GGUF/two.gguf"] {
        write(home, &format!("models/{file}"), "GGUF");
    }
    let index = json!({ "models": [
        { "domain": "llm", "format": "gguf", "defaultIdentifier": "one-7b", "indexedModelIdentifier": "pub/One-GGUF/One-Q4_K_M.gguf" },
        { "indexedModelIdentifier": 7 },
    ] });
    write(home, INDEX, &index.to_string());
    let defaults = json!({
        "preset": "@local:poet",
        "operation": { "fields": [
            { "key": "llm.prediction.temperature", "value": 0.25 },
            { "key": "llm.prediction.topPSampling", "value": { "checked": true, "value": 0.5 } },
            { "key": "llm.prediction.minPSampling", "value": { "checked": false, "value": 0.1 } },
            { "key": "llm.prediction.stopStrings", "value": ["###", ""] },
            { "key": "llm.prediction.promptTemplate", "value": {
                "type": "jinja", "jinjaPromptTemplate": { "template": "{{ messages }}" }, "stopStrings": [] } },
            { "key": "llm.prediction.llama.mirostatSampling", "value": { "version": 2 } },
        ] },
        "load": { "fields": [
            { "key": "llm.load.contextLength", "value": 8192 },
            { "key": "llm.load.llama.kCacheQuantizationType", "value": { "checked": true, "value": "q8_0" } },
            { "key": "llm.load.llama.acceleration.offloadRatio", "value": "max" },
        ] },
    });
    write(home, &format!("{DEFAULTS}/pub/One-GGUF/One-Q4_K_M.gguf.json"), &defaults.to_string());
    let preset = |identifier: &str, system: &str| {
        let fields = json!([
            { "key": "llm.prediction.systemPrompt", "value": system },
            { "key": "llm.prediction.temperature", "value": 1 },
        ]);
        json!({ "identifier": identifier, "name": "A preset", "changed": false, "operation": { "fields": fields } })
    };
    write(home, "config-presets/poet.preset.json", &format!("\u{feff}{}", preset("@local:poet", "Rhyme.")));
    write(home, "config-presets/other.preset.json", &preset("@local:other", "Be brief.").to_string());
    write(home, "config-presets/broken.preset.json", "{");
    write(home, "settings.json", r#"{"developer": {"jitModelTTL": {"enabled": true, "ttlSeconds": 3600}}}"#);
    let found = look(home).expect("a home");
    let names: Vec<&str> = found.models.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["one-7b", "two"]);
    let one = &found.models[0];
    let expected = [
        ("keep_alive", Raw::Text("3600s".into())),
        ("system", Raw::Text("Rhyme.".into())),
        ("temperature", Raw::Float(0.25)),
        ("top_p", Raw::Float(0.5)),
        ("stop", Raw::List(vec![Raw::Text("###".into())])),
        ("context_tokens", Raw::Integer(8192)),
    ];
    assert_eq!(one.settings[1..], expected);
    assert!(
        one.source()
            .is_some_and(|source| source.starts_with("file:///") && source.ends_with("One-Q4_K_M.gguf"))
    );
    assert_eq!(one.template.as_deref(), Some("{{ messages }}"));
    let whats: Vec<&str> = one.remarks.iter().map(|remark| remark.what.as_str()).collect();
    let expected = [
        "llm.prediction.llama.mirostatSampling",
        "llm.load.llama.acceleration.offloadRatio",
        "llm.load.llama.kCacheQuantizationType q8_0 llm.load.llama.vCacheQuantizationType f16",
    ];
    assert_eq!(whats, expected);
    let others: Vec<String> =
        found.remarks.iter().map(|remark| format!("{}: {}", remark.of, remark.what)).collect();
    assert_eq!(others, ["presets: broken.preset.json", "presets: A preset (@local:other)"]);
    let by_models = look(&home.join("models")).expect("the folder of models");
    assert_eq!(by_models.models.len(), 2);
}

#[test]
fn a_home_without_settings_has_models_all_the_same() {
    let dir = tempfile::tempdir().expect("a folder");
    write(dir.path(), "models/pub/Big-GGUF/big-00001-of-00002.gguf", "GGUF");
    write(dir.path(), "models/pub/Big-GGUF/big-00002-of-00002.gguf", "GGUF");
    write(dir.path(), "models/pub/stray.gguf", "GGUF");
    let found = look(dir.path()).expect("a home");
    let names: Vec<&str> = found.models.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["big"]);
    assert!(look(&dir.path().join("none")).is_err());
}
