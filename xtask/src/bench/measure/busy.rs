//! Speed next to other programs that compute, and of several models at once, against llama-server.
//!
//! Start it under `taskset -c 0`, or in a control group with a quota, to measure that as well: both sides inherit it.

use std::fmt::Write as _;
use std::path::PathBuf;
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
use crate::process;

/// What to run.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    pub(super) models: Vec<String>,
    prompt: String,
    tokens: u32,
    threads: u32,
    /// How the weights lie in memory; `packed` files are made before anything is measured.
    layout: String,
    /// What runs next to it; the first is nothing, with which the others are compared.
    loads: Vec<Load>,
    /// Models that answer at the same time.
    together: Vec<usize>,
    /// Tokens of another model's prompt, which is computed while small requests wait for their first tokens.
    long_prompt_tokens: u32,
    /// How long a chunk of that prompt may take, in milliseconds.
    chunk_ms: f64,
    /// All together ÷ one alone.
    together_at_least: f64,
}

/// Other programs that compute.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Load {
    /// As figures call it.
    name: String,
    /// Busy loops.
    #[serde(default)]
    loops: usize,
    /// Compilers, each of which compiles one small file after another, as in a build.
    #[serde(default)]
    compilers: usize,
    /// With it ÷ without any.
    of_quiet_at_least: Option<f64>,
    /// Ours ÷ llama-server's.
    of_peer_at_least: Option<f64>,
}

/// How long a machine is left alone after other programs begin or end.
const SETTLE: Duration = Duration::from_millis(300);
/// Context of a model that is asked long prompts, in tokens: beyond the prompt's own.
const REST_TOKENS: u32 = 256;
/// A piece of a long prompt.
const PIECE: &str = "and then the fox went on ";
/// Pieces in the prompt that tells how many tokens one has.
const SAMPLE_PIECES: u32 = 8;
/// Small requests without another model's prompt, in each round.
const QUIET_REQUESTS: u32 = 5;

/// What all parts of one model's measurement have in common.
struct Subject<'a> {
    plan: &'a Parameters,
    model: &'a str,
    /// The model under several names. All but the first are copies of its file, which are models of their own.
    names: Vec<(String, PathBuf)>,
    /// Holds the copies, and the cache with the packed files.
    folder: tempfile::TempDir,
}

/// Measures one part after another, and records each before the next begins.
pub(crate) fn measure(bench: &mut Bench<'_>, plan: &Parameters, model: &str) -> Result<()> {
    let first = plan.loads.first();
    ensure!(
        first.is_some_and(|load| load.loops + load.compilers == 0),
        "the first of `loads` must be nothing: the others are compared with it"
    );
    let subject = Subject::new(bench, plan, model)?;
    next_to_programs(bench, &subject)?;
    for &count in &plan.together {
        together(bench, &subject, count)?;
    }
    next_to_a_prompt(bench, &subject)
}

impl<'a> Subject<'a> {
    fn new(bench: &Bench<'_>, plan: &'a Parameters, model: &'a str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let weights = models::weights(bench.tree, model)?;
        let mut names = vec![(model.to_owned(), weights.clone())];
        // Of which one computes a long prompt while another is asked small ones.
        let count = plan.together.iter().copied().fold(2, usize::max);
        for number in 1..count {
            let path = folder.path().join(format!("copy-{number}.gguf"));
            fs_err::copy(&weights, &path)?;
            names.push((format!("copy-{number}"), path));
        }
        let subject = Self { plan, model, names, folder };
        if plan.layout == "packed" {
            let home = subject.home(bench, count, "")?;
            for (name, _) in &subject.names {
                home.json(&["pack", name])?;
            }
        }
        Ok(subject)
    }

    /// A home with the first `count` names, with further lines of `[defaults]`.
    fn home(&self, bench: &Bench<'_>, count: usize, more: &str) -> Result<Home> {
        let home = Home::new(bench, &[], "")?;
        let mut text = format!(
            "[defaults]\nthreads = {}\nlayout = \"{}\"\n{more}\n[cache]\ncache_dir = \"{}\"\n",
            self.plan.threads,
            self.plan.layout,
            self.folder.path().join("cache").display()
        );
        for (name, path) in &self.names[..count] {
            writeln!(text, "\n[models.\"{name}\"]\nsource = \"{}\"", path.display())?;
        }
        fs_err::write(home.path().join("samovar.toml"), text)?;
        Ok(home)
    }

    /// What is not there or was refused is mapped instead, without a word to who asks.
    fn check_layout(&self, home: &Home) -> Result<()> {
        let shown = home.json(&["show", self.model])?;
        let reached = shown["packed"]["arrangement"]["layout"].as_str().unwrap_or("not at all");
        let wanted = &self.plan.layout;
        ensure!(reached == wanted, "{} was to be loaded {wanted} and was loaded {reached}", self.model);
        Ok(())
    }

