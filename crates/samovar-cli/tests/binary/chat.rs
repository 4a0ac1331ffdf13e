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

#[test]
fn a_chat_goes_on_later_and_is_listed_searched_exported_and_deleted() {
    let home = Home::new();
    let first = home.run_with_input(&SHORT, b"Tell me about a zebra\n/title Animals\n/remember I like tea\n");
    assert_eq!(first.code, 0, "{first:?}");
    let line = [&SHORT[..], &["--continue", "--json"]].concat();
    let next = home.run_with_input(&line, b"And then?\n");
    assert_eq!(next.code, 0, "{next:?}");
    assert!(
        next.stderr.contains("\"Animals\"") && next.stderr.contains("the model is told 1 fact"),
        "{next:?}"
    );
    let answer: Value = serde_json::from_str(&next.stdout).expect("an object");
    assert!(answer["usage"]["prompt_tokens"].as_u64().expect("count") > 20, "{answer}");
    let by_title = [&SHORT[..], &["--conversation", "animals"]].concat();
    assert_eq!(home.run_with_input(&by_title, b"/facts off\nMore\n").code, 0);
    home.run_with_input(&SHORT, b"Something else\n");
    let list = home.run(&["history", "--json"]).json();
    let titles: Vec<&str> = list["conversations"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|head| head["title"].as_str())
        .collect();
    assert_eq!(titles, ["Something else", "Animals"]);
    assert_eq!(list["conversations"][1]["messages"], 6);
    let found = home.run(&["history", "--search", "zebra"]);
    assert!(found.stdout.contains("Animals") && !found.stdout.contains("Something"), "{found:?}");
    let copy = home.run(&["history", "animals", "--export", "json"]);
    fs_err::write(home.path().join("copy.json"), &copy.stdout).expect("writes");
    assert_eq!(
        home.run(&["history", "--import", "copy.json", "--json"]).json()["imported"],
        serde_json::json!([3])
    );
    let shown = home.run(&["history", "3"]);
    assert!(shown.stdout.starts_with("# Animals\n\n**user:**\n\nTell me about a zebra"), "{shown:?}");
    let refused = home.run(&["history", "--forget"]);
    assert_eq!(refused.code, 64, "{refused:?}");
    assert_eq!(home.run(&["history", "--forget", "3"]).code, 0);
    assert_eq!(home.run(&["history", "--forget", "--all", "--json"]).json()["deleted"], 2);
    let bytes = fs_err::read(home.path().join("state/chats.sqlite3")).expect("the file");
    assert!(!bytes.windows(5).any(|window| window == b"zebra"), "no byte of it is left");
    assert_eq!(home.run_with_input(&line, b"Hello\n").code, 66, "there is nothing to go on with");
}

#[test]
fn a_private_chat_and_one_without_a_writable_place_work_and_keep_nothing() {
    let home = Home::new();
    let private = [&SHORT[..], &["--private"]].concat();
    let done = home.run_with_input(&private, b"Hello\nTell me more\n/history\n");
    assert!(done.code == 0 && !done.stdout.trim().is_empty(), "{done:?}");
    assert!(!home.path().join("state/chats.sqlite3").exists());
    // A folder in the place of the file.
    fs_err::create_dir_all(home.path().join("state/chats.sqlite3")).expect("a folder");
    let done = home.run_with_input(&SHORT, b"Hello\nTell me more\n");
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(done.stderr.matches("this conversation is not kept").count(), 1, "{done:?}");
    let line = [&SHORT[..], &["--continue"]].concat();
    assert_eq!(home.run_with_input(&line, b"Hello\n").code, 74, "that needs the file");
}
