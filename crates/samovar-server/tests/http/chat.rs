//! `/v1/chat/completions` as OpenAI's clients use it.

use samovar_core::testing::fake::{FakeEngine, Script};
use serde_json::{Value, json};

use crate::fixture::{Fixture, steady, steady_lines};
use crate::raw::{self, post, request, tcp};

pub(crate) const PATH: &str = "/v1/chat/completions";

pub(crate) fn hello(more: &Value) -> Value {
    let mut body = json!({
        "model": "tiny",
        "messages": [{ "role": "user", "content": "Hello there" }],
        "temperature": 0,
        "max_completion_tokens": 6,
    });
    for (field, value) in more.as_object().expect("object") {
        body[field] = value.clone();
    }
    body
}

#[tokio::test]
async fn answers_whole() {
    let fixture = Fixture::new().await;
    let answer = post(&fixture, PATH, &hello(&json!({}))).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    insta::assert_snapshot!(serde_json::to_string_pretty(&steady(answer.json())).expect("text"));
}

#[tokio::test]
async fn answers_streamed() {
    let fixture = Fixture::new().await;
    let body = hello(&json!({ "stream": true, "stream_options": { "include_usage": true } }));
    let answer = post(&fixture, PATH, &body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    insta::assert_snapshot!(steady_lines(answer.events()));
}

#[tokio::test]
async fn streamed_and_whole_say_the_same() {
    let fixture = Fixture::new().await;
    let whole = post(&fixture, PATH, &hello(&json!({}))).await.json();
    let events = post(&fixture, PATH, &hello(&json!({ "stream": true }))).await.events();
    let said: String =
        events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(whole["choices"][0]["message"]["content"], said);
    assert!(!said.is_empty());
}

#[tokio::test]
async fn finish_reason_is_null_until_the_last_chunk_of_each_choice() {
    let fixture = Fixture::new().await;
    let body = hello(&json!({ "stream": true, "n": 3, "stream_options": { "include_usage": true } }));
    let mut events = post(&fixture, PATH, &body).await.events();
    let usage = events.pop().expect("usage");
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"]["completion_tokens"], 18);
    let mut has_ended = [false; 3];
    for event in &events {
        assert_eq!(event["usage"], Value::Null);
        assert!(event.as_object().expect("object").contains_key("usage"));
        let choices = event["choices"].as_array().expect("choices");
        assert_eq!(choices.len(), 1);
        let index = choices[0]["index"].as_u64().expect("index") as usize;
        let finish = choices[0].get("finish_reason").expect("is never absent");
        assert!(!has_ended[index], "nothing follows the end");
        has_ended[index] = *finish == "length";
        assert!(finish.is_null() || has_ended[index], "{finish}");
    }
    assert_eq!(has_ended, [true; 3]);
}

#[tokio::test]
async fn the_first_chunk_of_each_choice_has_the_role() {
    let fixture = Fixture::new().await;
    let events = post(&fixture, PATH, &hello(&json!({ "stream": true, "n": 2 }))).await.events();
    for index in 0..2 {
        let own: Vec<&Value> = events.iter().filter(|event| event["choices"][0]["index"] == index).collect();
        assert_eq!(own[0]["choices"][0]["delta"], json!({ "role": "assistant", "content": "" }));
        assert!(own[1..].iter().all(|event| event["choices"][0]["delta"].get("role").is_none()));
        assert!(own.iter().all(|event| event.get("usage").is_none()));
    }
}

#[tokio::test]
async fn usage_counts_the_prompt_once_and_what_was_cached() {
    let fixture = Fixture::new().await;
    let first = post(&fixture, PATH, &hello(&json!({}))).await.json()["usage"].clone();
    let again = post(&fixture, PATH, &hello(&json!({ "n": 2 }))).await.json()["usage"].clone();
    assert_eq!(again["prompt_tokens"], first["prompt_tokens"]);
    assert_eq!(again["completion_tokens"], 12);
    assert_eq!(first["prompt_tokens_details"]["cached_tokens"], 0);
    assert!(again["prompt_tokens_details"]["cached_tokens"].as_u64().expect("count") > 0);
    let sum = again["prompt_tokens"].as_u64().expect("count") + 12;
    assert_eq!(again["total_tokens"], sum);
}

#[tokio::test]
async fn max_tokens_and_max_completion_tokens_are_the_same() {
    let fixture = Fixture::new().await;
    let body = hello(&json!({ "max_completion_tokens": null, "max_tokens": 3 }));
    assert_eq!(post(&fixture, PATH, &body).await.json()["usage"]["completion_tokens"], 3);
    let body = hello(&json!({ "max_completion_tokens": 2, "max_tokens": 3 }));
    assert_eq!(post(&fixture, PATH, &body).await.json()["usage"]["completion_tokens"], 2);
}

#[tokio::test]
async fn ends_by_itself_with_stop() {
    let fixture =
        Fixture::on(FakeEngine::builder().script(Script { answer_tokens: Some(4), ..Script::default() }))
            .await;
    let answer = post(&fixture, PATH, &hello(&json!({ "max_completion_tokens": 100 }))).await.json();
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    let more = hello(&json!({ "max_completion_tokens": 100, "ignore_eos": true }));
    let answer = post(&fixture, PATH, &more).await.json();
    assert_eq!(answer["usage"]["completion_tokens"], 100);
}

#[tokio::test]
async fn a_stop_string_is_no_part_of_the_answer() {
    let fixture = Fixture::new().await;
    let whole = post(&fixture, PATH, &hello(&json!({}))).await.json();
    let text = whole["choices"][0]["message"]["content"].as_str().expect("text").to_owned();
    let stop = text.split_whitespace().nth(2).expect("three words");
    for stop in [json!(stop), json!(["never said", stop])] {
        let answer = post(&fixture, PATH, &hello(&json!({ "stop": stop }))).await.json();
        let cut = answer["choices"][0]["message"]["content"].as_str().expect("text");
        assert!(text.starts_with(cut) && cut.len() < text.len(), "{cut:?} of {text:?}");
        assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    }
}

#[tokio::test]
async fn logprobs_have_bytes_and_alternatives() {
    let fixture = Fixture::new().await;
    let body = hello(&json!({ "logprobs": true, "top_logprobs": 3 }));
    let answer = post(&fixture, PATH, &body).await.json();
    let entries = answer["choices"][0]["logprobs"]["content"].as_array().expect("entries").clone();
    assert_eq!(entries.len(), 6);
    assert_eq!(entries[0]["top_logprobs"].as_array().expect("alternatives").len(), 3);
    let bytes: Vec<u8> = entries
        .iter()
        .flat_map(|entry| entry["bytes"].as_array().expect("bytes"))
        .map(|byte| byte.as_u64().expect("byte") as u8)
        .collect();
    assert_eq!(String::from_utf8(bytes).expect("UTF-8"), answer["choices"][0]["message"]["content"]);

    let body = hello(&json!({ "logprobs": true, "stream": true }));
    let events = post(&fixture, PATH, &body).await.events();
    let streamed: Vec<&Value> = events
        .iter()
        .filter_map(|event| event["choices"][0]["logprobs"]["content"].as_array())
        .flatten()
        .collect();
    assert_eq!(streamed.len(), 6);
    assert_eq!(streamed[0]["top_logprobs"], json!([]));
    assert_eq!(streamed[0]["logprob"], entries[0]["logprob"]);
}

#[tokio::test]
async fn a_seed_repeats_an_answer_and_choices_have_an_order() {
    let fixture = Fixture::new().await;
    let body = hello(&json!({ "temperature": 1.0, "seed": 7, "max_completion_tokens": 20 }));
    let text = |answer: Value| answer["choices"][0]["message"]["content"].clone();
    let first = text(post(&fixture, PATH, &body).await.json());
    assert_eq!(first, text(post(&fixture, PATH, &body).await.json()));
    let several = post(&fixture, PATH, &hello(&json!({ "n": 5, "temperature": 1.0 }))).await.json();
    let indices: Vec<&Value> =
        several["choices"].as_array().expect("choices").iter().map(|choice| &choice["index"]).collect();
    assert_eq!(indices, [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn one_seed_gives_each_choice_an_answer_of_its_own() {
    let fixture = Fixture::new().await;
    let body = hello(&json!({ "n": 3, "temperature": 2.0, "seed": 7, "max_completion_tokens": 20 }));
    let texts = |answer: Value| -> Vec<String> {
        let choices = answer["choices"].as_array().expect("choices").clone();
        choices.iter().map(|choice| choice["message"]["content"].to_string()).collect()
    };
    let first = texts(post(&fixture, PATH, &body).await.json());
    assert!(first[0] != first[1] && first[1] != first[2], "{first:?}");
    assert_eq!(first, texts(post(&fixture, PATH, &body).await.json()));
}

#[tokio::test]
async fn content_may_come_in_parts_and_null() {
    let fixture = Fixture::new().await;
    let parts = json!([{ "type": "text", "text": "Hello" }, { "type": "text", "text": "there" }]);
    let lines = json!([{ "role": "user", "content": "Hello\nthere" }]);
    let whole = post(&fixture, PATH, &hello(&json!({ "messages": lines }))).await.json();
    let body = hello(&json!({ "messages": [{ "role": "user", "content": parts }] }));
    let answer = post(&fixture, PATH, &body).await.json();
    assert_eq!(answer["choices"][0]["message"], whole["choices"][0]["message"]);
    let messages = json!([
        { "role": "developer", "content": "Be brief", "name": "x" },
        { "role": "user", "content": "Hi" },
        { "role": "assistant", "content": null, "tool_calls": [] },
        { "role": "user", "content": "Hello" },
    ]);
    assert_eq!(post(&fixture, PATH, &hello(&json!({ "messages": messages }))).await.status, 200);
}

#[tokio::test]
async fn unknown_fields_and_nulls_are_passed_over() {
    let fixture = Fixture::new().await;
    let more = json!({
        "store": false, "metadata": { "a": "b" }, "service_tier": "auto", "parallel_tool_calls": false,
        "response_format": { "type": "text" }, "tools": [], "tool_choice": "none", "user": "ann",
        "stop": null, "seed": null, "logit_bias": null, "n": null, "stream": null, "logprobs": null,
        "top_logprobs": null, "temperature": null, "top_p": null, "functions": null, "timeout": null,
        "top_k": 20, "min_p": 0.1, "repeat_penalty": 1.1, "keep_alive": "5m", "stream_options": null,
        "whatever": [[{}]],
    });
    let answer = post(&fixture, PATH, &hello(&more)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[tokio::test]
async fn wrong_parameters_are_refused_by_name() {
    let fixture = Fixture::new().await;
    let table = [
        (json!({ "temperature": -1 }), "temperature"),
        (json!({ "temperature": 1e300 }), "temperature"),
        (json!({ "temperature": "hot" }), "temperature"),
        (json!({ "top_p": 1.5 }), "top_p"),
        (json!({ "min_p": -0.1 }), "min_p"),
        (json!({ "top_k": 1.5 }), "top_k"),
        (json!({ "n": 0 }), "n"),
        (json!({ "n": 9 }), "n"),
        (json!({ "n": 1e12 }), "n"),
        (json!({ "max_tokens": -2 }), "max_tokens"),
        (json!({ "max_tokens": 0.5 }), "max_tokens"),
        (json!({ "max_completion_tokens": -7 }), "max_completion_tokens"),
        (json!({ "max_completion_tokens": 1e18 }), "max_completion_tokens"),
        (json!({ "frequency_penalty": 3 }), "frequency_penalty"),
        (json!({ "presence_penalty": -3 }), "presence_penalty"),
        (json!({ "repeat_penalty": 0 }), "repeat_penalty"),
        (json!({ "repetition_penalty": -1 }), "repetition_penalty"),
        (json!({ "chat_template_kwargs": "thinking" }), "chat_template_kwargs"),
        (json!({ "chat_template_kwargs": [1] }), "chat_template_kwargs"),
        (json!({ "reasoning_effort": 3 }), "reasoning_effort"),
        (json!({ "reasoning_effort": "enormous" }), "reasoning_effort"),
        (json!({ "enable_thinking": "no" }), "enable_thinking"),
        (json!({ "thinking_budget_tokens": -2 }), "thinking_budget_tokens"),
        (json!({ "thinking_budget_tokens": "few" }), "thinking_budget_tokens"),
        (json!({ "response_format": "json" }), "response_format"),
        (json!({ "response_format": { "type": "yaml" } }), "response_format.type"),
        (json!({ "response_format": { "type": "json_schema" } }), "response_format.json_schema"),
        (json!({ "grammar": 3 }), "grammar"),
        (json!({ "grammar": { "type": "yacc", "value": "x" } }), "grammar.type"),
        (json!({ "tools": {} }), "tools"),
        (json!({ "tools": [3] }), "tools[0]"),
        (json!({ "tools": [{ "type": "function" }] }), "tools[0].function"),
        (json!({ "tool_choice": "sometimes" }), "tool_choice"),
        (json!({ "parallel_tool_calls": "no" }), "parallel_tool_calls"),
        (json!({ "seed": 1.5 }), "seed"),
        (json!({ "stop": 5 }), "stop"),
        (json!({ "stop": ["a", 5] }), "stop"),
        (json!({ "logit_bias": { "x": 1 } }), "logit_bias"),
        (json!({ "logit_bias": { "1": 200 } }), "logit_bias.1"),
        (json!({ "top_logprobs": 3 }), "top_logprobs"),
        (json!({ "logprobs": true, "top_logprobs": 21 }), "top_logprobs"),
        (json!({ "logprobs": 3 }), "logprobs"),
        (json!({ "timeout": 0 }), "timeout"),
        (json!({ "keep_alive": "soon" }), "keep_alive"),
        (json!({ "model": null }), "model"),
        (json!({ "model": "" }), "model"),
        (json!({ "model": 3 }), "model"),
        (json!({ "messages": [] }), "messages"),
        (json!({ "messages": null }), "messages"),
        (json!({ "messages": "hi" }), "messages"),
        (json!({ "messages": [{ "content": "x" }] }), "messages[0]"),
        (json!({ "messages": [{ "role": "king", "content": "x" }] }), "messages[0].role"),
        (json!({ "messages": [{ "role": "user", "content": 3 }] }), "messages[0].content"),
        (json!({ "messages": [{ "role": "user", "content": [3] }] }), "messages[0].content[0].type"),
        (
            json!({ "messages": [{ "role": "user", "content": [{ "type": "text" }] }] }),
            "messages[0].content[0].text",
        ),
        (
            json!({ "messages": [{ "role": "user", "tool_calls": [{}] }] }),
            "messages[0].tool_calls[0].function",
        ),
        (
            json!({ "messages": [{ "role": "assistant", "tool_calls": [{ "function": { "name": "f" } }] }] }),
            "messages[0].tool_calls[0].function",
        ),
        (json!({ "messages": [{ "role": "tool", "content": "4" }] }), "messages[0]"),
    ];
    for (more, param) in table {
        let answer = post(&fixture, PATH, &hello(&more)).await;
        assert_eq!(answer.status, 400, "{more}: {}", answer.body);
        let error = answer.error();
        assert_eq!(error["type"], "invalid_request_error", "{more}");
        assert_eq!(error["param"], param, "{more}: {error}");
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{more}");
        assert!(error["code"].is_string(), "{more}");
        assert_eq!(answer.header("x-should-retry"), Some("false"), "{more}");
    }
    assert_eq!(fixture.engine.counts().generations_started, 0);
}

#[tokio::test]
async fn content_that_is_not_text_is_not_supported_yet() {
    let fixture = Fixture::new().await;
    let image = json!([{ "type": "image_url", "image_url": { "url": "https://x" } }]);
    let table = [
        (json!([{ "role": "user", "content": image }]), "messages[0].content[0].type"),
        (
            json!([{ "role": "assistant", "content": null, "tool_calls": [{ "id": "a", "type": "custom" }] }]),
            "messages[0].tool_calls[0].type",
        ),
        (
            json!([{ "role": "assistant", "function_call": { "name": "f", "arguments": "{}" } }]),
            "messages[0].function_call",
        ),
    ];
    for (messages, param) in table {
        let answer = post(&fixture, PATH, &hello(&json!({ "messages": messages }))).await;
        assert_eq!(answer.status, 400, "{messages}: {}", answer.body);
        let error = answer.error();
        assert_eq!((&error["param"], &error["code"]), (&json!(param), &json!("unsupported_parameter")));
        assert!(error["message"].as_str().expect("text").contains("support"), "{error}");
    }
}

#[tokio::test]
async fn minus_one_and_null_go_on_until_the_context_ends() {
    let fixture = Fixture::new().await;
    for more in [
        json!({ "max_tokens": -1, "max_completion_tokens": null }),
        json!({ "max_completion_tokens": -1 }),
        json!({ "max_completion_tokens": null }),
        json!({ "max_completion_tokens": -1, "max_tokens": 3 }),
    ] {
        let mut body = hello(&more);
        body["ignore_eos"] = true.into();
        let answer = post(&fixture, PATH, &body).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let answer = answer.json();
        assert_eq!(answer["usage"]["total_tokens"], 512, "{more}");
        assert_eq!(answer["choices"][0]["finish_reason"], "length");
    }
    let negative = post(&fixture, PATH, &hello(&json!({ "max_tokens": -3 }))).await.error();
    assert!(negative["message"].as_str().expect("text").contains("-1 is as many"), "{negative}");
}

#[tokio::test]
async fn zero_tokens_compute_the_prompt_alone() {
    let fixture = Fixture::new().await;
    for field in ["max_tokens", "max_completion_tokens"] {
        let mut body = hello(&json!({ "max_completion_tokens": null, "logprobs": true, "n": 2 }));
        body[field] = 0.into();
        let answer = post(&fixture, PATH, &body).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let answer = answer.json();
        let choice = &answer["choices"][0];
        assert_eq!((&choice["message"]["content"], &choice["finish_reason"]), (&json!(""), &json!("length")));
        assert_eq!(choice["logprobs"]["content"], json!([]));
        assert_eq!(answer["usage"]["completion_tokens"], 0);
        assert!(answer["usage"]["prompt_tokens"].as_u64().is_some_and(|tokens| tokens > 0), "{answer}");
    }
    let body = hello(
        &json!({ "max_completion_tokens": 0, "stream": true, "stream_options": { "include_usage": true } }),
    );
    let events = post(&fixture, PATH, &body).await.events();
    assert_eq!(events.len(), 3, "role, end, usage: {events:?}");
    assert_eq!(events[1]["choices"][0]["finish_reason"], "length");
    assert_eq!(events[2]["usage"]["completion_tokens"], 0);
    assert_eq!(fixture.engine.counts().tokens, 0);
}

#[tokio::test]
async fn a_model_that_is_not_there_is_a_404() {
    let fixture = Fixture::new().await;
    let answer = post(&fixture, PATH, &hello(&json!({ "model": "nobody" }))).await;
    assert_eq!(answer.status, 404);
    let error = answer.error();
    assert_eq!((&error["code"], &error["param"]), (&json!("model_not_found"), &json!("model")));
    for stream in [true, false] {
        let body = hello(&json!({ "model": "/etc/passwd", "stream": stream }));
        let answer = post(&fixture, PATH, &body).await;
        assert_eq!(answer.status, 403, "{}", answer.body);
        assert!(!answer.body.contains("/etc/passwd"), "{}", answer.body);
    }
}

#[tokio::test]
async fn a_prompt_longer_than_the_context_names_both_numbers() {
    let fixture = Fixture::new().await;
    // A stream that has to wait for a load begins before its prompt is known to be too long.
    assert_eq!(post(&fixture, PATH, &hello(&json!({ "max_completion_tokens": 0 }))).await.status, 200);
    let long = "word ".repeat(2000);
    let body = hello(&json!({ "messages": [{ "role": "user", "content": long }], "stream": true }));
    let answer = post(&fixture, PATH, &body).await;
    assert_eq!(answer.status, 400, "{}", answer.body);
    let error = answer.error();
    assert_eq!(error["code"], "context_length_exceeded");
    let message = error["message"].as_str().expect("text");
    // LangChain and litellm know a prompt that is too long by these words.
    assert!(message.starts_with("prompt is too long"), "{message}");
    assert!(message.contains("512"), "{message}");
    assert_eq!(fixture.engine.wait_until(|counts| counts.generations_running == 0).await.tokens, 0);
}

#[tokio::test]
async fn headers_say_where_the_model_was_and_where_time_went() {
    let fixture = Fixture::new().await;
    let first = post(&fixture, PATH, &hello(&json!({}))).await;
    assert_eq!((first.header("x-samovar-cache"), first.header("x-samovar-tier")), (Some("cold"), Some("l2")));
    let second = post(&fixture, PATH, &hello(&json!({ "stream": true }))).await;
    assert_eq!(
        (second.header("x-samovar-cache"), second.header("x-samovar-tier")),
        (Some("hit"), Some("l1"))
    );
    assert_eq!(second.header("cache-control"), Some("no-cache"));
    // The head of a stream may leave before its first token.
    assert!(second.header("server-timing").is_some());
    let timing = first.header("server-timing").expect("timing");
    for name in ["queue;dur=", "load;dur=", "prefill;dur=", "first-token;dur="] {
        assert!(timing.contains(name), "{timing}");
    }
    assert_eq!(first.header("x-request-id").map(str::len), Some(32));
    assert_ne!(first.header("x-request-id"), second.header("x-request-id"));
    let named = request("POST", PATH, &[("x-request-id", "mine-1")], &hello(&json!({})).to_string());
    let answer = raw::exchange(tcp(&fixture).await, named).await;
    assert_eq!(answer.header("x-request-id"), Some("mine-1"));
    assert_eq!(answer.json()["id"], "chatcmpl-mine-1");
}

#[tokio::test]
async fn the_header_and_the_body_of_an_answer_tell_the_same_times() {
    let fixture = Fixture::new().await;
    let answer = post(&fixture, PATH, &hello(&json!({}))).await;
    let (header, body) = (answer.header("server-timing").expect("timing"), answer.json());
    for (name, field) in [
        ("queue", "queue_ms"),
        ("load", "load_ms"),
        ("prefill", "prefill_ms"),
        ("first-token", "first_token_ms"),
    ] {
        let ms = body["samovar"]["timings"][field].as_f64().expect("a number");
        assert!(header.split(", ").any(|part| part == format!("{name};dur={ms:.1}")), "{header}: {body}");
    }
}

#[tokio::test]
async fn a_model_that_does_not_load_is_an_error_with_a_status_also_when_streamed() {
    let fixture = Fixture::new().await;
    let failure =
        samovar_core::Failure::new(samovar_core::ErrorKind::InvalidModel, "no such tensor in /srv/m.gguf");
    fixture.engine.fail_next_loads(1, failure);
    let answer = post(&fixture, PATH, &hello(&json!({ "stream": true }))).await;
    assert_eq!(answer.status, 422, "{}", answer.body);
    assert_eq!(answer.error()["code"], "invalid_model");
    assert!(!answer.body.contains("/srv"), "{}", answer.body);
}

#[tokio::test]
async fn a_death_in_the_middle_is_an_event_of_the_stream() {
    let script = Script { crash_after_tokens: Some(3), ..Script::default() };
    let fixture = Fixture::on(FakeEngine::builder().script(script)).await;
    let mut events = post(&fixture, PATH, &hello(&json!({ "stream": true }))).await.events();
    let error = events.pop().expect("an event");
    assert_eq!(error["error"]["code"], "engine_failed", "{error}");
    assert_eq!(error["error"]["type"], "server_error");
    assert!(!events.is_empty());
    assert!(events.iter().all(|event| event["choices"][0]["finish_reason"].is_null()));
    let whole = post(&fixture, PATH, &hello(&json!({}))).await;
    assert!(whole.status >= 500, "{}", whole.body);
    assert!(whole.error()["message"].is_string());
}

#[tokio::test]
async fn who_finds_the_queue_full_is_told_when_to_come_back() {
    let pool = samovar::PoolConfig { queue_per_model: 1, ..samovar::PoolConfig::default() };
    let fixture = Fixture::pooled(FakeEngine::builder().gate_tokens(), pool, |_| ()).await;
    let mut crowd = Vec::new();
    for running in [1, 2, 2] {
        let mut stream = tcp(&fixture).await;
        let text = request("POST", PATH, &[], &hello(&json!({})).to_string());
        tokio::io::AsyncWriteExt::write_all(&mut stream, text.as_bytes()).await.expect("writes");
        fixture.engine.wait_until(|counts| counts.generations_running == running).await;
        crowd.push(stream);
    }
    fixture.queued(1).await;
    let refused = post(&fixture, PATH, &hello(&json!({ "stream": true }))).await;
    assert_eq!(refused.status, 503, "{}", refused.body);
    let error = refused.error();
    assert_eq!((&error["code"], &error["type"]), (&json!("busy"), &json!("overloaded_error")));
    assert!(refused.header("retry-after").is_some() && refused.header("retry-after-ms").is_some());
    assert_eq!(refused.header("x-should-retry"), Some("true"));
    fixture.engine.tokens_gate().open();
    for stream in crowd {
        assert_eq!(raw::read(stream).await.status, 200);
    }
}

#[tokio::test]
async fn who_queues_is_told_the_place() {
    let fixture = Fixture::on(FakeEngine::builder().gate_tokens()).await;
    let first = tcp(&fixture).await;
    let mut first = first;
    let body = hello(&json!({ "n": 2 })).to_string();
    tokio::io::AsyncWriteExt::write_all(&mut first, request("POST", PATH, &[], &body).as_bytes())
        .await
        .expect("writes");
    fixture.engine.wait_until(|counts| counts.generations_running == 2).await;
    let (address, body) = (fixture.address, hello(&json!({})).to_string());
    let second = tokio::spawn(async move {
        let stream = tokio::net::TcpStream::connect(address).await.expect("connects");
        raw::exchange(stream, request("POST", PATH, &[], &body)).await
    });
    fixture.queued(1).await;
    fixture.engine.tokens_gate().open();
    let second = second.await.expect("ends");
    assert_eq!(second.header("x-queue-position"), Some("1"), "{second:?}");
    assert_eq!(raw::read(first).await.status, 200);
}
