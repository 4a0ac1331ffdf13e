//! What a conversation costs more than the same text as a prompt, and what the sandbox costs: a conversation is rendered
//! in the model's worker, and each system call of a worker passes a filter.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::super::Bench;
use super::super::record::Target;
use super::super::samples::Samples;
use super::super::stream;
use super::super::subject::Home;

/// What to run.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    pub(super) models: Vec<String>,
    prompt: String,
    /// What the model's chat template writes before a message.
    before: String,
    /// What it writes after the message.
    after: String,
    tokens: u32,
    threads: u32,
    /// The first token of a conversation − that of the same text.
    conversation_adds_at_most_ms: f64,
    /// Time of a token with the sandbox ÷ without.
    sandbox_at_most: f64,
}

/// Times of one server, in milliseconds.
#[derive(Default)]
struct Times {
    conversation: Samples,
    text: Samples,
    /// How much longer the conversation took, round by round.
    added: Samples,
    token: Samples,
}

/// Two daemons, with the sandbox and without, stay up; each is asked for a conversation and for a text, in turn.
pub(crate) fn measure(bench: &mut Bench<'_>, plan: &Parameters, model: &str) -> Result<()> {
    let settings = |sandbox: &str| {
        format!("slots = 1\nthreads = {}\nkeep_alive = -1\n[pool]\nsandbox = \"{sandbox}\"\n", plan.threads)
    };
    let homes =
        [Home::new(bench, &[model], &settings("auto"))?, Home::new(bench, &[model], &settings("off"))?];
    let servers = [homes[0].serve()?, homes[1].serve()?];
    let mut times = [Times::default(), Times::default()];
    for round in 0..=bench.rounds {
        for side in [round % 2, 1 - round % 2].map(|side| side as usize) {
            let url = &servers[side].url;
            // Prompts of their own each time, so that nothing is left to reuse.
            let converse = || stream::chat(url, model, &format!("{round} a {}", plan.prompt), plan.tokens);
            let complete = || {
                let text = format!("{}{round} b {}{}", plan.before, plan.prompt, plan.after);
                stream::complete(url, model, &text, plan.tokens)
            };
            // What is first changes, so that neither finds the warmer caches.
            let (conversation, text) = if round % 4 < 2 {
                let conversation = converse()?;
                (conversation, complete()?)
            } else {
                let text = complete()?;
                (converse()?, text)
            };
            ensure!(
                conversation.prompt_tokens.abs_diff(text.prompt_tokens) <= 1,
                "`before` and `after` are not what the template writes: {} tokens instead of {}",
                text.prompt_tokens,
                conversation.prompt_tokens
            );
            // The first round loads the models.
            if round > 0 {
                let times = &mut times[side];
                times.conversation.push(conversation.first_ms());
                times.text.push(text.first_ms());
                times.added.push(conversation.first_ms() - text.first_ms());
                times.token.push(text.token_ms());
            }
        }
    }
    let record = &mut bench.record;
    for (times, side) in times.iter().zip(["with the sandbox", "without the sandbox"]) {
        for (what, samples) in [
            ("first token of a conversation", &times.conversation),
            ("first token of a text", &times.text),
            ("token", &times.token),
        ] {
            record.series(model, &format!("{what}, {side}"), "ms", samples);
            record.figure(model, &format!("{what}, {side}"), "ms", samples.median(), None);
        }
        let what = format!("a conversation adds to the first token, {side}");
        record.series(model, &what, "ms", &times.added);
        let target = Some(Target::AtMost(plan.conversation_adds_at_most_ms));
        record.figure(model, &what, "ms", times.added.median(), target);
    }
    let [with, without] = times;
    let token = with.token.median() / without.token.median();
    record.figure(model, "token, sandbox ÷ none", "×", token, Some(Target::AtMost(plan.sandbox_at_most)));
    let first = with.text.median() - without.text.median();
    record.figure(model, "the sandbox adds to the first token", "ms", first, None);
    Ok(())
}
