//! `samovar pull`: fetches models into the store. Needs no daemon; several processes may do the same at once.

use std::sync::Arc;

use samovar::store::{AdoptedArtifact, Progress, Pulled, Store, Watch};
use samovar::{Builder, Runtime};
use samovar_core::model::ArtifactRef;
use samovar_core::units::ByteSize;
use samovar_core::{ErrorKind, Failure};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Context, answer, backend, prepare, stored};
use crate::args::Pull;
use crate::ended::Ended;
use crate::report::Downloads;

/// Models that are fetched at the same time; each has connections of its own.
const AT_ONCE: usize = 3;
/// Steps that wait to be shown. A reader that falls behind misses some.
const STEPS: usize = 64;

pub(super) async fn execute(context: &Context, arguments: Pull) -> Result<(), Ended> {
    let wanted = wanted(context, &arguments)?;
    if wanted.is_empty() {
        return Ok(());
    }
    let mut stop = signal(SignalKind::interrupt()).map_err(|error| deaf(&error))?;
    // It knows what fits this machine, where a name leaves the quantization open.
    let runtime = Builder::settings(context.settings.runtime.clone()).build()?;
    let store = runtime.store().await?;
    let names = wanted.iter().map(|wanted| wanted.name.clone());
    let mut downloads = context.report.downloads(names, arguments.quiet);
    let (sender, mut steps) = mpsc::channel(STEPS);
    let mut pulls = start(&runtime, &store, &wanted, arguments.quantize.is_none(), &sender);
    drop(sender);
    let mut failed: Option<Failure> = None;
    loop {
        tokio::select! {
            biased;
            _ = stop.recv() => {
                pulls.shutdown().await;
                drop(downloads);
                context.report.note("stopped; the fetched bytes are kept, and the same command resumes");
                return Err(Ended::Interrupted);
            }
            Some((place, progress)) = steps.recv() => downloads.show(place, &progress)?,
            ended = pulls.join_next() => {
                let Some(ended) = ended else { break };
                let Finished { place, nearby, outcome, took_ms } = ended.map_err(|error| broken(&error))?;
                downloads.end(place);
                if let Some(taken) = &nearby {
                    downloads.beside(|report| report.nearby(&wanted[place].name, &taken.from, taken.bytes));
                }
                let outcome = or_offline(context, &store, &wanted[place], outcome, nearby.is_some()).await;
                match outcome {
                    Ok(outcome) => conclude(context, &downloads, &wanted[place].name, &outcome, took_ms)?,
                    Err(failure) if wanted.len() == 1 => failed = Some(failure),
                    Err(failure) => {
                        let failure = named(&wanted[place].name, failure);
                        refuse(context, &downloads, &wanted[place].name, &failure)?;
                        failed = Some(failed.unwrap_or(failure));
                    }
                }
            }
        }
    }
    drop(downloads);
    match failed {
        None => prepare_all(context, &wanted, &arguments).await,
        Some(failure) if wanted.len() == 1 => Err(failure.into()),
        Some(failure) => Err(Ended::Shown(failure.kind)),
    }
}

/// Converts what was fetched, where a number format was asked for.
async fn prepare_all(context: &Context, wanted: &[Wanted], arguments: &Pull) -> Result<(), Ended> {
    let Some(quantization) = arguments.quantize else { return Ok(()) };
    for Wanted { name, .. } in wanted {
        let model = backend::portable(name, &context.settings)?;
        let info = prepare::prepare(context, &model, Some(quantization)).await?;
        if context.report.is_json() {
            context.report.event(&json!({ "event": "prepared", "model": name, "prepared": info }))?;
        } else if !arguments.quiet {
            context.report.line(&prepare::sentence(name, &info))?;
        }
    }
    Ok(())
}

/// One model to fetch.
struct Wanted {
    /// As it was typed.
    name: String,
    reference: ArtifactRef,
}

/// The end of one pull.
struct Finished {
    place: usize,
    /// Where another program on this machine had it.
    nearby: Option<AdoptedArtifact>,
    outcome: Result<Pulled, Failure>,
    took_ms: f64,
}

/// What came of it.
enum PullResult {
    Pulled(Box<Pulled>),
    /// It was here, and no source may be asked for news.
    AlreadyStored(Box<samovar::store::Artifact>),
}

/// Each model once. All names are read before anything is fetched.
fn wanted(context: &Context, arguments: &Pull) -> Result<Vec<Wanted>, Ended> {
    let mut wanted: Vec<Wanted> = Vec::new();
    for name in &arguments.models {
        match stored::source(name, &context.settings)? {
            Some(reference) if wanted.iter().all(|other| other.reference != reference) => {
                wanted.push(Wanted { name: name.clone(), reference });
            }
            Some(_) => {}
            None if context.report.is_json() => context.report.event(&json!({
                "event": "done", "model": name, "reference": name, "was_here": true, "fetched_bytes": 0,
            }))?,
            None => context.report.line(&format!("{name} is part of this program"))?,
        }
    }
    Ok(wanted)
}

