//! From model A to model B and back: the first token each time, against llama-server's router on the same files.
//!
//! ```text
//!   samovar   both ready │ both parked │ room for one
//!   router    both ready │            loads one
//! ```

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::super::peers::Setup;
use super::super::record::Target;
use super::super::samples::Samples;
use super::super::stream;
use super::super::subject::{Home, Server};
use super::super::{Bench, models};

/// Before each switch: a server may still put away what it has just unloaded.
const PAUSE: Duration = Duration::from_millis(500);

/// What to run.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    /// The two models.
    models: [String; 2],
    prompt: String,
    /// How our weights lie: `mapped`, or `packed`, which is made before anything is measured.
    layout: String,
    context: u32,
    threads: u32,
    /// Memory in which one of them fits, and not both.
    tight_budget: String,
    /// The router's load ÷ waking a parked model.
    parked_at_least: f64,
    /// The router's load ÷ ours.
    loaded_at_least: f64,
    /// The router's load without repacking ÷ ours.
    plainly_loaded_at_least: f64,
    /// The router's first token ÷ ours, both models ready.
    ready_at_least: f64,
}

/// One way to have two models, and what switching costs there.
struct Side<'a> {
    what: &'a str,
    server: Server,
    /// First token after a switch, by model.
    first: [Samples; 2],
    /// Settings and models of ours; dropped after the server.
    home: Option<Home>,
}

/// All sides stay up, and are asked in turn.
pub(crate) fn run(bench: &mut Bench<'_>, plan: &Parameters) -> Result<()> {
    let cache = tempfile::tempdir()?;
    if plan.layout == "packed" {
        pack(bench, plan, cache.path())?;
    }
    let tight = format!("budget_bytes = \"{}\"", plan.tight_budget);
    let mut sides = vec![
        ours(bench, plan, cache.path(), "samovar, both ready", "keep_alive = -1", "")?,
        ours(bench, plan, cache.path(), "samovar, both parked", "keep_alive = 0", "")?,
        ours(bench, plan, cache.path(), "samovar, room for one", "keep_alive = -1", &tight)?,
    ];
    for (what, loaded, repacks) in [
        ("router, both ready", 2, true),
        ("router, room for one", 1, true),
        ("router, room for one, weights not repacked", 1, false),
    ] {
        match router(bench, plan, what, loaded, repacks) {
            Ok(side) => sides.push(side),
            Err(error) => bench.record.skip(what, format!("{error:#}")),
        }
    }
    for round in 0..=bench.rounds {
        for side in &mut sides {
            for (index, model) in plan.models.iter().enumerate() {
                // Never the same prompt twice. What any two share, such as the mark of a text's beginning, both
                // servers may keep.
                let prompt = format!("{round}{index} {}", plan.prompt);
                std::thread::sleep(PAUSE);
                let answer = stream::complete(&side.server.url, model, &prompt, 2)
                    .with_context(|| format!("{}: {model}", side.what))?;
                if round > 0 {
                    side.first[index].push(answer.first_ms());
                }
            }
        }
        if round == 0 || round == bench.rounds {
            sides.iter().try_for_each(|side| side.check_layout(plan))?;
        }
    }
    record(bench, plan, &sides);
    Ok(())
}

impl Side<'_> {
    /// What is not there or was refused is mapped instead, without a word to who asks.
    fn check_layout(&self, plan: &Parameters) -> Result<()> {
        let Some(home) = &self.home else { return Ok(()) };
        for model in &plan.models {
            let shown = home.json(&["show", model])?;
            let reached = shown["packed"]["arrangement"]["layout"].as_str().unwrap_or("not at all");
            anyhow::ensure!(
                reached == plan.layout,
                "{}: {model} was to be loaded {} and was loaded {reached}",
                self.what,
                plan.layout
            );
        }
        Ok(())
    }
}

fn home(bench: &Bench<'_>, plan: &Parameters, cache: &Path, model: &str, pool: &str) -> Result<Home> {
    let names: Vec<&str> = plan.models.iter().map(String::as_str).collect();
    let settings = format!(
        "slots = 1\ncontext_tokens = {}\nthreads = {}\nlayout = \"{}\"\n{model}\n[cache]\ncache_dir = \"{}\"\n[pool]\n{pool}\n",
        plan.context,
        plan.threads,
        plan.layout,
        cache.display()
    );
    Home::new(bench, &names, &settings)
}

/// Makes the packed files, where every side finds them.
fn pack(bench: &Bench<'_>, plan: &Parameters, cache: &Path) -> Result<()> {
    let home = home(bench, plan, cache, "", "")?;
    for model in &plan.models {
        home.json(&["pack", model])?;
    }
    Ok(())
}

fn ours<'a>(
    bench: &Bench<'_>,
    plan: &Parameters,
    cache: &Path,
    what: &'a str,
    model: &str,
    pool: &str,
) -> Result<Side<'a>> {
    let home = home(bench, plan, cache, model, pool)?;
    let server = home.serve()?;
    Ok(Side { what, server, first: Default::default(), home: Some(home) })
}

fn router<'a>(
    bench: &Bench<'_>,
    plan: &Parameters,
    what: &'a str,
    loaded: u32,
    repacks: bool,
) -> Result<Side<'a>> {
    let path = models::weights(bench.tree, &plan.models[0])?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let setup = Setup { model: &path, threads: plan.threads, repacks };
    let server = bench.peers.route(folder, loaded, setup, plan.context)?;
    Ok(Side { what, server, first: Default::default(), home: None })
}

fn record(bench: &mut Bench<'_>, plan: &Parameters, sides: &[Side<'_>]) {
    for (index, model) in plan.models.iter().enumerate() {
        for side in sides {
            let what = format!("first token after a switch, {}", side.what);
            bench.record.series(model, &what, "ms", &side.first[index]);
            bench.record.figure(model, &what, "ms", side.first[index].median(), None);
        }
        let median = |what: &str| {
            let side = sides.iter().find(|side| side.what == what);
            side.map(|side| side.first[index].median())
        };
        for (name, theirs, own, least) in [
            (
                "router's load ÷ waking a parked model",
                "router, room for one",
                "samovar, both parked",
                plan.parked_at_least,
            ),
            (
                "router's load ÷ our load",
                "router, room for one",
                "samovar, room for one",
                plan.loaded_at_least,
            ),
            (
                "router's load without repacking ÷ our load",
                "router, room for one, weights not repacked",
                "samovar, room for one",
                plan.plainly_loaded_at_least,
            ),
            (
                "router ÷ samovar, both ready",
                "router, both ready",
                "samovar, both ready",
                plan.ready_at_least,
            ),
        ] {
            if let (Some(theirs), Some(own)) = (median(theirs), median(own)) {
                bench.record.figure(model, name, "×", theirs / own, Some(Target::AtLeast(least)));
            }
        }
    }
}
