//! What a fake model does, and what of it a request hears.

use std::time::Duration;

use super::vocabulary;
use crate::chat::{Chat, ToolChoice};
use crate::constraint::Constraint;
use crate::error::{ErrorKind, Failure};
use crate::footprint::{Footprint, Speed};
use crate::generation::{Delta, FinishReason, GenerationRequest, Prompt, TokenEvent};
use crate::memory::Bytes;

/// What a fake model does. The default loads at once, speaks as fast as it can and never fails.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// Real time that a load takes.
    pub load_time: Duration,
    /// Loads go on although they were cancelled.
    pub ignores_load_cancel: bool,
    /// Every load fails so.
    pub load_failure: Option<Failure>,
    /// What [`Engine::footprint`](crate::port::Engine::footprint) answers; `None` = computed from the descriptor.
    pub footprint: Option<Footprint>,
    /// Memory on devices, beside that on the host.
    pub device_bytes: Bytes,
    /// Of these, what each token of context takes in each slot.
    pub device_bytes_per_cell: Bytes,
    /// What [`Engine::packing`](crate::port::Engine::packing) answers; `None` = the model's weights cannot be packed.
    pub packing: Option<String>,
    /// Every packing fails so, after it has written half of the file.
    pub pack_failure: Option<Failure>,
    /// Every packed file is refused so, also a sound one.
    pub packed_refusal: Option<String>,
    /// What [`Engine::calibrate`](crate::port::Engine::calibrate) finds of the layouts that its files allow.
    pub speeds: Vec<Speed>,
    /// The key of what it prepares; `None` = it prepares nothing.
    pub preparing: Option<String>,
    /// Every preparation fails so, after half of the file was written.
    pub prepare_failure: Option<Failure>,
    /// Real time for each prompt token that is not cached.
    pub prefill_time_per_token: Duration,
    /// Real time for each token generated.
    pub time_per_token: Duration,
    /// Tokens of an answer until the end-of-sequence token; `None` = depends on the prompt, 12 to 43.
    pub answer_tokens: Option<u32>,
    /// What each token adds to the answer to a conversation, before its own words. These follow only where there is neither
    /// text nor a call among what the request allows: no calls without tools, no second call where one is wanted, no more
    /// tokens of thought than its budget, and nothing but thoughts before a constraint. A conversation that ends with the
    /// result of a tool is answered in its own words alone.
    pub deltas: Vec<Vec<Delta>>,
    /// The answer to a request with a constraint, whether it obeys it or not; `None` = `{}` where JSON is wanted, and other
    /// constraints are refused.
    pub constrained: Option<String>,
    /// The instance dies, without a word, after so many tokens in all.
    pub crash_after_tokens: Option<u64>,
    /// The instance falls silent after so many tokens in all, until it is dropped. It no longer
    /// looks whether it has a reader.
    pub hang_after_tokens: Option<u64>,
    /// Real time for each input that is embedded.
    pub time_per_input: Duration,
    /// An input with this text in it is computed to no number, and its request fails.
    pub not_a_number: Option<String>,
    /// The instance dies, without a word, after so many inputs in all.
    pub crash_after_inputs: Option<u64>,
    /// Parking fails so.
    pub park_failure: Option<Failure>,
    /// Resuming fails so.
    pub resume_failure: Option<Failure>,
    /// Probing fails so.
    pub probe_failure: Option<Failure>,
}

/// What a request hears of its script before the fake's own words.
#[derive(Debug)]
pub(super) struct Recital {
    /// What each token adds; never nothing.
    pub(super) tokens: Vec<Vec<Delta>>,
    /// How the answer ends with it; `None` where the fake's own words follow.
    pub(super) finish: Option<FinishReason>,
}

impl Script {
    /// What this request hears before the fake's own words.
    pub(super) fn recital(&self, request: &GenerationRequest) -> Recital {
        let mut tokens = Vec::new();
        if let Prompt::Chat(chat) = &request.prompt
            && !ends_with_result(&chat.messages)
        {
            let mut thoughts_left = request.thinking_budget_tokens.unwrap_or(u32::MAX);
            for deltas in &self.deltas {
                let is_heard = |delta: &&Delta| hears(chat, request, delta);
                let heard: Vec<Delta> = deltas.iter().filter(is_heard).cloned().collect();
                if is_thought(&heard) {
                    let Some(left) = thoughts_left.checked_sub(1) else { continue };
                    thoughts_left = left;
                }
                if !heard.is_empty() {
                    tokens.push(heard);
                }
            }
        }
        let says = |is_so: fn(&Delta) -> bool| tokens.iter().flatten().any(is_so);
        let finish = if says(|delta| matches!(delta, Delta::Call { .. })) {
            Some(FinishReason::ToolCalls)
        } else {
            says(|delta| matches!(delta, Delta::Text(_))).then_some(FinishReason::Stop)
        };
        Recital { tokens, finish }
    }

    /// The tokens that such a constraint allows, the end apart; `None` = any.
    ///
    /// # Errors
    /// `InvalidRequest` for a constraint that it has no answer to.
    pub(super) fn constrained(&self, constraint: Option<&Constraint>) -> Result<Option<Vec<u32>>, Failure> {
        let text = match (constraint, &self.constrained) {
            (None, _) => return Ok(None),
            (Some(_), Some(text)) => text.as_str(),
            (Some(Constraint::JsonObject | Constraint::JsonSchema(_)), None) => "{}",
            (Some(other), None) => {
                let message = format!("the fake engine has no answer to {}", other.kind());
                return Err(Failure::new(ErrorKind::InvalidRequest, message));
            }
        };
        Ok(Some(vocabulary::tokenize(text, false)))
    }
}

/// Whether a token adds thoughts alone.
pub(super) fn is_thought(deltas: &[Delta]) -> bool {
    !deltas.is_empty() && deltas.iter().all(|delta| matches!(delta, Delta::Thinking(_)))
}

/// A token as an engine tells of it.
pub(super) fn event(mut deltas: Vec<Delta>) -> TokenEvent {
    match deltas.as_mut_slice() {
        [Delta::Text(text)] => TokenEvent::Token { text: std::mem::take(text), logprob: None },
        _ => TokenEvent::Deltas { deltas, logprob: None },
    }
}

fn hears(chat: &Chat, request: &GenerationRequest, delta: &Delta) -> bool {
    match delta {
        Delta::Thinking(_) => true,
        Delta::Text(_) => request.constraint.is_none(),
        Delta::Call { index, .. } | Delta::Arguments { index, .. } => {
            chat.tools.is_some()
                && chat.tool_choice != ToolChoice::None
                && (chat.parallel_tool_calls || *index == 0)
                && request.constraint.is_none()
        }
    }
}

/// Whether the last of some messages has the role `tool`. What people wrote has its quotation marks escaped.
fn ends_with_result(messages: &str) -> bool {
    messages.rsplit(r#""role":""#).next().is_some_and(|last| last.starts_with(r#"tool""#))
}
