//! The texts of a command: its arguments, or the lines of a file or of standard input, read in batches as they are needed.
//!
//! ```text
//!   arguments ┐
//!   file      ├─► a thread of its own ─► one batch waits ─► the command
//!   stdin     ┘
//! ```
//!
//! A batch ends when it is large, and when nothing more is there to read at once: lines of a slow writer are not held back.

use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::mem::discriminant;
use std::path::Path;

use samovar::EmbedInput;
use samovar_core::{ErrorKind, Failure};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::args::{InputForm, TextSource};
use crate::home;

/// Texts of one batch.
const BATCH_TEXTS: usize = 512;
/// Bytes of a batch before its last text. With that, and with every character escaped, a batch fits into a request.
const BATCH_BYTES: usize = 128 << 10;
/// Bytes of one text.
const TEXT_BYTES_MAX: usize = 512 << 10;
/// Bytes that are read at once.
const READ_BYTES: usize = 256 << 10;
/// Stands for standard input.
const STDIN: &str = "-";

/// One text, or one list of token ids.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Item {
    /// Its place among the arguments or lines, from 0.
    pub(super) place: u64,
    /// What it says.
    pub(super) input: EmbedInput,
    /// What its line calls it.
    pub(super) id: Option<Value>,
}

/// What is read, and how.
#[derive(Clone, Debug, Default)]
pub(super) struct Reading {
    /// So many of the first are passed over.
    pub(super) skip: u64,
    /// Lines without text count as texts.
    pub(super) keeps_empty: bool,
    /// Texts are token ids.
    pub(super) reads_ids: bool,
}

/// Texts that are being read.
pub(super) struct Texts {
    /// At least one item each; an error is the last.
    pub(super) batches: mpsc::Receiver<Result<Vec<Item>, Failure>>,
    /// Where they come from.
    pub(super) origin: TextOrigin,
}

/// Where texts come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TextOrigin {
    Arguments,
    Lines(String),
}

impl TextOrigin {
    /// How a person finds the text at this place.
    pub(super) fn place(&self, place: u64) -> String {
        match self {
            Self::Arguments => format!("text {}", place + 1),
            Self::Lines(name) => format!("{name}, line {}", place + 1),
        }
    }
}

/// Begins to read. `how` is a command that has a text.
///
/// # Errors
/// `InvalidRequest` when there is no text, or when it is in two places; `NotFound` and `Storage` for a file that cannot be read.
pub(super) fn begin(
    words: Vec<String>,
    source: &TextSource,
    reading: Reading,
    how: &str,
) -> Result<Texts, Failure> {
    if !words.is_empty() && source.file.is_some() {
        return Err(Failure::new(ErrorKind::InvalidRequest, "there are texts, and a file of texts")
            .with_hint("write the texts or --file, not both"));
    }
    let (lines, origin, is_jsonl) = match &source.file {
        None if !words.is_empty() => (Lines::Arguments(words.into_iter()), TextOrigin::Arguments, false),
        Some(path) if path.as_os_str() != STDIN => {
            let file = fs_err::File::open(path).map_err(|error| unreadable(path, &error))?;
            if file.metadata().is_ok_and(|facts| facts.is_dir()) {
                return Err(Failure::new(
                    ErrorKind::InvalidRequest,
                    format!("{} is a directory", path.display()),
                )
                .with_hint("--file names a file of texts"));
            }
            (Lines::read(file), TextOrigin::Lines(path.display().to_string()), is_jsonl(path))
        }
        file => {
            if file.is_none() && std::io::stdin().is_terminal() {
                return Err(no_text(how));
            }
            (Lines::read(std::io::stdin()), TextOrigin::Lines("standard input".to_owned()), false)
        }
    };
    let is_jsonl = match (source.input, &origin) {
        (Some(form), TextOrigin::Lines(_)) => form == InputForm::Jsonl,
        _ => is_jsonl,
    };
    let (sender, batches) = mpsc::channel(1);
    let mut reader =
        Reader { lines, reading, is_jsonl, origin: origin.clone(), next: 0, ahead: None, failed: None };
    // Standard input may be silent for long.
    tokio::task::spawn_blocking(move || {
        while let Some(batch) = reader.batch().transpose() {
            let is_last = batch.is_err();
            if sender.blocking_send(batch).is_err() || is_last {
                return;
            }
        }
    });
    Ok(Texts { batches, origin })
}

