//! What is known of every model's packed weights: where they are, what they are worth, what went wrong with them.
//!
//! It is a memo of the store and of this life's errors, asked anew whenever a layout is chosen: for each request.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use samovar_core::footprint::{Arrangement, Layout, LayoutWish, Speed};
use samovar_core::port::Engine;
use samovar_core::{ErrorKind, Failure, ModelKey, WeightsId};
use tokio::time::Instant;

use super::choice::{Choice, LayoutInputs, choose};
use super::report::PackedTally;
use super::subject::{SPLIT, SpeedKey, Subject, machine_and_shape, speed_key};
use crate::bounded::BoundedMap;
use crate::lazy_store::LazyStore;
use crate::{outlook, weights};

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
/// Models of which something is known at a time; of others it is looked up again.
const MODELS_MAX: usize = 4_096;
/// Settings of one model for which its speeds are known at a time.
const MANNERS_MAX: usize = 16;

/// What is known of all models' packed weights.
pub(crate) struct LayoutRegistry {
    lazy_store: Arc<LazyStore>,
    engine: Arc<dyn Engine>,
    budget_bytes: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) subjects: BoundedMap<ModelKey, Arc<Subject>, MODELS_MAX>,
    records: BoundedMap<WeightsId, Record, MODELS_MAX>,
    /// How the last loads of a model came out, by the layout that was asked for; the latest is the last.
    arrangements: BoundedMap<WeightsId, Vec<(Layout, Arrangement)>, MODELS_MAX>,
    pub(super) tally: PackedTally,
}

impl State {
    pub(super) fn latest(&self, weights: &WeightsId) -> Option<&Arrangement> {
        Some(&self.arrangements.peek(weights)?.last()?.1)
    }

    /// The layout that the last load came to have which asked for this one.
    pub(super) fn reached(&self, weights: &WeightsId, asked: Layout) -> Layout {
        let mut loads = self.arrangements.peek(weights).into_iter().flatten();
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
    speeds: BoundedMap<SpeedKey, Option<Vec<Speed>>, MANNERS_MAX>,
    /// Why nothing is made or used any more in this life.
    disabled_reason: Option<String>,
    /// Why its layouts cannot be measured in this life, and so none is chosen by figures.
    unmeasurable: Option<String>,
    /// What went wrong last.
    pub(super) last_error: Option<String>,
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
        self.speeds.peek(&speed_key(subject))?.as_deref()
    }

    /// Why nothing is made or used for who wishes for this.
    fn disabled_reason(&self, wish: LayoutWish) -> Option<&str> {
        let unmeasurable = self.unmeasurable.as_ref().filter(|_| wish == LayoutWish::Auto);
        self.disabled_reason.as_ref().or(unmeasurable).map(String::as_str)
    }

    /// What was to be made is there.
    fn succeeded(&mut self) {
        (self.attempts, self.retry_at) = (0, None);
        if self.refusals == 0 && self.losses <= LOSSES_FREE {
            self.last_error = None;
        }
    }
}

/// A packed file that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Made {
    pub(crate) bytes: u64,
    pub(crate) unix_ms: u64,
}

impl LayoutRegistry {
    pub(crate) fn new(lazy_store: Arc<LazyStore>, engine: Arc<dyn Engine>, budget_bytes: u64) -> Self {
        Self { lazy_store, engine, budget_bytes: AtomicU64::new(budget_bytes), state: Mutex::default() }
    }

