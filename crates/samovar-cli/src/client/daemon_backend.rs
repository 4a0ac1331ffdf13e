//! The daemon as a backend of the chat service: its socket, asked by the client that the rest of the command line uses.

use std::path::PathBuf;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use samovar::{AnswerEvent, Input, Request, Work};
use samovar_chat::{AnswerStream, ChatBackend};
use samovar_core::{ErrorKind, Failure};
use samovar_server::admin::wire::{GenerateBody, GenerateEvent};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Client, Lines, lost};

/// A daemon that runs already. Never starts one.
pub(crate) struct DaemonBackend {
    client: Client,
}

#[derive(Deserialize)]
struct CountedPrompt {
    input_tokens: u32,
}

impl DaemonBackend {
    /// The daemon at this socket.
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self { client: Client::new(socket) }
    }
}

impl ChatBackend for DaemonBackend {
    fn generate(&self, request: Request) -> BoxFuture<'_, Result<AnswerStream, Failure>> {
        async move {
            let body = GenerateBody::try_from(request)?;
            let lines = self.client.connect_or_fail().await?.generate(&body).await?;
            Ok::<AnswerStream, Failure>(stream::unfold(Some(lines), next).boxed())
        }
        .boxed()
    }

    fn count(&self, request: Request) -> BoxFuture<'_, Result<u32, Failure>> {
        async move {
            let body = count_body(request)?;
            let connection = self.client.connect_or_fail().await?;
            let counted: CountedPrompt = connection.post("/v1/messages/count_tokens", &body).await?;
            Ok::<u32, Failure>(counted.input_tokens)
        }
        .boxed()
    }

    fn context_tokens<'a>(&'a self, model: &'a str) -> BoxFuture<'a, Result<Option<u32>, Failure>> {
        async move {
            let Some(connection) = self.client.connect().await? else { return Ok::<_, Failure>(None) };
            let list = connection.models().await?;
            let known = list.models.into_iter().find(|known| known.name == model);
            Ok(known.map(|known| known.context_tokens).filter(|tokens| *tokens > 0))
        }
        .boxed()
    }
}

/// The next event of an answer; after the last, or the end of the connection, there is none.
async fn next(lines: Option<Lines<GenerateEvent>>) -> Option<(AnswerEvent, Option<Lines<GenerateEvent>>)> {
    let mut lines = lines?;
    let event = match lines.next().await {
        Ok(Some(event)) => event.into(),
        Ok(None) => AnswerEvent::Failed(lost("the answer has no end")),
        Err(failure) => AnswerEvent::Failed(failure),
    };
    let is_last = matches!(event, AnswerEvent::Done(_) | AnswerEvent::Failed(_));
    Some((event, (!is_last).then_some(lines)))
}

fn count_body(request: Request) -> Result<Value, Failure> {
    let Request { common, work, .. } = request;
    let messages = match work {
        Work::Generate(generate) => match generate.input {
            Input::Chat(messages) => Some(messages),
            _ => None,
        },
        _ => None,
    };
    let messages =
        messages.ok_or_else(|| Failure::new(ErrorKind::Unsupported, "only prompts of chats are counted"))?;
    let messages: Vec<Value> = messages
        .into_iter()
        .map(|message| json!({ "role": message.role, "content": message.content }))
        .collect();
    Ok(json!({ "model": common.model, "messages": messages }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use samovar::{ModelSettings, Runtime};
    use samovar_chat::conformance;
    use samovar_core::ModelRef;
    use samovar_core::testing::FakeEngine;
    use samovar_core::testing::gguf::{LlamaShape, llama};
    use samovar_server::{ServeConfig, Server};

    use super::*;

    #[tokio::test]
    async fn a_daemon_says_what_a_runtime_in_this_process_says() {
        let folder = tempfile::Builder::new().prefix("sv").tempdir_in("/tmp").expect("temporary folder");
        let file = folder.path().join("tiny-model.gguf");
        fs_err::write(&file, llama(LlamaShape::TINY).build()).expect("writes");
        let runtime = |cache: &str| {
            let settings = ModelSettings::default().slots(2).context_tokens(512);
            Runtime::builder()
                .cache_dir(folder.path().join(cache))
                .alias("tiny", ModelRef::file(file.clone()), settings.clone())
                .defaults(settings)
                .engine(Arc::new(FakeEngine::new()))
                .build()
                .expect("builds")
        };
        let expected = conformance::check(Arc::new(runtime("here")), "tiny").await;
        let socket = folder.path().join("run/samovar.sock");
        let config = ServeConfig { socket: Some(socket.clone()), ..ServeConfig::default() };
        let server = Server::bind(runtime("there"), config).await.expect("binds");
        let served = tokio::spawn(server.run(std::future::pending()));
        let said = conformance::check(Arc::new(DaemonBackend::new(socket)), "tiny").await;
        assert_eq!(said, expected);
        served.abort();
    }
}
