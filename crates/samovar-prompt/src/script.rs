//! A compiled template: it writes a conversation as text, within its bounds, or says why it does not.

use std::borrow::Cow;

use minijinja::{Environment, Error};
use samovar_core::chat::Chat;
use samovar_core::{ErrorKind, Failure};

use crate::bounds::{self, OUTPUT_LIMIT_BYTES, Output};
use crate::conversation::Conversation;
use crate::marks;
use crate::template::{self, Refusal};

/// The only template of an environment.
const NAME: &str = "chat_template";

/// A compiled template, and the texts of two tokens as it is to write them.
#[derive(Debug)]
pub(crate) struct Script {
    environment: Environment<'static>,
    pub(crate) bos_token: String,
    pub(crate) eos_token: String,
}

impl Script {
    /// # Errors
    /// `InvalidModel` when the template is no Jinja.
    pub(crate) fn new(source: &str, bos_token: String, eos_token: String) -> Result<Self, Failure> {
        let mut environment = template::environment().map_err(|error| broken(&error))?;
        template::add(&mut environment, NAME, source).map_err(|error| broken(&error))?;
        Ok(Self { environment, bos_token, eos_token })
    }

    /// The rendered conversation.
    ///
    /// # Errors
    /// As [`Renderer::render`](crate::Renderer::render).
    pub(crate) fn write(&self, conversation: &Conversation, chat: &Chat) -> Result<String, Failure> {
        self.run(conversation, chat, bounds::fuel(chat.message_count)).map_err(|stop| match stop {
            Stop::Full => Failure::new(
                ErrorKind::InvalidRequest,
                format!("the conversation renders to more than {OUTPUT_LIMIT_BYTES} bytes of prompt"),
            )
            .with_hint("send fewer or shorter messages")
            .with_param("messages"),
            Stop::Failed(error) => refused_or_broken(&error),
            Stop::NotText => {
                Failure::new(ErrorKind::InvalidModel, "the chat template wrote text that is not UTF-8")
            }
        })
    }

    /// The rendered conversation, by no more than so many steps.
    ///
    /// # Errors
    /// When it would be too long, or the template refuses or fails.
    pub(crate) fn run(&self, conversation: &Conversation, chat: &Chat, fuel: u64) -> Result<String, Stop> {
        let environment = match fuel {
            bounds::FUEL => Cow::Borrowed(&self.environment),
            fuel => {
                let mut environment = self.environment.clone();
                environment.set_fuel(Some(fuel));
                Cow::Owned(environment)
            }
        };
        let template = environment.get_template(NAME).map_err(Stop::Failed)?;
        let mut output = Output::default();
        let variables = conversation.variables(chat, &self.bos_token, &self.eos_token);
        let rendered = template.render_captured_to(variables, &mut output).map(drop);
        if output.is_full {
            return Err(Stop::Full);
        }
        rendered.map_err(Stop::Failed)?;
        String::from_utf8(output.bytes).map_err(|_| Stop::NotText)
    }
}

/// Why a rendering has no text.
#[derive(Debug)]
pub(crate) enum Stop {
    /// It would be too long.
    Full,
    /// The template refused, or failed.
    Failed(Error),
    /// It is not UTF-8.
    NotText,
}

fn refused_or_broken(error: &Error) -> Failure {
    match Refusal::in_error(error) {
        Some(words) => Failure::new(
            ErrorKind::InvalidRequest,
            format!("the model's chat template refuses this conversation: {}", plain(words)),
        )
        .with_hint("change the messages as the template's words say, or send plain text to /v1/completions")
        .with_param("messages"),
        None => broken(error),
    }
}

fn broken(error: &Error) -> Failure {
    Failure::new(
        ErrorKind::InvalidModel,
        format!("the model's chat template does not work: {}", plain(&error.to_string())),
    )
    .with_hint("send plain text to /v1/completions, or use a file with another template")
}

/// Words of a template, without marks.
fn plain(words: &str) -> String {
    words.replace([marks::OPEN, marks::CLOSE], "")
}
