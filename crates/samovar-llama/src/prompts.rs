//! From a prompt as it travels to the tokens that the model reads: conversations are rendered by the model's chat
//! template, texts are tokenized, and what cannot fit the context is refused before the work is done.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use samovar_core::infill::{Infill, KeptEnd};
use samovar_core::port::{PromptControl, Unconfined};
use samovar_core::{Chat, Descriptor, Failure, Prompt};
use samovar_prompt::dialect::Dialect;
use samovar_prompt::{Rendered, Renderer};

use crate::error::Error;
use crate::reading::AnswerForm;
use crate::vocabulary::{Bounds, Control, Vocabulary};

/// Conversations that were encoded and may be asked for next. One that is no longer kept is encoded again.
const ENCODED: usize = 4;
/// Bytes of a prompt's end in which a thought may be closed.
const END_BYTES: usize = 256;

/// A conversation as the model reads it.
#[derive(Clone, Debug)]
struct Encoded {
    tokens: Vec<LlamaToken>,
    /// It ends inside a thought.
    opens_thinking: bool,
    /// The end of its text, without white space behind it.
    end: String,
    /// How its answer is written.
    dialect: Arc<Dialect>,
}

/// What one model's prompts need.
#[derive(Debug)]
pub(crate) struct Prompts {
    vocabulary: Arc<Vocabulary>,
    descriptor: Descriptor,
    /// By the model's own template, or why there is none.
    own: OnceLock<Result<Renderer, Failure>>,
    /// By the template that was asked for last instead.
    other: Mutex<Option<(String, Arc<Renderer>)>>,
    /// What was encoded and not yet answered: who looks for saved state asks for tokens first.
    encoded: Mutex<VecDeque<(Chat, Encoded)>>,
}

impl Prompts {
    pub(crate) fn of(model: &LlamaModel, descriptor: &Descriptor) -> Self {
        let has_none = descriptor.chat_template.as_deref().is_none_or(|template| template.trim().is_empty());
        if has_none && !descriptor.is_encoder() {
            tracing::warn!("the model's file has no chat template: conversations go through ChatML");
        }
        Self {
            vocabulary: Arc::new(Vocabulary::of(model)),
            descriptor: descriptor.clone(),
            own: OnceLock::new(),
            other: Mutex::default(),
            encoded: Mutex::default(),
        }
    }

    /// The model's vocabulary.
    pub(crate) fn vocabulary(&self) -> &Arc<Vocabulary> {
        &self.vocabulary
    }

    /// The tokens of a prompt that is to fit `context_tokens`.
    ///
    /// # Errors
    /// As [`Instance::encode`](samovar_core::port::Instance::encode).
    pub(crate) fn encode(
        &self,
        model: &LlamaModel,
        prompt: &Prompt,
        context_tokens: u32,
        control: &dyn PromptControl,
    ) -> Result<Vec<LlamaToken>, Failure> {
        let bounds = Bounds { context_tokens: Some(context_tokens), enough: None, control };
        let Prompt::Chat(chat) = prompt else { return self.tokens(model, prompt, context_tokens, bounds) };
        let encoded = self.render_and_read(model, chat, context_tokens, bounds)?;
        let mut kept = self.encoded.lock().unwrap_or_else(PoisonError::into_inner);
        kept.truncate(ENCODED - 1);
        kept.push_front(((**chat).clone(), encoded.clone()));
        Ok(encoded.tokens)
    }

    /// How many tokens a prompt has, however many these are; one with a gap is cut to `context_tokens`.
    ///
    /// # Errors
    /// As [`Instance::count`](samovar_core::port::Instance::count).
    pub(crate) fn count(
        &self,
        model: &LlamaModel,
        prompt: &Prompt,
        context_tokens: u32,
        control: &dyn PromptControl,
    ) -> Result<usize, Failure> {
        let bounds = Bounds { context_tokens: None, enough: None, control };
        Ok(self.tokens(model, prompt, context_tokens, bounds)?.len())
    }

    /// The tokens of a prompt, as many as `bounds` allow; one with a gap is cut to `context_tokens`.
    fn tokens(
        &self,
        model: &LlamaModel,
        prompt: &Prompt,
        context_tokens: u32,
        bounds: Bounds<'_>,
    ) -> Result<Vec<LlamaToken>, Failure> {
        match prompt {
            Prompt::Text { text, add_special, parse_special } => {
                let places = if *parse_special { Control::Everywhere } else { Control::Never };
                Ok(self.vocabulary.tokenize(model, text, places, *add_special, bounds)?)
            }
            Prompt::Tokens(tokens) => Ok(checked(model, tokens)?),
            Prompt::Chat(chat) => Ok(self.render_and_read(model, chat, context_tokens, bounds)?.tokens),
            Prompt::Infill(infill) => self.infill(model, infill, context_tokens, bounds.control),
        }
    }

