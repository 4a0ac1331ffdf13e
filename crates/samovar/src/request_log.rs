//! The log of requests that `samovar plan` replays: one line a request, written away from the request.
//!
//! ```text
//!   request ─► Noted: asked, granted, answered ─► dropped ─► channel ─► a thread ─► FILE, FILE.1
//! ```
//!
//! A line holds times, the model's name and a number that stands for the client in this life of the program;
//! never a prompt, an answer, a key or an address. What cannot be written is lost: no request waits for it.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::hash::BuildHasher;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use samovar_core::ModelKey;
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
/// Models whose facts are known to have been written.
const MODELS_MAX: usize = 4_096;
/// How long leaving waits for the last lines.
const LAST_LINES: Duration = Duration::from_secs(1);

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
    known: Mutex<HashSet<ModelKey>>,
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

    /// Waits until what was said so far is in the file, for a while.
    pub(crate) async fn flush(&self) {
        let (mark, marked) = oneshot::channel();
        if self.lines.try_send(Line::Mark(mark)).is_ok() {
            // Late lines are lost, as any others would be.
            tokio::time::timeout(LAST_LINES, marked).await.ok();
        }
    }

    /// What a model was found to cost.
    pub(crate) fn tell(&self, spec: &ModelSpec, now: &Snapshot) {
        let Some(model) = now.models.iter().find(|model| model.key == spec.key) else { return };
        let measured = model.held_bytes + model.mapped_bytes > 0;
        let predicted = (spec.footprint.held_bytes, spec.footprint.mapped_bytes);
        let (held, mapped) = if measured { (model.held_bytes, model.mapped_bytes) } else { predicted };
        let load_ms = if model.loads > 0 { Some(model.load_ms_mean as u64) } else { spec.load_ms };
        let facts = Facts {
            model: spec.name.clone(),
            held_bytes: Some(held),
            mapped_bytes: Some(mapped),
            load_ms,
            slots: Some(spec.options.slots),
            ..Facts::default()
        };
        self.lines.try_send(Line::Facts(facts)).ok();
    }

    fn client(&self, client: &str) -> String {
        if client.is_empty() {
            String::new()
        } else {
            format!("{:08x}", self.clients.hash_one(client) as u32)
        }
    }

    /// Whether this is the first that is heard of a model.
    fn is_new(&self, key: &ModelKey) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.len() < MODELS_MAX && known.insert(key.clone())
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

    /// It has one. Returns the log if that should hear what the model costs.
    pub(crate) fn granted(&mut self, spec: &ModelSpec, journey: &Journey) -> Option<Arc<RequestLog>> {
        let entry = self.0.as_mut()?;
        entry.granted = Some(Instant::now());
        entry.asked.tier = Some(journey.tier.as_str().to_owned());
        entry.asked.queue_ms = Some(journey.timings.queue_ms as u64);
        entry.asked.load_ms = Some(journey.timings.load_ms as u64);
        let was_loaded = matches!(journey.tier, Tier::Cold | Tier::Fetched);
        (entry.log.is_new(&spec.key) || was_loaded).then(|| Arc::clone(&entry.log))
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
    written_bytes: u64,
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
            written_bytes: 0,
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
            Line::Asked(asked) => {
                if !self.told.contains(&asked.model)
                    && let Some(facts) = self.facts.get(&asked.model).cloned()
                {
                    self.write(&facts);
                    self.told.insert(asked.model.clone());
                }
                self.write(&asked);
            }
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

    /// Facts that came after the last request for their model.
    fn write_untold(&mut self) {
        let untold = self.facts.values().filter(|facts| !self.told.contains(&facts.model));
        for facts in untold.cloned().collect::<Vec<_>>() {
            self.write(&facts);
            self.told.insert(facts.model);
        }
    }

    fn write(&mut self, line: &impl Serialize) {
        let Ok(mut text) = serde_json::to_string(line) else { return };
        text.push('\n');
        if self.written_bytes.saturating_add(text.len() as u64) > self.max_bytes {
            self.put_aside();
        }
        if self.file.is_none() {
            self.reopen();
        }
        if let Some(file) = &mut self.file {
            match file.write_all(text.as_bytes()) {
                Ok(()) => self.written_bytes += text.len() as u64,
                Err(error) => self.complain(&error),
            }
        }
    }

    fn put_aside(&mut self) {
        self.written_bytes = 0;
        if std::fs::rename(&self.path, older(&self.path)).is_ok() {
            self.file = None;
            self.told.clear();
        }
    }

    fn reopen(&mut self) {
        let mut options = File::options();
        options.append(true).create(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            options.mode(0o600);
        }
        match options.open(&self.path) {
            Ok(file) => {
                self.written_bytes = file.metadata().map_or(0, |facts| facts.len());
                self.file = Some(file);
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
