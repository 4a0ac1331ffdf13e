//! Deleting is real: no byte of what was said is left in any file of the folder.

use std::path::Path;

use samovar_chat::{AnswerRecord, ChatHistory, ChatQuestion, Conversations};

/// A word that stands nowhere else.
const SECRET: &str = "xanthocarpous";

fn say(history: &ChatHistory, text: &str, conversation: Option<i64>) -> i64 {
    let question = ChatQuestion { conversation, ..ChatQuestion::new(text) };
    let turn = history.begin(&question).expect("begins");
    let conversation = turn.conversation();
    let answer = AnswerRecord { text: format!("You said: {text}"), ..AnswerRecord::by("demo") };
    turn.keep(&answer).expect("keeps");
    conversation
}

/// The files in which these bytes are.
fn files_with(folder: &Path, text: &str) -> Vec<String> {
    let needle = text.as_bytes();
    let mut found = Vec::new();
    for entry in fs_err::read_dir(folder).expect("reads") {
        let path = entry.expect("an entry").path();
        let bytes = fs_err::read(&path).expect("reads");
        if bytes.windows(needle.len()).any(|window| window.eq_ignore_ascii_case(needle)) {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn a_deleted_conversation_leaves_no_byte_of_its_text() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let conversations = Conversations::open(&folder.path().join("chats.sqlite3")).expect("opens");
    let history = conversations.of("");
    for number in 0..200 {
        say(&history, &format!("An innocent message, number {number}, about rivers and foxes."), None);
    }
    let secret = say(&history, &format!("My word is {SECRET}."), None);
    // Long enough for pages of its own.
    say(&history, &format!("{SECRET} ").repeat(2_000), Some(secret));
    say(&history, "And one more, so that it is not the last.", None);
    assert_eq!(files_with(folder.path(), SECRET).len(), 1, "it was there");
    assert_eq!(history.search(SECRET, 10).expect("searches").len(), 1);
    history.forget(secret).expect("forgets");
    assert_eq!(files_with(folder.path(), SECRET), [""; 0]);
    assert!(history.search(SECRET, 10).expect("searches").is_empty());
    assert!(history.open(secret).is_err());
    assert_eq!(history.search("foxes", 10).expect("searches").len(), 10, "the others are there");
    assert_eq!(history.forget_all().expect("forgets"), 201);
    assert_eq!(files_with(folder.path(), "rivers"), [""; 0]);
}

#[test]
fn a_question_that_is_taken_back_and_a_forgotten_fact_leave_nothing_either() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let conversations = Conversations::open(&folder.path().join("chats.sqlite3")).expect("opens");
    let history = conversations.of("");
    history.begin(&ChatQuestion::new(SECRET)).expect("begins").take_back().expect("takes back");
    let fact = history.remember(&format!("I like {SECRET} trees")).expect("remembers");
    history.correct_fact(fact, "I like trees").expect("corrects");
    assert_eq!(files_with(folder.path(), SECRET), [""; 0]);
    history.forget_fact(fact).expect("forgets");
    assert_eq!(files_with(folder.path(), "like trees"), [""; 0]);
    assert!(history.list(10, None).expect("lists").is_empty(), "a conversation of nothing is none");
}
