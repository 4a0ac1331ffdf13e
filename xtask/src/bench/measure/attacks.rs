//! A client beside an attacker: how much longer its small requests take, whether any fails, and what memory is left
//! with the daemon afterwards.
//!
//! Both come from the same address and use the same cores, so what the attacker's own program takes is in the figures.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::super::Bench;
use super::super::process_memory::ProcessMemory;
use super::super::record::Target;
use super::super::samples::Samples;
use super::super::subject::{Home, Server, milliseconds};

/// The demo model under the name that is attacked.
const ATTACKED: &str = "attacked";
/// The demo model with a template that doubles a string until memory ends.
const HOSTILE: &str = "hostile";
const HOSTILE_TEMPLATE: &str =
    "{% set n = namespace(s='a') %}{% for i in range(40) %}{% set n.s = n.s ~ n.s %}{% endfor %}{{ n.s }}";
/// How long an attacker waits for what it does not read.
const HOLD: Duration = Duration::from_secs(2);
/// After an attack, until the daemon has given its memory back.
const CALMED: Duration = Duration::from_secs(5);

/// What to run.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    /// Tokens of a small request.
    tokens: u32,
    /// Between two small requests of a client.
    pause_ms: u64,
    /// Of each attack, unless the command says otherwise.
    seconds: u64,
    /// The 99th percentile under attack ÷ without, on a model that is not attacked.
    other_at_most: f64,
    /// The same on the model under attack.
    same_at_most: f64,
    /// The daemon's memory after an attack ÷ before.
    memory_at_most: f64,
    attacks: Vec<Attack>,
}

/// What the attacker does.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum Attack {
    /// Chats with a model whose template takes all memory.
    Template,
    /// One message of 200,000 control tokens; leaves after two seconds.
    Specials,
    /// 50,000 short messages.
    Messages,
    /// Bodies of 4 MiB that never end.
    Bodies,
    /// Eight answers a request, none of which is read.
    Readers,
    /// Connections that say nothing.
    Connections,
    /// Eighty clients, each as fast as it can.
    Greedy,
}

impl Attack {
    /// As scenarios write it.
    fn name(self) -> Result<String> {
        Ok(serde_json::to_value(self)?.as_str().unwrap_or_default().to_owned())
    }

    const fn clients(self) -> usize {
        match self {
            Self::Template | Self::Specials | Self::Messages => 4,
            Self::Readers => 40,
            Self::Greedy => 80,
            Self::Bodies => 200,
            Self::Connections => 1000,
        }
    }
}

/// What a small client saw.
#[derive(Default)]
struct Seen {
    took_ms: Samples,
    failed: u64,
}

/// Each attack in turn, with a quiet time before it.
pub(crate) fn run(bench: &mut Bench<'_>, plan: &Parameters) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let copies = copies(bench, folder.path())?;
    let names = copies.iter().fold(String::new(), |settings, (name, path)| {
        format!("{settings}[models.{name}]\nsource = \"{}\"\n", path.display())
    });
    for attack in &plan.attacks {
        let case = attack.name()?;
        if bench.is_wanted(&case) {
            let home = Home::new(bench, &[], &format!("slots = 4\n{names}"))?;
            let server = home.serve()?;
            println!("{case}:");
            one(bench, plan, &server, *attack, &case)?;
        }
    }
    Ok(())
}

/// Files of the demo model: as it is, and with another template of the same length, so that nothing moves.
fn copies(bench: &Bench<'_>, folder: &std::path::Path) -> Result<[(&'static str, PathBuf); 2]> {
    const KEY: &[u8] = b"tokenizer.chat_template";
    let mut bytes = fs_err::read(bench.tree.root().join("assets/demo-model/demo.gguf"))?;
    let attacked = folder.join("attacked.gguf");
    fs_err::write(&attacked, &bytes)?;
    let key =
        bytes.windows(KEY.len()).position(|window| window == KEY).context("the demo has no template")?;
    // After the key its type (four bytes) and its length (eight).
    let begin = key + KEY.len() + 12;
    let length = u64::from_le_bytes(bytes[begin - 8..begin].try_into()?) as usize;
    let template = format!("{HOSTILE_TEMPLATE:<length$}");
    ensure!(template.len() == length, "the demo's template is too short");
    bytes[begin..begin + length].copy_from_slice(template.as_bytes());
    let hostile = folder.join("hostile.gguf");
    fs_err::write(&hostile, &bytes)?;
    Ok([(ATTACKED, attacked), (HOSTILE, hostile)])
}

