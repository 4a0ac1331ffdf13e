//! Names that the owner creates, copies and deletes by Ollama's API, and bytes that it sends for them.

use samovar_core::testing::fake::FakeEngine;
use samovar_core::testing::gguf::{LlamaShape, llama};
use samovar_core::{Digest, ModelRef, Prompt};
use samovar_server::{Error, PortHolder, ServeConfig, Server};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::fixture::{Fixture, eventually, runtime};
use crate::raw::{Answer, exchange, get, owner, post, request, unix};

const CHAT: &str = "/api/chat";
const GENERATE: &str = "/api/generate";

/// The owner's order, and that it is carried out.
async fn order(fixture: &Fixture, method: &str, path: &str, body: &Value) -> Answer {
    let answer = owner(fixture, method, path, body).await;
    assert_eq!(answer.status, 200, "{body}: {}", answer.body);
    answer
}

/// The order is refused with this status, and an error of this part.
async fn refused(fixture: &Fixture, method: &str, path: &str, body: &Value, status: u16, part: &str) {
    let answer = owner(fixture, method, path, body).await;
    assert_eq!(answer.status, status, "{body}: {}", answer.body);
    let error = answer.error();
    assert!(
        error.as_str().is_some_and(|error| error.contains(part) && error.len() < 1_000),
        "{body}: {error}"
    );
}

/// The last request that the engine got, as a conversation: its messages and its template.
fn last_chat(engine: &FakeEngine) -> (Value, Option<String>) {
    let latest = engine.latest();
    let Some(Prompt::Chat(chat)) = latest.last().map(|request| &request.prompt) else {
        panic!("no conversation: {latest:?}");
    };
    (serde_json::from_str(&chat.messages).expect("messages"), chat.template.clone())
}

async fn names(fixture: &Fixture) -> Vec<String> {
    let tags = get(fixture, "/api/tags").await.json();
    let rows = tags["models"].as_array().expect("models").iter();
    rows.map(|row| row["name"].as_str().expect("a name").to_owned()).collect()
}

async fn digest_of(fixture: &Fixture, name: &str) -> Value {
    let tags = get(fixture, "/api/tags").await.json();
    let mut rows = tags["models"].as_array().expect("models").iter();
    rows.find(|row| row["name"] == name).expect("is listed")["digest"].clone()
}

fn poet() -> Value {
    json!({
        "model": "poet", "from": "tiny", "system": "Rhyme.", "template": "gemma", "license": "free",
        "messages": [{ "role": "user", "content": "Who?" }, { "role": "assistant", "content": "Me." }],
        "parameters": { "temperature": 0, "top_k": 7, "stop": ["zzz"], "num_predict": 5 },
    })
}

#[tokio::test]
async fn a_created_name_carries_its_preset_through_every_api_and_shares_the_models_instance() {
    let fixture = Fixture::new().await;
    let lines = order(&fixture, "POST", "/api/create", &poet()).await.lines();
    assert_eq!(lines, [json!({ "status": "writing manifest" }), json!({ "status": "success" })]);
    let said = json!([{ "role": "user", "content": "Hi" }]);
    let before = [
        json!({ "role": "system", "content": "Rhyme." }),
        json!({ "role": "user", "content": "Who?" }),
        json!({ "role": "assistant", "content": "Me." }),
    ];
    let expected = Value::from([&before[..], &[said[0].clone()]].concat());
    for (path, body) in [
        (CHAT, json!({ "model": "poet", "messages": said, "stream": false })),
        (GENERATE, json!({ "model": "poet:latest", "prompt": "Hi", "stream": false })),
        ("/v1/chat/completions", json!({ "model": "poet", "messages": said })),
        ("/v1/messages", json!({ "model": "poet", "messages": said, "max_tokens": 5 })),
        ("/v1/responses", json!({ "model": "poet", "input": "Hi" })),
    ] {
        let answer = post(&fixture, path, &body).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        assert_eq!(last_chat(&fixture.engine), (expected.clone(), Some("gemma".to_owned())), "{path}");
        let request = fixture.engine.latest().pop().expect("a request");
        assert_eq!((request.max_tokens, request.stop), (Some(5), vec!["zzz".to_owned()]), "{path}");
        assert_eq!(request.sampling.top_k, 7, "{path}");
    }
    // What a request says itself counts more.
    let own = json!({ "model": "poet", "stream": false, "options": { "num_predict": 2, "top_k": 3, "stop": "y" },
                      "messages": [{ "role": "system", "content": "Be brief." }, { "role": "user", "content": "Hi" }] });
    assert_eq!(post(&fixture, CHAT, &own).await.status, 200);
    assert_eq!(last_chat(&fixture.engine).0[0]["content"], "Be brief.");
    let request = fixture.engine.latest().pop().expect("a request");
    assert_eq!(
        (request.max_tokens, request.sampling.top_k, request.stop),
        (Some(2), 3, vec!["y".to_owned()])
    );
    let plain = post(&fixture, CHAT, &json!({ "model": "tiny", "messages": said, "stream": false })).await;
    assert_eq!(plain.status, 200);
    assert_eq!(last_chat(&fixture.engine), (said, None));
    assert_eq!(fixture.engine.counts().loads_started, 1, "all of them share one instance");
}

