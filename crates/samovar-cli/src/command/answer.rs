//! One request from sending to the last word, as a person sees it: progress, text, Ctrl-C. Shared by `run` and `chat`.

use std::time::Duration;

use samovar::store::Progress;
use samovar::{AnswerEvent, CacheStatus, Request, SamplingOptions, Summary, ToolCall, Wait, Work};
use samovar_core::generation::FinishReason;
use samovar_core::units::{TimeSpan, counted};
use serde_json::{Value, json};

use super::backend::Backend;
use super::{Context, stored};
use crate::args::Generation;
use crate::ended::Ended;
use crate::report::Prose;

/// What came of a request.
#[derive(Debug, Default)]
pub(super) struct AnswerReport {
    /// The model's name as the catalog knows it.
    pub(super) model: String,
    /// Everything it said.
    pub(super) text: String,
    /// What it thought before.
    pub(super) thinking: String,
    /// The tools that it called.
    calls: Vec<ToolCall>,
    /// How it ended; `None` when the person stopped it.
    pub(super) summary: Option<Summary>,
    /// The last that was heard of it was that bytes of its model are here.
    is_fetching: bool,
}

/// What of an answer is printed as it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// Nothing.
    Nothing,
    /// Its text.
    Text,
    /// Its text, with thoughts before it where a person reads.
    TextAndThoughts,
}

impl AnswerReport {
    /// What it thought, unless that is nothing.
    pub(super) fn thought(&self) -> Option<&str> {
        Some(self.thinking.trim()).filter(|thought| !thought.is_empty())
    }

    fn begin_call(&mut self, id: String, name: String) {
        self.calls.push(ToolCall::new(id, name, ""));
    }

    fn add_arguments(&mut self, index: u32, text: &str) {
        if let Some(call) = self.calls.get_mut(index as usize) {
            call.arguments.push_str(text);
        }
    }
}

