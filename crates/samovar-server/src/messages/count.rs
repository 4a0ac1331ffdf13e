//! `/v1/messages/count_tokens`: how many tokens the prompt of a message would have, with its system text and its tools. The model is
//! loaded for it, because its template and its vocabulary lie where it does; nothing is computed.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use samovar::Generate;
use serde::Deserialize;
use serde_json::{Value, json};

use super::content::WireMessage;
use super::create::{Create, OutputConfig, Thinking};
use super::error::Refused;
use super::tools::{WireChoice, WireTool};
use crate::app::App;
use crate::buffer_charge::BufferCharge;
use crate::client::Asker;
use crate::field::{Field, field};
use crate::generation::copies;
use crate::generation::request_terms::RequestTerms;
use crate::generation::running::{admit, until_cut};
use crate::payload::Payload;
use crate::refusal::Refusal;

/// The fields apart from the terms: those of a message of which its prompt is made.
#[derive(Debug, Deserialize)]
struct ToCount {
    messages: Option<Vec<WireMessage>>,
    system: Option<Value>,
    tools: Option<Vec<WireTool>>,
    tool_choice: Option<WireChoice>,
    thinking: Option<Thinking>,
    output_config: Option<OutputConfig>,
}

/// The same with what they mean.
pub(crate) const FIELDS: &[Field] = &[
    field("messages", "The conversation, as for `/v1/messages`. Required.").list(),
    field("system", "How the model should behave, as for `/v1/messages`."),
    field("tools", "Functions that the model may call, as for `/v1/messages`; they are counted.").list(),
    field("tool_choice", "As for `/v1/messages`: with `none`, tools are no part of the prompt."),
    field("thinking", "As for `/v1/messages`: templates may write something else where the model thinks.")
        .object(),
    field("output_config", "`effort` as for `/v1/messages`; a `format` is no part of the prompt.").object(),
];

/// `POST /v1/messages/count_tokens`.
pub(crate) async fn count(
    State(app): State<App>,
    asker: Asker,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Refused> {
    let payload = Payload::read(body, &app.limits).await?;
    let mut common = payload.parse::<RequestTerms>()?.check(&asker, &headers)?;
    let generate = payload.parse::<ToCount>()?.check()?;
    let mut held = BufferCharge::new(&app, &common.client);
    held.add(copies::value_bytes(&generate))?;
    // What it says is in the request.
    drop(payload);
    let _in_flight = admit(&app, &mut common)?;
    let tokens = until_cut(&app, app.runtime.count(common, generate)).await?;
    Ok(Json(json!({ "input_tokens": tokens })))
}

impl ToCount {
    fn check(self) -> Result<Generate, Refusal> {
        let Self { messages, system, tools, tool_choice, thinking, output_config } = self;
        // No answer is written.
        let max_tokens = Some(0.0);
        let create = Create {
            messages,
            system,
            max_tokens,
            tools,
            tool_choice,
            thinking,
            output_config,
            ..Create::default()
        };
        create.check_unanswered()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_begun_can_be_counted() {
        let messages =
            json!([{ "role": "user", "content": "x" }, { "role": "assistant", "content": "Once" }]);
        let body = json!({ "messages": messages });
        let read = Payload::of(body.to_string()).parse::<ToCount>().and_then(ToCount::check);
        assert!(read.is_ok(), "{read:?}");
    }

    #[test]
    fn the_described_fields_are_those_that_are_parsed() {
        use crate::field::{names, parsed};
        assert_eq!(names(FIELDS), parsed::<ToCount>());
    }
}
