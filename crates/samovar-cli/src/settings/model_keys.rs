//! The settings of models, in the form of [`keys`](super::keys): those that `[defaults]` has as well, and those of a name alone.

use super::keys::{CONTEXT_MAX, Key, found};
use super::value::Shape;

const INSTANCES_MAX: u32 = 64;

/// Settings of a model: in `[models.NAME]`, and in `[defaults]` for all that say nothing.
pub(crate) const MODEL_KEYS: &[Key] = &[
    found(
        "context_tokens",
        Shape::Count { min: 8, max: CONTEXT_MAX },
        "4096 (2048 for models that only make vectors), or less if the model has less",
        "Tokens of context for each request; of a model that only makes vectors, tokens of its longest input.",
    ),
    found(
        "slots",
        Shape::Count { min: 1, max: 256 },
        "by memory, at most 4; 64 for models that only make vectors",
        "Requests that are served at the same time.",
    ),
    found(
        "layout",
        Shape::OneOf(&["auto", "mapped", "packed", "hybrid", "repacked"]),
        "auto",
        "How weights lie in memory: as on disk (mapped); packed for this CPU in a file that is made in the background, also shared (packed); both files, each where it is faster (hybrid); packed at every load, a copy per instance (repacked); or the layout that is measured to be fastest on this machine (auto).",
    ),
    found(
        "quantization",
        Shape::OneOf(&["none", "F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M"]),
        "as chosen last with `--quantize`, else F16",
        "Number format of a model that was published in safetensors: it is converted once, at its first use or by `samovar prepare`. `none` keeps the 16-bit floats that were published. Models in GGUF stay as they are.",
    ),
    found("kv_type", Shape::OneOf(&["f16", "q8_0"]), "f16", "Number format of the KV cache."),
    found(
        "threads",
        Shape::Count { min: 1, max: 1024 },
        "the cores this process has, but no more than one, and one more for each 25 million parameters of the model",
        "The most threads of one step; next to other busy programs a step uses fewer.",
    ),
    found("keep_alive", Shape::KeepAlive, "5m", "How long the model stays ready after its last use."),
    found("lock_memory", Shape::Flag, "false", "Keep the weights from being paged out."),
    found(
        "special_tokens_in_content",
        Shape::Flag,
        "false",
        "Read control tokens such as `<|im_end|>` in messages as control tokens, as other servers do. If off, only the chat template can write one, and no client can forge a turn; prompts of `/v1/completions` are always read with them.",
    ),
    found(
        "speculation",
        Shape::OneOf(&["auto", "off"]),
        "auto",
        "Whether a step may compute several tokens of an answer that repeats earlier text, or that its draft model says: as many as are measured to be faster on this machine, at a cost of at most 3 % where they fail (auto), or never (off). Rounding may change which of two nearly equally likely tokens is chosen.",
    ),
    found(
        "min_instances",
        Shape::Count { min: 1, max: INSTANCES_MAX },
        "1",
        "Instances that are loaded whenever the model is; they share one copy of the mapped weights.",
    ),
    found(
        "max_instances",
        Shape::Count { min: 1, max: INSTANCES_MAX },
        "as many as min_instances",
        "The most instances: more than min_instances are loaded while requests wait and memory and cores are free.",
    ),
];

/// The models that one in `[models.NAME]` needs beside it.
pub(crate) const NEEDS: Key = found(
    "needs",
    Shape::Names,
    "none",
    "Names of models that this one needs to answer: they are loaded before its requests are served, and evicted with it.",
);

/// The draft model of the model that a name in `[models.NAME]` stands for.
pub(crate) const DRAFT: Key = found(
    "draft",
    Shape::Text,
    "none",
    "A smaller model with the same vocabulary that says what this one may say next: another name, a path, relative to the configuration file, or where to fetch it from. Both are loaded and evicted as one; it is used where that is measured to be faster on this machine.",
);

/// The file or model that a name in `[models.NAME]` stands for.
pub(crate) const SOURCE: Key = found(
    "source",
    Shape::Text,
    "required",
    "A path, relative to the configuration file; `hf://org/name:Q4_K_M`, `https://…` or another place to fetch it from; or `demo`.",
);

/// What is computed with the model that a name in `[models.NAME]` stands for.
pub(crate) const ADAPTERS: Key = found(
    "adapters",
    Shape::Adapters,
    "none",
    "LoRA adapters that its requests use, each with an optional scale after a colon: a GGUF file, or a folder with `adapter_config.json` and `adapter_model.safetensors`, here or at `hf://org/name`. Names with the same `source` share the loaded model.",
);

/// The template of conversations with the model that a name in `[models.NAME]` stands for.
pub(crate) const CHAT_TEMPLATE: Key = found(
    "chat_template",
    Shape::Template,
    "the model's own",
    "A chat template (Jinja) instead of the model's own: a path, relative to the configuration file, or a built-in one's name.",
);

