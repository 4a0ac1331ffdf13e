//! What the configuration to begin with writes for settings whose default is found on the machine.

/// What a `samovar.toml` to begin with writes where the default is found on the machine: the same, as far as text can say
/// it, or what suits most. Uncommenting a line must not make anything worse.
pub(crate) const EXAMPLES: &[(&str, &str)] = &[
    ("cache.max_size_bytes", "\"100GB\""),
    ("cache.prefix_quota_bytes", "\"5GB\""),
    ("sources.hub_endpoint", "\"https://huggingface.co\""),
    ("sources.ollama_endpoint", "\"https://registry.ollama.ai\""),
    ("pool.budget_bytes", "\"70%\""),
    ("pool.keep_alive_ceiling", "\"24h\""),
    ("pool.memory_floor_bytes", "\"256MiB\""),
    ("pool.share_prefixes", "\"client\""),
    ("pool.worker_memory_bytes", "\"64GB\""),
    ("pool.stats_interval", "\"60s\""),
    ("server.listen", "\"127.0.0.1:7266\""),
    ("server.ollama_address", "\"127.0.0.1:11434\""),
    ("server.idle_exit", "\"30m\""),
    ("server.client_header", "\"x-openwebui-user-id\""),
    ("server.buffer_budget_bytes", "\"256MiB\""),
    ("server.connections_per_address", "256"),
    ("server.request_timeout", "\"10m\""),
    ("context_tokens", "4096"),
    ("slots", "4"),
    ("layout", "\"auto\""),
    ("quantization", "\"Q4_K_M\""),
    ("kv_type", "\"f16\""),
    ("keep_alive", "\"5m\""),
    ("lock_memory", "false"),
    ("special_tokens_in_content", "false"),
    ("speculation", "\"auto\""),
    ("min_instances", "1"),
    ("max_instances", "1"),
];
