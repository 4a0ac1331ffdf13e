//! Generating text under a lease: the prompt goes to the instance, and each token comes back as an event.

use std::sync::Arc;

use samovar_core::generation::{Delta, FinishReason, GenerationRequest, TokenEvent, TokenLogprob};
use samovar_core::{ErrorKind, Failure, Scope};

use crate::answer::{AnswerEvent, Summary};
use crate::catalog::Skill;
use crate::lease::{Leased, LeasedWork, WhileHeld, by, with_lease};
use crate::prompt;
use crate::request::{Common, Generate, Input};
use crate::request_check;
use crate::request_trace::RequestTrace;
use crate::runtime::{Inner, blocking};
use crate::settings::PrefixSharing;
use crate::unread::Outbox;

/// One request for text from its first verb to its last.
pub(crate) async fn answer(
    inner: &Arc<Inner>,
    common: &Common,
    generate: &Generate,
    request_trace: &mut RequestTrace,
    events: &Outbox,
) -> AnswerEvent {
    // What is wrong with it whatever its model, is said before anything is looked for, fetched or loaded.
    if let Err(failure) = request_check::check(generate) {
        return AnswerEvent::Failed(failure);
    }
    let is_private = inner.rules.share_prefixes == PrefixSharing::Client;
    let scope = Scope::of_client(common.person.as_ref().unwrap_or(&common.client), is_private);
    let work = Generating { generate, scope, events };
    match with_lease(inner, common, &work, request_trace, &events.news()).await {
        Ok(summary) => {
            log_if_cut(common, &summary);
            AnswerEvent::Done(summary)
        }
        Err(failure) => AnswerEvent::Failed(failure),
    }
}

/// What a model must be able to do for such a request.
pub(crate) const fn skill_for(generate: &Generate) -> Skill {
    match generate.input {
        Input::Infill(_) => Skill::Infill,
        Input::Chat(_) | Input::Text(_) | Input::Tokens(_) => Skill::Generate,
    }
}

/// The log tells of every request that ran out of time.
fn log_if_cut(common: &Common, summary: &Summary) {
    if summary.finish == FinishReason::TimedOut {
        let (model, client) = (common.model.as_str(), common.client.as_str());
        let tokens = summary.usage.completion_tokens;
        tracing::info!(model, client, tokens, "a request ran out of time: its answer is partial");
    }
}

/// An answer to be generated, and where it is said.
struct Generating<'a> {
    generate: &'a Generate,
    /// Whose prompts' state it may continue from.
    scope: Scope,
    events: &'a Outbox,
}

