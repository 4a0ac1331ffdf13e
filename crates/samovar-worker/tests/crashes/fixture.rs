//! Workers with the fake engine, and what this process uses.

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use samovar_core::ModelFiles;
use samovar_core::generation::{Generation, GenerationRequest, Prompt, TokenEvent};
use samovar_core::port::{Engine, Instance, LoadControl, LoadRequest};
use samovar_core::testing::FakeEngine;
use samovar_worker::{Timeouts, WorkerConfig, WorkerEngine, WorkerStats};

/// An engine whose workers follow a plot.
pub(crate) struct Fixture {
    engine: WorkerEngine,
}

/// A test that looks for a new child must be the only one who starts one.
static STARTS: Mutex<()> = Mutex::new(());

impl Fixture {
    pub(crate) fn new(plot: &[&str]) -> Self {
        Self::with(plot, Timeouts::default())
    }

    /// Its workers may be silent for so long.
    pub(crate) fn impatient(plot: &[&str], silence: Duration) -> Self {
        let timeouts = Timeouts {
            heartbeat: silence / 8,
            silence,
            grace: Duration::from_millis(200),
            ..Timeouts::default()
        };
        Self::with(plot, timeouts)
    }

    pub(crate) fn with(plot: &[&str], timeouts: Timeouts) -> Self {
        let mut config = WorkerConfig::new(env!("CARGO_BIN_EXE_samovar-fake-worker"), plot);
        config.timeouts = timeouts;
        Self { engine: WorkerEngine::new(Arc::new(FakeEngine::new()), config).expect("an engine") }
    }

    /// Its workers may take so much memory of their own.
    pub(crate) fn frugal(plot: &[&str], bytes: u64) -> Self {
        let mut config = WorkerConfig::new(env!("CARGO_BIN_EXE_samovar-fake-worker"), plot);
        config.memory_limit_bytes = Some(bytes);
        Self { engine: WorkerEngine::new(Arc::new(FakeEngine::new()), config).expect("an engine") }
    }

    pub(crate) fn stats(&self) -> WorkerStats {
        self.engine.stats()
    }

    pub(crate) fn load(&self) -> Arc<dyn Instance> {
        self.load_and_find().0
    }

    /// A loaded model, and its process.
    pub(crate) fn load_and_find(&self) -> (Arc<dyn Instance>, Pid) {
        let _only_one = STARTS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let before = children();
        let (files, descriptor) = (ModelFiles::of("/dev/null"), FakeEngine::descriptor("fake", 1 << 20));
        let (options, control) = (FakeEngine::options(), LoadControl::silent());
        let loaded = self.engine.load(LoadRequest::new(&files, &descriptor, &options, &control));
        let instance = loaded.expect("it loads");
        let new = children().into_iter().find(|pid| !before.contains(pid)).expect("a new process");
        (instance, new)
    }
}

/// A request for so many tokens.
pub(crate) fn generate(instance: &dyn Instance, tokens: u32) -> Generation {
    let prompt = Prompt::Text { text: "Tell me".to_owned(), add_special: true, parse_special: false };
    let request =
        GenerationRequest { max_tokens: Some(tokens), ignore_eos: true, ..GenerationRequest::new(prompt) };
    instance.generate(request).expect("it is accepted")
}

/// How an answer of so many tokens ends.
pub(crate) fn answer(instance: &dyn Instance, tokens: u32) -> Option<TokenEvent> {
    let mut generation = generate(instance, tokens);
    std::iter::from_fn(|| generation.blocking_next()).last()
}

pub(crate) fn wait_for_a_token(generation: &mut Generation) -> Option<TokenEvent> {
    std::iter::from_fn(|| generation.blocking_next()).find(|event| matches!(event, TokenEvent::Token { .. }))
}

/// Sends a signal as a fault would raise it.
pub(crate) fn send_signal(pid: Pid, signal: Signal) {
    rustix::process::kill_process(pid, signal).expect("it lives");
    if signal != Signal::SEGV {
        return;
    }
    // Rust's own handler looks for an overflown stack, finds none, and leaves the next one to the kernel: a fault comes
    // again at once, a signal that was sent has to be sent again.
    while rustix::process::kill_process(pid, signal).is_ok() {
        std::thread::yield_now();
    }
}

/// What a failure says of such an end.
pub(crate) fn words_for(signal: Signal) -> &'static str {
    match signal {
        Signal::SEGV => "SIGSEGV",
        Signal::ABORT => "SIGABRT",
        Signal::KILL => "SIGKILL",
        _ => "no sign of life",
    }
}

/// How often to do something: as a test does it, or as an endurance run wishes.
#[expect(clippy::disallowed_methods, reason = "the way by which an endurance run asks for more")]
pub(crate) fn count(variable: &str, otherwise: u32) -> u32 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// Children of this process, of whichever of its threads.
pub(crate) fn children() -> Vec<Pid> {
    let this = std::process::id().to_string();
    let processes = fs_err::read_dir("/proc").expect("proc").filter_map(Result::ok);
    processes
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs_err::read_to_string(entry.path().join("stat")).ok()?;
            // The name in brackets may hold anything.
            let (_, rest) = stat.rsplit_once(')')?;
            let mut fields = rest.split_whitespace();
            let (state, parent) = (fields.next()?, fields.next()?);
            (parent == this && state != "Z").then(|| Pid::from_raw(pid)).flatten()
        })
        .collect()
}

/// What this process uses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    pub(crate) rss_bytes: u64,
    pub(crate) descriptors: usize,
    pub(crate) threads: usize,
    pub(crate) children: usize,
}

impl Usage {
    pub(crate) fn of_this_process() -> Self {
        let count = |path: &str| fs_err::read_dir(path).expect("proc").count();
        let status = fs_err::read_to_string("/proc/self/status").expect("proc");
        let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("RssAnon");
        let kilobytes: u64 = anonymous.trim().trim_end_matches(" kB").parse().expect("a number");
        Self {
            rss_bytes: kilobytes << 10,
            descriptors: count("/proc/self/fd"),
            threads: count("/proc/self/task"),
            children: children().len(),
        }
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rss_bytes, descriptors, threads, children } = self;
        let kilobytes = rss_bytes >> 10;
        write!(f, "{kilobytes} kB, {descriptors} descriptors, {threads} threads, {children} children")
    }
}

/// The middle and the tail of some times.
pub(crate) struct Quantiles {
    sorted: Vec<Duration>,
}

impl Quantiles {
    pub(crate) fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self { sorted: times }
    }

    fn at(&self, part: f64) -> f64 {
        let index = ((self.sorted.len() - 1) as f64 * part).round() as usize;
        self.sorted[index].as_secs_f64() * 1e3
    }
}

impl fmt::Display for Quantiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p50 {:.1} ms, p99 {:.1} ms", self.at(0.5), self.at(0.99))
    }
}
