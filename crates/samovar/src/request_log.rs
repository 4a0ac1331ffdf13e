//! The log of requests that `samovar plan` replays: a line for each asking, written away from the request. (A request
//! that is tried on another instance asks twice.)
//!
//! ```text
//!   request ─► Noted: asked, granted, answered ─► dropped ─► channel ─► a thread ─► FILE, FILE.1
//! ```
//!
//! A line holds times, the model's name and a number that stands for the client in this life of the program;
//! never a prompt, an answer, a key or an address. What cannot be written is lost: no request waits for it. Whatever
//! happens, the two files together stay within their size.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::hash::BuildHasher;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use samovar_core::footprint::Measurement;
use samovar_pool::replay::log::{Asked, Facts};
use samovar_pool::{ModelSpec, Snapshot};
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::answer::{Summary, Tier};
use crate::journey::Journey;

/// Lines on their way to the file; the next is lost.
const WAITING: usize = 1_024;
/// Size at which the file is put aside as `FILE.1`, in place of an older one.
const MAX_BYTES: u64 = 32 << 20;
/// Models that are remembered as told about; the facts of others are told each time.
const MODELS_MAX: usize = 4_096;
/// How long leaving waits for the last lines.
const LAST_LINES: Duration = Duration::from_secs(1);
/// Between two attempts at a full queue.
const ANOTHER_TRY: Duration = Duration::from_millis(10);

enum Line {
    Asked(Asked),
    Facts(Facts),
    /// Answered when all lines before it have been written.
    Mark(oneshot::Sender<()>),
}

/// The log of requests.
pub(crate) struct RequestLog {
    lines: SyncSender<Line>,
    /// Makes a number of a client that nobody can turn back, and that means nothing in the next life.
    clients: RandomState,
    /// Names, since the names of one model may differ in all but its bytes.
    known: Mutex<HashSet<String>>,
}

impl RequestLog {
    /// Begins to write to this file, after what it holds already.
    pub(crate) fn begin(path: PathBuf) -> Arc<Self> {
        let (lines, queue) = sync_channel(WAITING);
        let writer = move || Writer::open(path, MAX_BYTES).write_all(&queue);
        if let Err(error) = std::thread::Builder::new().name("request-log".to_owned()).spawn(writer) {
            tracing::warn!("the log of requests is not written: {error}");
        }
        Arc::new(Self { lines, clients: RandomState::new(), known: Mutex::default() })
    }

    /// Waits until what was said so far is in the file; for a second at most, since a disk may be stuck. What is not
    /// written by then may be lost.
    pub(crate) async fn flush(&self) {
        tokio::time::timeout(LAST_LINES, self.marked()).await.ok();
    }

    async fn marked(&self) {
        let (mark, marked) = oneshot::channel();
        let mut line = Line::Mark(mark);
        while let Err(TrySendError::Full(unsent)) = self.lines.try_send(line) {
            line = unsent;
            tokio::time::sleep(ANOTHER_TRY).await;
        }
        // Nobody answers where there is no thread.
        marked.await.ok();
    }

    /// What a model was found to cost: one instance of it, just measured.
    pub(crate) fn tell(&self, spec: &ModelSpec, measured: Measurement, now: &Snapshot) {
        let has_measured = measured.held_bytes + measured.mapped_bytes > 0;
        let (held, mapped) = if has_measured {
            (measured.held_bytes, measured.mapped_bytes)
        } else {
            (spec.footprint.held_bytes, spec.footprint.mapped_bytes)
        };
        let loaded = now.models.iter().find(|model| model.key == spec.key && model.loads > 0);
        let facts = Facts {
            model: spec.name.clone(),
            held_bytes: Some(held),
            mapped_bytes: Some(mapped),
            load_ms: loaded.map(|model| model.load_ms_mean as u64).or(spec.load_ms),
            slots: Some(spec.options.slots),
            ..Facts::default()
        };
        if self.lines.try_send(Line::Facts(facts)).is_ok() {
            let mut known = self.known();
            if known.len() < MODELS_MAX {
                known.insert(spec.name.clone());
            }
        }
    }

    fn client(&self, client: &str) -> String {
        if client.is_empty() {
            String::new()
        } else {
            format!("{:08x}", self.clients.hash_one(client) as u32)
        }
    }

    fn known(&self) -> MutexGuard<'_, HashSet<String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request on its way into the log; nothing when there is none.
pub(crate) struct Noted(Option<Entry>);

struct Entry {
    log: Arc<RequestLog>,
    asked: Asked,
    granted: Option<Instant>,
}

impl Noted {
    /// Now somebody asks for a slot.
    pub(crate) fn begin(log: Option<&Arc<RequestLog>>, spec: &ModelSpec, client: &str) -> Self {
        Self(log.map(|log| {
            let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let asked = Asked {
                time_ms: since_1970.as_millis() as u64,
                model: spec.name.clone(),
                client: log.client(client),
                // Until somebody says otherwise, the caller has gone.
                tier: Some("left".to_owned()),
                ..Asked::default()
            };
            Entry { log: Arc::clone(log), asked, granted: None }
        }))
    }

    /// It has one.
    pub(crate) fn granted(mut self, journey: &Journey) -> Self {
        if let Some(entry) = &mut self.0 {
            entry.granted = Some(Instant::now());
            entry.asked.tier = Some(journey.tier.as_str().to_owned());
            entry.asked.queue_ms = Some(journey.timings.queue_ms as u64);
            entry.asked.load_ms = Some(journey.timings.load_ms as u64);
        }
        self
    }

