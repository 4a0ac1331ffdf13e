//! The fields of the owner's bodies with what they mean, for the reference; `wire/` parses them.

use crate::field::{Field, field};

const MODEL: Field = field("model", "The model. Required.").text();

pub(crate) const GENERATE: &[Field] = &[
    MODEL,
    field(
        "input",
        "What it is given: `{\"chat\": […]}`, `{\"text\": \"…\"}` or `{\"tokens\": […]}`. Required.",
    ).object(),
    field("template_arguments", "Variables of the model's chat template, by name.").object(),
    field(
        "tools",
        "The tools that the model may call: objects with `name`, `description`, `parameters` (a JSON schema) and `strict`.",
    ).list(),
    field("tool_choice", "`auto` (default), `none`, `required` or `{\"named\": \"…\"}`."),
    field("parallel_tool_calls", "False: at most one call in an answer. Default: true.").boolean(),
    field(
        "constraint",
        "What the answer must look like: `json_object`, `{\"json_schema\": \"…\"}`, `{\"regex\": \"…\"}`, `{\"lark\": \"…\"}` or `{\"gbnf\": \"…\"}`, each with its text.",
    ),
    field(
        "thinking_budget_tokens",
        "Tokens of thought after which the model is made to answer; as many as it likes when it is absent.",
    ).integer(),
    field("sampling", "How tokens are chosen, in the engine's own terms.").object(),
    field("max_tokens", "Tokens to generate at most; as many as the context holds when it is absent.").integer(),
    field("stop", "Texts that end the answer.").texts(),
    field("logprobs", "Alternatives to report for each token.").integer(),
    field("ignore_eos", "Generate on past the model's own end.").boolean(),
    field("deadline_ms", "How long the answer may take in all, in milliseconds.").integer(),
    field("keep_alive", "How long the model stays ready after this request."),
    field(
        "context_tokens",
        "Tokens of context that the request needs, if the model's setting is less, up to what the model was trained with; a loaded model grows to them.",
    ).integer(),
    field(
        "priority",
        "A head start in the queue, from 0 to 255: each step counts as 100 ms of waiting. It counts on the socket alone. Default: 0.",
    ).integer(),
    field("client", "The client, for fairness between clients; the owner when it is absent.").text(),
];
pub(crate) const EMBED: &[Field] = &[
    MODEL,
    field(
        "input",
        "What becomes vectors or scores: `{\"texts\": […]}`, `{\"tokens\": [[…]]}` or `{\"rerank\": {\"query\": \"…\", \"documents\": […]}}`. Required.",
    ).object(),
    field("dimensions", "So many of a vector's first numbers; all when it is absent.").integer(),
    field("normalize", "False: vectors keep the length that the model gave them. Default: true.").boolean(),
    field(
        "truncate",
        "What becomes of inputs that are too long: `refuse`, `end` or `start`. Default: `refuse`.",
    ).one_of(&["refuse", "end", "start"]),
    field(
        "role",
        "What the texts are for: `query` or `document`; no prompt is put before them when it is absent.",
    ).one_of(&["query", "document"]),
    field("urgency", "`interactive` or `bulk`; by the number and size of the inputs when it is absent.").one_of(&["interactive", "bulk"]),
    field("deadline_ms", "How long the answer may take in all, in milliseconds.").integer(),
    field("keep_alive", "How long the model stays ready after this request."),
    field("client", "The client, for fairness between clients; the owner when it is absent.").text(),
];
pub(crate) const TOKENIZE: &[Field] = &[
    MODEL,
    field("texts", "The texts. Required.").texts(),
    field("add_special", "Add the special tokens that the model expects around a text. Default: true.")
        .boolean(),
    field("parse_special", "Read special tokens in the texts. Default: false.").boolean(),
];
pub(crate) const DETOKENIZE: &[Field] =
    &[MODEL, field("tokens", "Lists of token ids, one for each text. Required.").list()];
pub(crate) const WARM: &[Field] =
    &[MODEL, field("pin", "Keep it from being parked or unloaded by the pool afterwards.").boolean()];
pub(crate) const PREPARE: &[Field] = &[
    MODEL,
    field("quantization", "The number format of its weights, which is kept for later loads. Default: that of its settings, else the one that was chosen last, else `F16`.")
        .one_of(&["none", "F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M"]),
];
pub(crate) const PACK: &[Field] = &[MODEL];
pub(crate) const PULL: &[Field] = &[
    MODEL,
    field("background", "True: the answer is sent at once, and the fetch goes on without a listener; `/admin/events` tells how. Default: false.").boolean(),
];
pub(crate) const CANCEL_PULL: &[Field] = &[MODEL];
pub(crate) const REMOVE: &[Field] = &[MODEL];
pub(crate) const COLLECT: &[Field] =
    &[field("dry_run", "True: only say what would be removed. Default: false.").boolean()];
pub(crate) const VERIFY: &[Field] = &[
    field("models", "The models; everything on disk when it is absent or empty.").texts(),
    field("repair", "True: fetch again what is damaged or gone. Default: false.").boolean(),
];
pub(crate) const CLEAR: &[Field] = &[field(
    "tier",
    "`memory`: every model is unloaded as soon as no request uses it; `disk`: every created name, and every model that is not in use, is removed from the disk. Required.",
)
.one_of(&["memory", "disk"])];
pub(crate) const MODEL_QUERY: &[Field] = &[MODEL];
pub(crate) const USAGE_QUERY: &[Field] = &[
    field("since_ms", "How far back, in milliseconds; all that is kept when it is absent.").integer(),
    field(
        "by",
        "What the rows are told apart by: `client`, `model` and `day`, with commas. Default: `client,model`.",
    )
    .text(),
];
pub(crate) const PIN: &[Field] =
    &[MODEL, field("pinned", "Whether the pool must keep it. Required.").boolean()];
pub(crate) const UNLOAD: &[Field] = &[
    field("model", "The model: this or `all` is given.").text(),
    field("all", "True: every model.").boolean(),
];
pub(crate) const SHUTDOWN: &[Field] = &[field(
    "grace_ms",
    "How long running requests may take to end, in milliseconds; as configured when it is absent.",
)
.integer()];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::facts::{Subject, UsageQuery};
    use crate::admin::wire::{
        CancelPullBody, ClearBody, CollectBody, DetokenizeBody, EmbedBody, GenerateBody, PackBody, PinBody,
        PrepareBody, PullBody, RemoveBody, ShutdownBody, TokenizeBody, UnloadBody, VerifyBody, WarmBody,
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
            (PREPARE, parsed::<PrepareBody>()),
            (PACK, parsed::<PackBody>()),
            (PULL, parsed::<PullBody>()),
            (CANCEL_PULL, parsed::<CancelPullBody>()),
            (REMOVE, parsed::<RemoveBody>()),
            (COLLECT, parsed::<CollectBody>()),
            (VERIFY, parsed::<VerifyBody>()),
            (CLEAR, parsed::<ClearBody>()),
            (PIN, parsed::<PinBody>()),
            (UNLOAD, parsed::<UnloadBody>()),
            (SHUTDOWN, parsed::<ShutdownBody>()),
            (MODEL_QUERY, parsed::<Subject>()),
            (USAGE_QUERY, parsed::<UsageQuery>()),
        ] {
            assert!(!parsed.is_empty());
            assert_eq!(names(described), parsed);
        }
    }
}
