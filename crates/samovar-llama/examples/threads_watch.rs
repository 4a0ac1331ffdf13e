//! Speed and threads every half second, of one model or of several at once: to watch what other programs do to them.
//!
//! ```text
//! threads_watch MODEL.gguf [--models 2] [--threads 2] [--seconds 20]
//! ```
#![allow(clippy::print_stdout, reason = "printing is what it does")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use samovar_core::footprint::KvType;
use samovar_core::format::gguf;
use samovar_core::port::{Engine, Instance, LoadControl, LoadRequest};
use samovar_core::{
    Failure, GenerationRequest, Layout, LoadOptions, ModelFiles, Prompt, Sampling, ThreadUse, TokenEvent,
};
use samovar_llama::LlamaEngine;

const TICK: Duration = Duration::from_millis(500);

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |flag: &str, usual: u32| {
        let place = arguments.iter().position(|argument| argument == flag);
        place.and_then(|place| arguments.get(place + 1)?.parse().ok()).unwrap_or(usual)
    };
    let path = PathBuf::from(arguments.first().map_or("assets/demo-model/demo.gguf", String::as_str));
    let (models, threads, seconds) = (number("--models", 1), number("--threads", 2), number("--seconds", 20));
    let options = LoadOptions {
        context_tokens: 4096,
        slots: 1,
        layout: Layout::Mapped,
        kv_type: KvType::F16,
        threads,
        lock_memory: false,
        pooling: None,
        draft: None,
    };
    let descriptor = gguf::inspect(&path)?;
    let engine = LlamaEngine::new();
    let mut running: Vec<(Arc<dyn Instance>, Arc<AtomicU64>)> = Vec::new();
    for _ in 0..models {
        let (files, control) = (ModelFiles::of(&path), LoadControl::silent());
        let instance = engine.load(LoadRequest::new(&files, &descriptor, &options, &control))?;
        let tokens = Arc::<AtomicU64>::default();
        let (asked, said) = (Arc::clone(&instance), Arc::clone(&tokens));
        std::thread::spawn(move || answer_for_ever(&*asked, &said));
        running.push((instance, tokens));
    }
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(u64::from(seconds)) {
        let (before, at): (Vec<u64>, _) = (counts(&running), Instant::now());
        std::thread::sleep(TICK);
        let elapsed = at.elapsed().as_secs_f64();
        let after = counts(&running);
        let rates = after.iter().zip(&before).map(|(now, before)| (now - before) as f64 / elapsed);
        let told = rates.zip(&running).map(|(rate, (instance, _))| {
            let threads: ThreadUse = instance.measure().threads;
            format!("{rate:6.1}/s  threads {threads}")
        });
        println!("{:5.1} s  {}", began.elapsed().as_secs_f64(), told.collect::<Vec<_>>().join("   "));
    }
    Ok(())
}

fn counts(running: &[(Arc<dyn Instance>, Arc<AtomicU64>)]) -> Vec<u64> {
    running.iter().map(|(_, tokens)| tokens.load(Ordering::Relaxed)).collect()
}

fn answer_for_ever(instance: &dyn Instance, tokens: &AtomicU64) {
    let request = || GenerationRequest {
        sampling: Sampling::greedy(),
        max_tokens: Some(512),
        ignore_eos: true,
        ..GenerationRequest::new(Prompt::Tokens(vec![5, 6, 7]))
    };
    while let Ok(mut generation) = instance.generate(request()) {
        while let Some(event) = generation.blocking_next() {
            if matches!(event, TokenEvent::Token { .. }) {
                tokens.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