/// What is said where no text is.
pub(super) fn no_text(how: &str) -> Failure {
    Failure::new(ErrorKind::InvalidRequest, "there is no text").with_hint(how)
}

fn is_jsonl(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str()).map(str::to_ascii_lowercase);
    ending.is_some_and(|ending| ["jsonl", "ndjson"].contains(&ending.as_str()))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    if error.kind() == std::io::ErrorKind::NotFound {
        return Failure::new(ErrorKind::NotFound, format!("there is no file {}", path.display()))
            .with_hint("--file names a file of texts, one per line");
    }
    let message = format!("could not read {}: {}", path.display(), home::plain(error));
    Failure::new(ErrorKind::Storage, message).with_hint("check the file and who may read it")
}

enum Lines {
    Arguments(std::vec::IntoIter<String>),
    Read(BufReader<Box<dyn Read + Send>>),
}

impl Lines {
    fn read(from: impl Read + Send + 'static) -> Self {
        Self::Read(BufReader::with_capacity(READ_BYTES, Box::new(from)))
    }

    /// The bytes of the next one, without the end of its line; of one that is too long, more than may be.
    fn next(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        match self {
            Self::Arguments(words) => Ok(words.next().map(String::into_bytes)),
            Self::Read(reader) => {
                let mut line = Vec::new();
                // Two more than a text: the end of its line.
                let most = TEXT_BYTES_MAX as u64 + 2;
                if reader.by_ref().take(most).read_until(b'\n', &mut line)? == 0 {
                    return Ok(None);
                }
                if line.last() == Some(&b'\n') {
                    line.pop();
                    if line.last() == Some(&b'\r') {
                        line.pop();
                    }
                }
                Ok(Some(line))
            }
        }
    }

    /// Passes over the next one, however long it is; false = there is none.
    fn pass(&mut self) -> std::io::Result<bool> {
        match self {
            Self::Arguments(words) => Ok(words.next().is_some()),
            Self::Read(reader) => Ok(reader.skip_until(b'\n')? > 0),
        }
    }

    /// Whether the next one is here already, so that reading it waits for nothing.
    fn is_ready(&self) -> bool {
        match self {
            Self::Arguments(_) => true,
            Self::Read(reader) => reader.buffer().contains(&b'\n'),
        }
    }
}

/// Makes batches of lines.
struct Reader {
    lines: Lines,
    reading: Reading,
    is_jsonl: bool,
    origin: TextOrigin,
    /// The place of the next line.
    next: u64,
    /// Read, and for the next batch.
    ahead: Option<Item>,
    /// What is said after the batch before it.
    failed: Option<Failure>,
}

impl Reader {
    /// The next batch: at least one item, all texts or all token ids.
    fn batch(&mut self) -> Result<Option<Vec<Item>>, Failure> {
        if let Some(failure) = self.failed.take() {
            return Err(failure);
        }
        let mut batch: Vec<Item> = Vec::new();
        let mut bytes = 0;
        loop {
            let item = match self.ahead.take() {
                Some(item) => item,
                None => match self.item() {
                    Ok(Some(item)) => item,
                    Ok(None) => return Ok((!batch.is_empty()).then_some(batch)),
                    Err(failure) if batch.is_empty() => return Err(failure),
                    Err(failure) => {
                        self.failed = Some(failure);
                        return Ok(Some(batch));
                    }
                },
            };
            let is_other = |first: &Item| discriminant(&first.input) != discriminant(&item.input);
            if batch.first().is_some_and(is_other) {
                self.ahead = Some(item);
                return Ok(Some(batch));
            }
            bytes += item.input.bytes();
            batch.push(item);
            if batch.len() >= BATCH_TEXTS || bytes >= BATCH_BYTES || !self.lines.is_ready() {
                return Ok(Some(batch));
            }
        }
    }