    /// Tokens per second of an answer; prompts that begin differently share nothing.
    fn speed(&self, server: &Server, name: &str, beginning: &str) -> Result<f64> {
        let prompt = format!("{beginning}. {}", self.plan.prompt);
        stream::complete(&server.url, name, &prompt, self.plan.tokens)
            .map(|answer| 1000.0 / answer.token_ms())
    }
}

/// Who is asked, and its tokens per second next to each load.
struct Side {
    name: &'static str,
    server: Server,
    speeds: Vec<Samples>,
}

/// Each round meets every load, and asks both sides the same in turn; who is first changes from round to round.
fn next_to_programs(bench: &mut Bench<'_>, subject: &Subject<'_>) -> Result<()> {
    let (plan, model) = (subject.plan, subject.model);
    let home = subject.home(bench, 1, "")?;
    let speeds = vec![Samples::default(); plan.loads.len()];
    let mut sides = vec![Side { name: "samovar", server: home.serve()?, speeds: speeds.clone() }];
    let setup = Setup { model: &subject.names[0].1, threads: plan.threads, repacks: plan.layout != "mapped" };
    match bench.peers.serve(setup, 1, 2048) {
        Ok(server) => sides.push(Side { name: "llama-server", server, speeds }),
        Err(error) => bench.record.skip(format!("llama-server's side of {model}"), format!("{error:#}")),
    }
    for side in &sides {
        subject.speed(&side.server, model, "warm")?;
    }
    subject.check_layout(&home)?;
    let has_compiler = process::output("c++", &["--version"]).is_ok();
    let is_possible = |load: &Load| load.compilers == 0 || has_compiler;
    for round in 0..bench.rounds {
        for (index, load) in plan.loads.iter().enumerate().filter(|(_, load)| is_possible(load)) {
            let _others = Others::start(load)?;
            for side in &mut sides {
                let speed = subject.speed(&side.server, model, &format!("{round}-{index}"))?;
                side.speeds[index].push(speed);
            }
        }
        sides.reverse();
    }
    sides.sort_by_key(|side| side.name != "samovar");
    for load in plan.loads.iter().filter(|load| !is_possible(load)) {
        bench.record.skip(format!("{model} next to {}", load.name), "there is no c++");
    }
    record_programs(bench, subject, &sides);
    Ok(())
}

/// The first side is ours.
fn record_programs(bench: &mut Bench<'_>, subject: &Subject<'_>, sides: &[Side]) {
    let (record, model) = (&mut bench.record, subject.model);
    for (index, load) in subject.plan.loads.iter().enumerate() {
        let what = format!("tokens per second next to {}", load.name);
        let measured = sides.iter().filter(|side| !side.speeds[index].values().is_empty());
        for side in measured {
            let what = format!("{what}, {}", side.name);
            record.series(model, &what, "/s", &side.speeds[index]);
            record.figure(model, &what, "/s", side.speeds[index].median(), None);
        }
        let median = |side: &Side, index: usize| side.speeds[index].median();
        let Some((own, peers)) = sides.split_first() else { return };
        let at_least = |least: Option<f64>| least.map(Target::AtLeast);
        if !own.speeds[index].values().is_empty() {
            let part = median(own, index) / median(own, 0);
            record.figure(model, &format!("{what}, of quiet"), "×", part, at_least(load.of_quiet_at_least));
        }
        for peer in peers.iter().filter(|peer| !peer.speeds[index].values().is_empty()) {
            let what = format!("{what}, of {}'s", peer.name);
            let ratio = median(own, index) / median(peer, index);
            record.figure(model, &what, "×", ratio, at_least(load.of_peer_at_least));
        }
    }
}

/// Several models at once.
fn together(bench: &mut Bench<'_>, subject: &Subject<'_>, count: usize) -> Result<()> {
    let home = subject.home(bench, count, "")?;
    let server = home.serve()?;
    let names = &subject.names[..count];
    let ask = |name: &str, beginning: &str| subject.speed(&server, name, beginning);
    for (name, _) in names {
        ask(name, "warm")?;
    }
    let (mut alone, mut all) = (Samples::default(), Samples::default());
    for round in 0..bench.rounds {
        alone.push(ask(&names[0].0, &format!("{round} alone"))?);
        let beginning = format!("{round} together");
        let beginning = beginning.as_str();
        all.push(std::thread::scope(|scope| {
            let users: Vec<_> =
                names.iter().map(|(name, _)| scope.spawn(move || ask(name, beginning))).collect();
            users
                .into_iter()
                .map(|user| user.join().ok().context("a user's thread panicked")?)
                .sum::<Result<f64>>()
        })?);
    }
    let what = format!("{count} models at once, tokens per second together");
    let (record, model) = (&mut bench.record, subject.model);
    record.series(model, &what, "/s", &all);
    record.figure(model, &what, "/s", all.median(), None);
    let target = Some(Target::AtLeast(subject.plan.together_at_least));
    record.figure(model, &format!("{what}, of one alone"), "×", all.median() / alone.median(), target);
    Ok(())
}