    /// The log, where that has not heard yet what the model costs, or costs now.
    pub(crate) fn unheard_of(&self, spec: &ModelSpec, journey: &Journey) -> Option<Arc<RequestLog>> {
        let log = &self.0.as_ref()?.log;
        let was_loaded = matches!(journey.tier, Tier::Cold | Tier::Fetched);
        (was_loaded || !log.known().contains(&spec.name)).then(|| Arc::clone(log))
    }

    /// It has none and gets none.
    pub(crate) fn refused(&mut self) {
        if let Some(entry) = &mut self.0 {
            entry.asked.tier = Some("refused".to_owned());
        }
    }

    /// Its answer is complete.
    pub(crate) fn answered(&mut self, summary: &Summary) {
        if let Some(entry) = &mut self.0 {
            entry.asked.tokens = Some(u64::from(summary.usage.completion_tokens));
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.asked.hold_ms = self.granted.map(|granted| granted.elapsed().as_millis() as u64);
        self.log.lines.try_send(Line::Asked(std::mem::take(&mut self.asked))).ok();
    }
}

/// The thread's end: a file that is put aside when it has grown.
struct Writer {
    path: PathBuf,
    file: Option<File>,
    /// What the file holds; a device or a pipe holds nothing.
    written_bytes: Option<u64>,
    max_bytes: u64,
    facts: BTreeMap<String, Facts>,
    /// Models whose facts are in this file.
    told: HashSet<String>,
    has_complained: bool,
}

impl Writer {
    fn open(path: PathBuf, max_bytes: u64) -> Self {
        let mut writer = Self {
            path,
            file: None,
            written_bytes: None,
            max_bytes,
            facts: BTreeMap::new(),
            told: HashSet::new(),
            has_complained: false,
        };
        writer.reopen();
        writer
    }

    fn write_all(mut self, queue: &Receiver<Line>) {
        for line in queue {
            self.take(line);
        }
    }

    fn take(&mut self, line: Line) {
        match line {
            Line::Asked(asked) => self.write_asked(&asked),
            Line::Facts(facts) => {
                let before = self.facts.insert(facts.model.clone(), facts.clone());
                if before.as_ref() != Some(&facts) {
                    // Said when it is asked for next, in this file or another.
                    self.told.remove(&facts.model);
                }
            }
            Line::Mark(mark) => {
                self.write_untold();
                // Who waits may have gone.
                mark.send(()).ok();
            }
        }
    }

    /// A request, and the facts of its model if this file has them not: both in one file.
    fn write_asked(&mut self, asked: &Asked) {
        let asked_text = line_of(asked);
        let facts_text = self.facts.get(&asked.model).map(line_of).unwrap_or_default();
        let is_told = self.told.contains(&asked.model);
        let needed = if is_told { asked_text.len() } else { facts_text.len() + asked_text.len() };
        // Another file knows no facts.
        let has_another = !self.has_room(needed) && self.put_aside();
        if is_told && !has_another {
            self.write(&asked_text);
        } else if self.write(&(facts_text.clone() + &asked_text)) && !facts_text.is_empty() {
            self.told.insert(asked.model.clone());
        }
    }

    /// Facts that came after the last request for their model.
    fn write_untold(&mut self) {
        let untold = self.facts.values().filter(|facts| !self.told.contains(&facts.model));
        for facts in untold.cloned().collect::<Vec<_>>() {
            let text = line_of(&facts);
            if !self.has_room(text.len()) {
                self.put_aside();
            }
            if self.write(&text) {
                self.told.insert(facts.model);
            }
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
                self.told.clear();
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

    use super::*;

    fn asked(model: &str, time_ms: u64) -> Line {
        Line::Asked(Asked { time_ms, model: model.to_owned(), ..Asked::default() })
    }

    fn facts(model: &str, bytes: u64) -> Line {
        Line::Facts(Facts { model: model.to_owned(), held_bytes: Some(bytes), ..Facts::default() })
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

    #[tokio::test(start_paused = true)]
    async fn flushing_waits_for_room_and_not_for_ever() {
        let (lines, queue) = sync_channel(1);
        let log = RequestLog { lines, clients: RandomState::new(), known: Mutex::default() };
        log.lines.try_send(asked("a", 0)).expect("room");
        let began = Instant::now();
        log.flush().await;
        assert_eq!(began.elapsed(), LAST_LINES, "the disk is stuck");
        let writing = std::thread::spawn(move || {
            let first = queue.recv().expect("the request");
            let Line::Mark(mark) = queue.recv().expect("the mark") else { panic!("no mark") };
            mark.send(()).expect("somebody waits");
            matches!(first, Line::Asked(_))
        });
        log.marked().await;
        assert!(writing.join().expect("no panic"), "the mark came after what was said before");
        log.flush().await;
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

    #[test]
    fn clients_are_numbers_that_nobody_can_turn_back() {
        let log = |path: &Path| RequestLog::begin(path.to_owned());
        let folder = tempfile::tempdir().expect("temporary folder");
        let (one, other) = (log(&folder.path().join("a")), log(&folder.path().join("b")));
        assert_eq!(one.client("alice"), one.client("alice"));
        assert_ne!(one.client("alice"), one.client("bob"));
        assert_ne!(one.client("alice"), other.client("alice"));
        assert_eq!(one.client(""), "");
    }
}
