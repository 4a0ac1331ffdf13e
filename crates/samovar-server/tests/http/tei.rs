//! `/embed`, `/tokenize`, `/detokenize`, `/decode` and `/info`.

use samovar_core::testing::fake::FakeEngine;
use serde_json::{Value, json};

use crate::embedders::{CONTEXT, Embedders, WIDTH, vector, vectors};
use crate::raw::{get, post};

const TEXT: &str = "hello the fox";

async fn answer(server: &Embedders, path: &str, body: &Value) -> Value {
    let answer = post(server, path, body).await;
    assert_eq!(answer.status, 200, "{path} {body}: {}", answer.body);
    answer.json()
}

#[tokio::test]
async fn vectors_are_those_of_openais_route() {
    let server = Embedders::new().await;
    let body = json!({ "model": "embedder", "input": [TEXT, "owl"] });
    let expected = vectors(&answer(&server, "/v1/embeddings", &body).await);
    for path in ["/embed", "/embed?model=embedder"] {
        let all = answer(&server, path, &json!({ "inputs": [TEXT, "owl"] })).await;
        let all: Vec<_> = all.as_array().expect("vectors").iter().map(vector).collect();
        assert_eq!(all, expected);
    }
    let one = answer(&server, "/embed", &json!({ "inputs": TEXT })).await;
    assert_eq!(one.as_array().map(Vec::len), Some(1));
    assert_eq!(vector(&one[0]), expected[0]);
    let raw =
        answer(&server, "/embed", &json!({ "inputs": [5, 6], "normalize": false, "dimensions": 3 })).await;
    assert_eq!(vector(&raw[0]), FakeEngine::values_of(&[5, 6], WIDTH, Some(3), false));
}

#[tokio::test]
async fn long_inputs_are_cut_on_the_side_that_is_named() {
    let server = Embedders::new().await;
    let long: Vec<u32> = (0..CONTEXT + 10).collect();
    let refused = post(&server, "/embed", &json!({ "inputs": long })).await;
    assert_eq!((refused.status, &refused.error()["param"]), (400, &json!("inputs")), "{}", refused.body);
    for (direction, kept) in [("Right", &long[..64]), ("left", &long[10..])] {
        let body = json!({ "inputs": long, "truncate": true, "truncation_direction": direction });
        let cut = answer(&server, "/embed", &body).await;
        assert_eq!(vector(&cut[0]), FakeEngine::values_of(kept, WIDTH, None, true), "{direction}");
    }
}

#[tokio::test]
async fn of_several_embedders_one_must_be_named() {
    let server = Embedders::on(FakeEngine::builder(), &["first", "second"]).await;
    let refused = post(&server, "/embed", &json!({ "inputs": TEXT })).await;
    assert_eq!(refused.status, 400, "{}", refused.body);
    let error = refused.error();
    let message = error["message"].as_str().expect("text");
    assert!(error["param"] == "model" && message.contains("first") && message.contains("second"), "{error}");
    assert!(!message.contains("demo") && !message.contains("reranker"), "{message}");
    assert_eq!(get(&server, "/info").await.status, 400);
}

#[tokio::test]
async fn tokens_are_told_in_two_forms_and_read_again() {
    let server = Embedders::new().await;
    let ids = answer(&server, "/tokenize", &json!({ "content": TEXT })).await["tokens"].clone();
    assert_eq!(ids.as_array().map(Vec::len), Some(7), "five bytes and two words: {ids}");
    let lists = answer(&server, "/tokenize", &json!({ "inputs": [TEXT, "owl"] })).await;
    let special = json!({ "id": 256, "text": "", "special": true });
    assert_eq!(lists[0][0], special);
    let plain: Vec<&Value> = lists[0].as_array().expect("tokens")[1..].iter().collect();
    let plain_ids: Vec<Value> = plain.iter().map(|token| token["id"].clone()).collect();
    assert_eq!(json!(plain_ids), ids);
    let text: String = plain.iter().filter_map(|token| token["text"].as_str()).collect();
    assert_eq!((text.as_str(), lists[1].as_array().map(Vec::len)), (TEXT, Some(4)));
    let bare = answer(&server, "/tokenize", &json!({ "inputs": TEXT, "add_special_tokens": false })).await;
    assert_eq!(bare, json!([plain]));
    let pieces = answer(&server, "/tokenize", &json!({ "content": "é owl", "with_pieces": true })).await;
    let expected = json!({ "tokens": [{ "id": 195, "piece": [195] }, { "id": 169, "piece": [169] },
                                      { "id": pieces["tokens"][2]["id"], "piece": " owl" }] });
    assert_eq!(pieces, expected);

    assert_eq!(answer(&server, "/detokenize", &json!({ "tokens": ids })).await, json!({ "content": TEXT }));
    assert_eq!(answer(&server, "/decode", &json!({ "ids": ids })).await, json!([TEXT]));
    let several = json!({ "ids": [ids, [104]], "skip_special_tokens": true });
    assert_eq!(answer(&server, "/decode", &several).await, json!([TEXT, "h"]));
}

#[tokio::test]
async fn every_model_tokenizes() {
    let server = Embedders::new().await;
    let of = async |model: &str| {
        answer(&server, "/tokenize", &json!({ "content": TEXT, "model": model })).await["tokens"].clone()
    };
    assert_eq!(of("demo").await, of("embedder").await);
}

#[tokio::test]
async fn an_empty_text_has_no_tokens_and_wrong_bodies_are_refused_by_name() {
    let server = Embedders::new().await;
    let none = answer(&server, "/tokenize", &json!({ "content": "" })).await;
    assert_eq!(none, json!({ "tokens": [] }));
    for (path, body, param) in [
        ("/tokenize", json!({}), "inputs"),
        ("/tokenize", json!({ "inputs": [] }), "inputs"),
        ("/tokenize", json!({ "inputs": [5] }), "inputs"),
        ("/tokenize", json!({ "inputs": "a", "content": "a" }), "content"),
        ("/detokenize", json!({}), "tokens"),
        ("/detokenize", json!({ "tokens": ["a"] }), "tokens[0]"),
        ("/decode", json!({ "ids": "a" }), "ids"),
        ("/decode", json!({ "ids": [5], "skip_special_tokens": false }), "skip_special_tokens"),
        ("/embed", json!({ "inputs": "" }), "inputs"),
        ("/embed", json!({ "inputs": "a", "model": "demo" }), "model"),
        ("/embed?model=a&model=b", json!({ "inputs": "a" }), "model"),
    ] {
        let refused = post(&server, path, &body).await;
        assert_eq!(
            (refused.status, &refused.error()["param"]),
            (400, &json!(param)),
            "{path}: {}",
            refused.body
        );
    }
}

#[tokio::test]
async fn info_tells_what_vectors_are() {
    let server = Embedders::new().await;
    let info = get(&server, "/info?model=embedder").await;
    assert_eq!(info.status, 200, "{}", info.body);
    let object = info.json();
    assert_eq!(object["model_id"], "embedder");
    assert_eq!(object["model_type"], json!({ "embedding": { "pooling": "mean" } }));
    assert_eq!((&object["dimensions"], &object["max_input_length"]), (&json!(WIDTH), &json!(CONTEXT)));
    assert!(object["fingerprint"].as_str().is_some_and(|print| !print.is_empty()), "{object}");
    assert_eq!(object["prompts"], json!({ "query": "", "document": "" }));
    assert_eq!(get(&server, "/info").await.json(), object, "the only embedder is meant");
    let chat = get(&server, "/info?model=demo").await;
    assert_eq!((chat.status, &chat.error()["param"]), (400, &json!("model")), "{}", chat.body);
}
