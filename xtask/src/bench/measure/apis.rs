//! What each API adds to a small request, and what a key adds: the same question of one token, by every API in turn.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::Bench;
use super::super::record::Target;
use super::super::samples::Samples;
use super::super::subject::{Home, milliseconds};

/// What to run.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    pub(super) models: Vec<String>,
    prompt: String,
    /// Keys in the file of the daemon that has any.
    keys: u32,
    /// A request by another API − one by OpenAI's.
    api_adds_at_most_ms: f64,
    /// A request with a key − one to a daemon without keys.
    key_adds_at_most_ms: f64,
}

/// An API, its route and a request of one token.
struct Api {
    name: &'static str,
    path: &'static str,
    body: Value,
}

/// All of them; the first is what the others are compared with. llama-server's has the prompt as it is, without a chat template.
fn apis(model: &str, prompt: &str) -> [Api; 5] {
    let messages = json!([{ "role": "user", "content": prompt }]);
    let api = |name, path, body| Api { name, path, body };
    [
        api(
            "OpenAI",
            "/v1/chat/completions",
            json!({ "model": model, "messages": messages, "max_tokens": 1, "temperature": 0 }),
        ),
        api(
            "Responses",
            "/v1/responses",
            json!({ "model": model, "input": prompt, "max_output_tokens": 1, "temperature": 0 }),
        ),
        api(
            "Messages",
            "/v1/messages",
            json!({ "model": model, "messages": messages, "max_tokens": 1, "temperature": 0 }),
        ),
        api(
            "Ollama",
            "/api/chat",
            json!({ "model": model, "messages": messages, "stream": false,
                    "options": { "num_predict": 1, "temperature": 0 } }),
        ),
        api(
            "llama-server",
            "/completion",
            json!({ "model": model, "prompt": prompt, "n_predict": 1, "temperature": 0 }),
        ),
    ]
}

/// A daemon without keys and one with many stay up; each is asked by every API in turn, and what is first changes.
pub(crate) fn measure(bench: &mut Bench<'_>, plan: &Parameters, model: &str) -> Result<()> {
    let settings = "slots = 1\nthreads = 1\nkeep_alive = -1\n";
    let homes = [Home::new(bench, &[model], settings)?, Home::new(bench, &[model], settings)?];
    let mut key = None;
    for number in 0..plan.keys {
        key = Some(add_key(&homes[1], &format!("client-{number}"))?);
    }
    let servers = [homes[0].serve()?, homes[1].serve()?];
    let apis = apis(model, &plan.prompt);
    let mut times: [[Samples; 5]; 2] = Default::default();
    for round in 0..=bench.rounds as usize {
        for turn in 0..apis.len() {
            let at = (round + turn) % apis.len();
            for side in [(round + turn) % 2, (round + turn + 1) % 2] {
                let key = key.as_deref().filter(|_| side == 1);
                let took_ms = ask(&servers[side].url, &apis[at], key)?;
                // The first round loads the models.
                if round > 0 {
                    times[side][at].push(took_ms);
                }
            }
        }
    }
    let record = &mut bench.record;
    let usual_ms = times[0][0].median();
    for (at, api) in apis.iter().enumerate() {
        let [without, with] = [&times[0][at], &times[1][at]];
        record.series(model, api.name, "ms", without);
        record.figure(model, api.name, "ms", without.median(), None);
        if at > 0 {
            let target = Some(Target::AtMost(plan.api_adds_at_most_ms));
            let what = format!("{} − {}", api.name, apis[0].name);
            record.figure(model, &what, "ms", without.median() - usual_ms, target);
        }
        let target = Some(Target::AtMost(plan.key_adds_at_most_ms));
        let what = format!("{}: with one of {} keys − without keys", api.name, plan.keys);
        record.series(model, &format!("{}, with a key", api.name), "ms", with);
        record.figure(model, &what, "ms", with.median() - without.median(), target);
    }
    Ok(())
}

/// A new key of this home.
fn add_key(home: &Home, name: &str) -> Result<String> {
    let output = home.command(&["key", "add", name]).output().context("cannot start samovar key")?;
    ensure!(output.status.success(), "samovar key add: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Milliseconds until the whole answer is there.
fn ask(url: &str, api: &Api, key: Option<&str>) -> Result<f64> {
    let began = Instant::now();
    let mut request = ureq::post(format!("{url}{}", api.path)).header("content-type", "application/json");
    if let Some(key) = key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    let answer = request.send(api.body.to_string()).with_context(|| api.path.to_owned())?;
    let text = answer.into_body().read_to_string()?;
    ensure!(!text.is_empty(), "{} answered nothing", api.path);
    Ok(milliseconds(began.elapsed()))
}
