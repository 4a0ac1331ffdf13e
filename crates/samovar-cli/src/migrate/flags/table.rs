//! The flags of llama-server that are known, and what becomes of each.

/// What becomes of a flag.
#[derive(Clone, Copy, Debug)]
pub(super) enum Means {
    /// The model's file.
    Path,
    /// The model's repository at the hub.
    Repository,
    /// A file of that repository.
    File,
    /// The model's address.
    Address,
    /// Names of the model.
    Names,
    /// Tokens of context for all slots together.
    Context,
    /// Requests at the same time.
    Slots,
    /// Each slot may use the whole context.
    SharesContext,
    /// The type of the cache's keys (0) or values (1).
    KvType(usize),
    /// A whole number.
    Whole(&'static str),
    /// A whole number, or -1 for none.
    WholeOrNone(&'static str),
    /// A number.
    Number(&'static str),
    /// The weights stay in memory.
    LockMemory,
    /// How the weights are read.
    LoadMode,
    /// How vectors are made.
    Pooling,
    /// It scores documents.
    Rerank,
    /// A template, or a built-in one's name.
    Template,
    /// A file with a template.
    TemplateFile,
    /// Variables of the template.
    TemplateArguments,
    /// Tokens of thought.
    ThinkingBudget,
    /// Whether it thinks.
    Thinking,
    /// How much it thinks.
    Effort,
    /// Seconds until an idle model leaves.
    KeepAlive,
    /// Adapters, with scales or without.
    Adapters,
    /// The draft model's file.
    DraftPath,
    /// The draft model's repository at the hub.
    DraftRepository,
    /// It tells how the other server runs, or what holds here anyway.
    Nothing,
    /// It has no equal here, for this reason.
    Cannot(&'static str),
    /// The same, and its value is not shown.
    Secret(&'static str),
}

const CPU: &str = "this build computes on the processor";
const IMAGES: &str = "this version reads no images or sound";
const DRAFT: &str = "how much a draft model says is measured here, and not set";
const SAMPLER: &str = "this way to choose tokens is not known here";
const ANSWER: &str = "what an answer must look like is set by requests";
const ROPE: &str = "the model's own scaling of positions is used";
const STEP: &str = "Samovar chooses how many tokens a step computes";
const CACHE: &str = "what is kept of prompts is set by cache.prefix_quota_bytes";
const TOOLS: &str = "tools are called by clients, and never by this program";
const KEYS: &str = "keys are this program's own: `samovar key add`";

/// Every flag that is known, by its names without dashes and by the ends of its variables.
const TABLE: &[(&[&str], Means)] = &[
    (&["m", "model"], Means::Path),
    (&["hf", "hfr", "hf-repo"], Means::Repository),
    (&["hff", "hf-file"], Means::File),
    (&["mu", "model-url"], Means::Address),
    (&["a", "alias"], Means::Names),
    (&["c", "ctx-size"], Means::Context),
    (&["np", "parallel", "n-parallel"], Means::Slots),
    (&["kvu", "kv-unified"], Means::SharesContext),
    (&["ctk", "cache-type-k"], Means::KvType(0)),
    (&["ctv", "cache-type-v"], Means::KvType(1)),
    (&["t", "threads"], Means::WholeOrNone("threads")),
    (&["n", "predict", "n-predict"], Means::WholeOrNone("max_tokens")),
    (&["s", "seed"], Means::WholeOrNone("seed")),
    (&["temp", "temperature"], Means::Number("temperature")),
    (&["top-k"], Means::Whole("top_k")),
    (&["top-p"], Means::Number("top_p")),
    (&["min-p"], Means::Number("min_p")),
    (&["repeat-penalty"], Means::Number("repeat_penalty")),
    (&["repeat-last-n"], Means::Whole("repeat_last_tokens")),
    (&["presence-penalty"], Means::Number("presence_penalty")),
    (&["frequency-penalty"], Means::Number("frequency_penalty")),
    (&["mlock"], Means::LockMemory),
    (&["lm", "load-mode"], Means::LoadMode),
    (&["pooling"], Means::Pooling),
    (&["rerank", "reranking"], Means::Rerank),
    (&["chat-template"], Means::Template),
    (&["chat-template-file"], Means::TemplateFile),
    (&["chat-template-kwargs"], Means::TemplateArguments),
    (&["reasoning-budget", "think-budget"], Means::ThinkingBudget),
    (&["rea", "reasoning"], Means::Thinking),
    (&["reasoning-effort"], Means::Effort),
    (&["sleep-idle-seconds"], Means::KeepAlive),
    (&["lora", "lora-scaled"], Means::Adapters),
    (&["embd", "embedding", "embeddings"], Means::Nothing),
    (
        &["jinja", "no-jinja", "reasoning-format", "fa", "flash-attn", "mmap", "no-mmap", "dio"],
        Means::Nothing,
    ),
    (&["host", "port", "reuse-port", "path", "api-prefix", "timeout", "to", "threads-http"], Means::Nothing),
    (&["metrics", "slots", "no-slots", "props", "webui", "no-webui", "ui", "no-ui"], Means::Nothing),
    (&["cb", "cont-batching", "nocb", "no-cont-batching", "warmup", "no-warmup", "offline"], Means::Nothing),
    (
        &["v", "verbose", "lv", "verbosity", "log-verbose", "log-verbosity", "log-disable", "log-file"],
        Means::Nothing,
    ),
    (&["log-colors", "log-prefix", "log-timestamps", "log-jsonl", "perf", "no-perf"], Means::Nothing),
    (&["models-max", "models-dir", "models-preset", "models-autoload", "no-models-autoload"], Means::Nothing),
    (&["stop-timeout", "dedup-cache-models", "check-tensors", "repack", "nr", "no-repack"], Means::Nothing),
    (&["prefill-assistant", "no-prefill-assistant", "e", "escape", "no-mmproj"], Means::Nothing),
    (&["no-kv-unified", "no-kvu", "no-context-shift", "tags"], Means::Nothing),
    (&["api-key", "api-key-file"], Means::Secret(KEYS)),
    (&["ssl-key-file", "ssl-cert-file"], Means::Cannot("how the daemon is reached is set in [server]")),
    (
        &["ngl", "gpu-layers", "n-gpu-layers", "dev", "device", "sm", "split-mode", "ts", "tensor-split"],
        Means::Cannot(CPU),
    ),
    (
        &["mg", "main-gpu", "fit", "fitt", "fit-target", "fitc", "fit-ctx", "cmoe", "cpu-moe"],
        Means::Cannot(CPU),
    ),
    (
        &["ncmoe", "n-cpu-moe", "ot", "override-tensor", "nkvo", "no-kv-offload", "kvo", "kv-offload"],
        Means::Cannot(CPU),
    ),
    (
        &["op-offload", "no-op-offload", "rpc", "numa", "moe-cache-mib", "ncffn", "n-cpu-ffn"],
        Means::Cannot(CPU),
    ),
    (
        &["mm", "mmproj", "mmu", "mmproj-url", "mmproj-auto", "mmproj-offload", "no-mmproj-offload"],
        Means::Cannot(IMAGES),
    ),
    (&["image-min-tokens", "image-max-tokens", "mv", "model-vocoder", "media-path"], Means::Cannot(IMAGES)),
    (&["md", "model-draft", "spec-draft-model"], Means::DraftPath),
    (
        &["hfd", "hfrd", "hf-repo-draft", "hfd-repo", "spec-draft-hf", "spec-draft-hf-repo"],
        Means::DraftRepository,
    ),
    (&["cd", "ctx-size-draft"], Means::Cannot(DRAFT)),
    (
        &["draft", "draft-n", "draft-max", "draft-min", "draft-n-min", "draft-p-min", "draft-p-split"],
        Means::Cannot(DRAFT),
    ),
    (
        &["ngld", "gpu-layers-draft", "n-gpu-layers-draft", "devd", "device-draft", "td", "threads-draft"],
        Means::Cannot(DRAFT),
    ),
    (
        &["ctkd", "cache-type-k-draft", "ctvd", "cache-type-v-draft", "tbd", "threads-batch-draft"],
        Means::Cannot(DRAFT),
    ),
    (
        &["mcp-servers-json"],
        // It may hold keys of other servers.
        Means::Secret(TOOLS),
    ),
    (&["mcp-servers-config", "tools", "tools-runtime", "ag", "agent"], Means::Cannot(TOOLS)),
    (
        &["cors-origins", "cors-methods", "cors-headers", "cors-credentials"],
        Means::Cannot("which web pages may ask is set by server.allowed_origins"),
    ),
    (
        &["samplers", "sampler-seq", "sampling-seq", "typical", "typical-p", "top-n-sigma", "top-nsigma"],
        Means::Cannot(SAMPLER),
    ),
    (
        &["xtc-probability", "xtc-threshold", "mirostat", "mirostat-lr", "mirostat-ent"],
        Means::Cannot(SAMPLER),
    ),
    (
        &["dynatemp-range", "dynatemp-exp", "adaptive-target", "adaptive-decay", "backend-sampling"],
        Means::Cannot(SAMPLER),
    ),
    (&["dry-multiplier", "dry-base", "dry-allowed-length", "dry-penalty-last-n"], Means::Cannot(SAMPLER)),
    (&["dry-sequence-breaker", "l", "logit-bias", "ignore-eos"], Means::Cannot(SAMPLER)),
    (&["grammar", "grammar-file", "j", "json-schema", "jf", "json-schema-file"], Means::Cannot(ANSWER)),
    (
        &["rope-scaling", "rope-scale", "rope-freq-base", "rope-freq-scale", "yarn-orig-ctx"],
        Means::Cannot(ROPE),
    ),
    (&["yarn-ext-factor", "yarn-attn-factor", "yarn-beta-slow", "yarn-beta-fast"], Means::Cannot(ROPE)),
    (
        &["b", "batch-size", "batch", "ub", "ubatch-size", "ubatch", "tb", "threads-batch"],
        Means::Cannot(STEP),
    ),
    (&["cram", "cache-ram", "cache-reuse", "cache-prompt", "no-cache-prompt"], Means::Cannot(CACHE)),
    (&["ctxcp", "ctx-checkpoints", "swa-checkpoints", "slot-save-path", "swa-full"], Means::Cannot(CACHE)),
    (&["keep", "context-shift"], Means::Cannot("a conversation that is too long is refused, and not cut")),
    (&["r", "reverse-prompt"], Means::Cannot("strings that end answers are set with `stop`")),
    (&["sp", "special"], Means::Cannot("control tokens are not part of an answer")),
    (&["control-vector", "control-vector-scaled"], Means::Cannot("control vectors are not known here")),
    (&["override-kv"], Means::Cannot("the header of a model's file cannot be overridden")),
    (&["hft", "hf-token"], Means::Secret("a token does not belong in a file: set HF_TOKEN")),
    (&["dr", "docker-repo"], Means::Cannot("models of Docker's hub are not fetched")),
];

/// What becomes of a flag of this name.
pub(super) fn find(name: &str) -> Option<Means> {
    let row = TABLE.iter().find(|(names, _)| names.contains(&name)).map(|(_, means)| *means);
    // There are dozens of these, and each version has others.
    row.or_else(|| name.starts_with("spec-").then_some(Means::Cannot(DRAFT)))
}
