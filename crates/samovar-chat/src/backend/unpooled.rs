//! A backend that loads the model of each request for that request, and lets it go afterwards.

use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use samovar::{Answer, Request, Runtime};
use samovar_core::Failure;

use super::{AnswerStream, ChatBackend};

/// Time for a model to leave memory.
const UNLOAD: Duration = Duration::from_secs(3);

type MakeRuntime = dyn Fn() -> Result<Runtime, Failure> + Send + Sync;

/// A runtime for each request: nothing stays in memory between two.
pub struct UnpooledBackend {
    make: Box<MakeRuntime>,
}

impl UnpooledBackend {
    /// Requests are answered by runtimes that `make` builds, one each.
    pub fn new(make: impl Fn() -> Result<Runtime, Failure> + Send + Sync + 'static) -> Self {
        Self { make: Box::new(make) }
    }
}

/// An answer, and the runtime that ends with it.
struct LoadedAnswer {
    answer: Answer,
    runtime: Option<Runtime>,
}

impl Drop for LoadedAnswer {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        // Outside an event loop the process is ending, and its memory with it.
        if let Ok(handle) = tokio::runtime::Handle::try_current() {
            handle.spawn(async move { runtime.shutdown(Duration::ZERO).await });
        }
    }
}

impl ChatBackend for UnpooledBackend {
    fn generate(&self, request: Request) -> BoxFuture<'_, Result<AnswerStream, Failure>> {
        async move {
            let runtime = (self.make)()?;
            let loaded = LoadedAnswer { answer: runtime.generate(request), runtime: Some(runtime) };
            let events = stream::unfold(loaded, |mut loaded| async move {
                if let Some(event) = loaded.answer.next().await {
                    return Some((event, loaded));
                }
                if let Some(runtime) = loaded.runtime.take() {
                    runtime.shutdown(UNLOAD).await;
                }
                None
            });
            Ok::<AnswerStream, Failure>(events.boxed())
        }
        .boxed()
    }

    fn count(&self, request: Request) -> BoxFuture<'_, Result<u32, Failure>> {
        async move {
            let runtime = (self.make)()?;
            let counted = ChatBackend::count(&runtime, request).await;
            runtime.shutdown(UNLOAD).await;
            counted
        }
        .boxed()
    }

    fn context_tokens<'a>(&'a self, model: &'a str) -> BoxFuture<'a, Result<Option<u32>, Failure>> {
        async move {
            let runtime = (self.make)()?;
            let tokens = ChatBackend::context_tokens(&runtime, model).await;
            runtime.shutdown(Duration::ZERO).await;
            tokens
        }
        .boxed()
    }
}
