//! What is known of every model's packed weights: where they are, what they are worth, what went wrong with them.
//!
//! It is a memo of the store and of this life's troubles. Whenever something in it changes that a choice depends
//! on, its edition rises, so that whoever remembers a choice knows when to choose anew.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use samovar_core::footprint::{Arrangement, Layout, LayoutWish, Speed};
use samovar_core::port::Engine;
use samovar_core::{Descriptor, ErrorKind, Failure, ModelKey};
use tokio::time::Instant;

use super::choice::{Choice, Facts, choose};
use super::report::PackedTally;
use super::subject::{Manner, Source, Subject, machine_and_shape, manner};
use crate::catalog::Stamp;
use crate::shelf::Shelf;

/// Fresh files of one model that may be refused before no more are made.
const REFUSALS_MAX: u32 = 2;
/// Failed attempts at making after which it is given up.
const ATTEMPTS_MAX: u32 = 4;
/// How long after the first failure it is tried again; each further one takes four times as long.
const RETRY_AFTER: Duration = Duration::from_secs(10 * 60);
/// The same when something it needs was in use.
const BUSY_RETRY_AFTER: Duration = Duration::from_secs(60);
/// Times that the wait is made longer.
const LONGER_MAX: u32 = 4;
/// Packed files of one model that may go from the store before there is a wait for the next.
const LOSSES_FREE: u32 = 1;

/// What is known of all models' packed weights.
pub(crate) struct Packings {
    shelf: Arc<Shelf>,
    engine: Arc<dyn Engine>,
    budget_bytes: u64,
    edition: AtomicU64,
    books: Mutex<Books>,
}

#[derive(Default)]
pub(super) struct Books {
    pub(super) subjects: HashMap<ModelKey, Arc<Subject>>,
    /// By source.
    records: HashMap<String, Record>,
    /// How the last loads of a file came out, by the layout that was asked for; the latest is the last.
    arrangements: HashMap<PathBuf, Vec<(Layout, Arrangement)>>,
    pub(super) tally: PackedTally,
}

impl Books {
    pub(super) fn latest(&self, path: &Path) -> Option<&Arrangement> {
        Some(&self.arrangements.get(path)?.last()?.1)
    }

    /// The layout that the last load came to have which asked for this one.
    pub(super) fn reached(&self, path: &Path, asked: Layout) -> Layout {
        let mut loads = self.arrangements.get(path).into_iter().flatten();
        loads.find(|(layout, _)| *layout == asked).map_or(asked, |(_, arrangement)| arrangement.layout)
    }
}

/// What is known of one model's packed weights.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    /// The engine's key; `None` where it packs nothing of it.
    pub(super) key: Option<String>,
    pub(super) made: Option<Made>,
    /// `None` where they were looked for and never measured.
    speeds: HashMap<Manner, Option<Vec<Speed>>>,
    /// Why nothing is made or used any more in this life.
    hindrance: Option<String>,
    /// Why its layouts cannot be measured in this life, and so none is chosen by figures.
    unmeasurable: Option<String>,
    /// What went wrong last.
    pub(super) trouble: Option<String>,
    refusals: u32,
    /// Times that the file went from the store.
    losses: u32,
    attempts: u32,
    /// Times in a row that its layouts were measured while others had the cores.
    disturbed: u32,
    retry_at: Option<Instant>,
    pub(super) progress: Option<f32>,
}

impl Record {
    /// How fast its layouts are under these settings, if that was measured.
    pub(super) fn speeds(&self, subject: &Subject) -> Option<&[Speed]> {
        self.speeds.get(&manner(subject))?.as_deref()
    }

    /// Why nothing is made or used for who wishes for this.
    fn hindrance(&self, wish: LayoutWish) -> Option<&str> {
        let unmeasurable = self.unmeasurable.as_ref().filter(|_| wish == LayoutWish::Auto);
        self.hindrance.as_ref().or(unmeasurable).map(String::as_str)
    }

