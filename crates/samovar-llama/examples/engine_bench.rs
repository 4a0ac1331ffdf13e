//! Measures one model through this engine and prints JSON, to be laid beside `llama-bench` and
//! `llama-batched-bench` of the same llama.cpp.
//!
//! ```text
//! engine_bench MODEL.gguf --pack FILE
//! engine_bench MODEL.gguf [--layout mapped|packed|hybrid|repacked] [--packed FILE] [--threads N]
//!              [--prompt 512] [--generate 64] [--repeat 3] [--context 2048]
//!              [--slots 8] [--only load,answer,fill,prefill,decode,prefix,park] [--hold yes]
//! ```
//! Figures are medians of `--repeat` runs. `prefill` counts prompt tokens per second of a prompt that
//! shares nothing with another; `decode` counts generated tokens per second of all sequences together,
//! from the first token of the last sequence to its last. `--hold` keeps the model loaded until standard input ends.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program whose output is its purpose")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use samovar_core::digest::{Digest, Hasher};
use samovar_core::footprint::KvType;
use samovar_core::format::gguf;
use samovar_core::generation::Generation;
use samovar_core::port::{Engine, Instance, LoadControl, LoadRequest, PackRequest, PackedFile};
use samovar_core::{
    Completion, Descriptor, GenerationRequest, Layout, LoadOptions, ModelFiles, Prompt, Sampling, TokenEvent,
};
use samovar_llama::{LlamaEngine, build_info};

/// What packed files are of, here.
const SOURCE: &str = "engine_bench";

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

struct Settings {
    model: PathBuf,
    layout: Layout,
    threads: u32,
    prompt: usize,
    generate: u32,
    repeat: usize,
    context: u32,
    slots: u32,
    is_held: bool,
    only: Option<String>,
    packed: Option<PathBuf>,
    pack: Option<PathBuf>,
}

fn settings() -> Fallible<Settings> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments
        .next()
        .ok_or("usage: engine_bench MODEL.gguf [--layout mapped|packed|hybrid|repacked] …")?;
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    let mut settings = Settings {
        model: model.into(),
        layout: Layout::Mapped,
        threads,
        prompt: 512,
        generate: 64,
        repeat: 3,
        context: 2048,
        slots: 8,
        is_held: false,
        only: None,
        packed: None,
        pack: None,
    };
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--layout" => {
                let layouts = [Layout::Mapped, Layout::Packed, Layout::Hybrid, Layout::Repacked];
                let layout = layouts.into_iter().find(|layout| layout.as_str() == value);
                settings.layout = layout.ok_or_else(|| format!("no layout is called {value}"))?;
            }
            "--packed" => settings.packed = Some(value.into()),
            "--pack" => settings.pack = Some(value.into()),
            "--threads" => settings.threads = value.parse()?,
            "--prompt" => settings.prompt = value.parse()?,
            "--generate" => settings.generate = value.parse()?,
            "--repeat" => settings.repeat = value.parse()?,
            "--context" => settings.context = value.parse()?,
            "--slots" => settings.slots = value.parse()?,
            "--hold" => settings.is_held = value == "yes",
            "--only" => settings.only = Some(value),
            _ => return Err(format!("what is {name} {value}?").into()),
        }
    }
    Ok(settings)
}

/// A prompt that shares nothing with those of other seeds.
fn prompt(vocabulary: u32, tokens: usize, seed: u32) -> Vec<u32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        // Ordinary tokens lie behind the control and byte tokens.
        260 + state % (vocabulary - 260)
    };
    (0..tokens).map(|_| next()).collect()
}

fn request(tokens: Vec<u32>, max_tokens: u32, reuse_prefix: bool) -> GenerationRequest {
    GenerationRequest {
        sampling: Sampling::greedy(),
        max_tokens: Some(max_tokens),
        ignore_eos: true,
        reuse_prefix,
        ..GenerationRequest::new(Prompt::Tokens(tokens))
    }
}

/// An answer with the moments of its first and last token.
struct Timed {
    completion: Completion,
    first: Instant,
    last: Instant,
}

fn finish(mut generation: Generation) -> Fallible<Timed> {
    let mut first = None;
    while let Some(event) = generation.blocking_next() {
        match event {
            TokenEvent::Prefilled { .. } => first = Some(Instant::now()),
            TokenEvent::Prefilling { .. }
            | TokenEvent::Token { .. }
            | TokenEvent::Deltas { .. }
            | TokenEvent::Embedded(_) => {}
            TokenEvent::Done(completion) => {
                let now = Instant::now();
                return Ok(Timed { completion, first: first.unwrap_or(now), last: now });
            }
            TokenEvent::Failed(failure) => return Err(failure.to_string().into()),
        }
    }
    Err("the answer has no end".into())
}

