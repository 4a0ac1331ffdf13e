//! A runtime as a backend: all requests share what its pool holds.

use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use samovar::{Origin, Request, Runtime, Work};
use samovar_core::{ErrorKind, Failure};

use super::{AnswerStream, ChatBackend};

impl ChatBackend for Runtime {
    fn generate(&self, request: Request) -> BoxFuture<'_, Result<AnswerStream, Failure>> {
        let answer = Self::generate(self, request);
        let events = stream::unfold(answer, |mut answer| async move {
            let event = answer.next().await?;
            Some((event, answer))
        });
        let events: AnswerStream = events.boxed();
        std::future::ready(Ok::<_, Failure>(events)).boxed()
    }

    fn count(&self, request: Request) -> BoxFuture<'_, Result<u32, Failure>> {
        let Request { common, work, .. } = request;
        async move {
            match work {
                Work::Generate(generate) => Self::count(self, common, generate).await,
                _ => Err(Failure::new(ErrorKind::Unsupported, "only prompts of chats are counted")),
            }
        }
        .boxed()
    }

    fn context_tokens<'a>(&'a self, model: &'a str) -> BoxFuture<'a, Result<Option<u32>, Failure>> {
        async move {
            // A model that is not here yet is told apart when it is asked.
            let model = self.model(model, Origin::Owner).await.ok();
            Ok::<_, Failure>(model.map(|model| model.context_tokens).filter(|tokens| *tokens > 0))
        }
        .boxed()
    }
}