    /// What was to be made is there.
    fn succeeded(&mut self) {
        (self.attempts, self.retry_at) = (0, None);
        if self.refusals == 0 && self.losses <= LOSSES_FREE {
            self.trouble = None;
        }
    }
}

/// A packed file that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Made {
    pub(crate) bytes: u64,
    pub(crate) unix_ms: u64,
}

impl Packings {
    pub(crate) fn new(shelf: Arc<Shelf>, engine: Arc<dyn Engine>, budget_bytes: u64) -> Self {
        Self { shelf, engine, budget_bytes, edition: AtomicU64::default(), books: Mutex::default() }
    }

    /// Rises whenever a choice may come out differently.
    pub(crate) fn edition(&self) -> u64 {
        self.edition.load(Ordering::Acquire)
    }

    /// The bytes at `path`, or why nothing can be packed of them.
    pub(crate) fn source_of(&self, path: &Path, descriptor: &Descriptor) -> Result<Source, String> {
        match self.shelf.key_of(path) {
            Some(key) => Ok(Source::artifact(key)),
            None if descriptor.parts > 1 => Err(SPLIT.to_owned()),
            None => Stamp::of(path).map(|stamp| Source::file(&stamp)).map_err(|failure| failure.to_string()),
        }
    }

    /// Remembers a model under its key, and chooses its layout. Blocks for a look into the store the first time.
    pub(crate) fn meet(&self, key: &ModelKey, subject: Subject) -> Choice {
        let subject = Arc::new(subject);
        self.books().subjects.insert(key.clone(), Arc::clone(&subject));
        self.choose(&subject)
    }

    /// A model that was met.
    pub(crate) fn subject(&self, key: &ModelKey) -> Option<Arc<Subject>> {
        self.books().subjects.get(key).cloned()
    }

    /// The layout of its next load. Blocks for a look into the store the first time.
    pub(crate) fn choose(&self, subject: &Subject) -> Choice {
        // Nobody who wants no packed file has one looked for.
        let may_pack = !matches!(subject.wish, LayoutWish::Mapped | LayoutWish::Repacked);
        let record = if may_pack { self.record(subject) } else { Record::default() };
        choose(&Facts {
            wish: subject.wish,
            hindrance: record.hindrance(subject.wish),
            is_made: record.made.is_some(),
            speeds: record.speeds(subject),
            hybrid_bytes: subject.hybrid_bytes,
            budget_bytes: self.budget_bytes,
        })
    }

    /// The engine's key for this model, or why there is none.
    pub(crate) fn key(&self, subject: &Subject) -> Result<String, String> {
        let record = self.record(subject);
        let none = || record.hindrance.clone().unwrap_or_else(|| NOTHING_TO_PACK.to_owned());
        record.key.clone().ok_or_else(none)
    }

    /// Whether it may be tried now to make what is missing.
    pub(crate) fn may_try(&self, subject: &Subject) -> bool {
        let record = self.record(subject);
        record.progress.is_none() && record.retry_at.is_none_or(|at| at <= Instant::now())
    }

    /// What is known of a model; looked up in the store when that is nothing.
    pub(super) fn record(&self, subject: &Subject) -> Record {
        let (source, manner) = (&subject.source.text, manner(subject));
        let known = self.books().records.get(source).cloned();
        let record = match known {
            Some(record) if record.speeds.contains_key(&manner) => return record,
            Some(record) => record,
            None => self.look_up(subject),
        };
        let speeds = record.key.as_deref().and_then(|key| self.kept_speeds(key, subject));
        let mut books = self.books();
        // Somebody else may have learned more meanwhile.
        let record = books.records.entry(source.clone()).or_insert(record);
        record.speeds.entry(manner).or_insert(speeds);
        record.clone()
    }

