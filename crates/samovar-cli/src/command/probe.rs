//! The hidden verb that `doctor` runs in a process of its own: real inference, with numbers, in a worker as the daemon's, or
//! else allowed to crash.

use samovar::worker::sandbox::Report;
use samovar::{Builder, Request};
use samovar_core::Failure;
use samovar_core::generation::Sampling;
use serde::{Deserialize, Serialize};

use super::Context;
use crate::daemon::workers;
use crate::ended::Ended;

/// What a probe found.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Found {
    /// Tokens of the prompt, all computed in one batch.
    pub(super) prompt_tokens: u32,
    /// Tokens generated.
    pub(super) completion_tokens: u32,
    /// How long the model took to load.
    pub(super) load_ms: f64,
    /// Tokens of the prompt a second.
    pub(super) prefill_tokens_per_s: f64,
    /// Generated tokens a second.
    pub(super) decode_tokens_per_s: f64,
    /// What the model said.
    pub(super) text: String,
    /// What was taken from the process that the model ran in; absent when that was the probe itself.
    pub(super) sandbox: Option<Report>,
}

/// Long enough that every batch kernel runs: some faults of compilers bite only above 32 or 64 rows.
const PROMPT: &str = "Once upon a time there was a fox who lived at the edge of a wide forest. Every morning the fox \
walked down to the river to look for fish, and every evening it came home to its den under the old oak tree. One day it \
met a small bird with a broken wing. The fox sat down beside the bird and asked what had happened. The bird looked up at \
the fox and said that the wind had thrown it against a branch in the night. So the fox";

/// It has nothing in common with the prompt that is measured.
const FIRST_PROMPT: &str = "The kettle sang.";

const ANSWER_TOKENS: u32 = 32;

pub(super) async fn execute(context: &Context) -> Result<(), Ended> {
    let found = probe(context).await?;
    context.report.json(&found)
}

async fn probe(context: &Context) -> Result<Found, Failure> {
    let mut builder = Builder::settings(context.settings.runtime.clone());
    if let Some(workers) = workers::config(&context.settings) {
        builder = builder.workers(workers);
    }
    let runtime = builder.build()?;
    // The first request of a process pays for its pages and buffers once; that is no speed.
    let first = Request::text("demo", FIRST_PROMPT).max_tokens(2).sampling(Sampling::greedy());
    let (_, first) = runtime.generate(first).collect().await?;
    let request = Request::text("demo", PROMPT).max_tokens(ANSWER_TOKENS).sampling(Sampling::greedy());
    let (text, summary) = runtime.generate(request).collect().await?;
    let sandbox = runtime.stats().await.workers.and_then(|workers| workers.sandbox);
    runtime.shutdown(std::time::Duration::ZERO).await;
    let (usage, timings) = (summary.usage, summary.timings);
    let rate = |tokens: u32, ms: f64| if ms > 0.0 { f64::from(tokens) * 1e3 / ms } else { 0.0 };
    Ok(Found {
        prompt_tokens: usage.prompt_tokens,
        completion_tokens: usage.completion_tokens,
        load_ms: first.timings.load_ms,
        prefill_tokens_per_s: rate(usage.prompt_tokens - usage.cached_tokens, timings.prefill_ms),
        decode_tokens_per_s: rate(usage.completion_tokens.saturating_sub(1), timings.decode_ms),
        text,
        sandbox,
    })
}
