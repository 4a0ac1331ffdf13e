//! Thoughts, calls of tools and answers of a type, from the engine to the program: on the fake engine, and the example program with it.

use std::sync::Arc;

use samovar::{
    ChatTemplate, Effort, ErrorKind, Message, ModelSettings, Origin, Reply, Request, Runtime,
    SamplingOptions, Tool, ToolCall, ToolSupport,
};
use samovar_core::Delta;
use samovar_core::generation::FinishReason;
use samovar_core::testing::fake::{FakeEngine, Script};
use serde::Deserialize;
use serde_json::json;

#[allow(dead_code, reason = "its beginning is a program's, which nothing calls here")]
#[path = "../../examples/tool_loop.rs"]
mod tool_loop;

fn runtime(home: &tempfile::TempDir, script: Script) -> (Runtime, FakeEngine) {
    let engine = FakeEngine::builder().script(script).build();
    let builder = Runtime::builder().cache_dir(home.path()).engine(Arc::new(engine.clone()));
    // The likeliest tokens alone: a draw may end an answer before its first word.
    let greedy = SamplingOptions { temperature: Some(0.0), ..SamplingOptions::default() };
    (builder.defaults(ModelSettings::default().sampling(greedy)).build().expect("builds"), engine)
}

/// A model that thinks for two tokens and then calls a tool.
fn caller(name: &str, arguments: &str) -> Script {
    let thinking = |text: &str| vec![Delta::Thinking(text.to_owned())];
    let call = Delta::Call { index: 0, id: "call_a".to_owned(), name: name.to_owned() };
    let (first, second) = arguments.split_at(arguments.len() / 2);
    let part = |text: &str| Delta::Arguments { index: 0, text: text.to_owned() };
    let deltas = vec![thinking("so"), thinking(" then"), vec![call, part(first)], vec![part(second)]];
    Script { deltas, ..Script::default() }
}

fn question() -> Vec<Message> {
    vec![Message::user("what is the time?")]
}

async fn reply(runtime: &Runtime, request: Request) -> Reply {
    runtime.generate(request).collect_reply().await.expect("answers")
}

