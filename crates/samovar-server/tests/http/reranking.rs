//! `/v1/rerank` and `/rerank` in both of their forms.

use samovar_core::testing::fake::FakeEngine;
use serde_json::{Value, json};

use crate::embedders::Embedders;
use crate::raw::post;

const DOCUMENTS: [&str; 3] = ["a green pear", "a big red apple", "the red car"];

fn sigmoid(score: f32) -> f32 {
    (1.0 / (1.0 + (-f64::from(score)).exp())) as f32
}

fn score(document: &str) -> f32 {
    FakeEngine::score_of("red apple", document)
}

/// The places of the results, and their scores by this name.
fn results(results: &Value, name: &str) -> Vec<(u64, f32)> {
    let of = |result: &Value| {
        (result["index"].as_u64().expect("a place"), result[name].as_f64().expect("a score") as f32)
    };
    results.as_array().expect("results").iter().map(of).collect()
}

#[tokio::test]
async fn documents_come_back_in_the_form_of_jina_and_cohere() {
    let server = Embedders::new().await;
    let body = json!({ "model": "reranker", "query": "red apple", "documents": DOCUMENTS });
    for path in ["/v1/rerank", "/rerank"] {
        let answer = post(&server, path, &body).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let answer = answer.json();
        assert_eq!((&answer["object"], &answer["model"]), (&json!("list"), &json!("reranker")));
        assert!(answer["id"].as_str().is_some_and(|id| id.starts_with("rerank-")), "{answer}");
        let tokens = &answer["usage"]["prompt_tokens"];
        assert!(
            tokens.as_u64().is_some_and(|tokens| tokens > 0) && *tokens == answer["usage"]["total_tokens"]
        );
        let expected = [1, 2, 0].map(|at: usize| (at as u64, sigmoid(score(DOCUMENTS[at]))));
        assert_eq!(results(&answer["results"], "relevance_score"), expected);
        assert_eq!(answer["results"][0].as_object().expect("object").len(), 2, "no document is repeated");
    }
}

#[tokio::test]
async fn the_best_are_repeated_when_asked_for() {
    let server = Embedders::new().await;
    let documents = json!([DOCUMENTS[0], { "text": DOCUMENTS[1], "title": "x" }, DOCUMENTS[2]]);
    let body = json!({ "model": "reranker", "query": "red apple", "documents": documents, "top_n": 2,
                       "return_documents": true, "raw_scores": true });
    let answer = post(&server, "/v1/rerank", &body).await.json();
    let expected = [1, 2].map(|at: usize| (at as u64, score(DOCUMENTS[at])));
    assert_eq!(results(&answer["results"], "relevance_score"), expected);
    assert_eq!(answer["results"][0]["document"], json!({ "text": DOCUMENTS[1] }));
    assert_eq!(answer["results"][1]["document"], json!({ "text": DOCUMENTS[2] }));
}

#[tokio::test]
async fn texts_come_back_in_the_form_of_text_embeddings_inference() {
    let server = Embedders::new().await;
    let body = json!({ "query": "red apple", "texts": DOCUMENTS, "return_text": true });
    let answer = post(&server, "/rerank", &body).await;
    assert_eq!(answer.status, 200, "the only reranker is meant: {}", answer.body);
    let answer = answer.json();
    let expected = [1, 2, 0].map(|at: usize| (at as u64, sigmoid(score(DOCUMENTS[at]))));
    assert_eq!(results(&answer, "score"), expected);
    assert_eq!(answer[0]["text"], DOCUMENTS[1]);
    let raw = json!({ "query": "red apple", "texts": DOCUMENTS, "raw_scores": true });
    let raw = post(&server, "/rerank", &raw).await.json();
    assert_eq!(results(&raw, "score")[0], (1, score(DOCUMENTS[1])));
    assert_eq!(raw[0].get("text"), None);
}

#[tokio::test]
async fn a_model_that_cannot_rerank_is_a_400_that_names_one_that_can() {
    let server = Embedders::new().await;
    for model in ["demo", "embedder"] {
        let body = json!({ "model": model, "query": "red apple", "documents": DOCUMENTS });
        let answer = post(&server, "/v1/rerank", &body).await;
        assert_eq!(answer.status, 400, "{}", answer.body);
        let error = answer.error();
        assert_eq!(error["param"], "model");
        assert!(error["message"].as_str().expect("text").contains("reranker"), "{error}");
    }
}

#[tokio::test]
async fn a_document_that_is_too_long_is_cut_unless_it_is_to_be_refused() {
    let server = Embedders::new().await;
    let body = |truncate: Value| json!({ "query": "red apple", "documents": ["x".repeat(500), "a red apple"], "truncate": truncate });
    assert_eq!(post(&server, "/v1/rerank", &body(Value::Null)).await.status, 200);
    let refused = post(&server, "/v1/rerank", &body(json!(false))).await;
    assert_eq!((refused.status, &refused.error()["param"]), (400, &json!("documents")), "{}", refused.body);
}
