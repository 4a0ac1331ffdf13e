//! The chat service: conversations that are kept, each client's apart from another's.

use samovar_core::testing::fake::FakeEngine;
use samovar_server::{KeyTerms, Scope, Secret};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::fixture::{Fixture, eventually};
use crate::keyed::{Keyed, for_scopes, with_key};
use crate::raw::{Answer, exchange, get, owner, post, request, tcp};

const LIST: &str = "/chat/conversations";

fn say(message: &str, more: &Value) -> Value {
    let mut body = json!({ "message": message, "model": "tiny", "max_tokens": 6, "temperature": 0 });
    for (field, value) in more.as_object().expect("object") {
        body[field] = value.clone();
    }
    body
}

async fn sound(fixture: &Fixture, body: &Value) -> Value {
    let answer = post(fixture, "/chat", body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

async fn send(fixture: &Fixture, method: &str, path: &str, body: &Value) -> Answer {
    exchange(
        tcp(fixture).await,
        request(method, path, &[("content-type", "application/json")], &body.to_string()),
    )
    .await
}

fn one(id: &Value) -> String {
    format!("{LIST}/{}", id.as_str().expect("an id"))
}

#[tokio::test]
async fn a_conversation_goes_on_where_it_was_and_its_model_need_not_be_named_again() {
    let fixture = Fixture::new().await;
    let first = sound(&fixture, &say("Hello there", &json!({}))).await;
    assert_eq!(first["response"], " there in silver once on once");
    assert_eq!((&first["citations"], &first["finish"]), (&json!([]), &json!("length")));
    let next = json!({ "message": "And then?", "conversation": first["conversation"], "max_tokens": 6 });
    let next = sound(&fixture, &next).await;
    assert_eq!(next["conversation"], first["conversation"]);
    let tokens = |answer: &Value| answer["usage"]["prompt_tokens"].as_u64().expect("a count");
    assert!(tokens(&next) > tokens(&first), "the history is part of the prompt");
    let detail = get(&fixture, &one(&first["conversation"])).await.json();
    let said: Vec<&Value> =
        detail["messages"].as_array().expect("messages").iter().map(|message| &message["text"]).collect();
    assert_eq!(said, [&json!("Hello there"), &first["response"], &json!("And then?"), &next["response"]]);
    assert_eq!((&detail["title"], &detail["leaf"]), (&json!("Hello there"), &next["message"]));
    // Another branch from the first answer.
    let other = json!({ "conversation": first["conversation"], "parent": first["message"] });
    sound(&fixture, &say("No, tell me more", &other)).await;
    assert_eq!(get(&fixture, &one(&first["conversation"])).await.json()["message_count"], 6);
}

#[tokio::test]
async fn a_streamed_answer_says_the_same_and_is_kept() {
    let fixture = Fixture::new().await;
    let whole = sound(&fixture, &say("Hello there", &json!({}))).await;
    let answer = post(&fixture, "/chat", &say("Hello there", &json!({ "stream": true }))).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let events = answer.named_events();
    assert_eq!(events[0]["type"], "begun");
    let said: String = events.iter().filter_map(|event| event["text"].as_str()).collect();
    assert_eq!(whole["response"], said);
    let done = events.last().expect("a last event");
    assert_eq!(done["model"], whole["model"]);
    assert_eq!((&done["type"], &done["response"]), (&json!("done"), &whole["response"]));
    assert_eq!(done["conversation"], events[0]["conversation"]);
    let detail = get(&fixture, &one(&done["conversation"])).await.json();
    assert_eq!(detail["messages"][1]["text"], whole["response"]);
}

#[tokio::test]
async fn a_message_that_cannot_be_answered_leaves_nothing_and_one_that_is_cut_what_came() {
    let fixture = Fixture::on(FakeEngine::builder().gate_tokens()).await;
    let refused = post(&fixture, "/chat", &say("Hello", &json!({ "model": "nobody" }))).await;
    assert_eq!(refused.status, 404, "{}", refused.body);
    let is_empty = async || get(&fixture, LIST).await.json()["conversations"] == json!([]);
    eventually("the question is taken back", is_empty).await;
    fixture.engine.tokens_gate().admit(3);
    let mut stream = tcp(&fixture).await;
    let body = say("Hello", &json!({ "stream": true, "max_tokens": 64 })).to_string();
    stream.write_all(request("POST", "/chat", &[], &body).as_bytes()).await.expect("writes");
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).contains("event: text") {
        assert_ne!(stream.read_buf(&mut read).await.expect("reads"), 0);
    }
    drop(stream);
    let is_kept = async || get(&fixture, LIST).await.json()["conversations"][0]["message_count"] == 2;
    eventually("what came is kept", is_kept).await;
    let list = get(&fixture, LIST).await.json();
    let answer = get(&fixture, &one(&list["conversations"][0]["id"])).await.json()["messages"][1].take();
    assert_eq!(answer["finish"], "cancelled");
    assert!(answer["text"].as_str().is_some_and(|text| !text.is_empty()), "{answer}");
    fixture.engine.tokens_gate().open();
}

#[tokio::test]
async fn conversations_are_found_changed_exported_taken_in_and_deleted() {
    let fixture = Fixture::new().await;
    let first = sound(&fixture, &say("Tell me about foxes", &json!({}))).await;
    sound(&fixture, &say("Tell me about rivers", &json!({}))).await;
    let found = get(&fixture, &format!("{LIST}?query=foxes")).await.json();
    assert_eq!(found["conversations"].as_array().expect("a list").len(), 1, "{found}");
    assert_eq!(found["conversations"][0]["id"], first["conversation"]);
    let all = get(&fixture, &format!("{LIST}?limit=1")).await.json();
    assert_eq!(all["conversations"][0]["title"], "Tell me about rivers");
    let id = all["conversations"][0]["id"].as_str().expect("an id");
    let rest = get(&fixture, &format!("{LIST}?before={id}")).await.json();
    assert_eq!(rest["conversations"][0]["id"], first["conversation"]);
    let path = one(&first["conversation"]);
    let changed = send(&fixture, "PATCH", &path, &json!({ "title": "Foxes", "system": "Be brief." })).await;
    assert_eq!((changed.status, &changed.json()["title"]), (200, &json!("Foxes")), "{}", changed.body);
    let markdown = get(&fixture, &format!("{path}/export?format=markdown")).await;
    assert!(markdown.body.starts_with("# Foxes\n\n**system:**\n\nBe brief."), "{}", markdown.body);
    let json = get(&fixture, &format!("{path}/export")).await;
    let taken = post(&fixture, &format!("{LIST}/import"), &json.json()).await;
    assert_eq!(taken.status, 200, "{}", taken.body);
    let copy = get(&fixture, &one(&taken.json()["conversations"][0])).await.json();
    assert_eq!((&copy["title"], &copy["system"]), (&json!("Foxes"), &json!("Be brief.")));
    assert_eq!(send(&fixture, "DELETE", &path, &json!({})).await.json()["deleted"], true);
    let gone = get(&fixture, &path).await;
    assert_eq!((gone.status, &gone.error()["code"]), (404, &json!("conversation_not_found")));
    assert!(gone.body.contains("GET /chat/conversations"), "{}", gone.body);
}

#[tokio::test]
async fn a_key_sees_its_own_conversations_alone_and_the_owner_those_of_this_machine() {
    let keyed = Keyed::new().await;
    // Before there are keys, programs of this machine are its owner.
    sound(&keyed.fixture, &say("of the owner", &json!({}))).await;
    let alice = keyed.add("alice", KeyTerms::default()).await;
    let bob = keyed.add("bob", KeyTerms::default()).await;
    let manager = keyed.add("manager", for_scopes(&[Scope::Manage])).await;
    let said = keyed.post(&alice, "/chat", &say("a secret of alice", &json!({}))).await.json();
    let path = one(&said["conversation"]);
    assert_eq!(keyed.get(&alice, &path).await.status, 200);
    let titles = async |key: &Secret| {
        let list = keyed.get(key, LIST).await.json();
        list["conversations"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|one| one["title"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(titles(&alice).await, ["a secret of alice"]);
    assert!(titles(&bob).await.is_empty());
    assert_eq!(keyed.get(&bob, &format!("{LIST}?query=secret")).await.json()["conversations"], json!([]));
    for (method, path, body) in [
        ("GET", path.clone(), ""),
        ("PATCH", path.clone(), "{\"title\":\"mine\"}"),
        ("DELETE", path.clone(), ""),
        ("GET", format!("{path}/export"), ""),
    ] {
        let answer = exchange(tcp(&keyed.fixture).await, with_key(method, &path, &bob, body)).await;
        assert_eq!(answer.status, 404, "{method} {path}: {}", answer.body);
    }
    let theirs = json!({ "conversation": said["conversation"] });
    assert_eq!(keyed.post(&bob, "/chat", &say("go on", &theirs)).await.status, 404);
    assert_eq!(keyed.get(&manager, LIST).await.status, 403);
    let of_owner = owner(&keyed.fixture, "GET", LIST, &Value::Null).await.json();
    assert_eq!(of_owner["conversations"][0]["title"], "of the owner");
    assert_eq!(of_owner["conversations"].as_array().expect("a list").len(), 1);
}

#[tokio::test]
async fn changes_and_deletions_count_against_the_limits_of_a_key() {
    let keyed = Keyed::new().await;
    let terms = KeyTerms { requests_per_minute: Some(1), ..KeyTerms::default() };
    let key = keyed.add("ci", terms).await;
    let status = async |method: &str| {
        let text = with_key(method, &format!("{LIST}/1"), &key, "{}");
        exchange(tcp(&keyed.fixture).await, text).await.status
    };
    for (method, expected) in [("GET", 404), ("PATCH", 404), ("DELETE", 429), ("GET", 404)] {
        assert_eq!(status(method).await, expected, "{method}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_message_is_said_by_name() {
    let fixture = Fixture::new().await;
    for (more, status, param) in [
        (json!({ "message": null }), 400, "message"),
        (json!({ "message": " " }), 400, "message"),
        (json!({ "model": null }), 400, "model"),
        (json!({ "conversation": "99" }), 404, "conversation"),
        (json!({ "conversation": "x" }), 404, "conversation"),
        (json!({ "parent": "1" }), 400, "conversation"),
        (json!({ "temperature": 9 }), 400, "temperature"),
        (json!({ "max_tokens": 0.5 }), 400, "max_tokens"),
    ] {
        let answer = post(&fixture, "/chat", &say("Hello", &more)).await;
        assert_eq!(
            (answer.status, &answer.error()["param"]),
            (status, &json!(param)),
            "{more}: {}",
            answer.body
        );
    }
    let wrong = post(&fixture, &format!("{LIST}/import"), &json!({ "format": "other" })).await;
    assert_eq!(wrong.status, 400, "{}", wrong.body);
    assert_eq!(get(&fixture, LIST).await.json()["conversations"], json!([]));
}

#[tokio::test]
async fn a_server_without_a_file_says_that_it_keeps_nothing() {
    let fixture = Fixture::with(FakeEngine::builder(), |config| config.chats = None).await;
    let answer = post(&fixture, "/chat", &say("Hello", &json!({}))).await;
    assert_eq!(answer.status, 501, "{}", answer.body);
}

#[tokio::test]
async fn what_a_proxy_passes_on_from_other_machines_is_not_the_owners() {
    let fixture = Fixture::new().await;
    sound(&fixture, &say("of the owner", &json!({}))).await;
    for header in ["x-forwarded-for", "forwarded", "x-real-ip", "via"] {
        let text = request("GET", LIST, &[(header, "10.0.0.7")], "");
        let list = exchange(tcp(&fixture).await, text).await.json();
        assert_eq!(list["conversations"], json!([]), "{header}");
    }
    assert_eq!(get(&fixture, LIST).await.json()["conversations"].as_array().map(Vec::len), Some(1));
}