#[tokio::test]
async fn a_created_name_is_listed_shown_copied_and_deleted_and_outlives_the_daemon() {
    let fixture = Fixture::new().await;
    order(&fixture, "POST", "/api/create", &poet()).await;
    assert!(names(&fixture).await.contains(&"poet:latest".to_owned()));
    let models = get(&fixture, "/v1/models").await.json();
    let ids: Vec<&str> =
        models["data"].as_array().expect("models").iter().filter_map(|row| row["id"].as_str()).collect();
    assert!(ids.contains(&"poet"), "{ids:?}");
    let shown = post(&fixture, "/api/show", &json!({ "model": "poet" })).await.json();
    assert_eq!(
        (&shown["system"], &shown["license"], &shown["template"]),
        (&json!("Rhyme."), &json!("free"), &json!("gemma"))
    );
    assert_eq!(shown["messages"][1], json!({ "role": "assistant", "content": "Me." }));
    assert_eq!(shown["details"]["parent_model"], "tiny");
    let parameters = shown["parameters"].as_str().expect("a text");
    for part in ["top_k", "7", "stop", "\"zzz\"", "num_predict", "num_ctx"] {
        assert!(parameters.contains(part), "{parameters}");
    }
    let file = shown["modelfile"].as_str().expect("a text");
    assert!(file.starts_with("FROM tiny\n") && file.contains("SYSTEM \"\"\"Rhyme.\"\"\"\n"), "{file}");
    // Over a created name: its preset is taken over.
    let heir = json!({ "model": "heir", "from": "poet", "system": "Prose.", "stream": false });
    assert_eq!(order(&fixture, "POST", "/api/create", &heir).await.json(), json!({ "status": "success" }));
    order(&fixture, "POST", "/api/copy", &json!({ "source": "heir", "destination": "me/heir:v2" })).await;
    order(&fixture, "DELETE", "/api/delete", &json!({ "model": "poet:latest" })).await;
    let shown = post(&fixture, "/api/show", &json!({ "model": "me/heir:v2" })).await.json();
    assert_eq!((&shown["system"], &shown["license"]), (&json!("Prose."), &json!("free")));
    let now = names(&fixture).await;
    assert!(now.contains(&"me/heir:v2".to_owned()) && !now.contains(&"poet:latest".to_owned()), "{now:?}");
    let before = digest_of(&fixture, "heir:latest").await;
    order(&fixture, "POST", "/api/create", &json!({ "model": "heir", "from": "heir", "system": "Verse." }))
        .await;
    assert_ne!(
        digest_of(&fixture, "heir:latest").await,
        before,
        "the digest changes with what the name means"
    );
    let later = runtime(&FakeEngine::new(), &fixture.home);
    let kept: Vec<String> = later.created().await.into_iter().map(|model| model.name).collect();
    assert_eq!(kept, ["heir", "me/heir:v2"]);
    refused(&fixture, "DELETE", "/api/delete", &json!({ "model": "poet" }), 404, "not found").await;
}