impl LeasedWork for Generating<'_> {
    type Output = Summary;

    fn skill(&self) -> Option<Skill> {
        Some(skill_for(self.generate))
    }

    fn how_to_shorten(&self) -> &'static str {
        "shorten the prompt"
    }

    fn may_ask_for_context(&self) -> bool {
        true
    }

    fn affinity(&self) -> Option<u64> {
        Some(self.generate.affinity())
    }

    fn tokens(summary: &Summary) -> u32 {
        summary.usage.completion_tokens
    }

    async fn run(&self, leased: &mut Leased, request_trace: &mut RequestTrace) -> Result<Summary, Failure> {
        let timings = request_trace.timings();
        self.events.push(AnswerEvent::Granted {
            model: leased.model.spec.name.clone(),
            tier: request_trace.tier(),
            queue_ms: timings.queue_ms,
            load_ms: timings.load_ms,
        })?;
        let generation = self.generation(leased)?;
        let instance = Arc::clone(leased.lease().instance());
        // Rendering and tokenizing a long prompt takes milliseconds of a core; taking up its saved state, or an instance that is stuck,
        // takes what it takes: past the deadline no caller waits for it, and what comes of it is dropped, and so cancelled.
        let (waiting, wanted) = WhileHeld::pair();
        let begun =
            by(request_trace.deadline, blocking(move || instance.generate_while(generation, &wanted))).await;
        drop(waiting);
        let Some(begun) = begun else { return request_trace.timed_out() };
        let mut generation = begun??;
        let mut has_line_break = false;
        loop {
            if has_line_break && self.has_enough(request_trace) {
                return Ok(request_trace.enough());
            }
            let Some(event) = by(request_trace.deadline, generation.next()).await else {
                return request_trace.timed_out();
            };
            let event = match event {
                Some(TokenEvent::Prefilling { computed, of }) => {
                    request_trace.prefilling(computed, of);
                    AnswerEvent::Prefilling { computed, of }
                }
                Some(TokenEvent::Prefilled { usage, prefill_ms }) => {
                    request_trace.prefilled(usage, prefill_ms);
                    AnswerEvent::Prefilled { usage }
                }
                Some(TokenEvent::Token { text, logprob }) => {
                    request_trace.token();
                    has_line_break |= text.contains('\n');
                    AnswerEvent::Text { text, logprob }
                }
                Some(TokenEvent::Deltas { deltas, logprob }) => {
                    request_trace.token();
                    if deltas.iter().all(|delta| matches!(delta, Delta::Thinking(_))) {
                        request_trace.thought();
                    }
                    has_line_break |= deltas.iter().any(is_broken_text);
                    self.say(deltas, logprob)?;
                    continue;
                }
                // Nothing that writes text says this.
                Some(TokenEvent::Embedded(_)) => continue,
                Some(TokenEvent::Done(done)) => {
                    // An engine names a place, and may name one that is none.
                    let place = done.stopped_by.map(|place| place as usize);
                    let stopped_by = place.and_then(|place| self.stops(leased).get(place).cloned());
                    return Ok(Summary { stopped_by, ..request_trace.done(done.finish, done.usage) });
                }
                Some(TokenEvent::Failed(failure)) => return Err(failure),
                None => {
                    return Err(Failure::new(ErrorKind::EngineFailed, "the model stopped answering")
                        .with_hint("try the request again; `samovar why MODEL` shows more"));
                }
            };
            self.events.push(event)?;
        }
    }
}

/// Whether it is text with a line break.
fn is_broken_text(delta: &Delta) -> bool {
    matches!(delta, Delta::Text(text) if text.contains('\n'))
}

impl Generating<'_> {
    /// Whether the answer has had its time.
    fn has_enough(&self, request_trace: &RequestTrace) -> bool {
        self.generate.answer_limit.is_some_and(|limit| request_trace.answering_for() >= limit)
    }

    /// What a token added, each part for itself. Its probability comes with its text: clients lay it over that.
    fn say(&self, deltas: Vec<Delta>, mut logprob: Option<TokenLogprob>) -> Result<(), Failure> {
        for delta in deltas {
            self.events.push(match delta {
                Delta::Text(text) => AnswerEvent::Text { text, logprob: logprob.take() },
                Delta::Thinking(text) => AnswerEvent::Thinking { text },
                Delta::Call { index, id, name } => AnswerEvent::ToolCall { index, id, name },
                Delta::Arguments { index, text } => AnswerEvent::ToolArguments { index, text },
            })?;
        }
        Ok(())
    }

    /// The strings that end the answer: what an author set counts where the request says nothing.
    fn stops<'s>(&'s self, leased: &'s Leased) -> &'s [String] {
        let own = &self.generate.stop;
        if own.is_empty() { &leased.model.prompt_settings.stop } else { own }
    }

    /// The request as the instance is told it.
    fn generation(&self, leased: &Leased) -> Result<GenerationRequest, Failure> {
        let (generate, model) = (self.generate, &leased.model);
        // What an author set counts where the request says nothing.
        let of_author = model.prompt_settings.sampling.over(&generate.sampling_defaults);
        Ok(GenerationRequest {
            prompt: prompt::of(generate, &model.prompt_settings)?,
            sampling: generate.sampling.over(&of_author),
            max_tokens: generate.max_tokens.or(model.prompt_settings.max_tokens),
            stop: self.stops(leased).to_vec(),
            logprobs: generate.logprobs,
            ignore_eos: generate.ignore_eos,
            constraint: generate.constraint.clone(),
            thinking_budget_tokens: generate.thinking(model.prompt_settings.thinking).1,
            speculates: model.speculates,
            adapters: model.adapters.clone(),
            reuse_prefix: true,
            scope: self.scope,
        })
    }
}
