//! From a prompt as it travels to the tokens that the model reads: conversations are rendered by the model's chat template, texts
//! are tokenized, and what cannot fit the context is refused before the work is done.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use samovar_core::chat::ToolChoice;
use samovar_core::port::PromptControl;
use samovar_core::{Chat, Descriptor, Failure, Prompt};
use samovar_prompt::Renderer;
use samovar_prompt::dialect::{AnswerReader, Dialect};

use crate::error::Error;
use crate::vocabulary::{ControlPlaces, Vocabulary};

/// What one model's prompts need.
#[derive(Debug)]
pub(crate) struct Prompts {
    vocabulary: Arc<Vocabulary>,
    descriptor: Descriptor,
    /// By the model's own template, or why there is none.
    own: OnceLock<Result<Renderer, Failure>>,
    /// By the template that was asked for last instead.
    other: Mutex<Option<(String, Arc<Renderer>)>>,
}

/// A prompt as the model reads it, and how its answer is read.
#[derive(Debug)]
pub(crate) struct ReadPrompt {
    pub(crate) tokens: Vec<u32>,
    /// Nothing where all of the answer is text.
    pub(crate) reading: Option<Reading>,
}

/// The reader of an answer in which thoughts or calls may be, and how its thoughts are ended.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) reader: AnswerReader,
    /// What ends a thought, as text and as tokens. Empty where nothing does.
    pub(crate) close_text: String,
    pub(crate) close: Vec<u32>,
    /// Tokens of thought after which it is ended.
    pub(crate) budget_tokens: Option<u32>,
}

impl Prompts {
    pub(crate) fn new(vocabulary: Arc<Vocabulary>, descriptor: &Descriptor) -> Self {
        let has_none = descriptor.chat_template.as_deref().is_none_or(|template| template.trim().is_empty());
        if has_none && !descriptor.is_encoder() {
            tracing::warn!("the model's files have no chat template: conversations go through ChatML");
        }
        Self { vocabulary, descriptor: descriptor.clone(), own: OnceLock::new(), other: Mutex::default() }
    }

    pub(crate) fn vocabulary(&self) -> &Arc<Vocabulary> {
        &self.vocabulary
    }

    /// The tokens of a prompt, which is refused where its length says that it does not fit `bound`; `None` = any may come.
    pub(crate) fn tokens(
        &self,
        prompt: &Prompt,
        context_tokens: u32,
        bound: Option<u32>,
        control: &dyn PromptControl,
    ) -> Result<Vec<u32>, Failure> {
        match prompt {
            Prompt::Text { text, add_special, parse_special } => {
                let places = if *parse_special { ControlPlaces::Everywhere } else { ControlPlaces::Never };
                Ok(self.read(text, places, *add_special, bound, control)?)
            }
            Prompt::Tokens(tokens) => {
                self.vocabulary.check(tokens)?;
                Ok(tokens.clone())
            }
            Prompt::Chat(chat) => Ok(self.conversation(chat, context_tokens, bound, control)?.0),
            Prompt::Infill(_) => Err(Error::NoInfill.into()),
        }
    }

    /// The tokens of a prompt, and how its answer is read.
    pub(crate) fn prompt(
        &self,
        prompt: &Prompt,
        context_tokens: u32,
        budget_tokens: Option<u32>,
        control: &dyn PromptControl,
    ) -> Result<ReadPrompt, Failure> {
        let bound = Some(context_tokens);
        let Prompt::Chat(chat) = prompt else {
            return Ok(ReadPrompt {
                tokens: self.tokens(prompt, context_tokens, bound, control)?,
                reading: None,
            });
        };
        let may_call = chat.tools.is_some() && chat.tool_choice != ToolChoice::None;
        if may_call && chat.tool_choice != ToolChoice::Auto {
            return Err(Error::Lacks {
                what: "cannot make a model call a tool",
                param: "tool_choice",
                hint: "set tool_choice to auto, or engine = \"llama\" in the model's settings",
            }
            .into());
        }
        let (tokens, dialect, opens_thinking) = self.conversation(chat, context_tokens, bound, control)?;
        if dialect.thinking.is_none() && !may_call {
            return Ok(ReadPrompt { tokens, reading: None });
        }
        let reader = AnswerReader::new(Arc::clone(&dialect), chat, opens_thinking)?;
        let mark = dialect.thinking.as_ref().map(|marks| marks.close.as_str());
        let close_text = reader.thinking_close().or(mark).unwrap_or_default().to_owned();
        let close = self.vocabulary.tokenize(&close_text, ControlPlaces::Everywhere, false)?;
        Ok(ReadPrompt { tokens, reading: Some(Reading { reader, close_text, close, budget_tokens }) })
    }

