//! `/v1/completions` and `/v1/models`.

use serde_json::{Value, json};

use crate::fixture::{Fixture, steady, steady_lines};
use crate::raw::{get, owner, post};

const PATH: &str = "/v1/completions";

fn once(more: &Value) -> Value {
    let mut body =
        json!({ "model": "tiny", "prompt": "Once upon a time", "temperature": 0, "max_tokens": 5 });
    for (field, value) in more.as_object().expect("object") {
        body[field] = value.clone();
    }
    body
}

#[tokio::test]
async fn answers_whole_with_logprobs() {
    let fixture = Fixture::new().await;
    let answer = post(&fixture, PATH, &once(&json!({ "logprobs": 1, "max_tokens": 3 }))).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    insta::assert_snapshot!(serde_json::to_string_pretty(&steady(answer.json())).expect("text"));
}

#[tokio::test]
async fn answers_streamed_after_an_echo() {
    let fixture = Fixture::new().await;
    let answer = post(&fixture, PATH, &once(&json!({ "stream": true, "echo": true }))).await;
    insta::assert_snapshot!(steady_lines(answer.events()));
}

#[tokio::test]
async fn streamed_and_whole_say_the_same_with_the_same_logprobs() {
    let fixture = Fixture::new().await;
    let whole = post(&fixture, PATH, &once(&json!({ "logprobs": 2 }))).await.json();
    let events = post(&fixture, PATH, &once(&json!({ "logprobs": 2, "stream": true }))).await.events();
    let said: String = events.iter().filter_map(|event| event["choices"][0]["text"].as_str()).collect();
    assert_eq!(whole["choices"][0]["text"], said);
    for list in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
        let streamed: Vec<Value> = events
            .iter()
            .filter_map(|event| event["choices"][0]["logprobs"][list].as_array().cloned())
            .flatten()
            .collect();
        assert_eq!(whole["choices"][0]["logprobs"][list], json!(streamed), "{list}");
    }
}

#[tokio::test]
async fn sixteen_tokens_when_nothing_is_said() {
    let fixture = Fixture::new().await;
    let mut body = once(&json!({ "ignore_eos": true }));
    body.as_object_mut().expect("object").remove("max_tokens");
    let answer = post(&fixture, PATH, &body).await.json();
    assert_eq!(answer["usage"]["completion_tokens"], 16);
}

#[tokio::test]
async fn minus_one_and_null_go_on_until_the_context_ends() {
    let fixture = Fixture::new().await;
    for limit in [json!(-1), json!(null)] {
        let more = json!({ "max_tokens": limit, "ignore_eos": true });
        let answer = post(&fixture, PATH, &once(&more)).await.json();
        assert_eq!(answer["usage"]["total_tokens"], 512, "{limit}");
    }
}

#[tokio::test]
async fn zero_tokens_echo_the_prompt_alone() {
    let fixture = Fixture::new().await;
    let answer = post(&fixture, PATH, &once(&json!({ "max_tokens": 0, "echo": true }))).await.json();
    let choice = &answer["choices"][0];
    assert_eq!((&choice["text"], &choice["finish_reason"]), (&json!("Once upon a time"), &json!("length")));
    assert_eq!(answer["usage"]["completion_tokens"], 0);
    let silent = post(&fixture, PATH, &once(&json!({ "max_tokens": 0, "stream": true }))).await.events();
    assert_eq!((silent.len(), &silent[0]["choices"][0]["text"]), (1, &json!("")), "{silent:?}");
}

#[tokio::test]
async fn several_prompts_times_several_answers_are_choices_in_order() {
    let fixture = Fixture::new().await;
    let prompts = json!(["Once upon a time", "A fox", [5, 6, 7]]);
    let several = post(&fixture, PATH, &once(&json!({ "prompt": prompts, "n": 4 }))).await;
    assert_eq!(several.status, 200, "{}", several.body);
    let several = several.json();
    let choices = several["choices"].as_array().expect("choices");
    assert_eq!(choices.len(), 12);
    let alone = post(&fixture, PATH, &once(&json!({ "prompt": "A fox" }))).await.json();
    for (at, choice) in choices.iter().enumerate() {
        assert_eq!(choice["index"], at);
        assert_eq!(choice["text"] == alone["choices"][0]["text"], at / 4 == 1, "{choice}");
    }
    assert_eq!(several["usage"]["completion_tokens"], 60);
}

#[tokio::test]
async fn a_prompt_may_be_token_ids() {
    let fixture = Fixture::new().await;
    for prompt in [json!([5, 6, 7]), json!([[5, 6, 7]])] {
        let answer = post(&fixture, PATH, &once(&json!({ "prompt": prompt }))).await.json();
        assert_eq!(answer["usage"]["prompt_tokens"], 3);
    }
}

