//! What a line of a chat means: a command, or something to say.

use std::path::PathBuf;

use samovar_core::{ErrorKind, Failure};

use crate::settings::keys;

/// What a line of a chat means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Not a command at all.
    Say(String),
    /// What is in memory.
    Pool,
    /// Counters.
    Stats,
    /// Another model; without a name: which one it is.
    Model(Option<String>),
    /// How the model should behave; without a text: as it likes.
    System(Option<String>),
    /// The conversation into a file.
    Save(PathBuf),
    /// A conversation that was kept or saved, in place of this one.
    Load(String),
    /// The conversation with all its branches into a file.
    Export(PathBuf),
    /// The latest conversations.
    History,
    /// The conversations with these words.
    Search(String),
    /// Deletes a conversation; without a name: this one.
    Forget(Option<String>),
    /// Another title; without one: which it is.
    Title(Option<String>),
    /// Something to remember.
    Remember(String),
    /// What is remembered; with words: a change of it.
    Facts(Option<String>),
    /// What the model thought before its last answer.
    Thoughts,
    /// Begin a new conversation.
    Clear,
    /// What can be typed.
    Help,
    /// Leave.
    Quit,
}

/// The commands, for completion and suggestions.
pub(super) const NAMES: &[&str] = &[
    "/clear",
    "/export",
    "/facts",
    "/forget",
    "/help",
    "/history",
    "/load",
    "/model",
    "/pool",
    "/quit",
    "/remember",
    "/save",
    "/search",
    "/stats",
    "/system",
    "/thoughts",
    "/title",
];

pub(super) const HELP: &str = "\
/pool          what the daemon holds in memory
/stats         requests, hits, loads, memory
/model NAME    talk with another model; the conversation continues
/system TEXT   how the model should behave; without text: no instruction
/history       the latest conversations
/search TEXT   the conversations with these words
/load NAME     go on with a conversation, by its number or title, or with one that was saved as JSON
/title TEXT    another title for this conversation
/clear         begin a new conversation; this one stays in the history
/forget        delete this conversation; /forget NAME deletes another one
/remember TEXT tell the model this in every conversation
/facts         what is remembered; /facts 2 TEXT corrects it, /facts forget 2 deletes it; off and on for this conversation
/save FILE     the conversation into a file: Markdown, or JSON for .json
/export FILE   the conversation with all its branches: JSON, or Markdown for .md
/thoughts      what the model thought before its last answer
/quit          leave; Ctrl-D does as well
A line that ends in \\ goes on in the next one. Ctrl-C stops an answer. // begins a line with a slash.";

impl Command {
    /// # Errors
    /// `InvalidRequest` for a slash with an unknown word behind it.
    pub(super) fn read(line: &str) -> Result<Self, Failure> {
        let line = line.trim();
        if let Some(said) = line.strip_prefix("//") {
            return Ok(Self::Say(format!("/{said}")));
        }
        if !line.starts_with('/') {
            return Ok(Self::Say(line.to_owned()));
        }
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = Some(rest.trim()).filter(|rest| !rest.is_empty()).map(str::to_owned);
        match (word, rest) {
            ("/pool" | "/ps", _) => Ok(Self::Pool),
            ("/stats", _) => Ok(Self::Stats),
            ("/model", name) => Ok(Self::Model(name)),
            ("/system", text) => Ok(Self::System(text)),
            ("/save", Some(path)) => Ok(Self::Save(PathBuf::from(path))),
            ("/save", None) => Err(needs("/save needs a file", "/save story.md")),
            ("/load", Some(name)) => Ok(Self::Load(name)),
            ("/load", None) => {
                Err(needs("/load needs a conversation or a file", "/load 12, or /load story.json"))
            }
            ("/export", Some(path)) => Ok(Self::Export(PathBuf::from(path))),
            ("/export", None) => Err(needs("/export needs a file", "/export story.json")),
            ("/history", _) => Ok(Self::History),
            ("/search", Some(text)) => Ok(Self::Search(text)),
            ("/search", None) => Err(needs("/search needs words", "/search blue sky")),
            ("/forget", name) => Ok(Self::Forget(name)),
            ("/title", title) => Ok(Self::Title(title)),
            ("/remember", Some(text)) => Ok(Self::Remember(text)),
            ("/remember", None) => Err(needs("/remember needs a text", "/remember I live in Turku")),
            ("/facts", words) => Ok(Self::Facts(words)),
            ("/thoughts", _) => Ok(Self::Thoughts),
            ("/clear", _) => Ok(Self::Clear),
            ("/help" | "/?", _) => Ok(Self::Help),
            ("/quit" | "/exit" | "/bye", _) => Ok(Self::Quit),
            (unknown, _) => Err(unknown_command(unknown)),
        }
    }
}

fn needs(what: &str, example: &str) -> Failure {
    Failure::new(ErrorKind::InvalidRequest, what).with_hint(example)
}

fn unknown_command(word: &str) -> Failure {
    // The slash that all begin with makes none of them more alike.
    let names = NAMES.iter().map(|name| name.trim_start_matches('/'));
    let hint = keys::nearest(word.trim_start_matches('/'), names).map_or_else(
        || format!("/help lists the commands; to say it to the model write /{word}"),
        |near| format!("did you mean /{near}?"),
    );
    Failure::new(ErrorKind::InvalidRequest, format!("there is no command {word}")).with_hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_commands_or_words() {
        assert_eq!(Command::read("hello there"), Ok(Command::Say("hello there".into())));
        assert_eq!(Command::read("//etc is a directory"), Ok(Command::Say("/etc is a directory".into())));
        assert_eq!(Command::read("/model  tiny "), Ok(Command::Model(Some("tiny".into()))));
        assert_eq!(Command::read("/system"), Ok(Command::System(None)));
        assert_eq!(Command::read("/save a b.md"), Ok(Command::Save("a b.md".into())));
        assert_eq!(Command::read("/thoughts"), Ok(Command::Thoughts));
        assert_eq!(Command::read("/load 12"), Ok(Command::Load("12".into())));
        assert_eq!(Command::read("/forget"), Ok(Command::Forget(None)));
        assert_eq!(Command::read("/facts off"), Ok(Command::Facts(Some("off".into()))));
        assert_eq!(Command::read("/bye"), Ok(Command::Quit));
    }

    #[test]
    fn a_slip_of_the_finger_is_corrected() {
        let failure = Command::read("/stat").expect_err("unknown");
        assert_eq!(failure.hint.as_deref(), Some("did you mean /stats?"));
        for word in ["/save", "/load", "/export", "/search", "/remember"] {
            assert!(Command::read(word).is_err(), "{word}");
        }
        let failure = Command::read("/foo").expect_err("unknown");
        assert!(failure.hint.is_some_and(|hint| hint.starts_with("/help") && hint.ends_with("//foo")));
    }

    #[test]
    fn every_command_is_in_the_help() {
        for name in NAMES {
            assert!(*name == "/help" || HELP.contains(name), "{name}");
            assert!(Command::read(&format!("{name} x")).is_ok(), "{name}");
        }
    }
}
