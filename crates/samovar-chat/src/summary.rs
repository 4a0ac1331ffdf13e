//! A summary of what the window leaves out, or will leave out next: made ahead, while nothing else is asked, by the conversation's model.
//!
//! It takes the place of the messages when the window moves, so a prompt changes its beginning once, and not twice.

use samovar::{Effort, Message, Request};
use samovar_core::generation::Sampling;

use crate::conversations::{ChatHistory, ConversationDetail, ConversationSummary, StoredMessage};
use crate::error::ChatError;
use crate::window::{self, PromptSize};

/// How the model is told to summarise.
const ORDER: &str = "You write summaries of conversations. Keep names, numbers, decisions and open questions. Write plain sentences, no more than needed, and nothing that was not said.";
/// Tokens of a summary at most.
const SUMMARY_TOKENS: u32 = 400;
/// A summary is made when the prompt takes more than so much of its budget.
const FULL_ENOUGH: f64 = 0.7;

/// A summary that is to be made.
#[derive(Debug)]
pub(crate) struct SummaryOrder {
    pub(crate) request: Request,
    /// The last message that it covers.
    pub(crate) through: i64,
    pub(crate) model: String,
}

impl ChatHistory {
    /// The summary that a conversation needs now, if any, when its model has so much context.
    ///
    /// # Errors
    /// [`ChatError::NoConversation`].
    pub(crate) fn due_summary(
        &self,
        conversation: i64,
        context_tokens: u32,
    ) -> Result<Option<SummaryOrder>, ChatError> {
        Ok(order_of(&self.open(conversation)?, context_tokens))
    }
}

fn order_of(detail: &ConversationDetail, context_tokens: u32) -> Option<SummaryOrder> {
    let model = detail.head.model.clone()?;
    let branch: Vec<StoredMessage> = detail.branch().into_iter().cloned().collect();
    let fixed_bytes = detail.system.as_ref().map_or(0, String::len);
    let size = PromptSize { history: &branch, fixed_bytes, question_bytes: 0 };
    let start = window::start_of(&branch, detail.window_from);
    let budget = window::budget(context_tokens, None);
    let is_full = f64::from(size.tokens(start)) > f64::from(budget) * FULL_ENOUGH;
    // What the next step of the window leaves out, or else what the last one did.
    let next =
        if is_full { size.window(start, budget.min(size.tokens(start).saturating_sub(1))) } else { start };
    let last = branch.get(next.checked_sub(1)?)?;
    let place = |id: i64| branch.iter().position(|message| message.id == id);
    let before: Option<(&ConversationSummary, usize)> =
        detail.summaries.iter().rev().find_map(|summary| Some((summary, place(summary.through)?)));
    let from = before.map_or(0, |(_, at)| at + 1);
    if from >= next {
        return None;
    }
    // What does not fit is passed over, the oldest first: the summary before has most of it.
    let most_bytes = (f64::from(budget / 2) * 3.0) as usize;
    let mut bytes = 0;
    let told = branch[from..next].iter().rev().take_while(|message| {
        bytes += message.text.len();
        bytes <= most_bytes
    });
    let mut told: Vec<String> =
        told.map(|message| format!("{}: {}", message.role, message.text.trim())).collect();
    if told.is_empty() {
        return None;
    }
    told.reverse();
    let so_far =
        before.map(|(summary, _)| format!("Summary so far:\n{}\n\n", summary.text)).unwrap_or_default();
    let question = format!("{so_far}Conversation:\n{}\n\nWrite one summary of all of it.", told.join("\n\n"));
    let messages = [Message::system(ORDER), Message::user(question)];
    let request = Request::chat(model.clone(), messages).max_tokens(SUMMARY_TOKENS);
    let request = request.sampling(Sampling::greedy()).thinking(Effort::Off);
    Some(SummaryOrder { request, through: last.id, model })
}

#[cfg(test)]
mod tests {
    use crate::conversations::Conversations;
    use crate::turn::{AnswerRecord, ChatQuestion};

    #[test]
    fn a_summary_is_due_when_the_window_is_nearly_full_and_covers_what_leaves_next() {
        let history = Conversations::in_memory().expect("memory").of("");
        let mut conversation = None;
        let mut turns = 0;
        let order = loop {
            let question = ChatQuestion {
                conversation,
                ..ChatQuestion::new(format!("question {turns} {}", "x".repeat(140)))
            };
            let turn = history.begin(&question).expect("begins");
            conversation = Some(turn.conversation());
            let answer =
                AnswerRecord { text: "y".repeat(150), finish: "stop".into(), ..AnswerRecord::by("demo") };
            turn.keep(&answer).expect("keeps");
            turns += 1;
            assert!(turns < 50, "never due");
            let due = history.due_summary(turn_id(conversation), 1_024).expect("reads");
            if let Some(order) = due {
                break order;
            }
        };
        assert!(turns > 2, "{turns}");
        let said = format!("{:?}", order.request);
        assert!(said.contains("question 0") && order.model == "demo", "{said}");
        history.add_summary(turn_id(conversation), order.through, "They counted.", "demo").expect("keeps");
        assert!(history.due_summary(turn_id(conversation), 1_024).expect("reads").is_none(), "it is there");
        // It is used once what it covers is left out, and marked.
        let mut turn =
            history.begin(&ChatQuestion::new("and now?").within(turn_id(conversation))).expect("begins");
        assert!(turn.memory().is_plain());
        while turn.narrow().expect("narrows") {}
        assert_eq!(turn.memory().summary.as_deref(), Some("They counted."));
        assert!(turn.messages()[0].content.contains("They counted."));
    }

    fn turn_id(conversation: Option<i64>) -> i64 {
        conversation.expect("a conversation")
    }
}
