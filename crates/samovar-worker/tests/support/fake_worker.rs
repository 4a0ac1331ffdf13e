//! A worker whose engine is the fake one, and which dies or hangs where its arguments say: `STAGE=HOW`, as in
//! `park=segv`. It stands in for native code, which may do so anywhere.
//!
//! ```text
//!   before   reports=N (of a load, at once)  packing=KEY  speed=N (of each layout)
//!   answers  thinks=N (tokens)  calls=NAME (a tool, once)
//!   says     held=BYTES, mapped=BYTES (whatever it holds and maps)
//!   stages   start  load  prepare  pack  calibrate  idle  prefill  token:N  embed  vector:N  park  resume  probe  drop
//!   prompts  of conversations that say so: eat, spin, linger (until they are unwanted)
//!   ways     abort  segv  kill  exit:N  panic  hang  spin  stop  eat  crowd  leave  lie:WHAT; of packing also overflow
//! ```

#[path = "lies.rs"]
mod lies;

use std::fs::File;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};
use samovar_core::cores::Cores;
use samovar_core::embedding::EmbedRequest;
use samovar_core::footprint::{Arrangement, Footprint, LoadOptions, Measurement, Speed};
use samovar_core::generation::{CachedPrefix, Delta, Generation, GenerationRequest};
use samovar_core::port::{
    Capabilities, Engine, EngineId, EngineInfo, Instance, LoadControl, LoadRequest, PackRequest, PreparePlan,
    PrepareRequest, Preparer, PromptControl, PublishedFacts,
};
use samovar_core::testing::FakeEngine;
use samovar_core::testing::fake::Script;
use samovar_core::{Chat, Cost, Descriptor, ErrorKind, Failure, Layout, Prompt, Quantization, Scope};

fn main() -> ExitCode {
    let script = Plot { faults: std::env::args().skip(1).collect() };
    script.reach("start");
    let Ok(socket) = rustix::stdio::stdin().try_clone_to_owned() else { return ExitCode::FAILURE };
    let engine = move |id: &EngineId| -> Result<Arc<dyn Engine>, Failure> {
        match id.as_str() {
            "fake" => Ok(Arc::new(Doomed::new(script))),
            other => Err(Failure::new(ErrorKind::Unsupported, format!("there is no engine {other}"))),
        }
    };
    match samovar_worker::child::run(socket, engine) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say(&failure.message);
            ExitCode::FAILURE
        }
    }
}

#[global_allocator]
static ALLOCATOR: samovar_worker::Ration = samovar_worker::Ration;

fn says(prompt: &Prompt, word: &str) -> bool {
    matches!(prompt, Prompt::Chat(chat) if chat.contains(word))
}

/// What a hostile template does.
fn misbehave(prompt: &Prompt) {
    let mut text = "a".repeat(16);
    while says(prompt, "eat") {
        text = text.clone() + &text;
    }
    while says(prompt, "spin") {
        std::hint::spin_loop();
    }
}

