//! Lives and deaths: a store is set up, a process works on it and is killed at one call, and what is left is judged.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use samovar_core::Digest;
use tempfile::TempDir;

use crate::call::Call;
use crate::check::Judge;
use crate::program::{self, Order, Step};
use crate::scene::Scene;
use crate::tracer::{self, Blow, End, Run};

/// Enough for all lives that are led at the same time.
const ROOM_BYTES: u64 = 512 << 20;
/// More calls than any of these lives makes.
const MANY: usize = 10_000;

/// What a process does when it is killed, and what was there before.
pub(crate) struct Life {
    pub(crate) name: &'static str,
    /// Prepares the cache directory before the process starts.
    pub(crate) before: fn(&Scene, &Path) -> Result<()>,
    pub(crate) quota_bytes: Option<u64>,
    /// What it does once it has opened the store.
    pub(crate) steps: Vec<Step>,
    /// What is there before, and is not let go.
    pub(crate) keeps: Vec<&'static str>,
    /// What of it is pinned.
    pub(crate) pins: Vec<&'static str>,
    /// A blob that `before` damages.
    pub(crate) damages: Option<fn(&Scene) -> Digest>,
}

impl Default for Life {
    fn default() -> Self {
        Self {
            name: "",
            before: |_, _| Ok(()),
            quota_bytes: None,
            steps: Vec::new(),
            keeps: Vec::new(),
            pins: Vec::new(),
            damages: None,
        }
    }
}

/// Which points are killed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// This many, spread over the whole life.
    Few(usize),
    /// Every call, and the middle of every write.
    All,
}

impl Extent {
    /// All, when the user who runs the tests wishes so; else as many as every change can afford.
    #[expect(
        clippy::disallowed_methods,
        reason = "how thorough to be is a wish of the user who runs the tests"
    )]
    pub(crate) fn wished(few: usize) -> Self {
        if std::env::var("SAMOVAR_CRASH_ALL").is_ok_and(|text| text == "1") {
            Self::All
        } else {
            Self::Few(few)
        }
    }

    /// The numbers of the calls at which it is killed, in a life that makes so many undisturbed.
    pub(crate) fn places(self, calls: usize) -> Vec<usize> {
        match self {
            Self::Few(points) if points < calls => {
                (0..points).map(|point| 1 + point * (calls - 1) / points.saturating_sub(1).max(1)).collect()
            }
            Self::Few(_) => (1..=calls).collect(),
            // Lives differ by a few calls, as bytes come in other pieces: a sweep stops at the end.
            Self::All => (1..=MANY).collect(),
        }
    }

    /// The kills. Of few, every second that meets a write tears it.
    fn blows(self, calls: &[Call]) -> Vec<Blow> {
        let is_write = |at: usize| calls.get(at - 1).is_some_and(|call| call.bytes.is_some());
        let mut writes = 0;
        let mut blows = Vec::new();
        for at in self.places(calls.len()) {
            writes += usize::from(is_write(at));
            let is_torn = is_write(at) && (self == Self::All || writes % 2 == 1);
            if !is_torn || self == Self::All {
                blows.push(Blow { at, is_torn: false });
            }
            if is_torn {
                blows.push(Blow { at, is_torn });
            }
        }
        blows
    }
}

/// What came of a sweep.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Calls of an undisturbed life that change something on disk.
    pub(crate) calls: usize,
    /// Lives that were cut short.
    pub(crate) struck: usize,
    /// Of those, in the middle of a write.
    pub(crate) torn: usize,
    pub(crate) violations: Vec<String>,
    pub(crate) took: Duration,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { calls, struck, torn, violations, took } = self;
        write!(f, "{struck} points of {calls} calls")?;
        if *torn > 0 {
            write!(f, " ({torn} in the middle of a write)")?;
        }
        write!(f, ", {} violations, {:.1} s", violations.len(), took.as_secs_f64())
    }
}

/// A directory for one life, in memory where there is room: whether bytes reach a disk is not asked here.
pub(crate) fn room() -> Result<TempDir> {
    let memory = Path::new("/dev/shm");
    let mut builder = tempfile::Builder::new();
    builder.prefix("samovar-crash-");
    let has_room =
        rustix::fs::statvfs(memory).is_ok_and(|facts| facts.f_bavail * facts.f_frsize >= ROOM_BYTES);
    if has_room && let Ok(dir) = builder.tempdir_in(memory) {
        return Ok(dir);
    }
    Ok(builder.tempdir()?)
}

impl Life {
    pub(crate) fn order(&self, scene: &Scene, cache: &Path, said: PathBuf) -> Order {
        Order {
            cache: cache.to_owned(),
            endpoint: scene.endpoint(),
            quota_bytes: self.quota_bytes,
            steps: self.steps.clone(),
            said,
        }
    }

    /// Lives once, up to the blow; what was left is judged.
    fn once(&self, scene: &Scene, blow: Option<Blow>) -> Result<(Run, Vec<String>)> {
        let dir = room()?;
        let root = fs_err::canonicalize(dir.path())?;
        let cache = root.join("cache");
        (self.before)(scene, &cache).context("what comes before")?;
        let order = self.order(scene, &cache, root.join("said"));
        let run = tracer::run(&order.command()?, &cache, blow, || Ok(()))?;
        anyhow::ensure!(
            matches!(run.end, End::Struck | End::Exited(0)),
            "undisturbed, it ends with {:?}",
            run.end
        );
        let violations = self.judge(scene, &order).judge();
        Ok((run, violations))
    }

    pub(crate) fn judge<'a>(&'a self, scene: &'a Scene, order: &'a Order) -> Judge<'a> {
        let mut promised = program::said(&order.said);
        promised.extend(self.keeps.iter().map(|reference| (*reference).to_owned()));
        let damaged = self.damages.map(|damages| damages(scene));
        Judge { scene, cache: &order.cache, promised, pinned: &self.pins, damaged }
    }

    /// Lives as often as there are points.
    pub(crate) fn sweep(&self, scene: &Scene, extent: Extent) -> Result<Tally> {
        let started = Instant::now();
        let (whole, violations) = self.once(scene, None).context("an undisturbed life")?;
        let mut tally = Tally { calls: whole.calls.len(), ..Tally::default() };
        tally
            .violations
            .extend(violations.into_iter().map(|what| format!("{}, undisturbed: {what}", self.name)));
        for blow in extent.blows(&whole.calls) {
            let (run, violations) = self.once(scene, Some(blow)).with_context(|| format!("{blow:?}"))?;
            if run.end != End::Struck {
                if blow.at > whole.calls.len() {
                    break;
                }
                continue;
            }
            let call = run.calls.last().context("struck at no call")?;
            let is_torn = blow.is_torn && call.bytes.is_some();
            tally.struck += 1;
            tally.torn += usize::from(is_torn);
            let place = if is_torn { "in the middle of" } else { "before" };
            let where_ = format!("{}, killed {place} call {}, {call}", self.name, blow.at);
            tally.violations.extend(violations.into_iter().map(|what| format!("{where_}: {what}")));
        }
        tally.took = started.elapsed();
        Ok(tally)
    }
}
