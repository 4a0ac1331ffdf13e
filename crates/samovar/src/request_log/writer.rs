//! The file of the log, written by a thread of its own: it is put aside when it has grown, and each file tells what the
//! models of its requests cost. What cannot be written is lost, and said so once.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;

use samovar_pool::replay::log::{Asked, ModelCosts};
use serde::Serialize;
use tokio::sync::oneshot;

use super::MODELS_MAX;
use crate::bounded::BoundedMap;

/// What goes to the thread.
pub(super) enum LogMessage {
    Asked(Asked),
    ModelCosts(ModelCosts),
    /// Answered when all lines before it have been written.
    Mark(oneshot::Sender<()>),
}

/// The thread's end: a file that is put aside when it has grown.
pub(super) struct Writer {
    path: PathBuf,
    file: Option<File>,
    /// What the file holds; a device or a pipe holds nothing.
    written_bytes: Option<u64>,
    max_bytes: u64,
    /// What the models cost that were told of last.
    costs: BoundedMap<String, Costs, MODELS_MAX>,
    has_complained: bool,
}

/// What a model costs, and whether that is in this file.
struct Costs {
    facts: ModelCosts,
    is_told: bool,
}

impl Writer {
    pub(super) fn open(path: PathBuf, max_bytes: u64) -> Self {
        let mut writer = Self {
            path,
            file: None,
            written_bytes: None,
            max_bytes,
            costs: BoundedMap::default(),
            has_complained: false,
        };
        writer.reopen();
        writer
    }

    pub(super) fn write_all(mut self, queue: &Receiver<LogMessage>) {
        for line in queue {
            self.take(line);
        }
    }

    fn take(&mut self, line: LogMessage) {
        match line {
            LogMessage::Asked(asked) => self.write_asked(&asked),
            LogMessage::ModelCosts(facts) => {
                // What is new is said when the model is asked for next, in this file or another.
                let is_known = self.costs.get(&facts.model).is_some_and(|known| known.facts == facts);
                if !is_known {
                    self.costs.insert(facts.model.clone(), Costs { facts, is_told: false });
                }
            }
            LogMessage::Mark(mark) => {
                self.write_untold();
                // Who waits may have gone.
                mark.send(()).ok();
            }
        }
    }

    /// A request, and the facts of its model if this file has them not: both in one file.
    fn write_asked(&mut self, asked: &Asked) {
        let asked_text = line_of(asked);
        let costs = self.costs.get(&asked.model);
        let is_told = costs.is_some_and(|costs| costs.is_told);
        let facts_text = costs.map(|costs| line_of(&costs.facts)).unwrap_or_default();
        let needed = if is_told { asked_text.len() } else { facts_text.len() + asked_text.len() };
        // Another file knows no facts.
        let has_another = !self.has_room(needed) && self.put_aside();
        if is_told && !has_another {
            self.write(&asked_text);
        } else if self.write(&(facts_text + &asked_text)) {
            self.told(&asked.model);
        }
    }

    /// Facts that came after the last request for their model.
    fn write_untold(&mut self) {
        let untold = self.costs.values().filter(|costs| !costs.is_told).map(|costs| costs.facts.clone());
        for facts in untold.collect::<Vec<_>>() {
            let text = line_of(&facts);
            if !self.has_room(text.len()) {
                self.put_aside();
            }
            if self.write(&text) {
                self.told(&facts.model);
            }
        }
    }

    /// What the model costs is in this file.
    fn told(&mut self, model: &str) {
        if let Some(costs) = self.costs.get_mut(model) {
            costs.is_told = true;
        }
    }

    fn has_room(&self, bytes: usize) -> bool {
        let is_room = |written: u64| written == 0 || written.saturating_add(bytes as u64) <= self.max_bytes;
        self.written_bytes.is_none_or(is_room)
    }