    fn look_up(&self, subject: &Subject) -> Record {
        if subject.source.parent.is_none() && subject.descriptor.parts > 1 {
            return Record { hindrance: Some(SPLIT.to_owned()), ..Record::default() };
        }
        let Some(key) = self.engine.packing(&subject.descriptor) else {
            return Record { hindrance: Some(NOTHING_TO_PACK.to_owned()), ..Record::default() };
        };
        let store = match self.shelf.store() {
            Ok(store) => store,
            Err(failure) => {
                let hindrance = Some(format!("packed files have no place: {failure}"));
                return Record { key: Some(key), hindrance, ..Record::default() };
            }
        };
        let made = store.packed().find(&subject.source.text, &key).ok().flatten();
        let made = made.map(|made| Made { bytes: made.bytes(), unix_ms: made.created_ms() });
        Record { key: Some(key), made, ..Record::default() }
    }

    fn kept_speeds(&self, key: &str, subject: &Subject) -> Option<Vec<Speed>> {
        let json = self.shelf.store().ok()?.calibration(&machine_and_shape(key, subject))?;
        serde_json::from_str(&json).ok()
    }

    fn change(&self, subject: &Subject, change: impl FnOnce(&mut Record, &mut PackedTally)) {
        let before = self.record(subject);
        let mut books = self.books();
        let Books { records, tally, .. } = &mut *books;
        let record = records.entry(subject.source.text.clone()).or_insert(before);
        change(record, tally);
        drop(books);
        self.edition.fetch_add(1, Ordering::Release);
    }

    /// A load came out like this.
    pub(crate) fn loaded(&self, path: &Path, asked: Layout, arrangement: &Arrangement) {
        let mut books = self.books();
        *books.tally.loads.entry(arrangement.layout.as_str().to_owned()).or_default() += 1;
        let loads = books.arrangements.entry(path.to_owned()).or_default();
        loads.retain(|(layout, _)| *layout != asked);
        loads.push((asked, arrangement.clone()));
    }

    /// The packed file of these bytes has gone from the store. The first time it is made again at once; where that
    /// happens again, others want its room, and each further one waits for longer.
    pub(crate) fn gone(&self, source: &Source) {
        let mut books = self.books();
        *books.tally.refused.entry("gone".to_owned()).or_default() += 1;
        if let Some(record) = books.records.get_mut(&source.text) {
            record.made = None;
            record.losses += 1;
            if let Some(longer) = record.losses.checked_sub(LOSSES_FREE + 1) {
                record.retry_at = Some(Instant::now() + longer_and_longer(longer));
                let times = record.losses;
                record.trouble = Some(format!(
                    "its packed file has left the cache {times} times, perhaps for others; it is not made again at \
                     once (a larger cache.max_size_bytes keeps it)"
                ));
            }
        }
        drop(books);
        self.edition.fetch_add(1, Ordering::Release);
    }

    /// The engine did not take the packed file of these bytes, which belong to the model at `path`: it goes, and is
    /// made again unless a fresh one was refused as well.
    pub(crate) fn refuse(&self, source: &Source, path: &Path, key: &str, why: &str) {
        if let Ok(store) = self.shelf.store() {
            store.packed().discard(&source.text, key, why);
        }
        let mut is_final = false;
        let mut books = self.books();
        *books.tally.refused.entry("refused".to_owned()).or_default() += 1;
        if let Some(record) = books.records.get_mut(&source.text) {
            record.made = None;
            record.refusals += 1;
            record.trouble = Some(format!("its packed file was refused: {why}"));
            is_final = record.refusals >= REFUSALS_MAX;
            if is_final {
                record.hindrance = Some(format!("a fresh packed file of it was refused as well: {why}"));
            }
        }
        drop(books);
        self.edition.fetch_add(1, Ordering::Release);
        let next = if is_final { "no more are made of this model" } else { "it will be made again" };
        tracing::warn!(path = %path.display(), "a packed file was refused; {next}: {why}");
    }

    /// Making gets on.
    pub(crate) fn progress(&self, subject: &Subject, progress: Option<f32>) {
        if let Some(record) = self.books().records.get_mut(&subject.source.text) {
            record.progress = progress;
        }
    }

    /// The packed file is there; with the time it took, where this runtime made it.
    pub(crate) fn made(&self, subject: &Subject, made: Made, took: Option<Duration>) {
        self.change(subject, |record, tally| {
            record.made = Some(made);
            record.succeeded();
            if let Some(took) = took {
                tally.made += 1;
                tally.made_bytes += made.bytes;
                tally.made_seconds += took.as_secs_f64();
            }
        });
    }