    /// The next text that is not passed over.
    fn item(&mut self) -> Result<Option<Item>, Failure> {
        while self.next < self.reading.skip {
            if !self.lines.pass().map_err(|error| self.broken(&error))? {
                return Ok(None);
            }
            self.next += 1;
        }
        loop {
            let line = self.lines.next().map_err(|error| self.broken(&error))?;
            let Some(line) = line else { return Ok(None) };
            let place = self.next;
            self.next += 1;
            let fault = |what: &str, hint: &str| {
                let message = format!("{} {what}", self.origin.place(place));
                Err(Failure::new(ErrorKind::InvalidRequest, message).with_hint(hint))
            };
            if line.len() > TEXT_BYTES_MAX {
                return fault(
                    &format!("has more than {} KiB", TEXT_BYTES_MAX >> 10),
                    "split it: models read far less at once",
                );
            }
            let Ok(line) = String::from_utf8(line) else {
                return fault("is not UTF-8 text", "a text is UTF-8");
            };
            if line.trim().is_empty() && !self.reading.keeps_empty {
                match self.origin {
                    TextOrigin::Lines(_) => continue,
                    TextOrigin::Arguments => return fault("is empty", "write a text, or leave it out"),
                }
            }
            let (input, id) = match self.read(line) {
                Ok(read) => read,
                Err((what, hint)) => return fault(&what, hint),
            };
            let input = match input {
                EmbedInput::Text(text) if self.reading.reads_ids => match ids(&text) {
                    Ok(ids) => EmbedInput::Tokens(ids),
                    Err(word) => {
                        return fault(
                            &format!("has {word:?}, which is no token id"),
                            "write whole numbers with blanks between them",
                        );
                    }
                },
                input => input,
            };
            return Ok(Some(Item { place, input, id }));
        }
    }

    fn broken(&self, error: &std::io::Error) -> Failure {
        let message = format!("could not read {}: {}", self.origin.place(self.next), home::plain(error));
        Failure::new(ErrorKind::Storage, message)
    }

    /// What a line says, and what it calls itself; or what is wrong with it, and what to write.
    fn read(&self, line: String) -> Result<(EmbedInput, Option<Value>), (String, &'static str)> {
        const JSON: &str =
            "write a string, a list of token ids, or an object such as {\"text\": \"…\", \"id\": 7}";
        if !self.is_jsonl {
            return Ok((EmbedInput::Text(line), None));
        }
        let value: Value = serde_json::from_str(&line)
            .map_err(|error| (format!("is not JSON: {error}"), "--input lines reads each line as a text"))?;
        let list = |value: Value| serde_json::from_value(value).map(EmbedInput::Tokens);
        match value {
            Value::String(text) => Ok((EmbedInput::Text(text), None)),
            value @ Value::Array(_) => list(value)
                .map(|tokens| (tokens, None))
                .map_err(|_| ("is not a list of token ids".to_owned(), JSON)),
            Value::Object(mut fields) => {
                let id = fields.remove("id");
                match fields.remove("text") {
                    Some(Value::String(text)) => Ok((EmbedInput::Text(text), id)),
                    _ => Err(("has no field `text` that is a string".to_owned(), JSON)),
                }
            }
            _ => Err(("has no text".to_owned(), JSON)),
        }
    }
}

