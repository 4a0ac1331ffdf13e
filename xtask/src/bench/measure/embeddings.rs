//! Vectors of texts: how many per second of short, long and mixed texts, how long a query waits next to an import, and what large
//! requests take, against `llama-server` on the same file.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::super::Bench;
use super::super::peers::Setup;
use super::super::process_memory::ProcessMemory;
use super::super::record::Target;
use super::super::samples::Samples;
use super::super::subject::{Home, Server, milliseconds};

/// Where `./dev test` writes the model, below the target directory.
const FOLDER: &str = "test-tools/minilm";
/// The model's name at both servers.
const MODEL: &str = "minilm";
/// Tokens that one text may have.
const CONTEXT: u32 = 512;
/// Base64 of a vector's 384 numbers.
const VECTOR_BYTES: u64 = 2_048;
/// Tokens of mixed texts.
const MIXED: [u32; 6] = [8, 16, 32, 64, 128, 200];
/// Tokens of a query, and the pause after it.
const QUERY_TOKENS: u32 = 16;
const QUERY_PAUSE: Duration = Duration::from_millis(20);
/// Tokens of a document that is imported.
const DOCUMENT_TOKENS: u32 = 128;
/// Words that are one token each.
const WORDS: [&str; 16] = [
    "the", "fox", "met", "a", "bird", "by", "water", "and", "old", "house", "with", "red", "fire", "in",
    "green", "night",
];

/// What to run.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    /// The file's name.
    model: String,
    threads: u32,
    /// Tokens of the texts; 0 = mixed.
    lengths: Vec<u32>,
    /// Clients at the same time, each with one text in a request.
    clients: Vec<u32>,
    /// Of each point in each round.
    seconds: u64,
    /// Documents of the request next to which queries are measured.
    import: usize,
    /// Inputs of one request.
    curve: Vec<usize>,
    /// Vectors per second of one client, ours ÷ theirs.
    alone_at_least: f64,
    /// The same of eight clients with mixed texts.
    mixed_at_least: f64,
    /// The 99th percentile of a query's wait next to an import, theirs ÷ ours.
    query_at_least: f64,
}

type Side<'a> = (&'static str, &'a Server);

/// Both servers run throughout, and are asked in turn.
pub(crate) fn run(bench: &mut Bench<'_>, plan: &Parameters) -> Result<()> {
    if let Some(version) = bench.peers.version() {
        bench.record.version("llama.cpp", &version);
    }
    let file = bench.tree.target()?.join(FOLDER).join(&plan.model);
    ensure!(file.is_file(), "{} is missing: run `./dev test` once, which brings it", file.display());
    let settings = format!("threads = {}\n[models.{MODEL}]\nsource = \"{}\"", plan.threads, file.display());
    let home = Home::new(bench, &[], &settings)?;
    let ours = home.serve()?;
    let slots = plan.clients.iter().max().copied().unwrap_or(1);
    let setup = Setup { model: &file, threads: plan.threads, repacks: true };
    let theirs = match bench.peers.embed(setup, slots, CONTEXT) {
        Ok(server) => Some(server),
        Err(error) => {
            bench.record.skip("llama-server's side", format!("{error:#}"));
            None
        }
    };
    let mut sides: Vec<Side<'_>> = vec![("samovar", &ours)];
    sides.extend(theirs.as_ref().map(|server| ("llama-server", server)));
    // Loaded, and measured by their own engines.
    for (_, server) in &sides {
        ask_for(server, 0, 8, Duration::from_secs(2))?;
    }
    for length in &plan.lengths {
        for clients in &plan.clients {
            rates(bench, plan, &sides, *length, *clients)?;
        }
    }
    waits(bench, plan, &sides)?;
    curve(bench, plan, &sides);
    for (name, server) in &sides {
        let mib = ProcessMemory::of_family(server.pid())?.proportional_kib as f64 / 1024.0;
        bench.record.figure("memory", name, "MiB", mib, None);
    }
    Ok(())
}