    /// So much memory for all models from now on.
    pub(crate) fn set_budget(&self, bytes: u64) {
        self.budget_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Remembers a model under its key, and chooses its layout. Blocks for a look into the store the first time.
    pub(crate) fn insert(&self, key: &ModelKey, subject: Subject) -> Choice {
        let choice = self.choose(&subject);
        self.state().subjects.insert(key.clone(), Arc::new(subject));
        choice
    }

    /// A model that was met.
    pub(crate) fn subject(&self, key: &ModelKey) -> Option<Arc<Subject>> {
        self.state().subjects.get(key).cloned()
    }

    /// The layout of its next load. Blocks for a look into the store the first time.
    pub(crate) fn choose(&self, subject: &Subject) -> Choice {
        let chosen = |record: &Record| {
            choose(&LayoutInputs {
                wish: subject.wish,
                disabled_reason: record.disabled_reason(subject.wish),
                is_made: record.made.is_some(),
                speeds: record.speeds(subject),
                hybrid_bytes: subject.hybrid_bytes,
                budget_bytes: self.budget_bytes.load(Ordering::Relaxed),
            })
        };
        // Without a wish for a packed file, none is looked for.
        match subject.wish {
            LayoutWish::Mapped | LayoutWish::Repacked => chosen(&Record::default()),
            _ => self.with_record(subject, |record, _| chosen(record)),
        }
    }

    /// The engine's key for this model, or why there is none.
    pub(crate) fn key(&self, subject: &Subject) -> Result<String, String> {
        self.with_record(subject, |record, _| {
            let none = || record.disabled_reason.clone().unwrap_or_else(|| NOTHING_TO_PACK.to_owned());
            record.key.clone().ok_or_else(none)
        })
    }

    /// Whether it may be tried now to make what is missing.
    pub(crate) fn may_try(&self, subject: &Subject) -> bool {
        self.with_record(subject, |record, _| {
            record.progress.is_none() && record.retry_at.is_none_or(|at| at <= Instant::now())
        })
    }

    /// What is known of a model, to be looked at or changed; looked up in the store when that is nothing.
    pub(super) fn with_record<T>(
        &self,
        subject: &Subject,
        with: impl FnOnce(&mut Record, &mut PackedTally) -> T,
    ) -> T {
        let speed_key = speed_key(subject);
        let mut state = self.state();
        let known = state.records.get(&subject.weights);
        if known.is_none_or(|record| record.speeds.peek(&speed_key).is_none()) {
            let known = known.cloned();
            // Nothing is locked while the store is asked.
            drop(state);
            let found = known.unwrap_or_else(|| self.look_up(subject));
            let speeds = found.key.as_deref().and_then(|key| self.kept_speeds(key, subject));
            state = self.state();
            // Another task may have learned more meanwhile.
            let record = state.records.get_or_insert_with(subject.weights, || found);
            record.speeds.get_or_insert_with(speed_key, || speeds);
        }
        let State { records, tally, .. } = &mut *state;
        with(records.get_or_insert_with(subject.weights, Record::default), tally)
    }

    fn look_up(&self, subject: &Subject) -> Record {
        if !weights::fixes_all_of(&subject.weights, &subject.descriptor) {
            return Record { disabled_reason: Some(SPLIT.to_owned()), ..Record::default() };
        }
        // Layouts are measured by writing text.
        if !self.engine.capabilities(&subject.descriptor).can_generate {
            return Record { disabled_reason: Some(WRITES_NO_TEXT.to_owned()), ..Record::default() };
        }
        let Some(key) = self.engine.packing(&subject.descriptor) else {
            return Record { disabled_reason: Some(NOTHING_TO_PACK.to_owned()), ..Record::default() };
        };
        let store = match self.lazy_store.store() {
            Ok(store) => store,
            Err(failure) => {
                let disabled_reason = Some(format!("packed files have no place: {failure}"));
                return Record { key: Some(key), disabled_reason, ..Record::default() };
            }
        };
        let made = store.packed().find(&subject.weights.to_string(), &key).ok().flatten();
        let made = made.map(|made| Made { bytes: made.bytes(), unix_ms: made.created_ms() });
        Record { key: Some(key), made, ..Record::default() }
    }

    fn kept_speeds(&self, key: &str, subject: &Subject) -> Option<Vec<Speed>> {
        let json = self.lazy_store.store().ok()?.calibration(&machine_and_shape(key, subject))?;
        serde_json::from_str(&json).ok()
    }

    /// A load of these bytes came out like this.
    pub(crate) fn loaded(&self, weights: Option<WeightsId>, asked: Layout, arrangement: &Arrangement) {
        let mut state = self.state();
        *state.tally.loads.entry(arrangement.layout.as_str().to_owned()).or_default() += 1;
        let Some(weights) = weights else { return };
        let loads = state.arrangements.get_or_insert_with(weights, Vec::new);
        loads.retain(|(layout, _)| *layout != asked);
        loads.push((asked, arrangement.clone()));
    }

    /// The packed file of these bytes has gone from the store. The first time it is made again at once; where that
    /// happens again, others want its room, and each further one waits for longer.
    pub(crate) fn missing(&self, weights: &WeightsId) {
        let mut state = self.state();
        *state.tally.refused.entry("gone".to_owned()).or_default() += 1;
        if let Some(record) = state.records.get_mut(weights) {
            record.made = None;
            record.losses += 1;
            if let Some(longer) = record.losses.checked_sub(LOSSES_FREE + 1) {
                record.retry_at = Some(Instant::now() + longer_and_longer(longer));
                let times = record.losses;
                record.last_error = Some(format!(
                    "its packed file has left the cache {times} times, perhaps for others; it is not made again at \
                     once (a larger cache.max_size_bytes keeps it)"
                ));
            }
        }
    }

    /// The engine did not take the packed file of these bytes, which belong to the model at `path`: it goes, and is
    /// made again unless a fresh one was refused as well.
    pub(crate) fn refuse(&self, weights: &WeightsId, path: &Path, key: &str, why: &str) {
        if let Ok(store) = self.lazy_store.store() {
            store.packed().discard(&weights.to_string(), key, why);
        }
        let mut is_final = false;
        let mut state = self.state();
        *state.tally.refused.entry("refused".to_owned()).or_default() += 1;
        if let Some(record) = state.records.get_mut(weights) {
            record.made = None;
            record.refusals += 1;
            record.last_error = Some(format!("its packed file was refused: {why}"));
            is_final = record.refusals >= REFUSALS_MAX;
            if is_final {
                record.disabled_reason =
                    Some(format!("a fresh packed file of it was refused as well: {why}"));
            }
        }
        drop(state);
        let next = if is_final { "no more are made of this model" } else { "it will be made again" };
        tracing::warn!(path = %path.display(), "a packed file was refused; {next}: {why}");
    }

    /// Making gets on.
    pub(crate) fn progress(&self, subject: &Subject, progress: Option<f32>) {
        if let Some(record) = self.state().records.get_mut(&subject.weights) {
            record.progress = progress;
        }
    }

    /// The packed file is there; with the time it took, where this runtime made it.
    pub(crate) fn made(&self, subject: &Subject, made: Made, took: Option<Duration>) {
        self.with_record(subject, |record, tally| {
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
        if let Ok(store) = self.lazy_store.store() {
            store.packed().give_up(&subject.weights.to_string(), key);
        }
        self.with_record(subject, |record, _| record.made = None);
    }

    /// The layouts were measured.
    pub(crate) fn measured(&self, subject: &Subject, speeds: Vec<Speed>) {
        if let (Ok(store), Ok(key), Ok(json)) =
            (self.lazy_store.store(), self.key(subject), serde_json::to_string(&speeds))
        {
            store.keep_calibration(&machine_and_shape(&key, subject), &json);
            outlook::note_rate(&store, &subject.descriptor, &speeds);
        }
        let is_provisional = speeds.iter().any(Speed::is_provisional);
        self.with_record(subject, |record, tally| {
            record.speeds.insert(speed_key(subject), Some(speeds));
            record.succeeded();
            tally.calibrations += 1;
            if is_provisional {
                record.last_error = Some(
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

    /// Whatever went wrong is forgotten: the owner wants to see it again.
    pub(crate) fn pardon(&self, subject: &Subject) {
        self.with_record(subject, |record, _| {
            let Record { key, made, speeds, progress, .. } = std::mem::take(record);
            *record = Record { key, made, speeds, progress, ..Record::default() };
        });
    }

    /// Whether some name of these bytes wants a packed file, whatever was measured.
    pub(crate) fn is_wanted(&self, weights: &WeightsId) -> bool {
        let wants = |wish| matches!(wish, LayoutWish::Packed | LayoutWish::Hybrid);
        self.state().subjects.values().any(|subject| subject.weights == *weights && wants(subject.wish))
    }

    /// Making was broken off by a request.
    pub(crate) fn interrupted(&self) {
        self.state().tally.interrupted += 1;
    }

    /// There is no memory for making just now; the packer comes back to it.
    pub(crate) fn lacks_memory(&self, subject: &Subject, failure: &Failure) {
        self.with_record(subject, |record, _| {
            record.last_error = Some(format!("its packed file waits for memory: {failure}"));
        });
    }

    /// Making failed: it is tried again later, and not for ever.
    pub(crate) fn failed(&self, subject: &Subject, failure: &Failure) {
        self.with_record(subject, |record, tally| {
            record.last_error = Some(format!("its packed file could not be made: {failure}"));
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
                record.unmeasurable.clone_from(&record.last_error);
            } else if is_final || is_too_large || record.attempts >= ATTEMPTS_MAX {
                record.disabled_reason.clone_from(&record.last_error);
            } else {
                record.retry_at = Some(Instant::now() + longer_and_longer(record.attempts - 1));
            }
        });
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // Every change is made by plain assignments: a panic elsewhere cannot leave it half-made.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long to wait after so many waits.
fn longer_and_longer(before: u32) -> Duration {
    RETRY_AFTER * 4_u32.pow(before.min(LONGER_MAX))
}

const NOTHING_TO_PACK: &str = "this engine, in this build and on this CPU, packs nothing of such a model";
const WRITES_NO_TEXT: &str = "only models that write text are packed";