    /// The text of a conversation.
    ///
    /// # Errors
    /// As [`Instance::render`](samovar_core::port::Instance::render).
    pub(crate) fn render(
        &self,
        chat: &Chat,
        context_tokens: u32,
        control: &dyn PromptControl,
    ) -> Result<String, Failure> {
        check_messages(chat, context_tokens)?;
        Ok(self.with_renderer(chat, control, |renderer| renderer.render(chat))?.text)
    }

    /// The tokens of a text with a gap, cut to what `context_tokens` hold. No text in it becomes a control token.
    fn infill(
        &self,
        model: &LlamaModel,
        infill: &Infill,
        context_tokens: u32,
        control: &dyn PromptControl,
    ) -> Result<Vec<LlamaToken>, Failure> {
        let marks = self.descriptor.infill.ok_or(Error::NoInfill)?;
        let read = |text: &str, kept: KeptEnd, most: usize| -> Result<Vec<u32>, Error> {
            let (text, enough) = match kept {
                KeptEnd::Beginning => (self.vocabulary.beginning(text, most), Some(most)),
                KeptEnd::End => (self.vocabulary.ending(text, most), None),
            };
            let bounds = Bounds { context_tokens: None, enough, control };
            let tokens = self.vocabulary.tokenize(model, text, Control::Never, false, bounds)?;
            Ok(tokens.into_iter().map(|token| token.0 as u32).collect())
        };
        let bos = self.vocabulary.ends().0.map(|bos| bos.0 as u32);
        let tokens = infill.tokens(&marks, bos, context_tokens, read)?;
        Ok(checked(model, &tokens)?)
    }

    /// The tokens of a conversation that is to fit `context_tokens`, and how its answer is written. The first conversation
    /// with tools waits until that is known; with a template that writes thoughts, the first one.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub(crate) fn encode_chat(
        &self,
        model: &LlamaModel,
        chat: &Chat,
        context_tokens: u32,
        control: &dyn PromptControl,
    ) -> Result<(Vec<LlamaToken>, AnswerForm), Failure> {
        let encoded = if let Some(encoded) = self.take_encoded(chat) {
            encoded
        } else {
            let bounds = Bounds { context_tokens: Some(context_tokens), enough: None, control };
            self.render_and_read(model, chat, context_tokens, bounds)?
        };
        let Encoded { tokens, opens_thinking, end, dialect } = encoded;
        let close = dialect.thinking.as_ref().map(|marks| marks.close.trim());
        let close = close.filter(|close| !close.is_empty());
        let is_thought_over = close.is_some_and(|close| end.ends_with(close));
        Ok((tokens, AnswerForm { dialect, opens_thinking, is_thought_over }))
    }

    fn take_encoded(&self, chat: &Chat) -> Option<Encoded> {
        let mut kept = self.encoded.lock().unwrap_or_else(PoisonError::into_inner);
        let place = kept.iter().position(|(known, _)| known == chat)?;
        kept.remove(place).map(|(_, encoded)| encoded)
    }

    fn render_and_read(
        &self,
        model: &LlamaModel,
        chat: &Chat,
        context_tokens: u32,
        bounds: Bounds<'_>,
    ) -> Result<Encoded, Failure> {
        check_messages(chat, context_tokens)?;
        let (rendered, dialect) = self.with_renderer(chat, bounds.control, |renderer| {
            Ok((renderer.render(chat)?, renderer.dialect(chat)))
        })?;
        let Rendered { text, control: places, notes, opens_thinking } = rendered;
        for note in notes {
            tracing::info!("{note}");
        }
        let places = places.as_deref().map_or(Control::Everywhere, Control::At);
        let tokens = self.vocabulary.tokenize(model, &text, places, true, bounds)?;
        let end = text.trim_end();
        let mut from = end.len().saturating_sub(END_BYTES);
        while !end.is_char_boundary(from) {
            from += 1;
        }
        Ok(Encoded { tokens, opens_thinking, end: end[from..].to_owned(), dialect })
    }

    /// The tokens of a text, however many they are.
    pub(crate) fn tokenize(
        &self,
        model: &LlamaModel,
        text: &str,
        add_special: bool,
        parse_special: bool,
    ) -> Result<Vec<LlamaToken>, Error> {
        let bounds = Bounds { context_tokens: None, enough: None, control: &Unconfined };
        let places = if parse_special { Control::Everywhere } else { Control::Never };
        self.vocabulary.tokenize(model, text, places, add_special, bounds)
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

/// Token ids as they are, if the vocabulary has them all.
pub(crate) fn checked(model: &LlamaModel, tokens: &[u32]) -> Result<Vec<LlamaToken>, Error> {
    let vocabulary = model.n_vocab() as u32;
    let check = |&token: &u32| {
        if token < vocabulary {
            Ok(LlamaToken(token as i32))
        } else {
            Err(Error::UnknownToken { token, vocabulary })
        }
    };
    tokens.iter().map(check).collect()
}