/// What an engine does with a prompt before its request can begin.
fn prepare(prompt: &Prompt, control: &dyn PromptControl) -> Result<(), Failure> {
    control.confine(&mut || misbehave(prompt));
    while says(prompt, "linger") {
        if !control.is_wanted() {
            return Err(Failure::new(ErrorKind::Cancelled, "it is not wanted"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn say(line: &str) {
    rustix::io::write(rustix::stdio::stderr(), format!("{line}\n").as_bytes()).ok();
}

/// What happens where.
#[derive(Clone)]
struct Plot {
    faults: Vec<String>,
}

impl Plot {
    fn at(&self, stage: &str) -> Option<&str> {
        self.faults.iter().find_map(|fault| fault.strip_prefix(stage)?.strip_prefix('='))
    }

    fn reach(&self, stage: &str) {
        if let Some(how) = self.at(stage) {
            fall(stage, how);
        }
    }

    fn number(&self, stage: &str) -> Option<u64> {
        self.at(stage)?.parse().ok()
    }
}

/// The end of this process, or of its usefulness.
fn fall(stage: &str, how: &str) {
    let end = |signal| {
        kill_process(getpid(), signal).ok();
    };
    match how {
        "abort" => {
            say(&format!("/build/fake.cpp:7: FAKE_ASSERT(never) failed at {stage}"));
            std::process::abort();
        }
        "segv" => {
            // The first only takes the runtime's own handler away, which is there to tell of a stack overflow.
            loop {
                end(Signal::SEGV);
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        "kill" => end(Signal::KILL),
        "stop" => end(Signal::STOP),
        "panic" => panic!("the fake panics at {stage}"),
        "hang" => loop {
            std::thread::park();
        },
        "spin" => loop {
            std::hint::spin_loop();
        },
        "eat" => eat(),
        "crowd" => crowd(),
        "leave" => std::process::exit(0),
        lie if lie.starts_with("lie:") => lies::tell(&lie[4..]),
        other => match other.strip_prefix("exit:").and_then(|code| code.parse().ok()) {
            Some(code) => std::process::exit(code),
            None => say(&format!("there is no way {other}")),
        },
    }
}

/// Takes memory until it is stopped.
fn eat() {
    const BITE: usize = 4 << 20;
    let mut eaten = Vec::new();
    loop {
        eaten.push(vec![1_u8; BITE]);
        std::thread::sleep(Duration::from_millis(4));
    }
}

/// Makes threads until it is stopped.
fn crowd() {
    loop {
        let thread = std::thread::Builder::new().stack_size(64 << 10).spawn(|| {
            loop {
                std::thread::park();
            }
        });
        if thread.is_err() {
            std::thread::sleep(Duration::from_millis(10));
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// The fake engine, with an end in view.
struct Doomed {
    inner: FakeEngine,
    plot: Plot,
}

impl Doomed {
    fn new(plot: Plot) -> Self {
        let script = Script {
            load_time: Duration::from_millis(plot.number("load_ms").unwrap_or(0)),
            time_per_token: Duration::from_micros(plot.number("token_us").unwrap_or(0)),
            prefill_time_per_token: Duration::from_micros(plot.number("prefill_us").unwrap_or(0)),
            time_per_input: Duration::from_micros(plot.number("input_us").unwrap_or(0)),
            not_a_number: plot.at("not_a_number").map(str::to_owned),
            packing: plot.at("packing").map(str::to_owned),
            preparing: plot.at("packing").map(str::to_owned),
            speeds: plot.number("speed").map(speeds).unwrap_or_default(),
            deltas: deltas(&plot),
            ..Script::default()
        };
        let inner = FakeEngine::builder().capabilities(FakeEngine::EMBEDS).script(script).build();
        Self { inner, plot }
    }
}

fn broken(what: impl std::fmt::Display) -> Failure {
    Failure::new(ErrorKind::Internal, what.to_string())
}

/// What it answers conversations with before its own words.
fn deltas(plot: &Plot) -> Vec<Vec<Delta>> {
    let thought = || vec![Delta::Thinking("so ".to_owned())];
    let mut tokens: Vec<_> = (0..plot.number("thinks").unwrap_or(0)).map(|_| thought()).collect();
    if let Some(name) = plot.at("calls") {
        let call = Delta::Call { index: 0, id: "call_0".to_owned(), name: name.to_owned() };
        let arguments = |text: &str| Delta::Arguments { index: 0, text: text.to_owned() };
        tokens.extend([vec![call, arguments("{")], vec![arguments("}")]]);
    }
    tokens
}

/// As fast as this, whatever the layout.
fn speeds(pace: u64) -> Vec<Speed> {
    let pace = pace as f64;
    let speed = |layout| Speed { layout, prefill: pace, decode: pace, decode_eight: pace, lacked: 0.0 };
    [Layout::Mapped, Layout::Packed, Layout::Hybrid].map(speed).into()
}

#[deny(clippy::missing_trait_methods)]
impl Engine for Doomed {
    fn engines(&self) -> Vec<EngineInfo> {
        self.inner.engines()
    }

    fn engine_for(&self, descriptor: &Descriptor) -> Result<EngineInfo, Failure> {
        self.inner.engine_for(descriptor)
    }

    fn capabilities(&self, descriptor: &Descriptor) -> Capabilities {
        self.inner.capabilities(descriptor)
    }

    fn footprint(&self, descriptor: &Descriptor, options: &LoadOptions) -> Result<Footprint, Failure> {
        self.inner.footprint(descriptor, options)
    }

    fn cost(&self, descriptor: &Descriptor, options: &LoadOptions, memory: Footprint) -> Cost {
        self.inner.cost(descriptor, options, memory)
    }

    fn packing(&self, descriptor: &Descriptor) -> Option<String> {
        self.inner.packing(descriptor)
    }

    fn packing_footprint(&self, descriptor: &Descriptor) -> Result<Footprint, Failure> {
        self.inner.packing_footprint(descriptor)
    }

    fn pack(&self, request: PackRequest<'_>) -> Result<u64, Failure> {
        let (plot, file) = (self.plot.clone(), request.into.try_clone().map_err(broken)?);
        let (told, progress) = std::sync::mpsc::sync_channel(16);
        let inner = LoadControl::new(move |fraction| {
            told.send(fraction).ok();
            match plot.at("pack") {
                Some("overflow") => {
                    file.set_len(1 << 40).ok();
                }
                // What was reported before is on its way; it counts.
                Some(_) if fraction < 1.0 => std::thread::sleep(Duration::from_millis(20)),
                _ => {}
            }
            if fraction < 1.0 {
                plot.reach("pack");
            }
        });
        std::thread::scope(|scope| {
            let packing = scope.spawn(move || self.inner.pack(PackRequest { control: &inner, ..request }));
            for fraction in &progress {
                request.control.report(fraction);
            }
            packing.join().unwrap_or_else(|_| Err(broken("it panicked")))
        })
    }

    fn calibrate(&self, request: LoadRequest<'_>) -> Result<Vec<Speed>, Failure> {
        self.plot.reach("calibrate");
        self.inner.calibrate(request)
    }

    fn preparer(&self) -> Option<Preparer> {
        self.inner.preparer()
    }

    fn describe(&self, folder: &Path) -> Result<PublishedFacts, Failure> {
        self.inner.describe(folder)
    }

    fn plan_preparation(&self, folder: &Path, quantization: Quantization) -> Result<PreparePlan, Failure> {
        self.inner.plan_preparation(folder, quantization)
    }

    fn prepare(&self, request: PrepareRequest<'_>) -> Result<u64, Failure> {
        self.plot.reach("prepare");
        self.inner.prepare(request)
    }

    fn load(&self, request: LoadRequest<'_>) -> Result<Arc<dyn Instance>, Failure> {
        for report in 0..self.plot.number("reports").unwrap_or(0) {
            request.control.report((report % 100) as f32 / 100.0);
        }
        self.plot.reach("load");
        let inner = self.inner.load(request)?;
        if self.plot.at("idle").is_some() {
            let plot = self.plot.clone();
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(30));
                plot.reach("idle");
            });
        }
        Ok(Arc::new(DoomedInstance { inner, plot: self.plot.clone() }))
    }
}

struct DoomedInstance {
    inner: Arc<dyn Instance>,
    plot: Plot,
}

impl DoomedInstance {
    /// The events of an answer, after so many of which this process falls.
    fn until_it_falls(&self, stage: &'static str, mut inner: Generation) -> Generation {
        let limit = |fault: &String| Some(fault.strip_prefix(stage)?.strip_prefix(':')?.to_owned());
        let Some(limit) = self.plot.faults.iter().find_map(limit) else { return inner };
        let (count, how) = limit.split_once('=').unwrap_or((limit.as_str(), "abort"));
        let (count, how) = (count.parse().unwrap_or(0), how.to_owned());
        let (events, generation) = Generation::channel(4096);
        std::thread::spawn(move || {
            let mut said = 0;
            while let Some(event) = inner.blocking_next() {
                if said > count {
                    // What was said before is on its way; it counts.
                    std::thread::sleep(Duration::from_millis(20));
                    fall(stage, &how);
                }
                said += 1;
                if events.blocking_send(event).is_err() {
                    return;
                }
            }
        });
        generation
    }
}

#[deny(clippy::missing_trait_methods)]
impl Instance for DoomedInstance {
    fn share_cores(&self, cores: Cores) {
        self.inner.share_cores(cores);
    }

    fn generate(&self, request: GenerationRequest) -> Result<Generation, Failure> {
        self.plot.reach("prefill");
        self.inner.generate(request).map(|generation| self.until_it_falls("token", generation))
    }

    fn embed(&self, request: EmbedRequest, control: &dyn PromptControl) -> Result<Generation, Failure> {
        self.plot.reach("embed");
        self.inner.embed(request, control).map(|generation| self.until_it_falls("vector", generation))
    }

    fn generate_while(
        &self,
        request: GenerationRequest,
        control: &dyn PromptControl,
    ) -> Result<Generation, Failure> {
        prepare(&request.prompt, control)?;
        self.generate(request)
    }

    fn tokenize(&self, text: &str, add_special: bool, parse_special: bool) -> Result<Vec<u32>, Failure> {
        self.inner.tokenize(text, add_special, parse_special)
    }

    fn encode(&self, prompt: &Prompt, control: &dyn PromptControl) -> Result<Vec<u32>, Failure> {
        prepare(prompt, control)?;
        self.inner.encode(prompt, control)
    }

    fn render(&self, chat: &Chat, control: &dyn PromptControl) -> Result<String, Failure> {
        prepare(&Prompt::Chat(Box::new(chat.clone())), control)?;
        self.inner.render(chat, control)
    }

    fn count(&self, prompt: &Prompt, control: &dyn PromptControl) -> Result<u32, Failure> {
        prepare(prompt, control)?;
        self.inner.count(prompt, control)
    }

    fn detokenize(&self, tokens: &[u32]) -> Result<Vec<u8>, Failure> {
        self.inner.detokenize(tokens)
    }

    fn park(&self) -> Result<(), Failure> {
        self.plot.reach("park");
        self.inner.park()
    }

    fn resume(&self, options: &LoadOptions) -> Result<(), Failure> {
        self.plot.reach("resume");
        self.inner.resume(options)
    }

    fn arrangement(&self) -> Arrangement {
        self.inner.arrangement()
    }

    fn measure(&self) -> Measurement {
        let Measurement { held_bytes, mapped_bytes, .. } = self.inner.measure();
        Measurement {
            held_bytes: self.plot.number("held").unwrap_or(held_bytes),
            mapped_bytes: self.plot.number("mapped").unwrap_or(mapped_bytes),
            ..self.inner.measure()
        }
    }

    fn probe(&self) -> Result<(), Failure> {
        self.plot.reach("probe");
        self.inner.probe()
    }

    fn prefixes(&self) -> Result<Vec<CachedPrefix>, Failure> {
        self.inner.prefixes()
    }

    fn save_prefix(&self, prefix: &CachedPrefix, into: &File) -> Result<u64, Failure> {
        self.inner.save_prefix(prefix, into)
    }

    fn restore_prefix(&self, tokens: &[u32], scope: Scope, from: &File) -> Result<(), Failure> {
        self.inner.restore_prefix(tokens, scope, from)
    }
}

impl Drop for DoomedInstance {
    fn drop(&mut self) {
        self.plot.reach("drop");
    }
}