    /// The text of a conversation.
    pub(crate) fn render(
        &self,
        chat: &Chat,
        context_tokens: u32,
        control: &dyn PromptControl,
    ) -> Result<String, Failure> {
        check_messages(chat, context_tokens)?;
        Ok(self.with_renderer(chat, control, |renderer| renderer.render(chat))?.text)
    }

    /// The tokens of a conversation, how its answer is written, and whether it ends inside a thought.
    fn conversation(
        &self,
        chat: &Chat,
        context_tokens: u32,
        bound: Option<u32>,
        control: &dyn PromptControl,
    ) -> Result<(Vec<u32>, Arc<Dialect>, bool), Failure> {
        check_messages(chat, context_tokens)?;
        let (rendered, dialect) = self
            .with_renderer(chat, control, |renderer| Ok((renderer.render(chat)?, renderer.dialect(chat))))?;
        for note in &rendered.notes {
            tracing::info!("{note}");
        }
        let places = rendered.control.as_deref().map_or(ControlPlaces::Everywhere, ControlPlaces::At);
        let tokens = self.read(&rendered.text, places, true, bound, control)?;
        Ok((tokens, dialect, rendered.opens_thinking))
    }

    fn read(
        &self,
        text: &str,
        places: ControlPlaces<'_>,
        add_special: bool,
        bound: Option<u32>,
        control: &dyn PromptControl,
    ) -> Result<Vec<u32>, Error> {
        if !control.is_wanted() {
            return Err(Error::PromptUnwanted);
        }
        let prompt = self.vocabulary.at_least(text);
        match bound {
            Some(context) if prompt > context as usize => Err(Error::PromptFarTooLong { prompt, context }),
            _ => self.vocabulary.tokenize(text, places, add_special),
        }
    }

    /// Does what runs a conversation's template.
    fn with_renderer<T>(
        &self,
        chat: &Chat,
        control: &dyn PromptControl,
        work: impl Fn(&Renderer) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut done = None;
        // To read a template is work by its rules, too.
        control.confine(&mut || {
            done = Some(match &chat.template {
                None => match self.own.get_or_init(|| self.renderer(None)) {
                    Ok(renderer) => work(renderer),
                    Err(failure) => Err(failure.clone()),
                },
                Some(template) => self.other(template).and_then(|renderer| work(&renderer)),
            });
        });
        done.expect("invariant: confined work is done when it returns")
    }

    fn renderer(&self, template: Option<&str>) -> Result<Renderer, Failure> {
        Renderer::new(&self.descriptor, template, Arc::clone(self.vocabulary.control()))
    }

    fn other(&self, template: &str) -> Result<Arc<Renderer>, Failure> {
        let known = |other: &(String, Arc<Renderer>)| (other.0 == template).then(|| Arc::clone(&other.1));
        let renderer = self.lock_other().as_ref().and_then(known);
        if let Some(renderer) = renderer {
            return Ok(renderer);
        }
        // No other caller waits while a template is read.
        let renderer = Arc::new(self.renderer(Some(template))?);
        *self.lock_other() = Some((template.to_owned(), Arc::clone(&renderer)));
        Ok(renderer)
    }

    fn lock_other(&self) -> MutexGuard<'_, Option<(String, Arc<Renderer>)>> {
        self.other.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Refuses a conversation that cannot fit, before its template runs over all of it: no message is less than a token.
fn check_messages(chat: &Chat, context_tokens: u32) -> Result<(), Error> {
    if chat.message_count > context_tokens {
        return Err(Error::TooManyMessages { messages: chat.message_count, context: context_tokens });
    }
    Ok(())
}
