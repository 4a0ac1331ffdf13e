//! `/api/chat`: an answer to a conversation.

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use samovar::Input;
use serde::Deserialize;

use super::messages::{self, WireMessage, WireTool};
use super::respond::respond;
use super::shape::Shape;
use super::terms::Terms;
use super::{Refused, presence};
use crate::app::App;
use crate::client::Asker;
use crate::field::{Field, field};
use crate::payload::Payload;

/// The fields that only this route has.
#[derive(Debug, Deserialize)]
struct ToChat {
    messages: Option<Vec<WireMessage>>,
    tools: Option<Vec<WireTool>>,
}

/// The same with what they mean.
pub(crate) const FIELDS: &[Field] = &[
    field(
        "messages",
        "The conversation: `role` and `content` each; of the assistant also `thinking` and `tool_calls`, of the role `tool` a `tool_name`. Empty or absent: the model is loaded, or leaves if `keep_alive` is 0.",
    ).list(),
    field(
        "tools",
        "Functions that the model may call, at most 128: `{\"type\": \"function\", \"function\": {\"name\", \"description\", \"parameters\"}}`.",
    ).list(),
];

/// `POST /api/chat`.
pub(crate) async fn chat(
    State(app): State<App>,
    asker: Asker,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refused> {
    let payload = Payload::read(body, &app.limits).await?;
    let terms: Terms = payload.parse()?;
    let ToChat { messages, tools } = payload.parse()?;
    // What it says is in the request.
    drop(payload);
    let messages = messages::messages(messages.unwrap_or_default())?;
    let mut wanted = terms.check(&app, &asker, &headers).await?;
    if messages.is_empty() {
        return Box::pin(presence::answer(&app, wanted, Shape::Chat)).await;
    }
    wanted.generate.input = Input::Chat(messages);
    wanted.generate.tools = messages::tools(tools.unwrap_or_default());
    respond(&app, wanted, Shape::Chat).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_described_fields_are_those_that_are_parsed() {
        use crate::field::{names, parsed};
        assert_eq!(names(FIELDS), parsed::<ToChat>());
    }
}
