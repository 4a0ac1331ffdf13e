//! Far more requests than can be served: how fast the answer is no, and whether those who are served notice.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::super::Bench;
use super::super::process_memory::ProcessMemory;
use super::super::record::Target;
use super::super::samples::Samples;
use super::super::subject::{Home, Server, milliseconds};

/// What to run.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    model: String,
    prompt: String,
    tokens: u32,
    slots: u32,
    /// Clients that ask at the same time.
    clients: u32,
    /// Places in a model's queue: a client that has one, or a slot, waits for an answer.
    queued: u32,
    /// Requests a second ÷ those that can be served. Sets the pause after a refusal of those who find no place; what
    /// was reached is among the figures.
    times_capacity: f64,
    seconds: u64,
    /// The 99th percentile of how long a refusal takes.
    refused_at_most_ms: f64,
    /// Answers per second, of the most that there were without overload.
    goodput_at_least: f64,
    /// Memory at the end ÷ after a warm-up of a tenth of the time.
    memory_at_most: f64,
}

/// What clients saw.
#[derive(Default)]
struct Seen {
    answered: u64,
    refused_ms: Samples,
}

/// First as many clients as slots, then the crowd.
pub(crate) fn run(bench: &mut Bench<'_>, plan: &Parameters) -> Result<()> {
    let home = Home::new(
        bench,
        &[],
        &format!("slots = {}\n[pool]\nqueue_per_model = {}\n", plan.slots, plan.queued),
    )?;
    let server = home.serve()?;
    let phase = Duration::from_secs((plan.seconds / 4).max(2));
    ask_for(&server, plan, plan.slots, Duration::ZERO, Duration::from_secs(1))?;
    let calm = ask_for(&server, plan, plan.slots, Duration::ZERO, phase)?;
    let peak = calm.answered as f64 / phase.as_secs_f64();
    ensure!(peak > 0.0, "nothing was answered without overload");
    let refused = plan.clients.saturating_sub(plan.slots + plan.queued).max(1);
    // The answered ask as often as is served; the others make up for the rest.
    let pause = Duration::from_secs_f64(f64::from(refused) / (peak * (plan.times_capacity - 1.0)));
    let warm_up = Duration::from_secs((plan.seconds / 10).max(1));
    ask_for(&server, plan, plan.clients, pause, warm_up)?;
    let before = mib(&server)?;
    let long = Duration::from_secs(plan.seconds);
    let seen = ask_for(&server, plan, plan.clients, pause, long)?;
    let after = mib(&server)?;
    let rate = seen.answered as f64 / long.as_secs_f64();
    let asked = (seen.answered as f64 + seen.refused_ms.values().len() as f64) / long.as_secs_f64();
    let record = &mut bench.record;
    let case = format!("{}, {} clients", plan.model, plan.clients);
    record.figure(&case, "answers a second without overload", "", peak, None);
    record.figure(&case, "requests a second under overload", "", asked, None);
    record.figure(&case, "answers a second under overload", "", rate, None);
    let target = Some(Target::AtLeast(plan.goodput_at_least));
    record.figure(&case, "answers under overload ÷ without", "×", rate / peak, target);
    record.figure(&case, "refusal, median", "ms", seen.refused_ms.median(), None);
    let target = Some(Target::AtMost(plan.refused_at_most_ms));
    record.figure(&case, "refusal, 99th percentile", "ms", seen.refused_ms.quantile(0.99), target);
    record.figure(&case, "memory before", "MiB", before, None);
    let target = Some(Target::AtMost(plan.memory_at_most));
    record.figure(&case, "memory after ÷ before", "×", after / before, target);
    Ok(())
}

fn mib(server: &Server) -> Result<f64> {
    Ok(ProcessMemory::of_family(server.pid())?.anonymous_kib as f64 / 1024.0)
}

/// So many clients ask, each again as soon as it is answered, or after a pause when it is refused.
fn ask_for(
    server: &Server,
    plan: &Parameters,
    clients: u32,
    pause: Duration,
    time: Duration,
) -> Result<Seen> {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..clients)
            .map(|client| {
                let is_over = &is_over;
                scope.spawn(move || one_client(server, plan, client, pause, is_over))
            })
            .collect();
        std::thread::sleep(time);
        is_over.store(true, Ordering::Relaxed);
        let mut all = Seen::default();
        for client in clients {
            let seen = client.join().ok().context("a client's thread panicked")??;
            all.answered += seen.answered;
            all.refused_ms.extend(&seen.refused_ms);
        }
        Ok(all)
    })
}

/// An answer that comes after the time is over does not count.
fn one_client(
    server: &Server,
    plan: &Parameters,
    client: u32,
    pause: Duration,
    is_over: &AtomicBool,
) -> Result<Seen> {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let url = format!("{}/v1/completions", server.url);
    let mut seen = Seen::default();
    for turn in 0_u32.. {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let body = json!({
            "model": plan.model, "prompt": format!("{client} {turn} {}", plan.prompt),
            "max_tokens": plan.tokens, "temperature": 0, "user": client.to_string(),
        });
        let started = Instant::now();
        let mut response =
            agent.post(&url).header("content-type", "application/json").send(body.to_string())?;
        let status = response.status().as_u16();
        let text = response.body_mut().read_to_string()?;
        match status {
            200 if !is_over.load(Ordering::Relaxed) => seen.answered += 1,
            200 => {}
            503 | 429 => {
                ensure!(response.headers().contains_key("retry-after"), "a refusal without Retry-After");
                seen.refused_ms.push(milliseconds(started.elapsed()));
                std::thread::sleep(pause);
            }
            _ => bail!("{status}: {text}"),
        }
    }
    Ok(seen)
}