#[tokio::test]
async fn wrong_parameters_are_refused_by_name() {
    let fixture = Fixture::new().await;
    let table = [
        (json!({ "prompt": null }), "prompt"),
        (json!({ "prompt": [] }), "prompt"),
        (json!({ "prompt": [[]] }), "prompt"),
        (json!({ "prompt": {} }), "prompt"),
        (json!({ "prompt": [1, "a"] }), "prompt"),
        (json!({ "prompt": [-1] }), "prompt"),
        (json!({ "prompt": [4_294_967_296_u64] }), "prompt"),
        (json!({ "prompt": vec!["x"; 33], "n": 4 }), "prompt"),
        (json!({ "logprobs": 21 }), "logprobs"),
        (json!({ "logprobs": true }), "logprobs"),
        (json!({ "suffix": 3 }), "suffix"),
        (json!({ "suffix": "end", "prompt": [5] }), "suffix"),
        (json!({ "suffix": "end", "prompt": ["a", "b"] }), "suffix"),
        (json!({ "suffix": "end" }), "model"),
        (json!({ "best_of": 3 }), "best_of"),
        (json!({ "echo": true, "logprobs": 1 }), "echo"),
        (json!({ "echo": true, "prompt": [5] }), "echo"),
        (json!({ "max_tokens": -2 }), "max_tokens"),
        (json!({ "max_tokens": 1.5 }), "max_tokens"),
    ];
    for (more, param) in table {
        let answer = post(&fixture, PATH, &once(&more)).await;
        assert_eq!(answer.status, 400, "{more}: {}", answer.body);
        assert_eq!(answer.error()["param"], param, "{more}: {}", answer.body);
    }
    // The vocabulary is the model's affair.
    let foreign = post(&fixture, PATH, &once(&json!({ "prompt": [4_000_000_000_u32] }))).await;
    assert_eq!(foreign.status, 400, "{}", foreign.body);
}

#[tokio::test]
async fn models_are_listed_and_found_without_their_paths() {
    let fixture = Fixture::new().await;
    let list = get(&fixture, "/v1/models").await;
    assert_eq!(list.status, 200);
    let object = list.json();
    assert_eq!(object["object"], "list");
    let demo = &object["data"][0];
    assert_eq!((&demo["id"], &demo["object"]), (&json!("demo"), &json!("model")));
    assert!(demo["created"].is_u64() && demo["owned_by"].is_string());
    let home = fixture.home.path().to_str().expect("UTF-8");
    assert!(!list.body.contains(home), "{}", list.body);
    assert_eq!(get(&fixture, "/v1/models/demo").await.json(), *demo);
    let missing = get(&fixture, "/v1/models/no/body").await;
    assert!(missing.status == 404 || missing.status == 400 || missing.status == 501, "{}", missing.body);
    assert_eq!(get(&fixture, "/v1/models/nobody").await.status, 404);
    for (path, hint) in [
        ("/chat/completions", "did you mean /v1/chat/completions?"),
        ("/v1/v1/completions", "did you mean /v1/completions?"),
        ("/embeddings", "did you mean /v1/embeddings?"),
        ("/v1/nothing", "/v1/completions"),
    ] {
        let answer = post(&fixture, path, &json!({})).await;
        let error = answer.error();
        let message = error["message"].as_str().expect("a message");
        assert_eq!((answer.status, &error["code"]), (404, &json!("unknown_route")), "{message}");
        assert!(message.contains(&format!("POST {path} ")) && message.contains(hint), "{message}");
    }
    let file = get(&fixture, "/v1/models//etc/passwd").await;
    assert_eq!(file.status, 403, "{}", file.body);
    assert!(!file.body.contains("/etc/passwd"));
}

#[tokio::test]
async fn the_owner_may_name_a_file_and_others_use_its_name_then() {
    let fixture = Fixture::new().await;
    let demo = owner(&fixture, "GET", "/admin/models", &Value::Null).await.json();
    let path = fixture.home.path().join("mine.gguf");
    fs_err::copy(demo["models"][0]["path"].as_str().expect("path"), &path).expect("copies");
    let body = once(&json!({ "model": path }));
    assert_eq!(post(&fixture, PATH, &body).await.status, 403);
    let answer = owner(&fixture, "POST", PATH, &body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.json()["model"], "mine");
    assert_eq!(post(&fixture, PATH, &once(&json!({ "model": "mine" }))).await.status, 200);
}