#[tokio::test(flavor = "multi_thread")]
async fn thoughts_and_calls_are_a_reply_and_go_on_with_the_conversation() {
    let home = tempfile::tempdir().expect("tempdir");
    let (runtime, _) = runtime(&home, caller("clock", r#"{"zone":"UTC"}"#));
    let ask = |messages: Vec<Message>| Request::chat("demo", messages).tools([Tool::new("clock")]);
    let called = reply(&runtime, ask(question())).await;
    assert_eq!((called.text.as_str(), called.thinking.as_str()), ("", "so then"));
    assert_eq!(called.tool_calls, [ToolCall::new("call_a", "clock", r#"{"zone":"UTC"}"#)]);
    assert_eq!(called.summary.finish, FinishReason::ToolCalls);
    let usage = called.summary.usage;
    assert_eq!((usage.completion_tokens, usage.thinking_tokens), (4, 2));
    let answered = [question(), vec![called.message(), Message::tool("call_a", "noon")]].concat();
    let last = reply(&runtime, ask(answered)).await;
    assert!(!last.text.is_empty() && last.tool_calls.is_empty(), "{last:?}");
    assert_eq!(last.summary.finish, FinishReason::Stop);
    // Who asks for the text alone has it alone.
    let (text, _) = runtime.generate(ask(question())).collect().await.expect("answers");
    assert_eq!(text, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn thinking_is_switched_off_and_bounded() {
    let home = tempfile::tempdir().expect("tempdir");
    let (runtime, _) = runtime(&home, caller("clock", "{}"));
    let ask = || Request::chat("demo", question()).max_tokens(8);
    assert_eq!(reply(&runtime, ask()).await.thinking, "so then");
    assert_eq!(reply(&runtime, ask().thinking_budget(1)).await.thinking, "so");
    let off = reply(&runtime, ask().thinking(Effort::Off)).await;
    assert_eq!((off.thinking.as_str(), off.summary.usage.thinking_tokens), ("", 0));
    assert!(!off.text.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_models_setting_says_how_much_it_thinks_unless_a_request_does() {
    let home = tempfile::tempdir().expect("tempdir");
    let runtime = Runtime::builder()
        .cache_dir(home.path())
        .engine(Arc::new(FakeEngine::builder().script(caller("clock", "{}")).build()))
        .alias("quick", "demo".parse().expect("a reference"), ModelSettings::default().thinking(Effort::Off))
        .build()
        .expect("builds");
    let ask = || Request::chat("quick", question()).max_tokens(8);
    assert_eq!(reply(&runtime, ask()).await.thinking, "");
    assert_eq!(reply(&runtime, ask().thinking(Effort::High)).await.thinking, "so then");
}

#[derive(Debug, PartialEq, Deserialize)]
struct Animal {
    name: String,
    legs: u32,
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_with_a_schema_is_a_value_of_a_type() {
    let home = tempfile::tempdir().expect("tempdir");
    let constrained = Some(r#"{"name":"fox","legs":4}"#.to_owned());
    let (runtime, _) = runtime(&home, Script { constrained, ..Script::default() });
    let schema = json!({ "type": "object", "properties": {
        "name": { "type": "string" }, "legs": { "type": "integer" } } });
    let ask = || Request::chat("demo", [Message::user("an animal")]).schema(schema.clone());
    let (animal, summary) = runtime.generate(ask()).collect_as::<Animal>().await.expect("an animal");
    assert_eq!(animal, Animal { name: "fox".to_owned(), legs: 4 });
    assert_eq!(summary.finish, FinishReason::Stop);
    let cut = runtime.generate(ask().max_tokens(5)).collect_as::<Animal>().await.expect_err("is cut");
    assert_eq!((cut.kind, cut.param.as_deref()), (ErrorKind::InvalidRequest, Some("max_tokens")));
    let other = runtime.generate(ask().json()).collect_as::<Vec<u32>>().await.expect_err("is no list");
    assert!(other.message.contains("another type"), "{other}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_wrong_whatever_its_model_loads_nothing() {
    let home = tempfile::tempdir().expect("tempdir");
    let (runtime, engine) = runtime(&home, Script::default());
    let tools = (0..500).map(|number| Tool::new(format!("tool_{number}")));
    let ask = || Request::chat("demo", question());
    for (request, param) in [
        (ask().tools(tools), "tools"),
        (ask().tools([Tool::new("odd name")]), "tools[0].function.name"),
        (Request::text("demo", "The time:").tools([Tool::new("clock")]), "tools"),
        (Request::chat("demo", [Message::tool("call_a", "noon")]), "messages[0].tool_call_id"),
        (ask().schema(json!([])), "response_format"),
        (ask().regex(""), "grammar"),
        (Request::chat("no-such-model", question()).regex(""), "grammar"),
    ] {
        let failure = runtime.generate(request).collect_reply().await.expect_err("is wrong");
        assert_eq!((failure.kind, failure.param.as_deref()), (ErrorKind::InvalidRequest, Some(param)));
    }
    assert_eq!(engine.counts().loads_started, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_model_knows_is_told_by_its_template() {
    let home = tempfile::tempdir().expect("tempdir");
    let path = home.path().join("chat.jinja");
    fs_err::write(&path, "{% if tools %}{{ tools | tojson }}{% endif %}<think>").expect("a template");
    let with = |template| ModelSettings::default().chat_template(template);
    let source = || "demo".parse().expect("a reference");
    let runtime = Runtime::builder()
        .cache_dir(home.path().join("cache"))
        .engine(Arc::new(FakeEngine::new()))
        .alias("caller", source(), with(ChatTemplate::File(path)))
        .alias("plain", source(), with(ChatTemplate::BuiltIn("chatml".to_owned())))
        .build()
        .expect("builds");
    for (name, tools, thinks) in
        [("caller", ToolSupport::ByTemplate, true), ("plain", ToolSupport::Generic, false)]
    {
        let info = runtime.model(name, Origin::Owner).await.expect("is here");
        assert_eq!((info.tools, info.thinks), (Some(tools), thinks), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_answers_calls_until_there_are_none() {
    for (name, arguments) in [
        ("calculate", r#"{"a": 17, "operator": "*", "b": 23}"#),
        ("calculate", "no JSON"),
        ("clock", ""),
        ("weather", "{}"),
    ] {
        let home = tempfile::tempdir().expect("tempdir");
        let (runtime, engine) = runtime(&home, caller(name, arguments));
        let text = tool_loop::answer(&runtime, "demo", "17 times 23?").await.expect("answers");
        assert!(!text.is_empty(), "{name}");
        assert_eq!(engine.counts().generations_started, 2, "{name}({arguments})");
    }
}