    /// Lets the packed file go for not being of use.
    pub(crate) fn give_up(&self, subject: &Subject, key: &str) {
        if let Ok(store) = self.shelf.store() {
            store.packed().give_up(&subject.source.text, key);
        }
        self.change(subject, |record, _| record.made = None);
    }

    /// The layouts were measured.
    pub(crate) fn measured(&self, subject: &Subject, speeds: Vec<Speed>) {
        if let (Ok(store), Ok(key), Ok(json)) =
            (self.shelf.store(), self.key(subject), serde_json::to_string(&speeds))
        {
            store.keep_calibration(&machine_and_shape(&key, subject), &json);
        }
        let is_provisional = speeds.iter().any(Speed::is_provisional);
        self.change(subject, |record, tally| {
            record.speeds.insert(manner(subject), Some(speeds));
            record.succeeded();
            tally.calibrations += 1;
            if is_provisional {
                record.trouble = Some(
                    "its layouts were measured while other programs had the cores; they are measured again later"
                        .to_owned(),
                );
                record.retry_at = Some(Instant::now() + longer_and_longer(record.disturbed));
                record.disturbed += 1;
            } else {
                record.disturbed = 0;
            }
        });
    }

    /// Whatever went wrong is forgotten: somebody wants to see it again.
    pub(crate) fn pardon(&self, subject: &Subject) {
        self.change(subject, |record, _| {
            let Record { key, made, speeds, progress, .. } = record.clone();
            *record = Record { key, made, speeds, progress, ..Record::default() };
        });
    }

    /// Whether some name of these bytes wants a packed file, whatever was measured.
    pub(crate) fn is_wanted(&self, source: &Source) -> bool {
        let wants = |wish| matches!(wish, LayoutWish::Packed | LayoutWish::Hybrid);
        self.books().subjects.values().any(|subject| subject.source == *source && wants(subject.wish))
    }

    /// Making was broken off by a request.
    pub(crate) fn interrupted(&self) {
        self.books().tally.interrupted += 1;
    }

    /// There is no memory for making just now; whoever makes comes back to it.
    pub(crate) fn lacks_memory(&self, subject: &Subject, failure: &Failure) {
        self.change(subject, |record, _| {
            record.trouble = Some(format!("its packed file waits for memory: {failure}"));
        });
    }

    /// Making failed: it is tried again later, and not for ever.
    pub(crate) fn failed(&self, subject: &Subject, failure: &Failure) {
        self.change(subject, |record, tally| {
            record.trouble = Some(format!("its packed file could not be made: {failure}"));
            if failure.kind == ErrorKind::Busy {
                record.retry_at = Some(Instant::now() + BUSY_RETRY_AFTER);
                return;
            }
            tally.failed += 1;
            record.attempts += 1;
            let is_too_large = failure.kind == ErrorKind::TooLarge;
            let is_final = matches!(failure.kind, ErrorKind::Unsupported | ErrorKind::Forbidden);
            if is_too_large && subject.wish == LayoutWish::Auto {
                // Another name of it may want the file alone.
                record.unmeasurable.clone_from(&record.trouble);
            } else if is_final || is_too_large || record.attempts >= ATTEMPTS_MAX {
                record.hindrance.clone_from(&record.trouble);
            } else {
                record.retry_at = Some(Instant::now() + longer_and_longer(record.attempts - 1));
            }
        });
    }

    pub(super) fn books(&self) -> MutexGuard<'_, Books> {
        // Every change is made by plain assignments: a panic elsewhere cannot leave it half-made.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long to wait after so many waits.
fn longer_and_longer(before: u32) -> Duration {
    RETRY_AFTER * 4_u32.pow(before.min(LONGER_MAX))
}

/// Its further files could change unseen.
const SPLIT: &str = "a model in several files is not packed";
const NOTHING_TO_PACK: &str = "this engine, in this build and on this CPU, packs nothing of such a model";