/// Token ids as `tokenize` prints them, or as JSON; else the word that is none.
fn ids(text: &str) -> Result<Vec<u32>, String> {
    let words = text.split(|c: char| c.is_whitespace() || "[],".contains(c)).filter(|word| !word.is_empty());
    words.map(|word| word.parse().map_err(|_| word.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(text: &'static [u8], reading: Reading, is_jsonl: bool) -> Reader {
        let origin = TextOrigin::Lines("x".to_owned());
        Reader { lines: Lines::read(text), reading, is_jsonl, origin, next: 0, ahead: None, failed: None }
    }

    fn places(batch: &[Item]) -> Vec<u64> {
        batch.iter().map(|item| item.place).collect()
    }

    fn text(text: &str) -> EmbedInput {
        EmbedInput::Text(text.to_owned())
    }

    #[test]
    fn empty_lines_keep_their_place_and_are_no_texts() {
        let mut read = reader(b"a\r\n\n  \nb\nlast", Reading::default(), false);
        let batch = read.batch().expect("reads").expect("a batch");
        assert_eq!((places(&batch), &batch[0].input), (vec![0, 3], &text("a")));
        let batch = read.batch().expect("reads").expect("what has no end of line");
        assert_eq!((places(&batch), &batch[0].input), (vec![4], &text("last")));
        assert_eq!(read.batch(), Ok(None));
        let reading = Reading { keeps_empty: true, ..Reading::default() };
        assert_eq!(reader(b"\n\n", reading, false).batch().expect("reads").expect("a batch").len(), 2);
    }

    #[test]
    fn what_was_written_already_is_passed_over() {
        let reading = Reading { skip: 2, ..Reading::default() };
        let batch = reader(b"a\n\nb\nc\n", reading, false).batch().expect("reads").expect("a batch");
        assert_eq!((places(&batch), &batch[0].input), (vec![2, 3], &text("b")));
        // Also what could not be read, or is too long.
        let mut lines = vec![b'a'; 3 * TEXT_BYTES_MAX];
        lines.extend_from_slice(b"\n\xff\nb");
        let reading = Reading { skip: 2, ..Reading::default() };
        let batch = reader(lines.leak(), reading, false).batch().expect("reads").expect("a batch");
        assert_eq!((places(&batch), &batch[0].input), (vec![2], &text("b")));
        let reading = Reading { skip: 3, ..Reading::default() };
        assert_eq!(reader(b"a\nb", reading, false).batch(), Ok(None));
    }

    #[test]
    fn a_line_that_cannot_be_read_is_named_after_those_before_it() {
        let mut read = reader(b"a\nb\n\xff\n", Reading::default(), false);
        assert_eq!(places(&read.batch().expect("reads").expect("a batch")), [0, 1]);
        let failure = read.batch().expect_err("no text");
        assert_eq!(failure.message, "x, line 3 is not UTF-8 text");
        let long: &'static [u8] = Box::leak(vec![b'a'; TEXT_BYTES_MAX + 1].into_boxed_slice());
        let failure = reader(long, Reading::default(), false).batch().expect_err("too long");
        assert!(failure.message.contains("line 1 has more than 512 KiB"), "{failure}");
        assert!(reader(&long[1..], Reading::default(), false).batch().is_ok());
    }

    #[test]
    fn lines_of_json_are_texts_lists_and_objects() {
        let lines = "\"a\"\n{\"text\":\"b\",\"id\":7}\n[1,2]\n[3]\n\"c\"\n";
        let mut read = reader(lines.as_bytes(), Reading::default(), true);
        let batch = read.batch().expect("reads").expect("texts");
        assert_eq!((&batch[0].input, &batch[1].input), (&text("a"), &text("b")));
        assert_eq!(batch[1].id, Some(Value::from(7)));
        let batch = read.batch().expect("reads").expect("lists, for a request has one kind");
        assert_eq!((places(&batch), &batch[0].input), (vec![2, 3], &EmbedInput::Tokens(vec![1, 2])));
        assert_eq!(places(&read.batch().expect("reads").expect("the last")), [4]);
        for wrong in [&b"{}\n"[..], b"nothing\n", b"3\n", b"[\"a\"]\n", b"{\"text\":3}\n"] {
            let failure = reader(wrong, Reading::default(), true).batch().expect_err("no text");
            assert!(failure.message.starts_with("x, line 1 ") && failure.hint.is_some(), "{failure}");
        }
    }

    #[test]
    fn token_ids_are_read_as_they_are_printed() {
        assert_eq!(ids("1 22  3"), Ok(vec![1, 22, 3]));
        assert_eq!(ids("[1, 22]"), Ok(vec![1, 22]));
        assert_eq!(ids("1 -2"), Err("-2".to_owned()));
        assert_eq!(ids("4294967296"), Err("4294967296".to_owned()));
    }

    #[test]
    fn batches_are_bounded_in_texts_and_bytes() {
        let words = |count: usize, bytes: usize| {
            let words = vec!["x".repeat(bytes); count].into_iter();
            let lines = Lines::Arguments(words);
            let (reading, origin) = (Reading::default(), TextOrigin::Arguments);
            Reader { lines, reading, is_jsonl: false, origin, next: 0, ahead: None, failed: None }
        };
        assert_eq!(words(1_000, 1).batch().expect("reads").expect("a batch").len(), BATCH_TEXTS);
        assert_eq!(words(1_000, 64 << 10).batch().expect("reads").expect("a batch").len(), 2);
    }
}
