//! `samovar chat` through a pipe.

use serde_json::Value;

use crate::home::Home;

const SHORT: [&str; 5] = ["chat", "-t", "0", "-n", "8"];

#[test]
fn a_piped_conversation_answers_each_line_and_remembers() {
    let home = Home::new();
    let line = [&SHORT[..], &["--json"]].concat();
    let done = home.run_with_input(&line, b"Hello\nTell me more\n");
    assert_eq!(done.code, 0, "{done:?}");
    let answers: Vec<Value> = serde_json::Deserializer::from_str(&done.stdout)
        .into_iter()
        .collect::<Result<_, _>>()
        .expect("objects");
    assert_eq!(answers.len(), 2);
    let prompt = |answer: &Value| answer["usage"]["prompt_tokens"].as_u64().expect("count");
    assert!(
        prompt(&answers[1]) > prompt(&answers[0]) + 8,
        "the first turn is part of the second prompt: {answers:?}"
    );
    assert_eq!(home.stats()["pool"]["loads"], 1);
}

#[test]
fn commands_work_through_a_pipe() {
    let home = Home::new();
    let done = home.run_with_input(
        &SHORT,
        b"/pool\n/stats\n/system Be brief.\nHello\n/save c.json\n/clear\n/quit\nnever said\n",
    );
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stdout.contains("demo") && done.stdout.contains("requests"), "{done:?}");
    let saved: Value =
        serde_json::from_str(&fs_err::read_to_string(home.path().join("c.json")).expect("saved"))
            .expect("JSON");
    let roles: Vec<&str> =
        saved.as_array().expect("messages").iter().filter_map(|m| m["role"].as_str()).collect();
    assert_eq!(roles, ["system", "user", "assistant"]);
    assert!(done.stdout.contains("Available: ") && done.stdout.contains("In use: 0"), "{done:?}");
    let again = home.run_with_input(&SHORT, b"/load c.json\nTell me more\n/save d.json\n");
    assert!(again.code == 0 && again.stderr.contains("loaded 2 messages from c.json"), "{again:?}");
    let saved = fs_err::read_to_string(home.path().join("d.json")).expect("saved");
    let saved: Value = serde_json::from_str(&saved).expect("JSON");
    assert_eq!(saved.as_array().expect("messages").len(), 5, "{saved}");
}

#[test]
fn a_mistake_is_told_and_the_conversation_goes_on() {
    let home = Home::new();
    let done = home.run_with_input(&SHORT, b"/stat\n/model nobody\nHello\n");
    assert_eq!(done.code, 66, "the last failure decides: {done:?}");
    assert!(done.stderr.contains("did you mean /stats?") && done.stderr.contains("`nobody`"), "{done:?}");
    assert!(!done.stdout.trim().is_empty(), "{done:?}");
}

#[test]
fn a_wrong_model_is_told_before_anything_is_typed() {
    let home = Home::new();
    let done = home.run_with_input(&["chat", "nobody"], b"Hello\n");
    assert_eq!((done.code, done.stdout.as_str()), (66, ""), "{done:?}");
}

#[test]
fn a_conversation_that_outgrows_the_context_loses_its_oldest_turns_and_says_so() {
    let home = Home::new().with_variable("SAMOVAR_DEFAULTS_CONTEXT_TOKENS", "96");
    let turns = "Tell me a story about a fox and a bird and a river\n".repeat(6);
    let done = home.run_with_input(&["chat", "-t", "0", "-n", "16"], turns.as_bytes());
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stderr.contains("messages are left out"), "{done:?}");
}

#[test]
fn without_a_daemon_it_works_as_well() {
    let home = Home::new();
    let line = [&SHORT[..], &["--no-daemon"]].concat();
    let done = home.run_with_input(&line, b"Hello\n/stats\n");
    assert_eq!(done.code, 0, "{done:?}");
    assert!(!home.socket().exists());
}