/// The sides, the other one first in every second round.
fn in_turn<'a, 'b>(sides: &'b [Side<'a>], round: u32) -> Vec<(usize, &'b Side<'a>)> {
    let mut order: Vec<_> = sides.iter().enumerate().collect();
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

/// Vectors per second of so many clients.
fn rates(
    bench: &mut Bench<'_>,
    plan: &Parameters,
    sides: &[Side<'_>],
    length: u32,
    clients: u32,
) -> Result<()> {
    let mut rates = vec![Samples::new(); sides.len()];
    for round in 0..bench.rounds {
        for (side, (_, server)) in in_turn(sides, round) {
            rates[side].push(ask_for(server, length, clients, Duration::from_secs(plan.seconds))?);
        }
    }
    let length = if length == 0 { "mixed".to_owned() } else { length.to_string() };
    let case = format!("{length} × {clients}");
    for ((name, _), rates) in sides.iter().zip(&rates) {
        bench.record.series(&case, name, "vectors/s", rates);
        bench.record.figure(&case, name, "vectors/s", rates.median(), None);
    }
    if let [ours, theirs] = &rates[..] {
        let least = match (length.as_str(), clients) {
            (_, 1) => Some(plan.alone_at_least),
            ("mixed", 8) => Some(plan.mixed_at_least),
            _ => None,
        };
        let ratio = ours.median() / theirs.median();
        bench.record.figure(&case, "samovar ÷ llama-server", "×", ratio, least.map(Target::AtLeast));
    }
    Ok(())
}

/// How long a query waits while a large request is computed.
fn waits(bench: &mut Bench<'_>, plan: &Parameters, sides: &[Side<'_>]) -> Result<()> {
    let case = format!("query, {} imported", plan.import);
    let documents: Vec<String> =
        (0..plan.import).map(|number| text(DOCUMENT_TOKENS, number as u64)).collect();
    let mut waits = vec![Samples::new(); sides.len()];
    for round in 0..bench.rounds {
        for (side, (_, server)) in in_turn(sides, round) {
            waits[side].extend(&queries_next_to(server, &documents)?);
        }
    }
    for ((name, _), waits) in sides.iter().zip(&waits) {
        bench.record.series(&case, name, "ms", waits);
        bench.record.figure(&case, &format!("{name}, median"), "ms", waits.median(), None);
        bench.record.figure(&case, &format!("{name}, 99th percentile"), "ms", waits.quantile(0.99), None);
    }
    if let [ours, theirs] = &waits[..] {
        let ratio = theirs.quantile(0.99) / ours.quantile(0.99);
        let target = Some(Target::AtLeast(plan.query_at_least));
        bench.record.figure(&case, "llama-server ÷ samovar, 99th percentile", "×", ratio, target);
    }
    Ok(())
}

fn queries_next_to(server: &Server, documents: &[String]) -> Result<Samples> {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let import = scope.spawn(|| {
            let imported = post(&ureq::Agent::new_with_defaults(), server, documents);
            is_over.store(true, Ordering::Relaxed);
            imported
        });
        let agent = ureq::Agent::new_with_defaults();
        let mut waits = Samples::new();
        for number in 0_u64.. {
            std::thread::sleep(QUERY_PAUSE);
            if is_over.load(Ordering::Relaxed) {
                break;
            }
            let query = text(QUERY_TOKENS, number);
            let began = Instant::now();
            post(&agent, server, std::slice::from_ref(&query))?;
            waits.push(milliseconds(began.elapsed()));
        }
        import.join().ok().context("the import panicked")??;
        Ok(waits)
    })
}

/// Vectors per second of one request, by its inputs.
fn curve(bench: &mut Bench<'_>, plan: &Parameters, sides: &[Side<'_>]) {
    let agent = ureq::Agent::new_with_defaults();
    for inputs in &plan.curve {
        let texts: Vec<String> = (0..*inputs).map(|number| text(QUERY_TOKENS, number as u64)).collect();
        let case = format!("{inputs} inputs");
        for (name, server) in sides {
            let began = Instant::now();
            match post(&agent, server, &texts) {
                Ok(()) => {
                    let rate = *inputs as f64 / began.elapsed().as_secs_f64();
                    bench.record.figure(&case, name, "vectors/s", rate, None);
                }
                Err(error) => bench.record.skip(format!("{case}, {name}"), format!("{error:#}")),
            }
        }
    }
}

/// So many clients ask for a vector again and again; how many per second they get.
fn ask_for(server: &Server, length: u32, clients: u32, time: Duration) -> Result<f64> {
    let (is_over, vectors) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..clients)
            .map(|client| {
                let (is_over, vectors) = (&is_over, &vectors);
                scope.spawn(move || -> Result<()> {
                    let agent = ureq::Agent::new_with_defaults();
                    for turn in 0_u64.. {
                        let number = (u64::from(client) << 32) | turn;
                        let tokens = if length == 0 {
                            MIXED[(turn + u64::from(client)) as usize % MIXED.len()]
                        } else {
                            length
                        };
                        let text = text(tokens, number);
                        post(&agent, server, std::slice::from_ref(&text))?;
                        // One that comes after the time is over does not count.
                        if is_over.load(Ordering::Relaxed) {
                            break;
                        }
                        vectors.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .collect();
        std::thread::sleep(time);
        is_over.store(true, Ordering::Relaxed);
        let rate = vectors.load(Ordering::Relaxed) as f64 / time.as_secs_f64();
        for client in asking {
            client.join().ok().context("a client's thread panicked")??;
        }
        Ok(rate)
    })
}

fn post(agent: &ureq::Agent, server: &Server, texts: &[String]) -> Result<()> {
    let body = json!({ "model": MODEL, "input": texts, "encoding_format": "base64" });
    let response = agent
        .post(format!("{}/v1/embeddings", server.url))
        .header("content-type", "application/json")
        .send(body.to_string())?;
    let bytes = std::io::copy(&mut response.into_body().into_reader(), &mut std::io::sink())?;
    ensure!(
        bytes >= texts.len() as u64 * VECTOR_BYTES,
        "an answer of {bytes} bytes to {} texts",
        texts.len()
    );
    Ok(())
}

/// A text of so many tokens, the model's two special ones counted; another one for each number.
fn text(tokens: u32, number: u64) -> String {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words: Vec<&str> = (2..tokens.max(3))
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            WORDS[(state >> 60) as usize]
        })
        .collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_their_length_and_differ() {
        assert_eq!(text(16, 1).split(' ').count(), 14);
        assert_eq!(text(0, 1).split(' ').count(), 1);
        assert_ne!(text(64, 1), text(64, 2));
    }
}