/// Runs requests side by side, each read by a thread of its own.
fn together(instance: &Arc<dyn Instance>, requests: Vec<GenerationRequest>) -> Fallible<Vec<Timed>> {
    let running: Vec<_> = requests
        .into_iter()
        .map(|request| instance.generate(request).map_err(|failure| failure.to_string()))
        .collect::<Result<_, _>>()?;
    let readers: Vec<_> = running
        .into_iter()
        .map(|generation| std::thread::spawn(move || finish(generation).map_err(|error| error.to_string())))
        .collect();
    readers.into_iter().map(|reader| Ok(reader.join().map_err(|_| "a reader panicked")??)).collect()
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// A count of this process's memory, where the kernel tells.
fn kernel_bytes(field: &str) -> Option<u64> {
    let rollup = fs_err::read_to_string("/proc/self/smaps_rollup").ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix(field))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// A digest of an answer's tokens and of the bits of their log-probabilities: equal where all logits are.
fn answer(instance: &Arc<dyn Instance>, tokens: Vec<u32>) -> Fallible<Digest> {
    let request = GenerationRequest { logprobs: Some(20), ..request(tokens, 64, false) };
    let mut generation = instance.generate(request)?;
    let mut hasher = Hasher::new();
    while let Some(event) = generation.blocking_next() {
        match event {
            TokenEvent::Token { logprob, .. } => {
                for token in logprob.iter().flat_map(|token| std::iter::once(token).chain(&token.top)) {
                    hasher.update(&token.token.to_le_bytes());
                    hasher.update(&token.logprob.to_bits().to_le_bytes());
                }
            }
            TokenEvent::Failed(failure) => return Err(failure.to_string().into()),
            TokenEvent::Prefilling { .. }
            | TokenEvent::Prefilled { .. }
            | TokenEvent::Deltas { .. }
            | TokenEvent::Embedded(_)
            | TokenEvent::Done(_) => {}
        }
    }
    Ok(hasher.finish())
}

/// Makes a packed file and says what that cost.
fn pack(engine: &LlamaEngine, model: &Path, descriptor: &Descriptor, path: &Path) -> Fallible<()> {
    let file = fs_err::File::options().read(true).write(true).create(true).truncate(true).open(path)?;
    let start = Instant::now();
    let (files, control) = (ModelFiles::of(model), LoadControl::silent());
    let request =
        PackRequest { files: &files, descriptor, source: SOURCE, into: file.file(), control: &control };
    let bytes = engine.pack(request)?;
    let write_ms = milliseconds(start);
    file.sync_all()?;
    println!("{{");
    println!("  \"key\": {:?},", engine.packing(descriptor).unwrap_or_default());
    println!("  \"bytes\": {bytes},\n  \"pack_ms\": {write_ms:.1},");
    println!("  \"pack_and_sync_ms\": {:.1}\n}}", milliseconds(start));
    Ok(())
}

fn main() -> Fallible<()> {
    let settings = settings()?;
    let descriptor = gguf::inspect(&settings.model)?;
    let engine = LlamaEngine::new();
    let options = LoadOptions {
        context_tokens: settings.context,
        slots: settings.slots,
        layout: settings.layout,
        kv_type: KvType::F16,
        threads: settings.threads,
        lock_memory: false,
        pooling: None,
        draft: None,
    };
    let wants =
        |part: &str| settings.only.as_ref().is_none_or(|only| only.split(',').any(|name| name == part));

    if let Some(path) = &settings.pack {
        return pack(&engine, &settings.model, &descriptor, path);
    }
    let mut figures = Vec::new();
    let packed = settings.packed.as_ref().map(|path| PackedFile { path, source: SOURCE });
    let (files, control) = (ModelFiles::of(&settings.model), LoadControl::silent());
    let wanted = LoadRequest::new(&files, &descriptor, &options, &control).with_packed(packed);
    let load = || engine.load(wanted);

    let start = Instant::now();
    let mut instance = load()?;
    let load_ms = milliseconds(start);
    let mut first = Vec::new();
    together(&instance, vec![request(vec![300], 1, false)])?;
    let first_token_ms = milliseconds(start);
    if wants("load") {
        let mut warm = Vec::new();
        for _ in 0..settings.repeat {
            drop(instance);
            let start = Instant::now();
            instance = load()?;
            warm.push(milliseconds(start));
            together(&instance, vec![request(vec![300], 1, false)])?;
            first.push(milliseconds(start));
        }
        figures.push(format!("\"warm_load_ms\": {:.1}", median(warm)));
        figures.push(format!("\"warm_first_token_ms\": {:.1}", median(first)));
    }
    let arrangement = instance.arrangement();
    if let Some(reason) = arrangement.refused {
        eprintln!("the packed file is not used: {reason}");
    }
    let vocabulary = descriptor.vocabulary;
    let mut seed = 0;
    let mut fresh = |tokens: usize| {
        seed += 1;
        prompt(vocabulary, tokens, seed)
    };
    if settings.only.as_deref() != Some("load") {
        // Pages the weights in and lets the engine find its pace.
        together(&instance, vec![request(fresh(192), 4, false)])?;
    }

    figures.splice(
        0..0,
        [
            format!("\"model\": {:?}", settings.model.display().to_string()),
            format!("\"engine\": {:?}", engine.engines()[0].name),
            format!("\"compiler\": {:?}", build_info().compiler),
            format!("\"layout\": \"{}\"", arrangement.layout),
            format!("\"threads\": {}", settings.threads),
            format!("\"load_ms\": {load_ms:.1}"),
            format!("\"first_token_ms\": {first_token_ms:.1}"),
            format!("\"predicted_held_bytes\": {}", engine.footprint(&descriptor, &options)?.held_bytes),
            format!("\"held_bytes\": {}", instance.measure().held_bytes),
            format!("\"mapped_bytes\": {}", instance.measure().mapped_bytes),
        ],
    );

    if wants("answer") {
        figures.push(format!("\"answer\": \"{}\"", answer(&instance, prompt(vocabulary, 101, 77))?));
    }
    if wants("fill") {
        // All cells in use: what the instance holds at most.
        let full = settings.context as usize - 4;
        together(&instance, (0..8).map(|_| request(fresh(full), 2, false)).collect())?;
    }
    if wants("prefill") {
        let mut speeds = Vec::new();
        for _ in 0..settings.repeat {
            let answer = together(&instance, vec![request(fresh(settings.prompt), 0, false)])?;
            speeds.push(settings.prompt as f64 / answer[0].completion.prefill_ms * 1e3);
        }
        figures.push(format!("\"prefill_tokens\": {}", settings.prompt));
        figures.push(format!("\"prefill_tokens_per_s\": {:.2}", median(speeds)));
    }
    if wants("decode") {
        for sequences in [1_u32, 4, 8] {
            let mut speeds = Vec::new();
            for _ in 0..settings.repeat {
                let requests =
                    (0..sequences).map(|_| request(fresh(4), settings.generate + 1, false)).collect();
                let answers = together(&instance, requests)?;
                let first = answers.iter().map(|answer| answer.first).max();
                let last = answers.iter().map(|answer| answer.last).max();
                let seconds = first.zip(last).map_or(f64::NAN, |(a, b)| (b - a).as_secs_f64());
                speeds.push(f64::from(sequences * settings.generate) / seconds);
            }
            figures.push(format!("\"decode_{sequences}_tokens_per_s\": {:.2}", median(speeds)));
        }
    }
    if wants("prefix") {
        let (mut one, mut four, mut again) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..settings.repeat {
            let with_tail = |prefix: &[u32], tail: Vec<u32>| [prefix, &tail].concat();
            let prefix = fresh(settings.prompt);
            let start = Instant::now();
            together(&instance, vec![request(with_tail(&prefix, fresh(8)), 4, true)])?;
            one.push(milliseconds(start));

            let prefix = fresh(settings.prompt);
            let requests = (0..4).map(|_| request(with_tail(&prefix, fresh(8)), 4, true)).collect();
            let start = Instant::now();
            together(&instance, requests)?;
            four.push(milliseconds(start));

            let start = Instant::now();
            together(&instance, vec![request(with_tail(&prefix, fresh(8)), 4, true)])?;
            again.push(milliseconds(start));
        }
        let (one, four, again) = (median(one), median(four), median(again));
        figures.push(format!("\"prefix_one_ms\": {one:.1}"));
        figures.push(format!("\"prefix_four_ms\": {four:.1}"));
        figures.push(format!("\"prefix_four_to_one\": {:.3}", four / one));
        figures.push(format!("\"prefix_again_ms\": {again:.1}"));
    }
    if wants("park") {
        let (mut parks, mut resumes, mut firsts) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..settings.repeat {
            let start = Instant::now();
            instance.park()?;
            parks.push(milliseconds(start));
            let start = Instant::now();
            instance.resume(&options)?;
            resumes.push(milliseconds(start));
            together(&instance, vec![request(fresh(8), 1, false)])?;
            firsts.push(milliseconds(start));
        }
        figures.push(format!("\"park_ms\": {:.2}", median(parks)));
        figures.push(format!("\"resume_ms\": {:.2}", median(resumes)));
        figures.push(format!("\"resume_to_first_token_ms\": {:.2}", median(firsts)));
    }
    for (name, field) in [("rss", "Rss:"), ("pss", "Pss:"), ("anonymous", "Anonymous:")] {
        if let Some(bytes) = kernel_bytes(field) {
            figures.push(format!("\"kernel_{name}_bytes\": {bytes}"));
        }
    }
    println!("{{\n  {}\n}}", figures.join(",\n  "));
    if settings.is_held {
        std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    }
    Ok(())
}
