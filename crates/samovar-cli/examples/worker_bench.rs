//! What a process of its own costs a model: the same requests to llama.cpp in this process and in a worker, in turns,
//! as JSON.
//!
//! ```text
//! worker_bench MODEL.gguf SAMOVAR [--threads N] [--generate 128] [--rounds 5] [--context 1024]
//! ```
//! `SAMOVAR` is the built binary. Figures are medians over the rounds; in every other round the worker goes first.
//! `decode` counts generated tokens per second of all sequences together, from the first token of the last sequence to
//! its last, as their readers see them. `request` is the time of a whole request of 4 prompt tokens and one answer token.
#![allow(clippy::print_stdout, reason = "a program whose output is its purpose")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use samovar::worker::{WorkerConfig, WorkerEngine};
use samovar_core::footprint::KvType;
use samovar_core::format::gguf;
use samovar_core::generation::Generation;
use samovar_core::port::{Engine, Instance, LoadControl, LoadRequest};
use samovar_core::{GenerationRequest, Layout, LoadOptions, ModelFiles, Prompt, Sampling, TokenEvent};

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

/// Sequences side by side.
const SEQUENCES: [u32; 3] = [1, 4, 8];
/// Short requests in one round.
const REQUESTS: u32 = 20;

struct Settings {
    model: PathBuf,
    samovar: PathBuf,
    threads: u32,
    generate: u32,
    rounds: usize,
    context: u32,
}

fn settings() -> Fallible<Settings> {
    const USAGE: &str = "usage: worker_bench MODEL.gguf SAMOVAR [--threads N] [--generate N] [--rounds N]";
    let mut arguments = std::env::args().skip(1);
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    let (model, samovar) = (arguments.next().ok_or(USAGE)?, arguments.next().ok_or(USAGE)?);
    let mut settings = Settings {
        model: model.into(),
        samovar: samovar.into(),
        threads,
        generate: 128,
        rounds: 5,
        context: 1024,
    };
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--threads" => settings.threads = value.parse()?,
            "--generate" => settings.generate = value.parse()?,
            "--rounds" => settings.rounds = value.parse()?,
            "--context" => settings.context = value.parse()?,
            _ => return Err(format!("what is {name} {value}?").into()),
        }
    }
    Ok(settings)
}

fn request(salt: u32, max_tokens: u32) -> GenerationRequest {
    GenerationRequest {
        sampling: Sampling::greedy(),
        max_tokens: Some(max_tokens),
        ignore_eos: true,
        reuse_prefix: false,
        // Ordinary tokens lie behind the control and byte tokens.
        ..GenerationRequest::new(Prompt::Tokens((0..4).map(|place| 300 + salt * 7 + place).collect()))
    }
}

/// Reads an answer; returns when its first token and its end came.
fn read(mut generation: Generation) -> Result<(Instant, Instant), String> {
    let mut first = None;
    while let Some(event) = generation.blocking_next() {
        match event {
            TokenEvent::Prefilling { .. } | TokenEvent::Prefilled { .. } | TokenEvent::Embedded(_) => {}
            TokenEvent::Token { .. } | TokenEvent::Deltas { .. } => {
                first.get_or_insert_with(Instant::now);
            }
            TokenEvent::Done(_) => {
                let end = Instant::now();
                return Ok((first.unwrap_or(end), end));
            }
            TokenEvent::Failed(failure) => return Err(failure.to_string()),
        }
    }
    Err("the answer has no end".into())
}

/// Tokens per second of all sequences together.
fn decode(instance: &Arc<dyn Instance>, sequences: u32, tokens: u32) -> Fallible<f64> {
    let running = (0..sequences).map(|salt| instance.generate(request(salt, tokens + 1)));
    let readers: Vec<_> = running
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .map(|generation| std::thread::spawn(move || read(generation)))
        .collect();
    let mut times = Vec::new();
    for reader in readers {
        times.push(reader.join().map_err(|_| "a reader panicked")??);
    }
    let first = times.iter().map(|(first, _)| *first).max().ok_or("no sequence")?;
    let last = times.iter().map(|(_, last)| *last).max().ok_or("no sequence")?;
    Ok(f64::from(sequences * tokens) / (last - first).as_secs_f64())
}

/// Milliseconds of one short request.
fn short(instance: &Arc<dyn Instance>) -> Fallible<f64> {
    let mut times = Vec::new();
    for salt in 0..REQUESTS {
        let began = Instant::now();
        read(instance.generate(request(salt, 1))?)?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(median(times))
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// The medians of both, measured in turns.
fn compare(
    pair: &[Arc<dyn Instance>; 2],
    rounds: usize,
    measure: impl Fn(&Arc<dyn Instance>) -> Fallible<f64>,
) -> Fallible<[f64; 2]> {
    let mut figures = [Vec::new(), Vec::new()];
    for round in 0..rounds {
        for turn in [round % 2, (round + 1) % 2] {
            figures[turn].push(measure(&pair[turn])?);
        }
    }
    Ok(figures.map(median))
}

fn main() -> Fallible<()> {
    let settings = settings()?;
    let descriptor = gguf::inspect(&settings.model)?;
    let options = LoadOptions {
        context_tokens: settings.context,
        slots: 8,
        layout: Layout::Mapped,
        kv_type: KvType::F16,
        threads: settings.threads,
        lock_memory: false,
        pooling: None,
        draft: None,
    };
    let here = samovar::default_engine()?;
    let config = WorkerConfig::new(&settings.samovar, ["worker", "--log", "warn"]);
    let there: Arc<dyn Engine> = Arc::new(WorkerEngine::new(Arc::clone(&here), config)?);
    let mut loads = Vec::new();
    let mut load = |engine: &Arc<dyn Engine>| -> Fallible<Arc<dyn Instance>> {
        let began = Instant::now();
        let (files, control) = (ModelFiles::of(&settings.model), LoadControl::silent());
        let instance = engine.load(LoadRequest::new(&files, &descriptor, &options, &control))?;
        loads.push(began.elapsed().as_secs_f64() * 1e3);
        Ok(instance)
    };
    let pair = [load(&here)?, load(&there)?];
    // Pages the weights in and lets both find their pace.
    for instance in &pair {
        decode(instance, 8, 8)?;
    }
    let mut figures = vec![
        format!("\"model\": {:?}", settings.model.display().to_string()),
        format!("\"engine\": {:?}", here.engines()[0].name),
        format!("\"threads\": {}", settings.threads),
        format!("\"load_ms\": {{ \"here\": {:.1}, \"worker\": {:.1} }}", loads[0], loads[1]),
    ];
    for sequences in SEQUENCES {
        let [here, worker] =
            compare(&pair, settings.rounds, |instance| decode(instance, sequences, settings.generate))?;
        figures.push(format!(
            "\"decode_{sequences}_tokens_per_s\": {{ \"here\": {here:.2}, \"worker\": {worker:.2}, \"worker_to_here\": {:.4} }}",
            worker / here
        ));
    }
    let [here, worker] = compare(&pair, settings.rounds, short)?;
    figures.push(format!(
        "\"request_ms\": {{ \"here\": {here:.3}, \"worker\": {worker:.3}, \"added_ms\": {:.3} }}",
        worker - here
    ));
    println!("{{\n  {}\n}}", figures.join(",\n  "));
    Ok(())
}
