//! The fields of the owner's bodies with what they mean, for the reference; `wire/` parses them.

use crate::field::{Field, field};

const MODEL: Field = field("model", "The model. Required.");

pub(crate) const GENERATE: &[Field] = &[
    MODEL,
    field(
        "input",
        "What it is given: `{\"chat\": […]}`, `{\"text\": \"…\"}` or `{\"tokens\": […]}`. Required.",
    ),
    field("template_arguments", "Variables of the model's chat template, by name."),
    field(
        "tools",
        "The tools that the model may call: objects with `name`, `description`, `parameters` (a JSON schema) and `strict`.",
    ),
    field("tool_choice", "`auto` (default), `none`, `required` or `{\"named\": \"…\"}`."),
    field("parallel_tool_calls", "False: at most one call in an answer. Default: true."),
    field(
        "constraint",
        "What the answer must look like: `json_object`, `{\"json_schema\": \"…\"}`, `{\"regex\": \"…\"}`, `{\"lark\": \"…\"}` or `{\"gbnf\": \"…\"}`, each with its text.",
    ),
    field(
        "thinking_budget_tokens",
        "Tokens of thought after which the model is made to answer; as many as it likes when it is absent.",
    ),
    field("sampling", "How tokens are chosen, in the engine's own terms."),
    field("max_tokens", "Tokens to generate at most; as many as the context holds when it is absent."),
    field("stop", "Texts that end the answer."),
    field("logprobs", "Alternatives to report for each token."),
    field("ignore_eos", "Generate on past the model's own end."),
    field("deadline_ms", "How long the answer may take in all, in milliseconds."),
    field("keep_alive", "How long the model stays ready after this request."),
    field(
        "context_tokens",
        "Tokens of context that the request needs, if the model's setting is less, up to what the model was trained with; a loaded model grows to them.",
    ),
    field(
        "priority",
        "A head start in the queue, from 0 to 255: each step counts as 100 ms of waiting. Default: 0.",
    ),
    field("client", "The client, for fairness between clients; the owner when it is absent."),
];
pub(crate) const EMBED: &[Field] = &[
    MODEL,
    field(
        "input",
        "What becomes vectors or scores: `{\"texts\": […]}`, `{\"tokens\": [[…]]}` or `{\"rerank\": {\"query\": \"…\", \"documents\": […]}}`. Required.",
    ),
    field("dimensions", "So many of a vector's first numbers; all when it is absent."),
    field("normalize", "False: vectors keep the length that the model gave them. Default: true."),
    field(
        "truncate",
        "What becomes of inputs that are too long: `refuse`, `end` or `start`. Default: `refuse`.",
    ),
    field(
        "role",
        "What the texts are for: `query` or `document`; no prompt is put before them when it is absent.",
    ),
    field("urgency", "`interactive` or `bulk`; by the number and size of the inputs when it is absent."),
    field("deadline_ms", "How long the answer may take in all, in milliseconds."),
    field("keep_alive", "How long the model stays ready after this request."),
    field("client", "The client, for fairness between clients; the owner when it is absent."),
];
pub(crate) const TOKENIZE: &[Field] = &[
    MODEL,
    field("texts", "The texts. Required."),
    field("add_special", "Add the special tokens that the model expects around a text. Default: true."),
    field("parse_special", "Read special tokens in the texts. Default: false."),
];
pub(crate) const DETOKENIZE: &[Field] =
    &[MODEL, field("tokens", "Lists of token ids, one for each text. Required.")];
pub(crate) const WARM: &[Field] =
    &[MODEL, field("pin", "Keep it from being parked or unloaded by the pool afterwards.")];
pub(crate) const PACK: &[Field] = &[MODEL];
pub(crate) const PIN: &[Field] = &[MODEL, field("pinned", "Whether the pool must keep it. Required.")];
pub(crate) const UNLOAD: &[Field] =
    &[field("model", "The model: this or `all` is given."), field("all", "True: every model.")];
pub(crate) const SHUTDOWN: &[Field] = &[field(
    "grace_ms",
    "How long running requests may take to end, in milliseconds; as configured when it is absent.",
)];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::wire::{
        DetokenizeBody, EmbedBody, GenerateBody, PackBody, PinBody, ShutdownBody, TokenizeBody, UnloadBody,
        WarmBody,
    };
    use crate::field::{names, parsed};

    #[test]
    fn the_owners_fields_are_those_that_are_parsed() {
        for (described, parsed) in [
            (GENERATE, parsed::<GenerateBody>()),
            (EMBED, parsed::<EmbedBody>()),
            (TOKENIZE, parsed::<TokenizeBody>()),
            (DETOKENIZE, parsed::<DetokenizeBody>()),
            (WARM, parsed::<WarmBody>()),
            (PACK, parsed::<PackBody>()),
            (PIN, parsed::<PinBody>()),
            (UNLOAD, parsed::<UnloadBody>()),
            (SHUTDOWN, parsed::<ShutdownBody>()),
        ] {
            assert!(!parsed.is_empty());
            assert_eq!(names(described), parsed);
        }
    }
}
