//! The built-in model keeps what its card promises, on the real engine through the whole way of a request.
#![cfg(feature = "llama")]

use std::collections::BTreeMap;

use samovar::{Common, Generate, Input, Message, Request, Runtime, Tool, Work};
use samovar_core::Sampling;
use serde::Deserialize;

const CHECKS: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/demo-model/checks.json"));

#[derive(Deserialize)]
struct Checks {
    exact: Vec<Exact>,
    mentions: Vec<Mentions>,
}

/// A conversation with the one right answer.
#[derive(Deserialize)]
struct Exact {
    form: String,
    messages: Vec<Message>,
    reply: String,
}

/// A conversation whose answer must be about what was asked.
#[derive(Deserialize)]
#[allow(clippy::struct_field_names, reason = "as the file names it")]
struct Mentions {
    form: String,
    messages: Vec<Message>,
    mentions: Vec<String>,
    /// How often the first word must occur: once may be the request restated.
    first_mentioned_at_least: usize,
    max_tokens: u32,
}

fn checks() -> Checks {
    serde_json::from_str(CHECKS).expect("checks.json")
}

async fn greedy(runtime: &Runtime, messages: Vec<Message>, max_tokens: u32) -> String {
    let request = Request::chat("demo", messages).sampling(Sampling::greedy()).max_tokens(max_tokens);
    runtime.generate(request).collect().await.expect("answers").0
}

fn runtime(home: &tempfile::TempDir) -> Runtime {
    Runtime::builder().cache_dir(home.path()).build().expect("builds")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_answers_what_has_one_answer() {
    let home = tempfile::tempdir().expect("tempdir");
    let runtime = runtime(&home);
    let mut wrong: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let checks = checks().exact;
    let total = checks.len();
    for Exact { form, messages, reply } in checks {
        let answer = greedy(&runtime, messages, 128).await;
        if answer.trim() != reply.trim() {
            wrong.entry(form).or_default().push(format!("{answer:?} instead of {reply:?}"));
        }
    }
    assert!(total >= 50, "only {total} checks");
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(runtime.stats().await.pool.loads, 1, "one load serves {total} conversations");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_prompts_are_counted_and_rendered_as_they_are_computed() {
    let home = tempfile::tempdir().expect("tempdir");
    let runtime = runtime(&home);
    let said = vec![Message::system("You help."), Message::user("Tell me a story about a fox")];
    let mut with_tools = Generate::new(Input::Chat(said.clone()));
    with_tools.tools = vec![Tool::new("clock").description("Tells the time")];
    let plain = Generate::new(Input::Chat(said));
    let mut counts = Vec::new();
    for mut generate in [plain, with_tools] {
        generate.max_tokens = Some(1);
        let common = Common::new("demo");
        let counted = runtime.count(common.clone(), generate.clone()).await.expect("counts");
        let text = runtime.render(common.clone(), generate.clone()).await.expect("renders");
        assert!(text.contains("a story about a fox"), "{text:?}");
        assert_eq!(text.contains("clock"), !generate.tools.is_empty(), "{text:?}");
        let request = Request::of(common, Work::Generate(generate));
        let (_, summary) = runtime.generate(request).collect().await.expect("answers");
        assert_eq!(summary.usage.prompt_tokens, counted);
        counts.push(counted);
    }
    assert!(counts[0] < counts[1], "tools are counted: {counts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_stories_are_about_what_was_asked() {
    let home = tempfile::tempdir().expect("tempdir");
    let runtime = runtime(&home);
    let mut stories = BTreeMap::new();
    for check in checks().mentions {
        let answer = greedy(&runtime, check.messages, check.max_tokens).await;
        let lower = answer.to_lowercase();
        for word in &check.mentions {
            assert!(lower.contains(&word.to_lowercase()), "{}: no {word} in {answer:?}", check.form);
        }
        let first = check.mentions.first().map(|word| lower.matches(&word.to_lowercase()).count());
        assert!(first >= Some(check.first_mentioned_at_least), "{}: {answer:?}", check.form);
        stories.insert(answer, check.form);
    }
    assert!(stories.len() >= 30, "stories differ: {} of them", stories.len());
}
