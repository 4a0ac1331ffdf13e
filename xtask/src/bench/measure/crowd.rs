//! Ten users of one model: one instance with ten slots against ten servers.

use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::super::peers::Setup;
use super::super::process_memory::ProcessMemory;
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
    /// Users at the same time.
    users: u32,
    /// Context of each.
    context: u32,
    threads: u32,
    /// Tokens of each answer.
    tokens: u32,
    /// Theirs ÷ ours.
    at_least: f64,
}

/// Ours first, then theirs: both at once would share the page cache that is to be counted.
pub(crate) fn measure(bench: &mut Bench<'_>, plan: &Parameters, model: &str) -> Result<()> {
    let own = one_for_all(bench, plan, model)?;
    let theirs = one_for_each(bench, plan, model)?;
    let (what_own, what_theirs) =
        (format!("one samovar, {} slots", plan.users), format!("{} llama-servers", plan.users));
    let record = &mut bench.record;
    record.series(model, &what_own, "MiB", &own);
    record.series(model, &what_theirs, "MiB", &theirs);
    record.figure(model, &what_own, "MiB", own.median(), None);
    record.figure(model, &what_theirs, "MiB", theirs.median(), None);
    let ratio = theirs.median() / own.median();
    record.figure(model, "llama-servers ÷ samovar", "×", ratio, Some(Target::AtLeast(plan.at_least)));
    Ok(())
}

fn one_for_all(bench: &Bench<'_>, plan: &Parameters, model: &str) -> Result<Samples> {
    let settings =
        format!("slots = {}\ncontext_tokens = {}\nthreads = {}", plan.users, plan.context, plan.threads);
    let home = Home::new(bench, &[model], &settings)?;
    let server = home.serve()?;
    let servers: Vec<&Server> = (0..plan.users).map(|_| &server).collect();
    (0..bench.rounds).map(|_| while_busy(&servers, &[&server], plan, model)).collect()
}

fn one_for_each(bench: &Bench<'_>, plan: &Parameters, model: &str) -> Result<Samples> {
    let path = models::weights(bench.tree, model)?;
    let setup = Setup { model: &path, threads: plan.threads, repacks: true };
    let started: Vec<Server> =
        (0..plan.users).map(|_| bench.peers.serve(setup, 1, plan.context)).collect::<Result<_>>()?;
    let servers: Vec<&Server> = started.iter().collect();
    (0..bench.rounds).map(|_| while_busy(&servers, &servers, plan, model)).collect()
}

/// Memory of the processes, in MiB, once every user has had an answer and all ask again.
fn while_busy(asked: &[&Server], counted: &[&Server], plan: &Parameters, model: &str) -> Result<f64> {
    std::thread::scope(|scope| {
        let users: Vec<_> = asked
            .iter()
            .enumerate()
            .map(|(user, server)| {
                let prompt = format!("{user} {}", plan.prompt);
                scope.spawn(move || stream::complete(&server.url, model, &prompt, plan.tokens))
            })
            .collect();
        let mut most = 0.0_f64;
        while !users.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            most = most.max(proportional_mib(counted)?);
            std::thread::sleep(Duration::from_millis(200));
        }
        for user in users {
            user.join().ok().context("a user's thread panicked")??;
        }
        Ok(most)
    })
}

fn proportional_mib(servers: &[&Server]) -> Result<f64> {
    let kib: u64 = servers
        .iter()
        .map(|server| Ok(ProcessMemory::of_family(server.pid())?.proportional_kib))
        .sum::<Result<u64>>()?;
    Ok(kib as f64 / 1024.0)
}
