//! Speed next to other programs that compute, and of several models at once, against llama-server.
//!
//! Start it under `taskset -c 0`, or in a control group with a quota, to measure that as well: both sides inherit it.

use std::fmt::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::super::peers::Setup;
use super::super::record::Target;
use super::super::samples::Samples;
use super::super::stream;
use super::super::subject::{Home, Server};
use super::super::{Bench, models};

/// What to run.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    pub(super) models: Vec<String>,
    prompt: String,
    tokens: u32,
    threads: u32,
    /// How the weights lie in memory.
    layout: String,
    /// How many busy loops run next to it; the first is 0, with which the others are compared.
    loops: Vec<usize>,
    /// Models that answer at the same time.
    together: Vec<usize>,
    /// Words of another model's prompt, which is computed while a small request waits for its first token.
    long_prompt_words: usize,
    /// With one loop ÷ with none.
    one_loop_at_least: f64,
    /// All together ÷ one alone.
    together_at_least: f64,
}

/// How long a machine is left alone after the loops begin or end.
const SETTLE: Duration = Duration::from_millis(300);

/// Measures one part after another, and records each before the next begins.
pub(crate) fn measure(bench: &mut Bench<'_>, plan: &Parameters, model: &str) -> Result<()> {
    ensure!(
        plan.loops.first() == Some(&0),
        "the first of `loops` must be 0: the others are compared with it"
    );
    let settings = format!("threads = {}\nlayout = \"{}\"", plan.threads, plan.layout);
    next_to_loops(bench, plan, model, &settings)?;
    for &count in &plan.together {
        together(bench, plan, model, count, &settings)?;
    }
    next_to_a_prompt(bench, plan, model, &settings)
}

/// Each round meets every load, and asks both sides in turn.
fn next_to_loops(bench: &mut Bench<'_>, plan: &Parameters, model: &str, settings: &str) -> Result<()> {
    let home = Home::new(bench, &[model], settings)?;
    let ours = home.serve()?;
    let path = models::weights(bench.tree, model)?;
    let setup = Setup { model: &path, threads: plan.threads, repacks: plan.layout != "mapped" };
    let theirs = match bench.peers.serve(setup, 1, 2048) {
        Ok(server) => Some(server),
        Err(error) => {
            bench.record.skip(format!("llama-server's side of {model}"), format!("{error:#}"));
            None
        }
    };
    let ask = |server: &Server, name: &str| {
        stream::complete(&server.url, model, &format!("{name}. {}", plan.prompt), plan.tokens)
            .map(|answer| 1000.0 / answer.token_ms())
    };
    ask(&ours, "warm")?;
    theirs.as_ref().map(|server| ask(server, "warm")).transpose()?;
    let mut own = vec![Samples::default(); plan.loops.len()];
    let mut peer = own.clone();
    for round in 0..bench.rounds {
        for (index, &count) in plan.loops.iter().enumerate() {
            let _loops = Loops::start(count)?;
            own[index].push(ask(&ours, &format!("{round}-{count}"))?);
            if let Some(server) = &theirs {
                peer[index].push(ask(server, &format!("{round}-{count}"))?);
            }
        }
    }
    drop((ours, theirs));
    let record = &mut bench.record;
    for (index, count) in plan.loops.iter().enumerate() {
        let what = format!("tokens per second next to {count} busy loops");
        record.series(model, &format!("{what}, samovar"), "/s", &own[index]);
        record.figure(model, &format!("{what}, samovar"), "/s", own[index].median(), None);
        let target = (*count == 1).then_some(Target::AtLeast(plan.one_loop_at_least));
        let part = own[index].median() / own[0].median();
        record.figure(model, &format!("{what}, of quiet"), "×", part, target);
        if !peer[index].values().is_empty() {
            record.series(model, &format!("{what}, llama-server"), "/s", &peer[index]);
            let ratio = own[index].median() / peer[index].median();
            record.figure(model, &format!("{what}, of llama-server's"), "×", ratio, None);
        }
    }
    Ok(())
}

