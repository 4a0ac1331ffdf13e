//! `/completion`, `/props`, `/slots` and `/health`, as llama-server's clients use them.

use samovar_core::testing::fake::{FakeEngine, Script};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::fixture::{Fixture, SLOTS, eventually};
use crate::raw::{Answer, get, post, read, request, tcp};

const PATH: &str = "/completion";
/// What the fake says after the prompt below.
const WORDS: [&str; 5] = [" a", " smiled", " to", " winter", " cup"];

fn once(more: &Value) -> Value {
    let mut body = json!({ "model": "tiny", "prompt": "Once upon a time", "temperature": 0, "n_predict": 5 });
    for (field, value) in more.as_object().expect("object") {
        body[field] = value.clone();
    }
    body
}

async fn said(fixture: &Fixture, more: &Value) -> Value {
    let answer = post(fixture, PATH, &once(more)).await;
    assert_eq!(answer.status, 200, "{more}: {}", answer.body);
    answer.json()
}

/// The objects of a stream, without its comments.
fn events(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.header("content-type"), Some("text/event-stream; charset=utf-8"), "{}", answer.body);
    let whole = answer.body.strip_suffix("\n\n").expect("the stream ends with an empty line");
    let events = whole.split("\n\n").filter(|event| !event.starts_with(": "));
    let object =
        |event: &str| serde_json::from_str(event.strip_prefix("data: ").expect("data")).expect("an object");
    events.map(object).collect()
}