/// Which engine runs the model that a name in `[models.NAME]` stands for.
pub(crate) const ENGINE: Key = found(
    "engine",
    Shape::OneOf(&["auto", "llama", "candle"]),
    "auto",
    "Which engine runs a model that was published in safetensors: llama.cpp, for which it is prepared (llama); candle, which runs it as it is, in builds that have it (candle); or llama.cpp, and candle for models that cannot be prepared (auto). Models in GGUF are llama.cpp's, and are refused with candle.",
);

/// How much the model that a name in `[models.NAME]` stands for thinks.
pub(crate) const THINKING: Key = found(
    "thinking",
    Shape::OneOf(&["off", "low", "medium", "high"]),
    "as the model's chat template has it",
    "How much the model thinks before it answers, if a request does not say so. Models that cannot think ignore it.",
);

/// How the model that a name in `[models.NAME]` stands for makes vectors.
pub(crate) const POOLING: Key = found(
    "pooling",
    Shape::OneOf(&["mean", "cls", "last", "rank"]),
    "as the model's file says",
    "How one vector is made of those of all tokens: their mean, the first one's (cls), the last one's (last), or the scores of a classifier (rank). A model that writes text also makes vectors if this is set.",
);

/// What stands before queries for the model that a name in `[models.NAME]` stands for.
pub(crate) const QUERY_PROMPT: Key = found(
    "query_prompt",
    Shape::Text,
    "none",
    "Text that is put before an input that is a query, such as `query: `.",
);

/// What stands before documents for the model that a name in `[models.NAME]` stands for.
pub(crate) const DOCUMENT_PROMPT: Key = found(
    "document_prompt",
    Shape::Text,
    "none",
    "Text that is put before an input that is a document, such as `passage: `.",
);

/// What conversations begin with that have no system message of their own.
pub(crate) const SYSTEM: Key = found(
    "system",
    Shape::Text,
    "what the model's author set",
    "The system message of conversations that have none.",
);

/// Strings that end answers.
pub(crate) const STOP: Key = found(
    "stop",
    Shape::Texts,
    "what the model's author set",
    "Strings that end an answer, if the request names none.",
);

/// The most tokens of an answer.
pub(crate) const MAX_TOKENS: Key = found(
    "max_tokens",
    Shape::Count { min: 1, max: CONTEXT_MAX },
    "as many as the context holds",
    "The most tokens of an answer, if the request does not say so.",
);

/// Whose sampling holds where neither a request nor a name says anything.
const AUTHOR: &str = "what the model's author set, else what the API of the request has";
const TOP_K_MAX: u32 = 1_000_000;
const REPEAT_LAST_MAX: u32 = 65_536;

/// Settings that only a name in `[models.NAME]` has.
pub(crate) const NAME_KEYS: &[Key] = &[
    SOURCE,
    ENGINE,
    CHAT_TEMPLATE,
    THINKING,
    ADAPTERS,
    NEEDS,
    DRAFT,
    POOLING,
    QUERY_PROMPT,
    DOCUMENT_PROMPT,
    SYSTEM,
    STOP,
    MAX_TOKENS,
    found("temperature", Shape::Number { min: 0.0, max: 2.0 }, AUTHOR, "0 = always the likeliest token."),
    found(
        "top_k",
        Shape::Count { min: 0, max: TOP_K_MAX },
        AUTHOR,
        "Choose among the k likeliest tokens; 0 = all.",
    ),
    found(
        "top_p",
        Shape::Ratio,
        AUTHOR,
        "Choose among the likeliest tokens whose probabilities add up to this.",
    ),
    found(
        "min_p",
        Shape::Number { min: 0.0, max: 1.0 },
        AUTHOR,
        "Leave out tokens that are less likely than this share of the likeliest one.",
    ),
    found(
        "repeat_penalty",
        Shape::Number { min: 0.01, max: 10.0 },
        AUTHOR,
        "Makes tokens that were said before less likely; 1 = off.",
    ),
    found(
        "repeat_last_tokens",
        Shape::Count { min: 0, max: REPEAT_LAST_MAX },
        AUTHOR,
        "How many of the last tokens the penalties look at; 0 = off.",
    ),
    found(
        "frequency_penalty",
        Shape::Number { min: -2.0, max: 2.0 },
        AUTHOR,
        "Makes a token less likely with each time that it was said.",
    ),
    found(
        "presence_penalty",
        Shape::Number { min: -2.0, max: 2.0 },
        AUTHOR,
        "Makes a token less likely once it was said.",
    ),
    found(
        "seed",
        Shape::Count { min: 0, max: u32::MAX },
        "different each time",
        "The seed of the draw: the same request gets the same answer.",
    ),
];

/// The setting of a model of this name.
pub(crate) fn find_of_model(name: &str) -> Option<&'static Key> {
    MODEL_KEYS.iter().find(|key| key.path == name)
}

/// The setting of this name in `[models.NAME]`.
pub(crate) fn find_of_name(name: &str) -> Option<&'static Key> {
    NAME_KEYS.iter().find(|key| key.path == name).or_else(|| find_of_model(name))
}