    /// Whole lines, or what a failing disk takes of them.
    fn write(&mut self, lines: &str) -> bool {
        if self.file.is_none() {
            self.reopen();
        }
        // A file that could not be put aside grows no more.
        if !self.has_room(lines.len()) {
            return false;
        }
        let Some(file) = &mut self.file else { return false };
        match file.write_all(lines.as_bytes()) {
            Ok(()) => {
                self.written_bytes = self.written_bytes.map(|bytes| bytes + lines.len() as u64);
                true
            }
            Err(error) => {
                self.complain(&error);
                false
            }
        }
    }

    /// Makes room for the next file, and says whether there is one.
    fn put_aside(&mut self) -> bool {
        match fs_err::rename(&self.path, older(&self.path)) {
            Ok(()) => {
                self.file = None;
                self.written_bytes = None;
                self.costs.values_mut().for_each(|costs| costs.is_told = false);
                true
            }
            Err(error) => {
                self.complain(&error);
                false
            }
        }
    }

    fn reopen(&mut self) {
        match open(&self.path) {
            Ok((file, bytes)) => {
                self.file = Some(file);
                self.written_bytes = bytes;
            }
            Err(error) => self.complain(&error),
        }
    }

    fn complain(&mut self, error: &std::io::Error) {
        self.file = None;
        if !std::mem::replace(&mut self.has_complained, true) {
            tracing::warn!(path = %self.path.display(), "lines of the log of requests are lost: {error}");
        }
    }
}

/// The file, at whose end a line can begin, and how long it is. A device or a pipe has no length, and so is never put
/// aside.
fn open(path: &Path) -> std::io::Result<(File, Option<u64>)> {
    let mut options = File::options();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let mut file = options.open(path)?;
    let facts = file.metadata()?;
    if !facts.is_file() {
        return Ok((file, None));
    }
    let mut bytes = facts.len();
    if ends_within_a_line(&mut file, bytes)? {
        // A crash or a full disk: what follows is not to be lost with it.
        file.write_all(b"\n")?;
        bytes += 1;
    }
    Ok((file, Some(bytes)))
}

fn ends_within_a_line(file: &mut File, bytes: u64) -> std::io::Result<bool> {
    let Some(last) = bytes.checked_sub(1) else { return Ok(false) };
    let mut byte = [0];
    file.seek(SeekFrom::Start(last))?;
    file.read_exact(&mut byte)?;
    Ok(byte != *b"\n")
}

/// One line of the log.
fn line_of(line: &impl Serialize) -> String {
    let mut text = serde_json::to_string(line).expect("invariant: words and numbers");
    text.push('\n');
    text
}