/// The first tokens of small requests, while another model computes a long prompt.
fn next_to_a_prompt(bench: &mut Bench<'_>, subject: &Subject<'_>) -> Result<()> {
    let plan = subject.plan;
    let context = format!("context_tokens = {}", plan.long_prompt_tokens + REST_TOKENS);
    let home = subject.home(bench, 2, &context)?;
    let server = home.serve()?;
    let (busy, asked) = (&subject.names[0].0, &subject.names[1].0);
    let mut number = 0_u32;
    let mut small = || {
        number += 1;
        let prompt = format!("{number}. {}", plan.prompt);
        stream::complete(&server.url, asked, &prompt, 2).map(|answer| answer.first_ms())
    };
    small()?;
    let long = |beginning: &str, pieces: u32| {
        let prompt = format!("{beginning} {}", PIECE.repeat(pieces as usize));
        stream::complete(&server.url, busy, &prompt, 1)
    };
    let sample = long("warm", SAMPLE_PIECES)?;
    let piece_tokens = (sample.prompt_tokens as f64 / f64::from(SAMPLE_PIECES)).max(1.0);
    let pieces = (f64::from(plan.long_prompt_tokens) / piece_tokens) as u32;
    let (mut quiet, mut next_to_it) = (Samples::default(), Samples::default());
    for round in 0..bench.rounds {
        for _ in 0..QUIET_REQUESTS {
            std::thread::sleep(SETTLE);
            quiet.push(small()?);
        }
        std::thread::scope(|scope| {
            let other = scope.spawn(|| long(&round.to_string(), pieces));
            loop {
                // Each comes while the prompt has all cores.
                std::thread::sleep(SETTLE);
                if other.is_finished() {
                    break;
                }
                let first = small()?;
                if !other.is_finished() {
                    next_to_it.push(first);
                }
            }
            other.join().ok().context("a user's thread panicked")?
        })?;
    }
    ensure!(!next_to_it.values().is_empty(), "the long prompt ended too soon; raise `long_prompt_tokens`");
    let (record, model) = (&mut bench.record, subject.model);
    record.series(model, "first token, quiet", "ms", &quiet);
    record.figure(model, "first token, quiet", "ms", quiet.median(), None);
    let what = "first token next to another model's prompt";
    record.series(model, what, "ms", &next_to_it);
    record.figure(model, what, "ms", next_to_it.median(), None);
    let target = Target::AtMost(2.0 * quiet.median() + plan.chunk_ms);
    record.figure(model, &format!("{what}, p99"), "ms", next_to_it.quantile(0.99), Some(target));
    Ok(())
}

/// Programs that compute, until this is dropped. Each leads a group of processes, which ends with it.
struct Others(Vec<Child>);

/// Each ends by itself once the process `$1` has gone: Ctrl-C in a terminal does not reach their groups.
const LOOP: &str = r#"while kill -0 "$1"; do i=0; while [ "$i" -lt 100000 ]; do i=$((i + 1)); done; done"#;
const COMPILER: &str = r#"while kill -0 "$1"; do
    echo '#include <regex>
        bool is_so(const char *text) { return std::regex_match(text, std::regex("a*b")); }' |
        c++ -O2 -x c++ -S -o - - > /dev/null
done"#;

impl Others {
    fn start(load: &Load) -> Result<Self> {
        use std::os::unix::process::CommandExt;

        let mut others = Self(Vec::new());
        let scripts = std::iter::repeat_n(LOOP, load.loops);
        for script in scripts.chain(std::iter::repeat_n(COMPILER, load.compilers)) {
            let mut command = Command::new("sh");
            command.args(["-c", script, "sh", &std::process::id().to_string()]);
            command.stdin(Stdio::null()).stderr(Stdio::null()).process_group(0);
            others.0.push(command.spawn().context("cannot start a program that computes")?);
        }
        std::thread::sleep(SETTLE);
        Ok(others)
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // What has ended already is no failure.
            let group = format!("-{}", child.id());
            let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
            let _ = child.kill();
            let _ = child.wait();
        }
        std::thread::sleep(SETTLE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_that_compute_end_when_the_bench_has_gone() {
        let mut bench = Command::new("true").spawn().expect("true");
        bench.wait().expect("it ends");
        for script in [LOOP, COMPILER] {
            let mut command = Command::new("sh");
            command.args(["-c", script, "sh", &bench.id().to_string()]).stderr(Stdio::null());
            assert!(command.status().expect("sh").success(), "{script}");
        }
    }
}
