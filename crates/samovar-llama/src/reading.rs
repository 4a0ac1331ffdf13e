//! How the answer to a conversation is read: by the dialect of its chat template.

use std::sync::Arc;

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use samovar_core::chat::ToolChoice;
use samovar_core::{Chat, Failure};
use samovar_prompt::dialect::{AnswerReader, Dialect};

use crate::prompts::Prompts;

/// What a rendered conversation says about its answer.
#[derive(Debug)]
pub(crate) struct AnswerForm {
    pub dialect: Arc<Dialect>,
    /// The prompt ends inside a thought.
    pub opens_thinking: bool,
    /// The prompt ends behind a thought: the model is not to have one.
    pub is_thought_over: bool,
}

/// The reader of an answer in which thoughts or calls may be, and what its thoughts are made to begin and end with.
#[derive(Debug)]
pub(crate) struct Reading {
    pub reader: AnswerReader,
    /// Tokens of thought after which it is ended; `None` = as many as the model likes.
    pub budget_tokens: Option<u32>,
    /// What begins a thought. Empty where the model is to begin none by itself.
    pub open: Vec<LlamaToken>,
    /// What ends one. Empty where nothing does.
    pub close: Vec<LlamaToken>,
    /// The same as text.
    pub close_text: String,
}

impl AnswerForm {
    /// Whether the model may call tools in its answer.
    pub(crate) fn may_call(chat: &Chat) -> bool {
        chat.tools.is_some() && chat.tool_choice != ToolChoice::None
    }

    /// How the answer to this conversation is read; nothing where all of it is text. `has_grammar`: a grammar of the dialect
    /// binds it, and begins behind its thought.
    pub(crate) fn reading(
        &self,
        prompts: &Prompts,
        model: &LlamaModel,
        chat: &Chat,
        budget_tokens: Option<u32>,
        has_grammar: bool,
    ) -> Result<Option<Reading>, Failure> {
        if self.dialect.thinking.is_none() && !Self::may_call(chat) {
            return Ok(None);
        }
        let reader = AnswerReader::new(Arc::clone(&self.dialect), chat, self.opens_thinking)?;
        let marks = self.dialect.thinking.as_ref();
        let close_text = if has_grammar { reader.thinking_end() } else { reader.thinking_close() };
        let close_text = close_text.or(marks.map(|marks| marks.close.as_str()));
        let close_text = close_text.unwrap_or_default().to_owned();
        let may_think = !self.opens_thinking && !self.is_thought_over && budget_tokens != Some(0);
        let open = marks.filter(|_| may_think).map_or("", |marks| marks.open.as_str());
        let tokens = |text: &str| prompts.tokenize(model, text, false, true);
        Ok(Some(Reading {
            open: tokens(open)?,
            close: tokens(&close_text)?,
            close_text,
            budget_tokens,
            reader,
        }))
    }
}
