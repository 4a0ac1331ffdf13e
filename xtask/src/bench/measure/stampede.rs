//! Many first requests at once, with no daemon there: one daemon, one load.

use std::time::Instant;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::super::Bench;
use super::super::record::Target;
use super::super::samples::Samples;
use super::super::subject::{Home, Question, milliseconds};

/// What to run.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    prompt: String,
    tokens: u32,
    /// Requests at once.
    clients: u32,
    pub(super) models: Vec<String>,
}

/// Through the daemon, and with every process loading for itself.
pub(crate) fn measure(bench: &mut Bench<'_>, plan: &Parameters, model: &str) -> Result<()> {
    let home = Home::new(bench, &[model], "")?;
    let question = Question { model, prompt: &plan.prompt, tokens: plan.tokens };
    home.ask(question, &["--no-daemon"])?;
    let (mut shared, mut alone, mut each, mut loads) =
        (Samples::default(), Samples::default(), Samples::default(), Samples::default());
    for _ in 0..bench.rounds {
        home.shut_down()?;
        let (all, ones) = at_once(&home, question, plan.clients, &[])?;
        shared.push(all);
        each.extend(&ones);
        loads.push(home.pool("loads")?);
        home.shut_down()?;
        alone.push(at_once(&home, question, plan.clients, &["--no-daemon"])?.0);
    }
    let record = &mut bench.record;
    record.series(model, "until the last has its answer", "ms", &shared);
    record.series(model, "each request", "ms", &each);
    record.series(model, "until the last has its answer, with --no-daemon", "ms", &alone);
    record.series(model, "loads", "", &loads);
    record.figure(model, "loads", "", loads.quantile(1.0), Some(Target::AtMost(1.0)));
    record.figure(model, "until the last has its answer", "ms", shared.median(), None);
    record.figure(model, "faster than all with --no-daemon", "×", alone.median() / shared.median(), None);
    Ok(())
}

/// Milliseconds until all are done, and of each.
fn at_once(home: &Home, question: Question<'_>, clients: u32, flags: &[&str]) -> Result<(f64, Samples)> {
    let started = Instant::now();
    let each = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(|| home.ask(question, flags))).collect();
        threads
            .into_iter()
            .map(|thread| {
                thread.join().expect("invariant: asking does not panic").map(|asked| asked.elapsed_ms)
            })
            .collect::<Result<Samples>>()
    })?;
    Ok((milliseconds(started.elapsed()), each))
}