#[tokio::test]
async fn a_name_of_the_settings_is_pulled_from_its_own_source() {
    let folder = tempfile::tempdir().expect("tempdir");
    let path = folder.path().join("far.gguf");
    fs_err::write(&path, llama(LlamaShape::TINY).build()).expect("writes");
    let source: ModelRef = format!("file://{}", path.display()).parse().expect("a reference");
    let tune = |builder: samovar::Builder| builder.alias("far", source, samovar::ModelSettings::default());
    let fixture = Fixture::built(FakeEngine::builder(), tune, |_| ()).await;
    let pull = json!({ "model": "far:latest", "stream": false });
    assert_eq!(order(&fixture, "POST", "/api/pull", &pull).await.json(), json!({ "status": "success" }));
    assert_eq!(get(&fixture, "/v1/models/far").await.status, 200);
}

#[tokio::test]
async fn a_created_name_is_deleted_also_where_the_model_behind_it_is_gone() {
    let fixture = Fixture::new().await;
    let path = fixture.home.path().join("lost.gguf");
    fs_err::write(&path, llama(LlamaShape::TINY).build()).expect("writes");
    order(&fixture, "POST", "/api/create", &json!({ "model": "orphan", "from": path, "stream": false }))
        .await;
    fs_err::remove_file(&path).expect("removes");
    order(&fixture, "DELETE", "/api/delete", &json!({ "model": "orphan:latest" })).await;
    refused(&fixture, "DELETE", "/api/delete", &json!({ "model": "orphan" }), 404, "not found").await;
}

