//! Every example of the specification (jsonrpc.org), with methods as it has them, and the bounds of a session.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::ready;
use samovar_core::testing::FakeEngine;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::Exchange;
use super::methods::Method;
use super::session::{Answered, Session, UNSENT};
use super::wire::Fault;
use crate::app::{App, Surface};
use crate::buffer_charge::BufferCharge;
use crate::client::Asker;
use crate::config::ServeConfig;
use crate::field::{Field, field};
use crate::serve::Server;

const NUMBERS: &[Field] = &[field("a", ""), field("b", ""), field("c", ""), field("d", ""), field("e", "")];
const TWO: &[Field] = &[field("minuend", ""), field("subtrahend", "")];

const METHODS: &[Method] = &[
    Method::new("subtract", "", "", |call| ready(Ok(subtract(&call.params))).boxed()).with(&[TWO], &[]),
    Method::new("sum", "", "", |call| ready(Ok(sum(&call.params))).boxed()).with(&[NUMBERS], &[]),
    Method::new("update", "", "", |call| ready(Ok(sum(&call.params))).boxed()).with(&[NUMBERS], &[]),
    Method::new("notify_hello", "", "", |call| ready(Ok(sum(&call.params))).boxed()).with(&[NUMBERS], &[]),
    Method::new("notify_sum", "", "", |call| ready(Ok(sum(&call.params))).boxed()).with(&[NUMBERS], &[]),
    Method::new("get_data", "", "", |_| ready(Ok(Answered::of(&json!(["hello", 5])))).boxed()),
    Method::new("broken", "", "", |_| async { broken() }.boxed()),
];

fn subtract(params: &Map<String, Value>) -> Answered {
    let number = |name: &str| params[name].as_i64().unwrap_or_default();
    Answered::of(&(number("minuend") - number("subtrahend")))
}

fn sum(params: &Map<String, Value>) -> Answered {
    Answered::of(&params.values().filter_map(Value::as_i64).sum::<i64>())
}

fn broken() -> Result<Answered, Fault> {
    panic!("on purpose")
}

async fn app() -> (TempDir, App) {
    let home = tempfile::tempdir().expect("tempdir");
    let engine = Arc::new(FakeEngine::new());
    let runtime = samovar::Runtime::builder().cache_dir(home.path()).engine(engine).build().expect("builds");
    let config = ServeConfig { socket: Some(home.path().join("run/s")), ..ServeConfig::default() };
    let app = Server::bind(runtime, config).await.expect("binds").app(Surface::Local);
    (home, app)
}

/// What is answered, without what errors say beyond the specification; `None` = nothing.
async fn answer(message: &str) -> Option<Value> {
    let (_home, app) = app().await;
    let (queue, unsent) = mpsc::channel(UNSENT);
    let held = BufferCharge::new(&app, "");
    let mut session = Session::new(app, Asker::stranger(), METHODS, queue, true);
    session.take(message.as_bytes(), held);
    let mut exchange = Exchange { session, unsent };
    let said = exchange.next().await?;
    assert_eq!(exchange.next().await, None, "there is one answer");
    let mut said: Value = serde_json::from_slice(&said).expect("JSON");
    match &mut said {
        Value::Array(answers) => answers.iter_mut().for_each(plain),
        one => plain(one),
    }
    Some(said)
}

/// Takes out of an error what the specification leaves to servers.
fn plain(answer: &mut Value) {
    if let Some(error) = answer.get_mut("error").and_then(Value::as_object_mut) {
        assert!(error.remove("data").is_some_and(|data| data["hint"].is_string()));
    }
}

fn result(result: impl Into<Value>, id: impl Into<Value>) -> Value {
    let (result, id): (Value, Value) = (result.into(), id.into());
    json!({ "jsonrpc": "2.0", "result": result, "id": id })
}

fn error(code: i32, message: &str, id: impl Into<Value>) -> Value {
    let id: Value = id.into();
    json!({ "jsonrpc": "2.0", "error": { "code": code, "message": message }, "id": id })
}