/// Sends a request and waits for the whole answer. What is `shown` is printed as it comes, and its last line ended. Ctrl-C
/// hangs up and returns what there is.
///
/// # Errors
/// Whatever ended the answer early, but Ctrl-C.
pub(super) async fn follow(
    context: &Context,
    backend: &Backend<'_>,
    request: Request,
    shown: Shown,
) -> Result<AnswerReport, Ended> {
    let mut outcome = AnswerReport { model: request.common.model.clone(), ..AnswerReport::default() };
    let mut prose = (shown != Shown::Nothing).then(|| context.report.prose());
    let ended = tokio::select! {
        ended = receive(context, backend, request, shown, &mut prose, &mut outcome) => ended,
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    match &mut prose {
        Some(prose) if !matches!(ended, Err(Ended::OutputClosed)) => prose.end()?,
        _ => {}
    }
    if ended.is_ok() && outcome.summary.is_none() && outcome.is_fetching {
        context.report.note("stopped; the fetched bytes are kept, and the next attempt resumes");
    }
    ended.map(|()| outcome)
}

async fn receive(
    context: &Context,
    backend: &Backend<'_>,
    request: Request,
    shown: Shown,
    prose: &mut Option<Prose>,
    outcome: &mut AnswerReport,
) -> Result<(), Ended> {
    let mut answers = backend.generate(request).await?;
    let progress = context.report.progress();
    loop {
        let event = answers.next().await?;
        outcome.is_fetching = matches!(
            event,
            AnswerEvent::Waiting(Wait::Fetching(Progress::Fetching(_) | Progress::Verifying(_)))
        );
        match event {
            AnswerEvent::Waiting(wait) => context.report.waiting(&progress, &outcome.model, &wait),
            AnswerEvent::Granted { model, .. } => {
                outcome.model = model;
                progress.say("Reading the prompt");
            }
            AnswerEvent::Prefilling { computed, of } => {
                progress.say(format!("Reading the prompt: {computed} of {of} tokens"));
            }
            AnswerEvent::Prefilled { .. } => progress.clear(),
            // A token that shows nothing yet ends no progress.
            AnswerEvent::Text { text, .. } if !text.is_empty() => {
                progress.clear();
                if let Some(prose) = prose {
                    prose.piece(&text)?;
                }
                outcome.text.push_str(&text);
            }
            AnswerEvent::Thinking { text } => {
                match prose {
                    Some(prose) if shown == Shown::TextAndThoughts && prose.shows_thoughts() => {
                        progress.clear();
                        prose.thought(&text)?;
                    }
                    // Between parts of the answer, the line of progress would be written over its open line.
                    _ if outcome.text.is_empty() => progress.say("Thinking"),
                    _ => {}
                }
                outcome.thinking.push_str(&text);
            }
            AnswerEvent::ToolCall { id, name, .. } => outcome.begin_call(id, name),
            AnswerEvent::ToolArguments { index, text } => outcome.add_arguments(index, &text),
            AnswerEvent::Done(summary) => {
                progress.clear();
                if let Some(prose) = prose {
                    for call in &outcome.calls {
                        prose.piece(&call_line(call))?;
                    }
                }
                outcome.summary = Some(summary);
                return Ok(());
            }
            AnswerEvent::Failed(failure) => {
                return Err(stored::with_near(&outcome.model, failure, &context.settings).into());
            }
            _ => {}
        }
    }
}

/// Puts the command line's wishes into a request.
pub(super) fn apply(mut request: Request, wishes: &Generation) -> Request {
    let sampling = SamplingOptions {
        temperature: wishes.temperature,
        top_k: wishes.top_k,
        top_p: wishes.top_p,
        min_p: wishes.min_p,
        repeat_penalty: wishes.repeat_penalty,
        seed: wishes.seed,
        ..SamplingOptions::default()
    };
    if let Work::Generate(generate) = &mut request.work {
        generate.sampling = sampling;
        generate.max_tokens = wishes.max_tokens;
        generate.stop.clone_from(&wishes.stop);
        if let Some(effort) = wishes.thinking.think {
            generate.think(effort.into());
        }
        // A budget that the person names counts more than the one that belongs to an effort.
        generate.thinking_budget_tokens = wishes.thinking.thinking_budget.or(generate.thinking_budget_tokens);
    }
    request.common.deadline = wishes.timeout.map(TimeSpan::as_duration);
    request.common.keep_alive = wishes.keep_alive;
    request.common.client = client();
    request
}

/// The process that asked, so that two loops on one machine are two clients.
pub(super) fn client() -> String {
    format!("cli-{}", parent_process())
}

#[cfg(unix)]
fn parent_process() -> String {
    rustix::process::getppid().map_or_else(|| "0".to_owned(), |pid| pid.to_string())
}

/// A call of a tool in a line of its own. None was offered, so this is all that is done about it.
fn call_line(call: &ToolCall) -> String {
    format!("\n{}({})\n", call.name, call.arguments)
}

/// Says what the text alone does not: that it was cut, and why, or that it is missing.
pub(super) fn remark(context: &Context, outcome: &AnswerReport, summary: &Summary, wishes: &Generation) {
    if summary.finish != FinishReason::Stop && outcome.text.trim().is_empty() && outcome.thought().is_some() {
        context.report.note(
            "note: the model was still thinking, so there is no answer; --thinking-budget ends a thought earlier",
        );
    }
    match summary.finish {
        FinishReason::TimedOut => {
            let limit = wishes.timeout.map(|limit| format!(" of {limit}")).unwrap_or_default();
            context.report.note(&format!("note: the time limit{limit} was reached; the answer is partial"));
        }
        FinishReason::Length if wishes.max_tokens.is_none() => {
            let used = summary.usage.prompt_tokens + summary.usage.completion_tokens;
            context.report.note(&format!(
                "note: the context is full after {used} tokens; the answer is cut off (context_tokens in samovar.toml)"
            ));
        }
        FinishReason::Length | FinishReason::Stop | FinishReason::ToolCalls => {}
    }
}

/// The answer as `--json` prints it; thoughts and calls only where there are any.
pub(super) fn as_json(outcome: &AnswerReport, summary: &Summary) -> Value {
    let mut object = json!({
        "model": outcome.model,
        "text": outcome.text,
        "finish": summary.finish,
        "tier": summary.tier,
        "usage": summary.usage,
        "timings": summary.timings,
    });
    if let Some(text) = &summary.stopped_by {
        object["stopped_by"] = text.as_str().into();
    }
    if let Some(thought) = outcome.thought() {
        object["thinking"] = thought.into();
    }
    if !outcome.calls.is_empty() {
        object["tool_calls"] = json!(outcome.calls);
    }
    object
}

/// Where the time went, in one line.
pub(super) fn timing_line(outcome: &AnswerReport, summary: &Summary) -> String {
    let (usage, timings) = (&summary.usage, &summary.timings);
    let found = match summary.tier {
        CacheStatus::Hit => "in memory".to_owned(),
        CacheStatus::Parked => format!("resumed in {}", ms(timings.load_ms)),
        CacheStatus::Joined => format!("joined a load, {}", ms(timings.load_ms)),
        CacheStatus::Cold => format!("loaded in {}", ms(timings.load_ms)),
        CacheStatus::Fetched => {
            format!("fetched in {}, loaded in {}", ms(timings.fetch_ms), ms(timings.load_ms))
        }
        other => other.as_str().to_owned(),
    };
    let cached =
        if usage.cached_tokens > 0 { format!(" ({} reused)", usage.cached_tokens) } else { String::new() };
    let rate = rate(usage.completion_tokens, timings.decode_ms);
    let rate = rate.map(|rate| format!(" ({rate:.1} tok/s)")).unwrap_or_default();
    format!(
        "{} · {found} · queue {} · prompt {}{cached} in {} · answer {} in {}{rate} · first token after {} · total {}",
        outcome.model,
        ms(timings.queue_ms),
        counted(usage.prompt_tokens, "token"),
        ms(timings.prefill_ms),
        counted(usage.completion_tokens, "token"),
        ms(timings.decode_ms),
        ms(timings.first_token_ms),
        ms(timings.total_ms),
    )
}

/// Tokens a second of an answer; of fewer than two tokens, or of less than a millisecond, there is none to speak of. The
/// first token is part of the prompt's time.
fn rate(tokens: u32, ms: f64) -> Option<f64> {
    (tokens >= 2 && ms >= 1.0).then(|| f64::from(tokens - 1) * 1e3 / ms)
}

/// Milliseconds as people read them.
pub(super) fn ms(value: f64) -> String {
    if value < 10.0 {
        format!("{value:.1} ms")
    } else if value < 10_000.0 {
        format!("{value:.0} ms")
    } else {
        format!("{:.1} s", value / 1e3)
    }
}

/// A span as people read it: its two largest units.
pub(super) fn roughly(ms: u64) -> String {
    let span = Duration::from_millis(ms);
    let seconds = span.as_secs();
    match seconds {
        0 => format!("{ms}ms"),
        1..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Arguments, Verb};

    fn applied(line: &[&str]) -> samovar::Generate {
        let line = [["samovar", "run", "x"].as_slice(), line].concat();
        let Verb::Run(run) = Arguments::try_parse_from(line).expect("parses").verb else { panic!("run") };
        match apply(Request::text("demo", "x"), &run.generation).work {
            Work::Generate(generate) => generate,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn how_much_to_think_is_told_to_the_template_and_no_thought_is_a_budget_too() {
        let usual = applied(&[]);
        assert!(usual.template_arguments.is_empty() && usual.thinking_budget_tokens.is_none());
        let low = applied(&["--think", "low", "--thinking-budget", "64"]);
        let told = json!({ "enable_thinking": true, "thinking": true, "reasoning_effort": "low" });
        assert_eq!((json!(low.template_arguments), low.thinking_budget_tokens), (told, Some(64)));
        let off = applied(&["--think", "off"]);
        let told = json!({ "enable_thinking": false, "thinking": false, "reasoning_effort": "none" });
        assert_eq!((json!(off.template_arguments), off.thinking_budget_tokens), (told, Some(0)));
        let off = applied(&["--think", "off", "--thinking-budget", "64"]);
        assert_eq!(off.thinking_budget_tokens, Some(64));
    }

    #[test]
    fn calls_are_gathered_from_their_parts() {
        let mut outcome = AnswerReport::default();
        outcome.begin_call("call_a".into(), "weather".into());
        outcome.add_arguments(0, r#"{"city": "#);
        outcome.begin_call("call_b".into(), "time".into());
        outcome.add_arguments(1, "{}");
        outcome.add_arguments(0, r#""Rome"}"#);
        // A call that never began.
        outcome.add_arguments(7, "x");
        let lines: Vec<String> = outcome.calls.iter().map(call_line).collect();
        assert_eq!(lines, ["\nweather({\"city\": \"Rome\"})\n", "\ntime({})\n"]);
    }

    #[test]
    fn a_thought_of_nothing_is_none() {
        let thought = |text: &str| AnswerReport { thinking: text.into(), ..AnswerReport::default() };
        assert_eq!(thought("\n\n").thought(), None);
        assert_eq!(thought("\nhm\n").thought(), Some("hm"));
    }

    #[test]
    fn rates_begin_with_two_tokens_and_a_millisecond() {
        assert_eq!((rate(2, 1.0), rate(4, 1.5)), (Some(1000.0), Some(2000.0)));
        for (tokens, ms) in [(0, 5.0), (1, 5.0), (4, 0.001), (2, 0.99)] {
            assert_eq!(rate(tokens, ms), None, "{tokens} in {ms} ms");
        }
    }

    #[test]
    fn spans_have_two_units() {
        let shown: Vec<String> =
            [5, 59_000, 61_000, 3_660_000, 90_000_000].into_iter().map(roughly).collect();
        assert_eq!(shown, ["5ms", "59s", "1m01s", "1h01m", "1d01h"]);
        assert_eq!((ms(0.25), ms(123.4), ms(12_345.0)), ("0.2 ms".into(), "123 ms".into(), "12.3 s".into()));
    }
}
