//! `/chat`: a message of a conversation, and its answer, whole or streamed.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use samovar::{Common, Generate, Input, Request, SamplingOptions, Work};
use samovar_chat::{ChatHistory, ChatQuestion, OpenTurn, ReplyTo};
use samovar_core::{ErrorKind, Failure};
use serde::Deserialize;
use serde_json::Number;

use super::stream::ChatWriter;
use super::{history, number, on_disk, refusal, stream, summarise_later};
use crate::app::App;
use crate::buffer_charge::BufferCharge;
use crate::client::Asker;
use crate::generation::choices::Choices;
use crate::generation::collected::{self, Collected};
use crate::generation::opening::Opening;
use crate::generation::request_terms::RequestTerms;
use crate::generation::{copies, event_stream, heading, params};
use crate::openai::Refused;
use crate::payload::Payload;
use crate::refusal::Refusal;

/// The fields, apart from the terms.
#[derive(Debug, Deserialize)]
pub(super) struct MessageBody {
    message: Option<String>,
    conversation: Option<String>,
    parent: Option<String>,
    model: Option<String>,
    system: Option<String>,
    stream: Option<bool>,
    max_tokens: Option<f64>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    seed: Option<Number>,
}

/// `POST /chat`.
pub(crate) async fn send(
    State(app): State<App>,
    asker: Asker,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refused> {
    let payload = Payload::read(body, &app.limits).await?;
    let terms = payload.parse::<RequestTerms>()?;
    let body: MessageBody = payload.parse()?;
    drop(payload);
    let is_streamed = body.stream.unwrap_or(false);
    let (named, sampling) = (body.model.clone(), body.sampling()?);
    let question = body.question()?;
    let history = history(&app, &asker).await?;
    let mut common = terms.check_all_but_model(&asker, &headers)?;
    common.model = model(&history, named, question.conversation).await?;
    // What the key may not use is refused before anything is kept.
    app.check_model(&common.model)?;
    let turn = begin(history, question.clone(), common.model.clone()).await.map_err(refusal)?;
    let mut asked = AskedMessage { turn, common, sampling, question };
    asked.fit(&app).await?;
    let (choices, opening) = asked.open(&app, is_streamed).await?;
    if let Some(granted) = &opening.granted {
        asked.turn.record().model.clone_from(&granted.model);
    }
    let headers = heading::of(&opening);
    if is_streamed {
        let writer = ChatWriter::new(&app, asked.turn);
        return Ok((headers, event_stream::response(choices, opening, writer)).into_response());
    }
    let (mut said, held) = collected::collect(choices, opening.events, 1).await?;
    let said = said.pop().ok_or_else(crate::generation::running::without_summary)?;
    let bytes = asked.whole(&app, &said).await?;
    let bytes = held.becomes(bytes)?;
    Ok((headers, [(header::CONTENT_TYPE, "application/json")], Body::from(bytes)).into_response())
}

impl MessageBody {
    fn sampling(&self) -> Result<SamplingOptions, Refusal> {
        Ok(SamplingOptions {
            temperature: params::temperature(self.temperature)?,
            top_p: params::top_p(self.top_p)?,
            seed: params::seed(self.seed.as_ref())?,
            ..SamplingOptions::default()
        })
    }

    fn question(self) -> Result<ChatQuestion, Refusal> {
        let text = self.message.ok_or_else(|| Refusal::invalid("message", "`message` is missing"))?;
        let mut question = ChatQuestion::new(text);
        question.conversation = self.conversation.as_deref().map(number).transpose()?;
        question.reply_to = match self.parent.as_deref() {
            None => ReplyTo::Latest,
            Some("root") => ReplyTo::Nothing,
            Some(id) => ReplyTo::Message(id.parse().map_err(|_| {
                Refusal::invalid("parent", "`parent` must be the id of an answer, or `root`")
            })?),
        };
        if question.conversation.is_none() && question.reply_to != ReplyTo::Latest {
            return Err(Refusal::invalid("conversation", "`parent` needs the `conversation` that it is in"));
        }
        question.system = self.system;
        question.max_tokens =
            params::length("max_tokens", self.max_tokens)?.and_then(params::Length::max_tokens);
        Ok(question)
    }
}

/// The model of a message: the one that it names, or else that of the conversation.
async fn model(
    history: &ChatHistory,
    named: Option<String>,
    conversation: Option<i64>,
) -> Result<String, Refusal> {
    if let Some(model) = named.filter(|model| !model.is_empty()) {
        return Ok(model);
    }
    let missing =
        || Refusal::invalid("model", "`model` is missing").with_hint("GET /v1/models lists what there is");
    let id = conversation.ok_or_else(missing)?;
    let history = history.clone();
    let head = on_disk(move || history.head_of(id)).await.map_err(refusal)?;
    head.model.ok_or_else(missing)
}

/// Keeps the question. One whose client leaves while it is written is taken back.
async fn begin(history: ChatHistory, question: ChatQuestion, model: String) -> Result<OpenTurn, Failure> {
    on_disk(move || Ok(OpenTurn::new(history.begin(&question)?, model))).await
}

/// A message that is kept, and is being answered.
struct AskedMessage {
    turn: OpenTurn,
    common: Common,
    sampling: SamplingOptions,
    question: ChatQuestion,
}

impl AskedMessage {
    /// Leaves out what does not fit the context of the model.
    async fn fit(&mut self, app: &App) -> Result<(), Failure> {
        // A model that is not here, or may not be named, is refused when it is asked.
        let Ok(model) = app.runtime.model(&self.common.model, self.common.origin).await else {
            return Ok(());
        };
        let context_tokens = self.common.context_tokens.unwrap_or(0).max(model.context_tokens);
        if context_tokens > 0 {
            super::on_disk_now(|| self.turn.turn().fit(context_tokens, self.question.max_tokens))?;
        }
        Ok(())
    }

    /// Sends the request; with half of the history again, where the model refuses it as too long.
    async fn open(&mut self, app: &App, is_streamed: bool) -> Result<(Choices, Opening), Failure> {
        loop {
            let generate = self.generate();
            let mut held = BufferCharge::new(app, &self.common.client);
            // Unlike those of other requests, these texts did not come with the body.
            held.add(copies::value_bytes(&generate) + self.turn.turn().history_bytes())?;
            let request = Request::of(self.common.clone(), Work::Generate(generate));
            let mut choices = Choices::start(app, vec![request], held)?;
            let opened = if is_streamed { choices.open_soon().await } else { choices.open().await };
            match opened {
                Ok(opening) => return Ok((choices, opening)),
                Err(failure) if failure.kind == ErrorKind::ContextExceeded => {
                    if !super::on_disk_now(|| self.turn.turn().narrow())? {
                        return Err(failure);
                    }
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    fn generate(&mut self) -> Generate {
        let mut generate = Generate::new(Input::Chat(self.turn.turn().messages()));
        generate.sampling = self.sampling.clone();
        generate.max_tokens = self.question.max_tokens;
        generate
    }

    /// Keeps the answer, and writes it.
    async fn whole(mut self, app: &App, said: &Collected) -> Result<Vec<u8>, Failure> {
        let summary = said.end()?.clone();
        let begun = stream::begun(self.turn.turn());
        let record = self.turn.record();
        record.text.clone_from(&said.text);
        record.thinking = Some(said.thinking.clone()).filter(|thinking| !thinking.is_empty());
        record.end(&summary);
        let (history, conversation) = (self.turn.turn().kept_in(), self.turn.turn().conversation());
        let mut turn = self.turn;
        let (kept, mut turn) = on_disk(move || Ok((turn.finish()?, turn))).await?;
        summarise_later(app, history, conversation);
        let object = stream::answered(&begun, &mut turn, kept, &summary);
        Ok(serde_json::to_vec(&object).expect("invariant: answers are plain data"))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use samovar_chat::Conversations;

    use super::*;

    #[test]
    fn a_question_whose_client_leaves_while_it_is_written_is_taken_back() {
        // One thread does all that blocks, in turn.
        let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build();
        runtime.expect("builds").block_on(async {
            let history = Conversations::in_memory().expect("memory").of("");
            let begun = begin(history.clone(), ChatQuestion::new("Hello"), "demo".to_owned());
            drop(begun.now_or_never());
            let list = || {
                let history = history.clone();
                on_disk(move || history.list(9, None))
            };
            list().await.expect("is behind the beginning");
            assert_eq!(list().await.expect("is behind the end").len(), 0);
        });
    }
}