fn one(bench: &mut Bench<'_>, plan: &Parameters, server: &Server, attack: Attack, case: &str) -> Result<()> {
    let address = server.url.trim_start_matches("http://").to_owned();
    let seconds = bench.seconds.unwrap_or(plan.seconds);
    let calm = Duration::from_secs((seconds / 4).max(3));
    observe(&address, plan, Duration::from_secs(1));
    let [quiet_other, quiet_same] = observe(&address, plan, calm);
    let before = daemon_mib(server)?;
    let is_over = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        for client in 0..attack.clients() {
            let (address, is_over) = (&address, &is_over);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    // An attacker who is turned away comes again, a little later.
                    if run_attack(address, attack, client, is_over).is_err() {
                        std::thread::sleep(Duration::from_millis(20));
                    }
                }
            });
        }
        std::thread::sleep(Duration::from_millis(500));
        let seen = observe(&address, plan, Duration::from_secs(seconds));
        is_over.store(true, Ordering::Relaxed);
        seen
    });
    std::thread::sleep(CALMED);
    let after = daemon_mib(server)?;
    let record = &mut bench.record;
    let [other, same] = seen;
    for (what, quiet, seen, most) in [
        ("another model", quiet_other, other, plan.other_at_most),
        ("the same model", quiet_same, same, plan.same_at_most),
    ] {
        let (calm, now) = (quiet.took_ms.quantile(0.99), seen.took_ms.quantile(0.99));
        record.figure(
            case,
            &format!("{what}: requests answered"),
            "",
            seen.took_ms.values().len() as f64,
            None,
        );
        record.figure(
            case,
            &format!("{what}: requests failed"),
            "",
            seen.failed as f64,
            Some(Target::AtMost(0.0)),
        );
        record.figure(case, &format!("{what}: 99th percentile, quiet"), "ms", calm, None);
        record.figure(
            case,
            &format!("{what}: 99th percentile ÷ quiet"),
            "×",
            now / calm,
            Some(Target::AtMost(most)),
        );
    }
    record.figure(case, "memory of the daemon before", "MiB", before, None);
    record.figure(case, "memory of the daemon after", "MiB", after, None);
    let target = Some(Target::AtMost(plan.memory_at_most));
    record.figure(case, "memory of the daemon after ÷ before", "×", after / before, target);
    Ok(())
}

fn daemon_mib(server: &Server) -> Result<f64> {
    Ok(ProcessMemory::of(server.pid())?.anonymous_kib as f64 / 1024.0)
}

/// Small requests on the model that is not attacked, and on the one that is attacked.
fn observe(address: &str, plan: &Parameters, time: Duration) -> [Seen; 2] {
    let until = Instant::now() + time;
    std::thread::scope(|scope| {
        let clients = ["demo", ATTACKED].map(|model| {
            scope.spawn(move || {
                let mut seen = Seen::default();
                while Instant::now() < until {
                    match small(address, plan, model) {
                        Ok(took_ms) => seen.took_ms.push(took_ms),
                        Err(error) => {
                            eprintln!("{model}: {error:#}");
                            seen.failed += 1;
                        }
                    }
                    std::thread::sleep(Duration::from_millis(plan.pause_ms));
                }
                seen
            })
        });
        clients.map(|client| client.join().unwrap_or_default())
    })
}

fn small(address: &str, plan: &Parameters, model: &str) -> Result<f64> {
    let body = json!({ "model": model, "max_tokens": plan.tokens, "temperature": 0,
                       "messages": [{ "role": "user", "content": "Tell me a story about a fox" }] });
    let began = Instant::now();
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.write_all(&post("modest", &body.to_string(), None))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{}", answer.lines().last().unwrap_or_default());
    Ok(milliseconds(began.elapsed()))
}

/// A request; of a body that is longer than what is sent, the rest never comes.
fn post(agent: &str, body: &str, length: Option<usize>) -> Vec<u8> {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nuser-agent: {agent}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        length.unwrap_or(body.len())
    )
    .into_bytes()
}

/// One stroke of one attacker.
fn run_attack(address: &str, attack: Attack, client: usize, is_over: &AtomicBool) -> Result<()> {
    let chat = |model: &str, content: String, more: serde_json::Value| {
        let mut body = json!({ "model": model, "messages": [{ "role": "user", "content": content }] });
        if let (Some(body), Some(more)) = (body.as_object_mut(), more.as_object()) {
            body.extend(more.clone());
        }
        body.to_string()
    };
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(HOLD))?;
    stream.set_write_timeout(Some(HOLD))?;
    match attack {
        Attack::Template => {
            stream.write_all(&post("attacker", &chat(HOSTILE, "hi".to_owned(), json!({})), None))?;
        }
        Attack::Specials => {
            let body = chat(ATTACKED, "<|end|>".repeat(200_000), json!({ "timeout": 2 }));
            stream.write_all(&post("attacker", &body, None))?;
        }
        Attack::Messages => {
            let messages = vec![json!({ "role": "user", "content": "a" }); 50_000];
            let body = json!({ "model": ATTACKED, "messages": messages, "timeout": 2 }).to_string();
            stream.write_all(&post("attacker", &body, None))?;
        }
        Attack::Bodies => {
            stream.write_all(&post("attacker", "", Some(4 << 20)))?;
            stream.write_all(&vec![b' '; (4 << 20) - 1])?;
            hold(is_over);
        }
        Attack::Readers => {
            let more =
                json!({ "n": 8, "logprobs": true, "top_logprobs": 20, "stream": true, "max_tokens": 400 });
            let body = chat(ATTACKED, format!("Tell me a story about a kettle {client}"), more);
            stream.write_all(&post("attacker", &body, None))?;
            hold(is_over);
            return Ok(());
        }
        Attack::Connections => hold(is_over),
        Attack::Greedy => {
            let body = chat(
                ATTACKED,
                format!("Tell me a story about a horse {client}"),
                json!({ "max_tokens": 64 }),
            );
            stream.write_all(&post(&format!("greedy {client}"), &body, None))?;
        }
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(())
}

/// Keeps a connection for as long as it is left in peace, ten seconds at most.
fn hold(is_over: &AtomicBool) {
    for _ in 0..100 {
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