/// Several models at once: copies of one file, which are models of their own.
fn copies(bench: &Bench<'_>, model: &str, count: usize, settings: &str) -> Result<(Home, Vec<String>)> {
    let mut text = settings.to_owned();
    let names: Vec<String> = (0..count).map(|index| format!("copy-{index}")).collect();
    let home = Home::new(bench, &[], "")?;
    let weights = models::weights(bench.tree, model)?;
    for name in &names {
        let path = home.path().join(format!("{name}.gguf"));
        fs_err::copy(&weights, &path)?;
        write!(text, "\n[models.\"{name}\"]\nsource = \"{}\"", path.display())?;
    }
    fs_err::write(home.path().join("samovar.toml"), format!("[defaults]\n{text}\n"))?;
    Ok((home, names))
}

fn together(
    bench: &mut Bench<'_>,
    plan: &Parameters,
    model: &str,
    count: usize,
    settings: &str,
) -> Result<()> {
    let (home, names) = copies(bench, model, count, settings)?;
    let server = home.serve()?;
    let ask = |name: &str, round: u32| {
        stream::complete(&server.url, name, &format!("{round}. {}", plan.prompt), plan.tokens)
            .map(|answer| 1000.0 / answer.token_ms())
    };
    for name in &names {
        ask(name, 0)?;
    }
    let (mut alone, mut all) = (Samples::default(), Samples::default());
    for round in 1..=bench.rounds {
        alone.push(ask(&names[0], round * 2)?);
        all.push(std::thread::scope(|scope| {
            let users: Vec<_> =
                names.iter().map(|name| scope.spawn(move || ask(name, round * 2 + 1))).collect();
            users
                .into_iter()
                .map(|user| user.join().ok().context("a user's thread panicked")?)
                .sum::<Result<f64>>()
        })?);
    }
    let what = format!("{count} models at once, tokens per second together");
    let record = &mut bench.record;
    record.series(model, &what, "/s", &all);
    let target = Some(Target::AtLeast(plan.together_at_least));
    record.figure(model, &format!("{what}, of one alone"), "×", all.median() / alone.median(), target);
    Ok(())
}

/// The first token of a small request, while another model computes a long prompt.
fn next_to_a_prompt(bench: &mut Bench<'_>, plan: &Parameters, model: &str, settings: &str) -> Result<()> {
    let settings = format!("{settings}\ncontext_tokens = 1024");
    let (home, names) = copies(bench, model, 2, &settings)?;
    let server = home.serve()?;
    let small = |round: u32| {
        stream::complete(&server.url, &names[1], &format!("{round}. {}", plan.prompt), 2)
            .map(|answer| answer.first_ms())
    };
    let long =
        |round: u32| format!("{round} {}", "and then the fox went on ".repeat(plan.long_prompt_words / 6));
    small(0)?;
    stream::complete(&server.url, &names[0], &plan.prompt, 2)?;
    let (mut quiet, mut next_to_it) = (Samples::default(), Samples::default());
    for round in 1..=bench.rounds {
        quiet.push(small(round * 2)?);
        next_to_it.push(std::thread::scope(|scope| {
            let other = scope.spawn(|| stream::complete(&server.url, &names[0], &long(round), 1));
            std::thread::sleep(SETTLE);
            let first = small(round * 2 + 1);
            let is_computing = !other.is_finished();
            other.join().ok().context("a user's thread panicked")??;
            ensure!(
                is_computing,
                "the long prompt ended before the answer to the small request; raise `long_prompt_words`"
            );
            first
        })?);
    }
    let record = &mut bench.record;
    record.series(model, "first token, quiet", "ms", &quiet);
    record.series(model, "first token next to another model's prompt", "ms", &next_to_it);
    let ratio = next_to_it.median() / quiet.median();
    record.figure(model, "first token next to another model's prompt, of quiet", "×", ratio, None);
    Ok(())
}

/// Programs that compute, until this is dropped.
struct Loops(Vec<Child>);

impl Loops {
    fn start(count: usize) -> Result<Self> {
        let mut loops = Self(Vec::new());
        for _ in 0..count {
            let child = Command::new("sh")
                .args(["-c", "while :; do :; done"])
                .stdin(Stdio::null())
                .spawn()
                .context("cannot start a busy loop")?;
            loops.0.push(child);
        }
        std::thread::sleep(SETTLE);
        Ok(loops)
    }
}

impl Drop for Loops {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // One that has ended already is no failure.
            let _ = child.kill();
            let _ = child.wait();
        }
        std::thread::sleep(SETTLE);
    }
}