async fn ids(fixture: &Fixture, text: &str, add_special: bool) -> Vec<Value> {
    let body = json!({ "model": "tiny", "content": text, "add_special": add_special });
    let answer = post(fixture, "/tokenize", &body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()["tokens"].as_array().expect("ids").clone()
}

#[tokio::test]
async fn a_whole_answer_has_the_fields_of_llama_servers() {
    let fixture = Fixture::new().await;
    for path in [PATH, "/completions"] {
        let answer = post(&fixture, path, &once(&json!({ "seed": 3, "stop": ["x"] }))).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert!(answer.header("x-samovar-cache").is_some());
        let mut object = answer.json();
        let timings = object["timings"].take();
        for field in ["prompt_n", "prompt_ms", "prompt_per_second", "predicted_ms", "predicted_per_second"] {
            assert!(timings[field].is_number(), "{field}: {timings}");
        }
        assert_eq!(timings["predicted_n"], 5);
        let (cached, of) = (object["tokens_cached"].take(), object["tokens_evaluated"].take());
        assert_eq!(timings["cache_n"], cached);
        assert_eq!(
            timings["prompt_n"].as_u64().expect("count") + cached.as_u64().expect("count"),
            of.as_u64().expect("count")
        );
        let expected = json!({
            "index": 0, "content": WORDS.concat(), "tokens": [], "id_slot": -1, "stop": true, "model": "tiny",
            "tokens_predicted": 5, "tokens_evaluated": null,
            "generation_settings": {
                "n_predict": 5, "stream": false, "seed": 3, "temperature": 0.0, "stop": ["x"], "n_probs": 0,
                "ignore_eos": false,
            },
            "truncated": false, "stop_type": "limit", "stopping_word": "", "tokens_cached": null,
            "timings": null,
        });
        assert_eq!(object, expected);
    }
}

#[tokio::test]
async fn a_stream_has_an_event_for_each_token_and_ends_with_the_rest() {
    let fixture = Fixture::new().await;
    let mut events = events(&post(&fixture, PATH, &once(&json!({ "stream": true }))).await);
    let last = events.pop().expect("an end");
    let piece =
        |word: &str| json!({ "index": 0, "content": word, "tokens": [], "stop": false, "id_slot": -1 });
    assert_eq!(events, WORDS.map(piece));
    assert_eq!(
        (&last["content"], &last["stop"], &last["stop_type"]),
        (&json!(""), &json!(true), &json!("limit"))
    );
    assert_eq!((&last["model"], &last["tokens_predicted"]), (&json!("tiny"), &json!(5)));
    assert_eq!(last["timings"]["predicted_n"], 5);
    assert_eq!(last["generation_settings"]["stream"], true);
}

#[tokio::test]
async fn a_death_in_the_middle_is_the_last_event() {
    let script = Script { crash_after_tokens: Some(3), ..Script::default() };
    let fixture = Fixture::on(FakeEngine::builder().script(script)).await;
    let mut events = events(&post(&fixture, PATH, &once(&json!({ "stream": true }))).await);
    let error = events.pop().expect("an event")["error"].take();
    assert_eq!((&error["code"], &error["type"]), (&json!(500), &json!("server_error")), "{error}");
    assert!(error["message"].is_string(), "{error}");
    assert!(!events.is_empty() && events.iter().all(|event| event["stop"] == false), "{events:?}");
}

#[tokio::test]
async fn a_mixed_prompt_is_the_same_as_its_text() {
    let fixture = Fixture::new().await;
    let text = said(&fixture, &json!({})).await;
    let with = |mut ids: Vec<Value>, at: usize, text: &str| {
        ids.insert(at, json!(text));
        json!(ids)
    };
    let begin = ids(&fixture, "Once upon", true).await;
    let end = ids(&fixture, " a time", false).await;
    let both: Vec<Value> = begin.iter().chain(&end).cloned().collect();
    let count = begin.len();
    for prompt in [
        with(begin, count, " a time"),
        with(end, 0, "Once upon"),
        json!(both),
        json!({ "prompt_string": "Once upon a time" }),
    ] {
        let mixed = said(&fixture, &json!({ "prompt": prompt })).await;
        for field in ["content", "tokens_evaluated"] {
            assert_eq!(mixed[field], text[field], "{prompt}");
        }
    }
}

#[tokio::test]
async fn several_prompts_or_answers_are_a_list_in_order() {
    let fixture = Fixture::new().await;
    let prompts = json!(["Once upon a time", [5, 6, 7]]);
    let all = said(&fixture, &json!({ "prompt": prompts, "n_cmpl": 2 })).await;
    let all = all.as_array().expect("a list");
    let indexes: Vec<&Value> = all.iter().map(|one| &one["index"]).collect();
    assert_eq!(indexes, [0, 1, 2, 3]);
    let contents: Vec<bool> = all.iter().map(|one| one["content"] == WORDS.concat()).collect();
    assert_eq!(contents, [true, true, false, false]);
    assert_eq!(all[3]["tokens_evaluated"], 3);
    let streamed = json!({ "prompt": prompts, "stream": true });
    let events = events(&post(&fixture, PATH, &once(&streamed)).await);
    assert_eq!(events.iter().filter(|event| event["stop"] == true).count(), 2);
}

#[tokio::test]
async fn probabilities_and_ids_are_told_when_asked_for() {
    let fixture = Fixture::new().await;
    let whole = said(&fixture, &json!({ "n_probs": 2 })).await;
    let all = whole["completion_probabilities"].as_array().expect("probabilities");
    assert_eq!(all.len(), 5);
    for (one, word) in all.iter().zip(WORDS) {
        assert_eq!((&one["token"], &one["bytes"]), (&json!(word), &json!(word.as_bytes())));
        assert!(one["logprob"].is_number(), "{one}");
        let top = one["top_logprobs"].as_array().expect("alternatives");
        assert_eq!((top.len(), &top[0]["id"]), (2, &one["id"]));
    }
    let of_all: Vec<Value> = all.iter().map(|one| one["id"].clone()).collect();
    assert_eq!(whole["tokens"], json!(of_all));

    let ids_alone = said(&fixture, &json!({ "return_tokens": true })).await;
    assert_eq!(ids_alone["tokens"], whole["tokens"]);
    assert!(ids_alone.get("completion_probabilities").is_none(), "{ids_alone}");

    let streamed = json!({ "n_probs": 2, "stream": true });
    let mut events = events(&post(&fixture, PATH, &once(&streamed)).await);
    let last = events.pop().expect("an end");
    assert!(last.get("completion_probabilities").is_none(), "{last}");
    let streamed: Vec<Value> =
        events.iter().map(|event| event["completion_probabilities"][0].clone()).collect();
    assert_eq!(whole["completion_probabilities"], json!(streamed));
}

#[tokio::test]
async fn a_bias_names_tokens_by_id_or_text() {
    let fixture = Fixture::new().await;
    let id = ids(&fixture, " smiled", false).await.remove(0);
    let mut contents = Vec::new();
    let mut by_id = json!({});
    by_id[id.to_string()] = json!(false);
    for bias in [json!([[id, false]]), json!([[" smiled", false]]), json!({ " smiled": false }), by_id] {
        let content = said(&fixture, &json!({ "logit_bias": bias })).await["content"].clone();
        assert!(!content.as_str().expect("text").contains("smiled"), "{bias}: {content}");
        contents.push(content);
    }
    contents.dedup();
    assert_eq!(contents.len(), 1, "{contents:?}");
}

#[tokio::test]
async fn the_end_says_why() {
    let fixture = Fixture::new().await;
    for more in [
        json!({ "stop": [" smiled"], "ignore_eos": true }),
        json!({ "stop": ["xyzzy", " winter", " smiled"] }),
        json!({ "stop": " smiled", "stream": true }),
    ] {
        let answer = post(&fixture, PATH, &once(&more)).await;
        let is_streamed = more["stream"] == true;
        let end = if is_streamed { events(&answer).pop().expect("an end") } else { answer.json() };
        let content = if is_streamed { "" } else { " a" };
        assert_eq!((&end["content"], &end["stop_type"]), (&json!(content), &json!("word")), "{end}");
        assert_eq!(end["stopping_word"], " smiled");
    }
    let end = said(&fixture, &json!({ "n_predict": -1 })).await;
    assert_eq!((&end["stop_type"], &end["stopping_word"]), (&json!("eos"), &json!("")), "{end}");
}

#[tokio::test]
async fn an_answer_fits_a_schema_and_has_the_fields_that_were_chosen() {
    let fixture = Fixture::new().await;
    let more = json!({ "json_schema": {}, "response_fields": ["content", "timings/predicted_n", "nothing"] });
    let object = said(&fixture, &more).await;
    assert_eq!(object["content"], "{}");
    assert_eq!(object.as_object().expect("object").len(), 2, "{object}");
    assert!(object["timings/predicted_n"].is_number(), "{object}");
    let refused = post(&fixture, PATH, &once(&json!({ "grammar": "root ::= \"x\"" }))).await;
    assert_eq!((refused.status, &refused.error()["code"]), (400, &json!(400)), "{}", refused.body);
}

#[tokio::test]
async fn errors_look_as_llama_servers_and_name_the_field() {
    let fixture = Fixture::new().await;
    for (field, value) in [
        ("prompt", json!(null)),
        ("prompt", json!([{}])),
        ("stream", json!("yes")),
        ("n_predict", json!(-3)),
        ("n_predict", json!(1e300)),
        ("temperature", json!([])),
        ("top_p", json!(7)),
        ("repeat_last_n", json!(0.5)),
        ("seed", json!(1.5)),
        ("stop", json!(vec!["x"; 17])),
        ("logit_bias", json!([[5, "x"]])),
        ("json_schema", json!("x")),
        ("n_probs", json!(1000)),
    ] {
        let mut body = once(&json!({}));
        body[field] = value.clone();
        let answer = post(&fixture, PATH, &body).await;
        let error = answer.error();
        assert_eq!((answer.status, &error["code"]), (400, &json!(400)), "{field} {value}: {error}");
        assert_eq!(error["type"], "invalid_request_error");
        assert!(error["message"].as_str().is_some_and(|message| message.contains(field)), "{error}");
    }
    let ignored = json!({ "cache_prompt": "x", "id_slot": {}, "samplers": 3, "mirostat": [], "unknown": 1 });
    said(&fixture, &ignored).await;
    let missing = post(&fixture, PATH, &once(&json!({ "model": "nobody" }))).await;
    assert_eq!((missing.status, &missing.error()["type"]), (404, &json!("not_found_error")));
    let long = post(&fixture, PATH, &once(&json!({ "prompt": vec![5; 600] }))).await;
    assert_eq!((long.status, &long.error()["type"]), (400, &json!("exceed_context_size_error")));
    let wrong = get(&fixture, PATH).await;
    assert_eq!((wrong.status, &wrong.error()["code"]), (405, &json!(405)));
    let broken = post(&fixture, PATH, &json!([])).await;
    assert_eq!((broken.status, &broken.error()["type"]), (400, &json!("invalid_request_error")));
}

#[tokio::test]
async fn a_model_that_is_not_named_is_the_only_one_in_memory() {
    let fixture = Fixture::new().await;
    let unnamed = json!({ "prompt": "x", "n_predict": 1 });
    let refused = post(&fixture, PATH, &unnamed).await;
    assert_eq!(refused.status, 400, "{}", refused.body);
    let message = refused.error()["message"].as_str().expect("text").to_owned();
    assert!(message.contains("`model` is missing") && message.contains("tiny"), "{message}");
    assert_eq!(get(&fixture, "/props").await.status, 400);
    let named = post(&fixture, "/completion?model=tiny", &unnamed).await;
    assert_eq!((named.status, &named.json()["model"]), (200, &json!("tiny")), "{}", named.body);
    assert_eq!(post(&fixture, PATH, &unnamed).await.json()["model"], "tiny");
    assert_eq!(get(&fixture, "/props").await.json()["model_alias"], "tiny");
}

#[tokio::test]
async fn a_conversation_is_rendered_and_nothing_is_computed() {
    let fixture = Fixture::new().await;
    let messages = json!([{ "role": "user", "content": "Hello there" }]);
    let expected = json!({ "prompt": "<|im_start|>user\nHello there<|im_end|>\n<|im_start|>assistant\n" });
    for (path, body) in [
        ("/apply-template", json!({ "model": "tiny", "messages": messages })),
        ("/apply-template?model=tiny", json!({ "messages": messages, "enable_thinking": false })),
    ] {
        let answer = post(&fixture, path, &body).await;
        assert_eq!((answer.status, answer.json()), (200, expected.clone()), "{}", answer.body);
    }
    assert_eq!(fixture.engine.counts().generations_started, 0);
    let long = json!([{ "role": "user", "content": "x".repeat(100_000) }]);
    let answer = post(&fixture, "/apply-template", &json!({ "model": "tiny", "messages": long })).await;
    assert_eq!(answer.status, 200);
    assert!(answer.body.len() > 100_000, "it may be longer than the context");
    for (more, word) in [
        (json!({ "messages": null }), "messages"),
        (json!({ "messages": [{ "role": "tool", "content": "x" }] }), "the result of a tool"),
        (json!({ "tools": 3 }), "tools"),
        (json!({ "add_generation_prompt": false }), "add_generation_prompt"),
        (json!({ "model": "nope" }), "nope"),
    ] {
        let mut body = json!({ "model": "tiny", "messages": messages });
        for (field, value) in more.as_object().expect("object") {
            body[field] = value.clone();
        }
        let answer = post(&fixture, "/apply-template", &body).await;
        assert!([400, 404].contains(&answer.status), "{}", answer.body);
        let message = answer.error()["message"].as_str().expect("text").to_owned();
        assert!(message.contains(word), "{message}");
    }
}

#[tokio::test]
async fn props_and_slots_are_told_without_a_load() {
    let fixture = Fixture::new().await;
    let props = get(&fixture, "/props?model=tiny").await;
    assert_eq!(props.status, 200, "{}", props.body);
    let object = props.json();
    assert_eq!(object["default_generation_settings"]["n_ctx"], 512);
    assert_eq!((&object["total_slots"], &object["is_sleeping"]), (&json!(SLOTS), &json!(true)));
    assert!(!props.body.contains(fixture.home.path().to_str().expect("UTF-8")), "{}", props.body);
    let idle = |id: u32| json!({ "id": id, "n_ctx": 512, "speculative": false, "is_processing": false });
    let slots = get(&fixture, "/slots?model=tiny").await.json();
    assert_eq!(slots, json!([idle(0), idle(1)]));
    assert_eq!(fixture.engine.counts().loads_finished, 0);
    said(&fixture, &json!({})).await;
    assert_eq!(get(&fixture, "/props?model=tiny").await.json()["is_sleeping"], false);
}

#[tokio::test]
async fn a_slot_in_use_is_told() {
    let fixture = Fixture::new().await;
    let busy = fixture.busy().await;
    let slots = get(&fixture, "/slots?model=demo&fail_on_no_slot=1").await;
    assert_eq!(slots.status, 200, "{}", slots.body);
    let slots = slots.json();
    assert_eq!((&slots[0]["is_processing"], &slots[1]["is_processing"]), (&json!(true), &json!(false)));
    let mut other = tcp(&fixture).await;
    let text = request("POST", PATH, &[], r#"{"model":"demo","prompt":"y"}"#);
    other.write_all(text.as_bytes()).await.expect("writes");
    fixture.engine.wait_until(|counts| counts.generations_running == 2).await;
    let none = get(&fixture, "/slots?model=demo&fail_on_no_slot=1").await;
    assert_eq!((none.status, &none.error()["type"]), (503, &json!("unavailable_error")), "{}", none.body);
    drop((busy, other));
}

#[tokio::test]
async fn health_is_ok_until_the_server_leaves() {
    let fixture = Fixture::new().await;
    for path in ["/health", "/v1/health"] {
        let answer = get(&fixture, path).await;
        assert_eq!((answer.status, answer.json()), (200, json!({ "status": "ok" })), "{path}");
    }
    // A request whose head is under way when the end begins is still answered.
    let mut late = tcp(&fixture).await;
    late.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n").await.expect("writes");
    let _busy = fixture.busy().await;
    fixture.handle.shut_down(None);
    eventually("the server leaves", async || fixture.handle.is_draining()).await;
    late.write_all(b"connection: close\r\n\r\n").await.expect("writes");
    let answer = read(late).await;
    assert_eq!(
        (answer.status, &answer.error()["type"]),
        (503, &json!("unavailable_error")),
        "{}",
        answer.body
    );
}
