//! `/v1/embeddings` as OpenAI's clients use it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use samovar_core::testing::fake::FakeEngine;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::embedders::{CONTEXT, Embedders, WIDTH, vector, vectors};
use crate::fixture::eventually;
use crate::raw::{get, post, request, tcp};

const PATH: &str = "/v1/embeddings";

fn body(input: &Value, more: &Value) -> Value {
    let mut body = json!({ "model": "embedder", "input": input });
    for (field, value) in more.as_object().expect("object") {
        body[field] = value.clone();
    }
    body
}

async fn embed(server: &Embedders, input: &Value, more: &Value) -> Value {
    let answer = post(server, PATH, &body(input, more)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

#[tokio::test]
async fn an_answer_has_openais_shape() {
    let server = Embedders::new().await;
    let answer = post(&server, PATH, &body(&json!([[5, 6, 7], [8]]), &json!({}))).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("x-samovar-cache"), Some("cold"));
    assert!(answer.header("content-length").is_some(), "a small answer is one piece");
    let begin = r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":["#;
    assert!(answer.body.starts_with(begin), "{}", answer.body);
    let end = r#"]}],"model":"embedder","usage":{"prompt_tokens":4,"total_tokens":4}}"#;
    assert!(answer.body.ends_with(end), "{}", answer.body);
    let expected = [[5, 6, 7].as_slice(), &[8]].map(|ids| FakeEngine::values_of(ids, WIDTH, None, true));
    assert_eq!(vectors(&answer.json()), expected);
}

#[tokio::test]
async fn base64_and_numbers_are_the_same_vectors() {
    let server = Embedders::new().await;
    let input = json!(["the fox", "a kettle of tea", "owl"]);
    let numbers = vectors(&embed(&server, &input, &json!({ "encoding_format": "float" })).await);
    let answer = embed(&server, &input, &json!({ "encoding_format": "base64" })).await;
    for (object, expected) in answer["data"].as_array().expect("data").iter().zip(&numbers) {
        let bytes = STANDARD.decode(object["embedding"].as_str().expect("text")).expect("base64");
        let read: Vec<f32> =
            bytes.chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four"))).collect();
        assert_eq!(read, *expected);
    }
    let length = numbers[0].iter().map(|value| value * value).sum::<f32>();
    assert!((length - 1.0).abs() < 1e-5, "{length}");
}

#[tokio::test]
async fn many_inputs_become_what_each_becomes_alone_in_their_order() {
    let server = Embedders::new().await;
    let texts: Vec<String> =
        (0..700).map(|number| format!("story {number} {}", "x".repeat(number % 30))).collect();
    let answer = embed(&server, &json!(texts), &json!({})).await;
    let all = vectors(&answer);
    assert_eq!(all.len(), texts.len());
    for at in [0, 1, 255, 256, 257, 699] {
        let alone = vectors(&embed(&server, &json!(texts[at]), &json!({})).await);
        assert_eq!(alone, [all[at].clone()], "{at}");
    }
    let metrics = get(&server, "/metrics").await.body;
    assert!(metrics.contains("samovar_embedded_inputs_total 706"), "{metrics}");
    let tokens = answer["usage"]["prompt_tokens"].as_u64().expect("a count");
    assert_eq!(answer["usage"]["total_tokens"], tokens);
    assert!(tokens > 700 * 2);
}

#[tokio::test]
async fn a_large_answer_is_written_in_pieces_and_its_memory_comes_back() {
    let server = Embedders::new().await;
    let lists: Vec<[usize; 2]> = (0..10_000).map(|number| [number % 250, number % 50]).collect();
    let answer = post(&server, PATH, &body(&json!(lists), &json!({}))).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
    let all = vectors(&answer.json());
    assert_eq!(all.len(), 10_000);
    assert_eq!(all[9_999], FakeEngine::values_of(&[249, 49], WIDTH, None, true));
    let is_none =
        |line: &str| matches!(line, "samovar_server_buffer_bytes 0" | "samovar_server_buffer_bytes 0.0");
    let is_free = async || get(&server, "/metrics").await.body.lines().any(is_none);
    eventually("nothing is kept of the answer", is_free).await;
}

#[tokio::test]
async fn an_answer_that_no_client_has_memory_for_is_a_400_however_little_is_in_use() {
    let tune = |builder: samovar::Builder| builder.buffers(4 << 20);
    let server = Embedders::tuned(FakeEngine::builder(), &["embedder"], tune).await;
    let refused = post(&server, PATH, &body(&json!(vec![[1, 2]; 10_000]), &json!({}))).await;
    assert_eq!((refused.status, &refused.error()["param"]), (400, &json!("input")), "{}", refused.body);
    assert_eq!(refused.header("retry-after"), None);
    assert_eq!(post(&server, PATH, &body(&json!(vec![[1, 2]; 100]), &json!({}))).await.status, 200);
}

#[tokio::test]
async fn vectors_are_cut_to_their_dimensions_and_normalised_unless_told_otherwise() {
    let server = Embedders::new().await;
    let input = json!([5, 6, 7]);
    let of = async |more: &Value| vectors(&embed(&server, &input, more).await).remove(0);
    let expected = |dimensions, normalize| FakeEngine::values_of(&[5, 6, 7], WIDTH, dimensions, normalize);
    assert_eq!(of(&json!({ "dimensions": 8 })).await, expected(Some(8), true));
    assert_eq!(of(&json!({ "normalize": false })).await, expected(None, false));
    assert_eq!(
        of(&json!({ "dimensions": null, "user": "u", "encoding_format": null })).await,
        expected(None, true)
    );
}

#[tokio::test]
async fn what_cannot_be_embedded_is_refused_by_name() {
    let server = Embedders::new().await;
    for (more, param, words) in [
        (json!({ "input": null }), "input", "missing"),
        (json!({ "input": "" }), "input", "cannot be an empty string"),
        (json!({ "input": [] }), "input", "empty array"),
        (json!({ "input": ["a", ""] }), "input[1]", "cannot be an empty string"),
        (json!({ "input": [[]] }), "input[0]", "empty list"),
        (json!({ "input": { "text": "a" } }), "input", "cannot be used"),
        (json!({ "input": vec!["a"; 10_001] }), "input", "10000"),
        (json!({ "input": [-1] }), "input[0]", "token id"),
        (json!({ "encoding_format": "int8" }), "encoding_format", "base64"),
        (json!({ "dimensions": 0 }), "dimensions", "from 1"),
        (json!({ "dimensions": 1.5 }), "dimensions", "whole"),
        (json!({ "dimensions": WIDTH + 1 }), "dimensions", "64"),
        (json!({ "truncate": "middle" }), "truncate", "start"),
        (json!({ "input_type": "image" }), "input_type", "query"),
        (json!({ "priority": "soon" }), "priority", "bulk"),
        (json!({ "timeout": 0 }), "timeout", "0.001"),
        (json!({ "keep_alive": "soon" }), "keep_alive", "keep_alive"),
        (json!({ "options": { "num_ctx": 8 } }), "options", "not supported"),
        (json!({ "model": "" }), "model", "missing"),
        (json!({ "model": "demo" }), "model", "embedder"),
    ] {
        let answer = post(&server, PATH, &body(&json!("a"), &more)).await;
        assert_eq!(answer.status, 400, "{more}: {}", answer.body);
        let error = answer.error();
        assert_eq!(error["param"], param, "{more}: {error}");
        assert_eq!(error["type"], "invalid_request_error", "{more}: {error}");
        assert!(error["message"].as_str().expect("text").contains(words), "{more}: {error}");
    }
    let foreign = post(&server, PATH, &body(&json!([4_000_000_000_u32]), &json!({}))).await;
    assert_eq!(foreign.status, 400, "{}", foreign.body);
    let unknown = post(&server, PATH, &body(&json!("a"), &json!({ "model": "nobody" }))).await;
    assert_eq!((unknown.status, &unknown.error()["code"]), (404, &json!("model_not_found")));
    assert_eq!(post(&server, PATH, &body(&json!("a"), &json!({ "unknown": 1 }))).await.status, 200);
}

#[tokio::test]
async fn inputs_that_are_too_long_are_refused_with_both_counts_or_cut() {
    let server = Embedders::new().await;
    let long: Vec<u32> = (0..CONTEXT + 10).collect();
    let refused = post(&server, PATH, &body(&json!(long), &json!({}))).await;
    let error = refused.error();
    assert_eq!((refused.status, &error["code"]), (400, &json!("context_length_exceeded")), "{error}");
    assert_eq!(error["param"], "input");
    let message = error["message"].as_str().expect("text");
    assert!(message.contains("74") && message.contains("64"), "{message}");
    for (truncate, kept) in
        [(json!(true), &long[..64]), (json!("end"), &long[..64]), (json!("start"), &long[10..])]
    {
        let answer = embed(&server, &json!(long), &json!({ "truncate": truncate })).await;
        assert_eq!(answer["usage"]["prompt_tokens"], CONTEXT, "{truncate}");
        assert_eq!(vector(&answer["data"][0]["embedding"]), FakeEngine::values_of(kept, WIDTH, None, true));
    }
}

#[tokio::test]
async fn a_client_that_leaves_cancels_what_is_left() {
    let server = Embedders::on(FakeEngine::builder().gate_batches(), &["embedder"]).await;
    let texts: Vec<String> = (0..500).map(|number| format!("text {number}")).collect();
    let text = request("POST", PATH, &[], &body(&json!(texts), &json!({})).to_string());
    let mut client = tcp(&server).await;
    client.write_all(text.as_bytes()).await.expect("writes");
    server.engine.wait_until(|counts| counts.embeds_started > 0).await;
    drop(client);
    server.handle_quiet().await;
    server.engine.batches_gate().open();
    let is_over = |counts: &samovar_core::testing::fake::Counts| {
        counts.embeds_cancelled == counts.embeds_started && counts.inputs_dropped > 0
    };
    server.engine.wait_until(is_over).await;
    assert_eq!(post(&server, PATH, &body(&json!("after"), &json!({}))).await.status, 200);
}

#[tokio::test]
async fn models_say_what_they_can_do() {
    let server = Embedders::new().await;
    let list = get(&server, "/v1/models").await.json();
    let of = |name: &str| {
        let models = list["data"].as_array().expect("models");
        let model = models.iter().find(|model| model["id"] == name).expect("the model");
        model["capabilities"].clone()
    };
    assert_eq!(of("demo"), json!(["generate"]));
    assert_eq!(of("embedder"), json!(["embed"]));
    assert_eq!(of("reranker"), json!(["rerank"]));
    assert_eq!(get(&server, "/v1/models/embedder").await.json()["capabilities"], json!(["embed"]));
}

#[tokio::test]
async fn an_embedder_that_is_asked_to_chat_is_a_400_that_names_another() {
    let server = Embedders::new().await;
    let chat = json!({ "model": "embedder", "messages": [{ "role": "user", "content": "Hi" }] });
    let answer = post(&server, "/v1/chat/completions", &chat).await;
    assert_eq!(answer.status, 400, "{}", answer.body);
    let error = answer.error();
    assert_eq!(error["param"], "model");
    assert!(error["message"].as_str().expect("text").contains("demo"), "{error}");
}
