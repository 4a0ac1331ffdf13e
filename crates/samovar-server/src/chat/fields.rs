//! The fields of the chat service's bodies and queries, with what they mean. The bodies stand with their handlers.

use crate::field::{Field, field};
use crate::generation::request_terms;

/// `POST /chat`, apart from the terms.
pub(crate) const MESSAGE: &[Field] = &[
    field("message", "What the user says. Required.").text(),
    field("conversation", "The id of the conversation that goes on; a new one begins when it is absent.").text(),
    field(
        "parent",
        "The id of the answer that the message follows, or `root`: the message begins the conversation again. Default: the latest answer. Other branches stay.",
    )
    .text(),
    field("model", "The model. Default: that of the conversation's latest answer.").text(),
    field("system", "How the model should behave in this conversation from now on; empty: as it likes.").text(),
    field("stream", "True: the answer comes as it is generated, as server-sent events.").boolean(),
    field("max_tokens", "Tokens to generate at most. Default: as many as the context holds.").integer(),
    field("temperature", "From 0, always the likeliest token, to 2.").number(),
    field("top_p", "Draw from the smallest set of tokens whose probability reaches it.").number(),
    field("seed", "The same seed gives the same answer.").integer(),
];

/// The terms of `POST /chat`, without the model, which may be left out there.
pub(crate) const TERMS: &[Field] = request_terms::FIELDS.split_at(1).1;

/// `GET /chat/conversations`.
pub(crate) const LIST_QUERY: &[Field] = &[
    field("query", "Only conversations with these words in their title or in one of their messages.").text(),
    field("limit", "At most so many, up to 1000, with `query` up to 200. Default: 50.").integer(),
    field("before", "The id of a conversation: the list goes on behind it. Not with `query`.").integer(),
];

/// `PATCH /chat/conversations/{id}`.
pub(crate) const CHANGE: &[Field] = &[
    field("title", "Another title; empty: the beginning of the first message.").text(),
    field("system", "How the model should behave from now on; empty: as it likes.").text(),
    field("facts", "Whether the model is told what the client asked to be remembered.").boolean(),
    field("leaf", "The id of the answer at the end of the branch that goes on.").text(),
];

/// `GET /chat/conversations/{id}/export`.
pub(crate) const EXPORT_QUERY: &[Field] =
    &[field("format", "How it is written. Default: `json`, which can be imported.")
        .one_of(&["json", "markdown"])];

/// `POST /chat/conversations/import`.
pub(crate) const IMPORT: &[Field] = &[
    field("format", "`samovar.conversation/1`, as exported. Required.").text(),
    field("title", "The title. Required.").text(),
    field("system", "How the model should behave.").text(),
    field("leaf", "The message at the end of the branch that goes on.").integer(),
    field("messages", "The messages of all branches, each behind the one that it follows. Required.").list(),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::{names, parsed};

    #[test]
    fn the_described_fields_are_those_that_are_parsed() {
        for (described, parsed) in [
            (MESSAGE, parsed::<super::super::send::MessageBody>()),
            (LIST_QUERY, parsed::<super::super::list::ListQuery>()),
            (CHANGE, parsed::<super::super::one::ChangeBody>()),
            (EXPORT_QUERY, parsed::<super::super::export::ExportQuery>()),
        ] {
            assert_eq!(names(described), parsed);
        }
        assert!(TERMS.iter().all(|field| field.name != "model"));
    }
}