/// Where it `chooses`, a name that leaves the number format open gets one first.
fn start(
    runtime: &Runtime,
    store: &Store,
    wanted: &[Wanted],
    chooses: bool,
    sender: &mpsc::Sender<(usize, Progress)>,
) -> JoinSet<Finished> {
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut pulls = JoinSet::new();
    for (place, wanted) in wanted.iter().enumerate() {
        let (store, turns, sender) = (store.clone(), Arc::clone(&turns), sender.clone());
        let (runtime, name, reference) = (runtime.clone(), wanted.name.clone(), wanted.reference.clone());
        pulls.spawn(async move {
            let _turn = turns.acquire_owned().await;
            let began = Instant::now();
            // Must return at once: a step for which there is no room is not shown.
            let watch: Watch = Arc::new(move |progress| {
                sender.try_send((place, progress)).ok();
            });
            // What is wrong with what another program has does not prevent a fetch.
            let nearby = store.take_nearby(&reference, Some(Arc::clone(&watch))).await.ok().flatten();
            let chosen = match &nearby {
                None if chooses => runtime.choose(&name, Some(Arc::clone(&watch))).await,
                _ => Ok(()),
            };
            let outcome = match chosen {
                Ok(()) => store.pull(&reference, Some(watch)).await.map_err(Failure::from),
                Err(failure) => Err(failure),
            };
            Finished { place, nearby, outcome, took_ms: began.elapsed().as_secs_f64() * 1e3 }
        });
    }
    pulls
}

/// Offline, or where the source does not answer, what is here is as good as it gets.
async fn or_offline(
    context: &Context,
    store: &Store,
    wanted: &Wanted,
    outcome: Result<Pulled, Failure>,
    was_nearby: bool,
) -> Result<PullResult, Failure> {
    match outcome {
        Ok(pulled) => Ok(PullResult::Pulled(Box::new(pulled))),
        Err(failure) if was_nearby || context.settings.runtime.store.sources.is_offline => {
            let (store, reference) = (store.clone(), wanted.reference.clone());
            match stored::blocking(move || store.find(&reference)).await {
                Ok(Some(artifact)) => Ok(PullResult::AlreadyStored(Box::new(artifact))),
                _ => Err(failure),
            }
        }
        Err(failure) => Err(failure),
    }
}

fn conclude(
    context: &Context,
    downloads: &Downloads<'_>,
    name: &str,
    outcome: &PullResult,
    took_ms: f64,
) -> Result<(), Ended> {
    if context.report.is_json() {
        return context.report.event(&event(name, outcome, took_ms));
    }
    downloads.line(&sentence(outcome, took_ms))
}

fn sentence(outcome: &PullResult, took_ms: f64) -> String {
    let size = |bytes: u64| ByteSize::from_bytes(bytes).to_string();
    match outcome {
        PullResult::AlreadyStored(artifact) => format!(
            "{} is on disk ({}); its source was not asked for changes",
            artifact.reference,
            size(artifact.bytes())
        ),
        PullResult::Pulled(pulled) if pulled.was_here => {
            format!("{} is already on disk ({})", pulled.artifact.reference, size(pulled.artifact.bytes()))
        }
        PullResult::Pulled(pulled) if pulled.fetched_bytes == 0 => format!(
            "{}: all of its {} were already on disk under another name",
            pulled.artifact.reference,
            size(pulled.artifact.bytes())
        ),
        PullResult::Pulled(pulled) => {
            let (whole, fetched) = (pulled.artifact.bytes(), pulled.fetched_bytes);
            let rate = if took_ms > 0.0 { fetched as f64 / (took_ms / 1e3) } else { 0.0 };
            let rest = if fetched < whole {
                format!(" of {}, the rest was on disk", size(whole))
            } else {
                String::new()
            };
            format!(
                "{}: {}{rest}, in {} ({}/s)",
                pulled.artifact.reference,
                size(fetched),
                took(took_ms),
                size(rate as u64)
            )
        }
    }
}

/// A download's time: seconds with a tenth, then minutes.
fn took(ms: f64) -> String {
    match ms {
        ..1000.0 => answer::ms(ms),
        ..60_000.0 => format!("{:.1} s", ms / 1e3),
        _ => answer::roughly(ms as u64),
    }
}

fn event(name: &str, outcome: &PullResult, took_ms: f64) -> Value {
    let (artifact, fetched_bytes, was_here) = match outcome {
        PullResult::AlreadyStored(artifact) => (artifact.as_ref(), 0, true),
        PullResult::Pulled(pulled) => (&pulled.artifact, pulled.fetched_bytes, pulled.was_here),
    };
    json!({
        "event": "done",
        "model": name,
        "reference": artifact.reference,
        "key": artifact.key_digest.to_string(),
        "bytes": artifact.bytes(),
        "fetched_bytes": fetched_bytes,
        "was_here": was_here,
        "took_ms": took_ms,
    })
}

/// One of several could not be fetched; the others go on.
fn refuse(context: &Context, downloads: &Downloads<'_>, name: &str, failure: &Failure) -> Result<(), Ended> {
    if context.report.is_json() {
        context.report.event(&json!({ "event": "failed", "model": name, "message": failure.message,
            "kind": failure.kind, "hint": failure.hint }))?;
    }
    downloads.beside(|report| report.failure(failure));
    Ok(())
}

/// Among several, an error says whose it is.
fn named(name: &str, failure: Failure) -> Failure {
    if failure.message.contains(name) {
        return failure;
    }
    let message = format!("{name}: {}", failure.message);
    failure.with_message(message)
}

fn broken(error: &tokio::task::JoinError) -> Failure {
    Failure::new(ErrorKind::Internal, format!("a download ended: {error}"))
}

fn deaf(error: &std::io::Error) -> Failure {
    Failure::new(ErrorKind::Internal, format!("signals cannot be listened to: {error}"))
}
