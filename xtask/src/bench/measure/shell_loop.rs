//! Runs in a loop through the resident daemon, against as many that load the model each time.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::super::record::Target;
use super::super::samples::Samples;
use super::super::subject::{Home, Question};
use super::super::{Bench, models};
use crate::process;
use crate::tree::Tree;

/// What to run.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    prompt: String,
    /// Runs of one loop.
    runs: u32,
    /// Every run asks something of its own, so that nothing of an earlier prompt can be reused.
    #[serde(default)]
    is_varied: bool,
    pub(super) case: Vec<Case>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(super) name: String,
    model: String,
    tokens: u32,
    #[serde(default = "mapped")]
    layout: String,
    /// Take the weights out of the page cache before each load that is measured.
    #[serde(default)]
    is_cold: bool,
    /// How much faster the loop must be once the model is there.
    at_least: Option<f64>,
}

fn mapped() -> String {
    "mapped".to_owned()
}

/// Times of one case, in milliseconds.
#[derive(Default)]
struct Times {
    /// Loops whose first run finds no daemon.
    starting: Samples,
    /// Loops that find the model loaded.
    resident: Samples,
    /// Loops that load in the process each time.
    loading: Samples,
    first_run: Samples,
    resident_run: Samples,
    loading_run: Samples,
    /// Loads in a daemon's life of two loops.
    loads: Samples,
}

/// Measures one case: both sides in turn, in each round.
pub(crate) fn measure(bench: &mut Bench<'_>, plan: &Parameters, case: &Case) -> Result<()> {
    let times = times(bench, plan, case)?;
    keep(bench, case, &times);
    Ok(())
}

fn times(bench: &Bench<'_>, plan: &Parameters, case: &Case) -> Result<Times> {
    let home = Home::new(bench, &[&case.model], &format!("layout = \"{}\"", case.layout))?;
    let asked = std::cell::Cell::new(0_u32);
    let ask = |flags: &[&str]| {
        asked.set(asked.get() + 1);
        let prompt =
            if plan.is_varied { format!("{}. {}", asked.get(), plan.prompt) } else { plan.prompt.clone() };
        home.ask(Question { model: &case.model, prompt: &prompt, tokens: case.tokens }, flags)
    };
    // Unpacks the built-in model and fills the page cache, on behalf of both sides.
    ask(&["--no-daemon"])?;
    let mut times = Times::default();
    for _ in 0..bench.rounds {
        home.shut_down()?;
        forget(bench.tree, case)?;
        let starting = loop_of(plan.runs, || Ok(ask(&[])?.elapsed_ms))?;
        let resident = loop_of(plan.runs, || Ok(ask(&[])?.elapsed_ms))?;
        times.loads.push(home.pool("loads")?);
        home.shut_down()?;
        let loading = loop_of(plan.runs, || {
            forget(bench.tree, case)?;
            Ok(ask(&["--no-daemon"])?.elapsed_ms)
        })?;
        times.starting.push(starting.sum());
        times.resident.push(resident.sum());
        times.loading.push(loading.sum());
        times.first_run.push(starting.values()[0]);
        times.resident_run.extend(&resident);
        times.loading_run.extend(&loading);
    }
    Ok(times)
}

fn loop_of(runs: u32, mut one: impl FnMut() -> Result<f64>) -> Result<Samples> {
    (0..runs).map(|_| one()).collect()
}

/// Takes the weights out of the page cache, where the case asks for it. No process may have them mapped.
fn forget(tree: &Tree, case: &Case) -> Result<()> {
    if case.is_cold {
        let file = format!("if={}", models::weights(tree, &case.model)?.display());
        process::output("dd", &[&file, "iflag=nocache", "count=0", "status=none"])?;
    }
    Ok(())
}

fn keep(bench: &mut Bench<'_>, case: &Case, times: &Times) {
    let record = &mut bench.record;
    record.series(&case.name, "loop that starts the daemon", "ms", &times.starting);
    record.series(&case.name, "loop that finds the model loaded", "ms", &times.resident);
    record.series(&case.name, "loop with --no-daemon", "ms", &times.loading);
    record.series(&case.name, "run that starts the daemon and loads", "ms", &times.first_run);
    record.series(&case.name, "run that finds the model loaded", "ms", &times.resident_run);
    record.series(&case.name, "run with --no-daemon", "ms", &times.loading_run);
    let loading = times.loading.median();
    let resident = loading / times.resident.median();
    let target = case.at_least.map(Target::AtLeast);
    record.figure(&case.name, "faster than --no-daemon, model loaded", "×", resident, target);
    let starting = loading / times.starting.median();
    record.figure(&case.name, "faster than --no-daemon, daemon start and load included", "×", starting, None);
    record.figure(&case.name, "run that finds the model loaded", "ms", times.resident_run.median(), None);
    record.figure(&case.name, "run with --no-daemon", "ms", times.loading_run.median(), None);
    let most = times.loads.quantile(1.0);
    record.figure(&case.name, "loads in two loops", "", most, Some(Target::AtMost(1.0)));
}
