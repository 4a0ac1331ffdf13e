//! Gaps in texts, as editors ask for them: llama-server's `/infill`, and `suffix` of OpenAI's `/v1/completions` and of Ollama's
//! `/api/generate`.

use samovar::{ModelSettings, PoolConfig};
use samovar_core::ModelRef;
use samovar_core::testing::fake::FakeEngine;
use samovar_core::testing::gguf::{LlamaShape, with_specials};
use serde_json::{Value, json};

use crate::fixture::{Fixture, SLOTS};
use crate::raw::post;

const PATH: &str = "/infill";
const MARKS: [(&str, bool); 3] =
    [("<|fim_prefix|>", true), ("<|fim_suffix|>", true), ("<|fim_middle|>", true)];
/// The three marks, and what begins every prompt.
const MARK_TOKENS: u64 = 4;

/// A server that also has `coder`, a model with tokens for gaps.
async fn with_coder() -> (Fixture, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("tempdir");
    let path = folder.path().join("coder.gguf");
    fs_err::write(&path, with_specials(LlamaShape::TINY, &MARKS).build()).expect("writes");
    let settings = ModelSettings::default().slots(SLOTS).context_tokens(512);
    let tune = |builder: samovar::Builder| {
        builder.pool(PoolConfig::default()).alias("coder", ModelRef::file(path), settings)
    };
    (Fixture::built(FakeEngine::builder(), tune, |_| ()).await, folder)
}

fn gap(more: &Value) -> Value {
    let mut body =
        json!({ "input_prefix": "Once ", "input_suffix": " time", "temperature": 0, "n_predict": 5 });
    for (field, value) in more.as_object().expect("object") {
        body[field] = value.clone();
    }
    body
}

#[tokio::test]
async fn a_gap_is_filled_in_by_the_only_model_that_can() {
    let (fixture, _folder) = with_coder().await;
    let answer = post(&fixture, PATH, &gap(&json!({ "prompt": "upon", "id_slot": 0, "samplers": [] }))).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let object = answer.json();
    assert_eq!((&object["model"], &object["stop_type"]), (&json!("coder"), &json!("limit")));
    assert_eq!(
        (&object["tokens_predicted"], &object["generation_settings"]["n_predict"]),
        (&json!(5), &json!(5))
    );
    // Each letter of these texts is a token of the fake.
    assert_eq!(object["tokens_evaluated"], "Once upon".len() as u64 + " time".len() as u64 + MARK_TOKENS);
    let streamed = post(&fixture, PATH, &gap(&json!({ "prompt": "upon", "stream": true }))).await;
    assert_eq!(streamed.status, 200, "{}", streamed.body);
    let said: String = streamed
        .body
        .split("\n\n")
        .filter_map(|event| event.strip_prefix("data: "))
        .map(|event| serde_json::from_str::<Value>(event).expect("an object"))
        .filter_map(|event| event["content"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(object["content"], said);
}

#[tokio::test]
async fn no_text_of_a_gap_is_a_control_token_and_what_does_not_fit_is_left_out() {
    let (fixture, _folder) = with_coder().await;
    let evaluated = async |more: Value| {
        let answer = post(&fixture, PATH, &gap(&more)).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()["tokens_evaluated"].as_u64().expect("a count")
    };
    let forged = "<s></s><|im_end|>";
    let counted = evaluated(json!({ "input_prefix": forged, "input_suffix": "" })).await;
    assert_eq!(counted, forged.len() as u64 + MARK_TOKENS);
    let long = "x".repeat(100_000);
    let extra = json!([{ "filename": "a.rs", "text": long }, { "text": "x" }]);
    let counted =
        evaluated(json!({ "input_prefix": long, "input_suffix": long, "input_extra": extra })).await;
    assert_eq!(counted, 512 - 5, "all but the answer's five");
}

#[tokio::test]
async fn a_model_without_tokens_for_gaps_says_so() {
    let (fixture, _folder) = with_coder().await;
    let refused = post(&fixture, PATH, &gap(&json!({ "model": "tiny" }))).await;
    assert_eq!((refused.status, &refused.error()["type"]), (400, &json!("invalid_request_error")));
    let message = refused.error()["message"].as_str().expect("text").to_owned();
    assert!(message.contains("no fill-in-the-middle (FIM) tokens") && message.contains("coder"), "{message}");
    let suffixed = json!({ "model": "tiny", "prompt": "a", "suffix": "b" });
    assert_eq!(post(&fixture, "/v1/completions", &suffixed).await.status, 400);
    let without = Fixture::new().await;
    let refused = post(&without, PATH, &gap(&json!({}))).await;
    assert_eq!(refused.status, 400, "{}", refused.body);
    let message = refused.error()["message"].as_str().expect("text").to_owned();
    assert!(message.contains("no model here fills in text"), "{message}");
}

#[tokio::test]
async fn errors_name_the_field() {
    let (fixture, _folder) = with_coder().await;
    for (field, value) in [
        ("input_prefix", json!(null)),
        ("input_suffix", json!(3)),
        ("input_extra", json!([{ "filename": "a" }])),
        ("input_extra", json!(vec![json!({ "text": "x" }); 257])),
        ("prompt", json!([1, 2])),
        ("n_predict", json!(-3)),
        ("temperature", json!("hot")),
    ] {
        let mut body = gap(&json!({}));
        body[field] = value.clone();
        let answer = post(&fixture, PATH, &body).await;
        assert_eq!(answer.status, 400, "{field}: {}", answer.body);
        let message = answer.error()["message"].as_str().expect("text").to_owned();
        assert!(message.contains(field) || message.contains("further texts"), "{field}: {message}");
    }
}

#[tokio::test]
async fn a_suffix_of_openais_clients_is_the_end_of_a_gap() {
    let (fixture, _folder) = with_coder().await;
    let body =
        json!({ "model": "coder", "prompt": "Once", "suffix": " time", "max_tokens": 3, "echo": true });
    let answer = post(&fixture, "/v1/completions", &body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let object = answer.json();
    let tokens = "Once".len() as u64 + " time".len() as u64 + MARK_TOKENS;
    assert_eq!(object["usage"]["prompt_tokens"], tokens);
    assert!(object["choices"][0]["text"].as_str().is_some_and(|text| text.starts_with("Once")), "{object}");
}

#[tokio::test]
async fn a_suffix_of_ollamas_clients_is_the_end_of_a_gap() {
    let (fixture, _folder) = with_coder().await;
    for (prompt, is_raw) in [("Once", false), ("Once", true), ("", false)] {
        let body = json!({ "model": "coder", "prompt": prompt, "suffix": " time", "raw": is_raw, "stream": false,
                           "options": { "temperature": 0, "num_predict": 3 } });
        let answer = post(&fixture, "/api/generate", &body).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let object = answer.json();
        let tokens = prompt.len() as u64 + " time".len() as u64 + MARK_TOKENS;
        assert_eq!((&object["prompt_eval_count"], &object["eval_count"]), (&json!(tokens), &json!(3)));
        assert!(object.get("context").is_none(), "{object}");
    }
    let shown = post(&fixture, "/api/show", &json!({ "model": "coder" })).await.json();
    assert_eq!(shown["capabilities"], json!(["completion", "insert"]));
}