fn older(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use samovar_pool::replay::Trace;
    use samovar_pool::replay::log::Reader;

    use super::super::MAX_BYTES;
    use super::*;

    fn asked(model: &str, time_ms: u64) -> LogMessage {
        LogMessage::Asked(Asked { time_ms, model: model.to_owned(), ..Asked::default() })
    }

    fn facts(model: &str, bytes: u64) -> LogMessage {
        LogMessage::ModelCosts(ModelCosts {
            model: model.to_owned(),
            held_bytes: Some(bytes),
            ..ModelCosts::default()
        })
    }

    fn read(path: &Path) -> Trace {
        let mut reader = Reader::default();
        let text = fs_err::read_to_string(path).expect("file");
        text.lines().for_each(|line| reader.take(line).expect("a line that plan can read"));
        reader.finish()
    }

    #[test]
    fn every_file_tells_what_its_models_cost_and_two_files_are_the_most() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("requests.log");
        let mut writer = Writer::open(path.clone(), 400);
        writer.take(facts("a", 5));
        for time_ms in 0..100 {
            writer.take(asked("a", time_ms));
        }
        let files = fs_err::read_dir(folder.path()).expect("folder");
        let sizes: Vec<u64> =
            files.map(|file| file.expect("file").metadata().expect("facts").len()).collect();
        assert!(sizes.len() == 2 && sizes.iter().all(|bytes| *bytes <= 400), "{sizes:?}");
        for file in [older(&path), path] {
            let trace = read(&file);
            assert!(trace.requests.len() > 5);
            assert_eq!(trace.models[0].facts.as_ref().and_then(|facts| facts.held_bytes), Some(5));
        }
    }

    #[test]
    fn no_file_begins_with_a_request_whose_model_costs_nobody_knows() {
        // Sizes at which the last line that fits is a request, or facts, or neither.
        for max_bytes in 150..400 {
            let folder = tempfile::tempdir().expect("temporary folder");
            let path = folder.path().join("requests.log");
            let mut writer = Writer::open(path.clone(), max_bytes);
            (0..4).for_each(|n| writer.take(facts(&format!("m{n}"), n)));
            (0..12).for_each(|n| writer.take(asked(&format!("m{}", n % 4), n)));
            let trace = read(&path);
            assert!(trace.models.iter().all(|model| model.facts.is_some()), "{max_bytes}: {trace:?}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_put_aside_grows_no_more() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("requests.log");
        let aside = older(&path);
        fs_err::create_dir_all(aside.join("in the way")).expect("folder");
        let mut writer = Writer::open(path.clone(), 400);
        (0..100).for_each(|time_ms| writer.take(asked("a", time_ms)));
        let bytes = fs_err::metadata(&path).expect("file").len();
        assert!((300..=400).contains(&bytes) && writer.has_complained, "{bytes}");
        fs_err::remove_dir_all(&aside).expect("gone");
        writer.take(asked("a", 100));
        assert_eq!(read(&path).requests.len(), 1, "it goes on in a new file");
    }

    #[cfg(unix)]
    #[test]
    fn a_device_is_never_put_aside() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("requests.log");
        std::os::unix::fs::symlink("/dev/null", &path).expect("a link");
        let mut writer = Writer::open(path.clone(), 400);
        (0..100).for_each(|time_ms| writer.take(asked("a", time_ms)));
        assert!(!older(&path).exists() && path.is_symlink());
    }

    #[test]
    fn a_restart_goes_on_after_what_a_crash_left() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("requests.log");
        let mut first = Writer::open(path.clone(), MAX_BYTES);
        first.take(facts("a", 5));
        first.take(asked("a", 0));
        drop(first);
        let mut file = File::options().append(true).open(&path).expect("file");
        file.write_all(b"{\"time_ms\":1,\"mod").expect("writes");
        let mut second = Writer::open(path.clone(), MAX_BYTES);
        second.take(facts("a", 6));
        second.take(asked("a", 2));
        let mut reader = Reader::default();
        let text = fs_err::read_to_string(&path).expect("file");
        text.lines().for_each(|line| reader.take(line).expect("a line, or the beginning of one"));
        let torn = reader.torn();
        let trace = reader.finish();
        assert_eq!((torn, trace.requests.len()), (1, 2), "{text}");
        assert_eq!(trace.models[0].facts.as_ref().and_then(|facts| facts.held_bytes), Some(6));
    }

    #[test]
    fn facts_are_told_again_when_they_have_changed() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("requests.log");
        let mut writer = Writer::open(path.clone(), MAX_BYTES);
        for line in [facts("a", 5), asked("a", 0), facts("a", 5), asked("a", 1), facts("a", 6), asked("a", 2)]
        {
            writer.take(line);
        }
        let lines = fs_err::read_to_string(&path).expect("file").lines().count();
        assert_eq!(lines, 5);
        assert_eq!(read(&path).models[0].facts.as_ref().and_then(|facts| facts.held_bytes), Some(6));
    }

    #[test]
    fn a_file_that_cannot_be_written_loses_lines_and_nothing_else() {
        let mut writer = Writer::open(PathBuf::from("/nowhere/requests.log"), MAX_BYTES);
        writer.take(asked("a", 0));
        assert!(writer.has_complained && writer.file.is_none());
    }
}
