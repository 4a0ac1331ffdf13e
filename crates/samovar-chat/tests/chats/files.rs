//! The file of conversations: damaged, of a newer program, used by two at once, and closed to other users.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use samovar_chat::{AnswerRecord, ChatError, ChatHistory, ChatQuestion, Conversations};

fn say(history: &ChatHistory, text: &str) -> i64 {
    let turn = history.begin(&ChatQuestion::new(text)).expect("begins");
    let conversation = turn.conversation();
    turn.keep(&AnswerRecord { text: "Yes.".into(), ..AnswerRecord::by("demo") }).expect("keeps");
    conversation
}

#[test]
fn a_damaged_file_is_set_aside_with_its_bytes_and_a_fresh_one_begun() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("chats.sqlite3");
    say(&Conversations::open(&path).expect("opens").of(""), "Hello");
    let mut bytes = fs_err::read(&path).expect("reads");
    // The pages behind the first one.
    bytes[4096..].fill(0x5a);
    fs_err::write(&path, &bytes).expect("writes");
    let conversations = Conversations::open(&path).expect("opens");
    let aside = conversations.set_aside().expect("was set aside");
    assert_eq!(fs_err::read(aside).expect("is there"), bytes);
    let history = conversations.of("");
    assert!(history.list(10, None).expect("lists").is_empty());
    say(&history, "Hello again");
    let again = Conversations::open(&path).expect("opens");
    assert!(again.set_aside().is_none() && again.of("").latest().expect("lists").is_some());
    fs_err::write(&path, "no database at all, and long enough to be seen as one").expect("writes");
    assert!(Conversations::open(&path).expect("opens").set_aside().is_some());
}

#[test]
fn the_file_of_a_newer_program_is_left_as_it_is() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("chats.sqlite3");
    drop(Conversations::open(&path).expect("opens"));
    let mut bytes = fs_err::read(&path).expect("reads");
    // `user_version`, in the head of a database.
    bytes[60..64].copy_from_slice(&99_u32.to_be_bytes());
    fs_err::write(&path, &bytes).expect("writes");
    let error = Conversations::open(&path).err().expect("is newer");
    assert!(matches!(error, ChatError::Newer { found: 99, .. }), "{error}");
    assert_eq!(fs_err::read(&path).expect("reads"), bytes);
}

#[test]
fn only_its_owner_reads_the_file_and_a_link_in_its_place_is_refused() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("chats.sqlite3");
    drop(Conversations::open(&path).expect("opens"));
    let mode = fs_err::metadata(&path).expect("is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let link = folder.path().join("link.sqlite3");
    std::os::unix::fs::symlink(&path, &link).expect("links");
    assert!(matches!(Conversations::open(&link), Err(ChatError::Io { .. })));
}

#[test]
fn two_users_of_one_file_lose_nothing() {
    const EACH: usize = 20;
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("chats.sqlite3");
    std::thread::scope(|scope| {
        for side in 0..2 {
            let path = &path;
            scope.spawn(move || {
                // A connection of its own, as another process has.
                let history = Conversations::open(path).expect("opens").of("");
                for number in 0..EACH {
                    say(&history, &format!("side {side}, message {number}"));
                }
            });
        }
    });
    let history = Conversations::open(&path).expect("opens").of("");
    assert_eq!(history.list(100, None).expect("lists").len(), 2 * EACH);
    assert_eq!(history.search("side", 100).expect("searches").len(), 2 * EACH);
}

/// Started by the test below.
#[test]
fn another_process_says_something() {
    let Some(path) = std::env::args().find_map(|text| text.strip_prefix("--skip=file:").map(str::to_owned))
    else {
        return;
    };
    say(&Conversations::open(path.as_ref()).expect("opens").of(""), "from another process");
}

#[test]
fn another_process_is_seen_at_once() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("chats.sqlite3");
    let history = Conversations::open(&path).expect("opens").of("");
    say(&history, "from this process");
    let status = Command::new(std::env::current_exe().expect("this program"))
        .args(["files::another_process_says_something", "--exact"])
        // The test runner passes what it is to skip over; the other process reads it as the place of the file.
        .arg(format!("--skip=file:{}", path.display()))
        .output()
        .expect("runs");
    assert!(status.status.success(), "{status:?}");
    let titles: Vec<String> =
        history.list(10, None).expect("lists").into_iter().map(|head| head.title).collect();
    assert_eq!(titles, ["from another process", "from this process"]);
}