#[tokio::test]
async fn calls_with_positional_and_named_parameters() {
    for (message, expected) in [
        (r#"{"jsonrpc": "2.0", "method": "subtract", "params": [42, 23], "id": 1}"#, result(19, 1)),
        (r#"{"jsonrpc": "2.0", "method": "subtract", "params": [23, 42], "id": 2}"#, result(-19, 2)),
        (
            r#"{"jsonrpc": "2.0", "method": "subtract", "params": {"subtrahend": 23, "minuend": 42}, "id": 3}"#,
            result(19, 3),
        ),
        (
            r#"{"jsonrpc": "2.0", "method": "subtract", "params": {"minuend": 42, "subtrahend": 23}, "id": 4}"#,
            result(19, 4),
        ),
    ] {
        assert_eq!(answer(message).await, Some(expected), "{message}");
    }
}

#[tokio::test]
async fn notifications_have_no_answer() {
    for message in [
        r#"{"jsonrpc": "2.0", "method": "update", "params": [1,2,3,4,5]}"#,
        r#"{"jsonrpc": "2.0", "method": "foobar"}"#,
        r#"[{"jsonrpc": "2.0", "method": "notify_sum", "params": [1,2,4]},
            {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]}]"#,
    ] {
        assert_eq!(answer(message).await, None, "{message}");
    }
}

#[tokio::test]
async fn what_is_no_request_is_an_error() {
    let invalid = || error(-32600, "Invalid Request", Value::Null);
    for (message, expected) in [
        (r#"{"jsonrpc": "2.0", "method": "foobar", "id": "1"}"#, error(-32601, "Method not found", "1")),
        (
            r#"{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]"#,
            error(-32700, "Parse error", Value::Null),
        ),
        (r#"{"jsonrpc": "2.0", "method": 1, "params": "bar"}"#, invalid()),
        (
            r#"[{"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"}, {"jsonrpc": "2.0", "method" ]"#,
            error(-32700, "Parse error", Value::Null),
        ),
        ("[]", invalid()),
        ("[1]", json!([invalid()])),
        ("[1,2,3]", json!([invalid(), invalid(), invalid()])),
    ] {
        assert_eq!(answer(message).await, Some(expected), "{message}");
    }
}

#[tokio::test]
async fn a_batch_has_an_answer_for_each_of_its_requests() {
    let message = r#"[
        {"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},
        {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]},
        {"jsonrpc": "2.0", "method": "subtract", "params": [42,23], "id": "2"},
        {"foo": "boo"},
        {"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"},
        {"jsonrpc": "2.0", "method": "get_data", "id": "9"}
    ]"#;
    let expected = json!([
        result(7, "1"),
        result(19, "2"),
        error(-32600, "Invalid Request", Value::Null),
        error(-32601, "Method not found", "5"),
        result(json!(["hello", 5]), "9"),
    ]);
    assert_eq!(answer(message).await, Some(expected));
}

#[tokio::test]
async fn a_method_that_panics_is_an_internal_error_and_the_rest_of_its_batch_is_answered() {
    let message = r#"[{"jsonrpc": "2.0", "method": "broken", "id": 1}, {"jsonrpc": "2.0", "method": "get_data", "id": 2}]"#;
    let answers = answer(message).await.expect("an answer");
    assert_eq!(answers[0]["error"]["code"], -32603);
    assert_eq!(answers[1]["result"], json!(["hello", 5]));
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_not_read_any_further() {
    let (_home, app) = app().await;
    let (queue, mut unsent) = mpsc::channel(UNSENT);
    let mut session = Session::new(app, Asker::stranger(), METHODS, queue, true);
    let mut messages = 0;
    while session.has_room() {
        session.refuse(&Fault::parse("no"));
        messages += 1;
        assert!(messages < 1_000, "there is a bound");
    }
    // What it reads makes room.
    for _ in 0..messages {
        assert!(unsent.recv().await.is_some());
    }
    assert!(session.answered().await.is_some() && session.has_room());
    while session.answered().await.is_some() {}
    assert!(session.is_quiet());
}