#[tokio::test]
async fn what_cannot_be_created_copied_or_deleted_says_why() {
    let fixture = Fixture::new().await;
    let long = "x".repeat(300 << 10);
    for (body, status, part) in [
        (json!({}), 400, "model is required"),
        (json!({ "model": 3 }), 400, "`model` cannot be used"),
        (json!({ "model": "a" }), 400, "neither from or files"),
        (json!({ "model": "a", "from": "tiny", "stream": "no" }), 400, "`stream` cannot be used"),
        (json!({ "model": "a", "from": "tiny", "parameters": [] }), 400, "cannot be used"),
        (json!({ "model": "a", "from": "tiny", "parameters": { "top_k": "many" } }), 400, "parameters.top_k"),
        (json!({ "model": "a", "from": "tiny", "messages": "hi" }), 400, "`messages` cannot be used"),
        (json!({ "model": "a", "from": "tiny", "license": 3 }), 400, "`license` cannot be used"),
        (json!({ "model": "a", "from": "tiny", "quantize": "q4_K_M" }), 400, "quantize"),
        (json!({ "model": "a", "files": { "x.bin": "sha256:0" } }), 400, "only GGUF files"),
        (json!({ "model": "tiny", "from": "demo", "stream": false }), 400, "a name of the settings"),
        (json!({ "model": "../x", "from": "tiny", "stream": false }), 400, "cannot be created"),
        (json!({ "model": "demo", "from": "tiny", "stream": false }), 400, "built-in"),
        (
            json!({ "model": "a", "from": "tiny", "stream": false, "template": "{{ .Prompt }}" }),
            400,
            "Go's language",
        ),
        (json!({ "model": "a", "from": "tiny", "stream": false, "system": long }), 400, "is the limit"),
    ] {
        refused(&fixture, "POST", "/api/create", &body, status, part).await;
    }
    for twice in
        [r#"{"model":"a","model":"b","from":"tiny"}"#, r#"{"model":"a","from":"tiny","from":"demo"}"#]
    {
        let answer = exchange(unix(&fixture.socket).await, request("POST", "/api/create", &[], twice)).await;
        assert_eq!(answer.status, 400, "{}", answer.body);
        assert!(
            answer.error().as_str().is_some_and(|error| error.contains("duplicate field")),
            "{}",
            answer.body
        );
    }
    let digest = format!("sha256:{}", Digest::of_bytes(b"absent"));
    let body = json!({ "model": "a", "files": { "x.gguf": digest }, "stream": false });
    refused(&fixture, "POST", "/api/create", &body, 404, "is not there").await;
    // A failure after the first line is the last line.
    let mut body = body;
    body["stream"] = true.into();
    let lines = order(&fixture, "POST", "/api/create", &body).await.lines();
    assert!(lines.last().expect("a line")["error"].is_string(), "{lines:?}");
    for (body, status, part) in [
        (json!({}), 400, "source is required"),
        (json!({ "source": "tiny" }), 400, "destination is required"),
        (json!({ "source": "absent", "destination": "b" }), 404, "not found"),
        (json!({ "source": "demo", "destination": "tiny" }), 400, "a name of the settings"),
    ] {
        refused(&fixture, "POST", "/api/copy", &body, status, part).await;
    }
    for (body, status, part) in [
        (json!({}), 400, "model is required"),
        (json!({ "model": "tiny" }), 403, "samovar.toml"),
        (json!({ "model": "demo" }), 403, "part of this program"),
        (json!({ "name": "absent" }), 404, "not found"),
    ] {
        refused(&fixture, "DELETE", "/api/delete", &body, status, part).await;
    }
    assert!(runtime(&fixture.engine, &fixture.home).created().await.is_empty());
}

#[tokio::test]
async fn a_model_of_the_store_is_deleted_unless_a_request_uses_it() {
    let fixture = Fixture::new().await;
    let path = fixture.home.path().join("tiny-model.gguf");
    let model = format!("file://{}", path.display());
    order(&fixture, "POST", "/api/pull", &json!({ "model": model, "stream": false })).await;
    fixture.engine.tokens_gate().close();
    let body = json!({ "model": model, "prompt": "Hi", "raw": true, "stream": false, "options": { "num_predict": 1 } });
    let asking = {
        let text = request("POST", GENERATE, &[], &body.to_string());
        let mut stream = unix(&fixture.socket).await;
        stream.write_all(text.as_bytes()).await.expect("writes");
        stream
    };
    fixture.engine.wait_until(|counts| counts.generations_running == 1).await;
    refused(&fixture, "DELETE", "/api/delete", &json!({ "model": model }), 503, "is in use by a request")
        .await;
    fixture.engine.tokens_gate().open();
    assert_eq!(crate::raw::read(asking).await.status, 200);
    fixture.handle_quiet().await;
    order(&fixture, "DELETE", "/api/delete", &json!({ "model": model })).await;
    eventually("it is unloaded", async || fixture.engine.counts().live_instances == 0).await;
    refused(&fixture, "DELETE", "/api/delete", &json!({ "model": model }), 404, "not on this machine").await;
}

/// Sends bytes to the owner's socket: whole, or in chunks of unknown number.
async fn send(fixture: &Fixture, path: &str, bytes: &[u8], is_chunked: bool) -> Answer {
    let head = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
    let mut all = head.into_bytes();
    if is_chunked {
        all.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
        for piece in bytes.chunks(1_000) {
            all.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            all.extend_from_slice(piece);
            all.extend_from_slice(b"\r\n");
        }
        all.extend_from_slice(b"0\r\n\r\n");
    } else {
        all.extend_from_slice(format!("content-length: {}\r\n\r\n", bytes.len()).as_bytes());
        all.extend_from_slice(bytes);
    }
    exchange(unix(&fixture.socket).await, all).await
}

async fn has(fixture: &Fixture, path: &str) -> u16 {
    exchange(unix(&fixture.socket).await, request("HEAD", path, &[], "")).await.status
}

#[tokio::test]
async fn a_model_is_created_from_bytes_that_were_sent_under_their_digest() {
    let fixture = Fixture::new().await;
    let bytes = llama(LlamaShape::TINY).build();
    let digest = Digest::of_bytes(&bytes);
    let path = format!("/api/blobs/sha256:{digest}");
    assert_eq!(has(&fixture, &path).await, 404);
    for is_chunked in [false, true] {
        let answer = send(&fixture, &path, b"other bytes", is_chunked).await;
        assert_eq!(answer.status, 400, "{}", answer.body);
        assert!(answer.error().as_str().is_some_and(|error| error.contains(&digest.to_string())));
    }
    assert_eq!(has(&fixture, &path).await, 404);
    assert_eq!(send(&fixture, &path, &bytes, true).await.status, 201);
    assert_eq!(has(&fixture, &path).await, 200);
    assert_eq!(send(&fixture, &path, &bytes, false).await.status, 200, "it is here already");
    let body =
        json!({ "model": "sent", "files": { "tiny.gguf": format!("sha256:{digest}") }, "system": "Rhyme." });
    let lines = order(&fixture, "POST", "/api/create", &body).await.lines();
    assert_eq!(lines.last().expect("a line")["status"], "success", "{lines:?}");
    let ask = json!({ "model": "sent", "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": 2 });
    assert_eq!(post(&fixture, "/v1/chat/completions", &ask).await.status, 200);
    assert_eq!(last_chat(&fixture.engine).0[0]["content"], "Rhyme.");
    order(&fixture, "DELETE", "/api/delete", &json!({ "model": "sent" })).await;
    assert_eq!(has(&fixture, &path).await, 404, "its bytes go with its last name");
}

#[tokio::test]
async fn bytes_that_are_no_model_or_never_come_whole_leave_nothing() {
    let fixture = Fixture::new().await;
    let digest = Digest::of_bytes(b"no model");
    let path = format!("/api/blobs/sha256:{digest}");
    assert_eq!(send(&fixture, &path, b"no model", false).await.status, 201);
    let body = json!({ "model": "a", "files": { "a.gguf": digest.to_string() }, "stream": false });
    refused(&fixture, "POST", "/api/create", &body, 422, "cannot be used").await;
    assert!(!names(&fixture).await.contains(&"a:latest".to_owned()));
    for wrong in ["/api/blobs/sha256:beef", "/api/blobs/md5:x", "/api/blobs/../x"] {
        let answer = send(&fixture, wrong, b"x", false).await;
        assert_eq!(answer.status, 400, "{wrong}: {}", answer.body);
    }
    let absent = format!("/api/blobs/sha256:{}", Digest::of_bytes(b"absent"));
    let mut stream = unix(&fixture.socket).await;
    let head = format!("POST {absent} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\nten bytes.");
    stream.write_all(head.as_bytes()).await.expect("writes");
    let tmp = fixture.home.path().join("cache/tmp");
    let files = || fs_err::read_dir(&tmp).map_or(0, Iterator::count);
    eventually("the upload begins", async || files() == 1).await;
    drop(stream);
    eventually("nothing is left of the upload", async || files() == 0).await;
    assert_eq!(has(&fixture, &absent).await, 404);
    // Over the network all of it is refused.
    for text in [request("HEAD", &path, &[], ""), request("POST", &path, &[], "x")] {
        let stream = TcpStream::connect(fixture.address).await.expect("connects");
        assert_eq!(exchange(stream, text).await.status, 403);
    }
}

#[tokio::test]
async fn a_prompt_goes_on_with_the_conversation_that_the_answer_before_held() {
    let fixture = Fixture::new().await;
    let first = json!({ "model": "tiny", "prompt": "Hi", "system": "Rhyme.", "options": { "num_predict": 3, "temperature": 0 } });
    let lines = post(&fixture, GENERATE, &first).await.lines();
    let said: String = lines.iter().filter_map(|line| line["response"].as_str()).collect();
    let context = lines.last().expect("a line")["context"].clone();
    let whole = json!({ "model": "tiny", "prompt": "Hi", "system": "Rhyme.", "stream": false,
                        "options": { "num_predict": 3, "temperature": 0 } });
    assert_eq!(
        post(&fixture, GENERATE, &whole).await.json()["context"],
        context,
        "streamed and whole hold the same"
    );
    let next = json!({ "model": "tiny", "prompt": "And?", "context": context, "stream": false, "options": { "num_predict": 1 } });
    assert_eq!(post(&fixture, GENERATE, &next).await.status, 200);
    let expected = json!([
        { "role": "system", "content": "Rhyme." }, { "role": "user", "content": "Hi" },
        { "role": "assistant", "content": said }, { "role": "user", "content": "And?" },
    ]);
    assert_eq!(last_chat(&fixture.engine).0, expected);
}

#[tokio::test]
async fn the_same_conversation_by_three_apis_is_the_same_prompt() {
    let fixture = Fixture::new().await;
    let turns = json!([
        { "role": "user", "content": "Hi" }, { "role": "assistant", "content": "Ho" },
        { "role": "user", "content": "And?" },
    ]);
    let with_system = {
        let mut messages = turns.as_array().expect("messages").clone();
        messages.insert(0, json!({ "role": "system", "content": "Rhyme." }));
        Value::from(messages)
    };
    let schema = json!({ "type": "object", "properties": { "city": { "type": "string" } } });
    let function = json!({ "name": "weather", "description": "Tells it", "parameters": schema });
    let tools = json!([{ "type": "function", "function": function }]);
    let theirs = json!([{ "name": "weather", "description": "Tells it", "input_schema": schema }]);
    for (path, body) in [
        (
            "/v1/chat/completions",
            json!({ "messages": with_system, "tools": tools, "stop": ["zzz"], "max_tokens": 4 }),
        ),
        (
            CHAT,
            json!({ "messages": with_system, "tools": tools, "stream": false, "options": { "stop": ["zzz"], "num_predict": 4 } }),
        ),
        (
            "/v1/messages",
            json!({ "system": "Rhyme.", "messages": turns, "tools": theirs, "stop_sequences": ["zzz"], "max_tokens": 4 }),
        ),
    ] {
        let mut body = body;
        body["model"] = "tiny".into();
        let answer = post(&fixture, path, &body).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    }
    let mut requests = fixture.engine.latest();
    for request in &mut requests {
        // Each API has defaults of its own for how tokens are chosen, and comes at a time of its own.
        request.sampling = samovar_core::generation::Sampling::default();
        if let Prompt::Chat(chat) = &mut request.prompt {
            chat.now = samovar_core::WallTime::default();
        }
    }
    assert_eq!(requests.len(), 3);
    assert_eq!(requests[0], requests[1]);
    assert_eq!(requests[0], requests[2]);
}

#[tokio::test]
async fn ollamas_clients_are_served_at_an_address_of_their_own_and_told_who_has_it() {
    let (engine, home) = (FakeEngine::new(), tempfile::tempdir().expect("tempdir"));
    let config = |address: &str, socket: &str| ServeConfig {
        listen: Some("127.0.0.1:0".parse().expect("address")),
        ollama_listen: Some(address.parse().expect("address")),
        socket: Some(home.path().join(socket).join("s")),
        ..ServeConfig::default()
    };
    let server = Server::bind(runtime(&engine, &home), config("127.0.0.1:0", "one")).await.expect("binds");
    let (usual, ollamas) = (server.address().expect("listens"), server.ollama_address().expect("listens"));
    let handle = server.handle();
    let task = tokio::spawn(server.run(std::future::pending()));
    for address in [usual, ollamas] {
        let stream = TcpStream::connect(address).await.expect("connects");
        assert_eq!(exchange(stream, request("GET", "/", &[], "")).await.body, "Ollama is running");
    }
    let taken = Server::bind(runtime(&engine, &home), config(&ollamas.to_string(), "two")).await;
    let Err(Error::OllamaAddress { address, holder }) = taken.map(drop) else { panic!("it is taken") };
    assert_eq!((address, holder), (ollamas, PortHolder::Samovar));
    let exposed = Server::bind(runtime(&engine, &home), config("0.0.0.0:0", "three")).await;
    assert!(matches!(exposed.map(drop), Err(Error::Exposed(_))));
    handle.shut_down(None);
    task.await.expect("ends");
}
