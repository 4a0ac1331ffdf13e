//! Prompts that are looked at and not computed: the text that a conversation becomes, and how many tokens a prompt has. Under a
//! lease, since template and vocabulary lie where the model does. Nothing is rendered here.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use samovar_core::port::{Instance, PromptControl};
use samovar_core::{ErrorKind, Failure, Prompt};

use crate::catalog::Skill;
use crate::generate::skill_for;
use crate::lease::{Leased, LeasedWork, WhileHeld, by, with_lease};
use crate::prompt;
use crate::request::{Common, Generate};
use crate::request_check;
use crate::request_trace::RequestTrace;
use crate::runtime::{Runtime, blocking};
use crate::unread;

impl Runtime {
    /// The text that the model would read for this request, with the control tokens of its template written out: the conversation
    /// with its tools and whatever its template is told, rendered where the model is. It may be longer than the context. A prompt
    /// that is a text is returned as it is.
    ///
    /// # Errors
    /// Whatever keeps the model from being found, loaded or granted; what is wrong with the conversation; `Unsupported` for token
    /// ids and gaps, which are no text.
    ///
    /// # Cancel safety
    /// Dropping it gives the lease back.
    pub fn render(&self, common: Common, generate: Generate) -> BoxFuture<'_, Result<String, Failure>> {
        Box::pin(async move { self.preview(&common, &Preview { generate, look: rendered }).await })
    }

    /// How many tokens the prompt of this request has: those that [`generate`](Self::generate) would count as its prompt's. It may
    /// be longer than the context.
    ///
    /// # Errors
    /// Whatever keeps the model from being found, loaded or granted; what is wrong with the request.
    ///
    /// # Cancel safety
    /// Dropping it gives the lease back.
    pub fn count(&self, common: Common, generate: Generate) -> BoxFuture<'_, Result<u32, Failure>> {
        Box::pin(async move { self.preview(&common, &Preview { generate, look: counted }).await })
    }

    async fn preview<T: Send + 'static>(&self, common: &Common, preview: &Preview<T>) -> Result<T, Failure> {
        request_check::check(&preview.generate)?;
        let inner = &self.inner;
        let mut request_trace = RequestTrace::begin(common.deadline.or(inner.rules.default_deadline));
        // No caller hears of its waits.
        let (outbox, _inbox) = unread::channel(&inner.buffers, &common.client);
        with_lease(inner, common, preview, &mut request_trace, &outbox.news()).await
    }
}

type Look<T> = fn(&dyn Instance, &Prompt, &dyn PromptControl) -> Result<T, Failure>;

fn rendered(
    instance: &dyn Instance,
    prompt: &Prompt,
    control: &dyn PromptControl,
) -> Result<String, Failure> {
    match prompt {
        Prompt::Chat(chat) => instance.render(chat, control),
        Prompt::Text { text, .. } => Ok(text.clone()),
        Prompt::Tokens(_) | Prompt::Infill(_) => {
            Err(Failure::new(ErrorKind::Unsupported, "only conversations and texts have a text")
                .with_hint("send a conversation"))
        }
    }
}

fn counted(instance: &dyn Instance, prompt: &Prompt, control: &dyn PromptControl) -> Result<u32, Failure> {
    instance.count(prompt, control)
}

/// A look at the prompt of a request.
struct Preview<T> {
    generate: Generate,
    look: Look<T>,
}

impl<T: Send + 'static> LeasedWork for Preview<T> {
    type Output = T;

    fn skill(&self) -> Option<Skill> {
        Some(skill_for(&self.generate))
    }

    fn how_to_shorten(&self) -> &'static str {
        "shorten the prompt"
    }

    fn affinity(&self) -> Option<u64> {
        Some(self.generate.affinity())
    }

    /// It writes none.
    fn tokens(_: &T) -> u32 {
        0
    }

    async fn run(&self, leased: &mut Leased, request_trace: &mut RequestTrace) -> Result<T, Failure> {
        let prompt = prompt::of(&self.generate, &leased.model.prompt_settings)?;
        let (look, instance) = (self.look, Arc::clone(leased.lease().instance()));
        let (waiting, wanted) = WhileHeld::pair();
        let seen = by(request_trace.deadline, blocking(move || look(&*instance, &prompt, &wanted))).await;
        drop(waiting);
        match seen {
            Some(seen) => seen?,
            None => Err(request_trace.too_late("the prompt was not looked at", "allow more time")),
        }
    }
}
