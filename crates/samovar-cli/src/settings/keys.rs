//! Every setting there is but those of models (`model_keys`): name, shape, default, meaning. The file, the environment,
//! `samovar config` and the reference are all read from these tables.

use super::value::Shape;
use super::variables;

/// One setting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    /// `section.name`, or a bare name at the top of the file.
    pub(crate) path: &'static str,
    /// What its value looks like.
    pub(crate) shape: Shape,
    /// The default, as text of that shape; `None` when it is found on the machine or is "nothing".
    pub(crate) default: Option<&'static str>,
    /// What stands for the default when that is `None`.
    pub(crate) otherwise: &'static str,
    /// What it does.
    pub(crate) about: &'static str,
}

const fn key(path: &'static str, shape: Shape, default: &'static str, about: &'static str) -> Key {
    Key { path, shape, default: Some(default), otherwise: "", about }
}

/// A key whose default is found on the machine, or is "nothing".
pub(super) const fn found(
    path: &'static str,
    shape: Shape,
    otherwise: &'static str,
    about: &'static str,
) -> Key {
    Key { path, shape, default: None, otherwise, about }
}

const MANY: u32 = 1_000_000;
/// More context than any model has; the model's own limit is applied later.
pub(crate) const CONTEXT_MAX: u32 = 16_777_216;
/// A century.
const DAYS_MAX: u32 = 36_500;

/// Settings that appear once.
pub(crate) const KEYS: &[Key] = &[
    key("default_model", Shape::Text, "demo", "The model that `run` and `chat` use when none is named."),
    found("cache.cache_dir", Shape::Path, "below the home", "Where models are kept on disk."),
    found(
        "cache.max_size_bytes",
        Shape::Size,
        "100 GB, or 70 % of the free disk if that is less",
        "Disk space for all models; beyond it the least useful models are removed.",
    ),
    key(
        "cache.max_age_days",
        Shape::Count { min: 0, max: DAYS_MAX },
        "30",
        "Models that were not used for this many days are removed; 0 = no age limit.",
    ),
    key("cache.min_free_bytes", Shape::Size, "1GiB", "Disk space that fetching always leaves free."),
    key(
        "cache.read_only_dirs",
        Shape::Paths,
        "",
        "Other caches, which are searched before a model is fetched, and never changed.",
    ),
    found(
        "cache.prefix_quota_bytes",
        Shape::Size,
        "a twentieth of the cache's quota, at most 10 GB",
        "Disk space for the computed state of long prompts, which is reused after evictions and restarts; 0 = none is kept or used.",
    ),
    key(
        "cache.prefix_min_tokens",
        Shape::Count { min: 1, max: CONTEXT_MAX },
        "256",
        "The state of prompts with fewer tokens is not kept.",
    ),
    key("cache.preload_models", Shape::Names, "", "Models to load when the daemon starts."),
    key("sources.offline", Shape::Flag, "false", "Fetch nothing: use only what is on disk."),
    found(
        "sources.hub_endpoint",
        Shape::Url,
        "the public hub",
        "The hub that `org/name` is fetched from; the token is sent only there.",
    ),
    key(
        "sources.nearby",
        Shape::Flag,
        "true",
        "Use a model from the Hugging Face cache or Ollama's store on this machine, without a second copy, instead of fetching it.",
    ),
    key("sources.connections", Shape::Count { min: 1, max: 64 }, "4", "Connections of one download."),
    key(
        "sources.retries",
        Shape::Count { min: 0, max: 100 },
        "4",
        "How often a source that does not answer is tried again, each time after a longer wait. If no connection can be made at all: once, and more often only within 4 s.",
    ),
    found(
        "sources.ollama_endpoint",
        Shape::Url,
        "the public registry",
        "The registry that ollama://… is fetched from.",
    ),
    key(
        "sources.allow_plain_http",
        Shape::Flag,
        "false",
        "Also fetch by http:// from other machines, although others on the network can read and change the data.",
    ),
    found(
        "pool.budget_bytes",
        Shape::Memory,
        "70 % of the memory that this process may use",
        "Memory for all loaded models together.",
    ),
    key(
        "pool.soft_ratio",
        Shape::Ratio,
        "0.85",
        "Share of the budget above which idle models are unloaded in advance.",
    ),
    key(
        "pool.eviction_policy",
        Shape::OneOf(&["gdsf", "lru", "lfu", "priority"]),
        "gdsf",
        "Which idle model leaves first: the one that saves the least load time per byte (gdsf), the least recently used (lru), the least often used (lfu), or one by age and frequency (priority).",
    ),
    key(
        "pool.queue_per_model",
        Shape::Count { min: 0, max: MANY },
        "128",
        "Requests that may wait for one model.",
    ),
    key("pool.queue_total", Shape::Count { min: 0, max: MANY }, "256", "Requests that may wait in total."),
    key(
        "pool.client_weights",
        Shape::Names,
        "",
        "Clients with more than one request per turn: the client's name, = and the number, such as alice=3.",
    ),
    key(
        "pool.keep_alive_floor",
        Shape::Span,
        "0",
        "The shortest time that a model stays ready after its last use, whatever a request asks for.",
    ),
    found(
        "pool.keep_alive_ceiling",
        Shape::Span,
        "none",
        "The longest time that a model stays ready after its last use, whatever a request asks for.",
    ),
    key(
        "pool.watch_memory",
        Shape::Flag,
        "true",
        "Check the machine's memory while a model is loaded (once per second while it is used), and unload idle models when memory is short.",
    ),
    found(
        "pool.memory_floor_bytes",
        Shape::Size,
        "256MiB, or an eighth of the budget if that is less",
        "Memory that must stay free in the machine or the container; below it idle models are unloaded.",
    ),
    key(
        "pool.stall_percent",
        Shape::Count { min: 0, max: 100 },
        "10",
        "Idle models are unloaded if programs wait for memory for more than this percentage of the time; 100 = never for this reason.",
    ),
    key(
        "pool.probe_idle",
        Shape::Span,
        "60s",
        "A model without requests for this time is checked by generating one token, then again after twice as long, and so on; 0 = never.",
    ),
    found(
        "pool.share_prefixes",
        Shape::OneOf(&["all", "client"]),
        "client if clients are distinguished (there are keys, server.client_header is set, or other machines are served), else all",
        "Whose computed prompt state a request may reuse: that of all clients (all), so that a common beginning is computed once but timing reveals that another client asked something similar; or only its own client's (client).",
    ),
    key(
        "pool.min_residency",
        Shape::Span,
        "500ms",
        "The shortest time that a model stays in memory after it was loaded.",
    ),
    key(
        "pool.workers",
        Shape::Flag,
        "true",
        "Run each loaded model in its own process, so that a crash or hang affects only that model.",
    ),
    key(
        "pool.sandbox",
        Shape::OneOf(&["auto", "require", "off"]),
        "auto",
        "What those processes may not use (network, other programs, files except the model's own): as much as this system supports (auto); everything, or no model is loaded (require); or no restriction (off).",
    ),
    found(
        "pool.worker_memory_bytes",
        Shape::Size,
        "what the system gives",
        "The most private memory, without mapped weights, of such a process; beyond it the process fails.",
    ),
    key("pool.parked_for", Shape::Span, "30m", "A parked model is unloaded after this time."),
    found(
        "pool.stats_interval",
        Shape::Span,
        "60s for `samovar serve`; never in the background",
        "How often the daemon logs a line of statistics, if there were requests since the last one; 0 = never.",
    ),
    found(
        "server.listen",
        Shape::Address,
        "127.0.0.1:7266 for `samovar serve`; none for a daemon in the background",
        "The address on which the daemon serves HTTP.",
    ),
    found(
        "server.ollama_address",
        Shape::Address,
        "none; 127.0.0.1:11434 with `samovar serve --as-ollama`",
        "An address on which `samovar serve` serves HTTP as well, for clients of Ollama that look for it at 127.0.0.1:11434.",
    ),
    found("server.socket", Shape::Path, "below the home", "The Unix socket between command line and daemon."),
    found(
        "server.idle_exit",
        Shape::Span,
        "30m in the background; never for `samovar serve`",
        "The daemon exits after this time without a request; 0 = never.",
    ),
    key(
        "server.grace",
        Shape::Span,
        "30s",
        "The time that running requests have to finish when the daemon exits.",
    ),
    key(
        "server.allowed_hosts",
        Shape::Names,
        "",
        "Host names that HTTP clients may use for the daemon, in addition to those of this machine.",
    ),
    key(
        "server.allowed_origins",
        Shape::Names,
        "",
        "Web origins that may read answers, such as https://chat.example.org, in addition to those of this machine.",
    ),
    found(
        "server.client_header",
        Shape::Text,
        "none: clients are distinguished by their address",
        "The header in which a program in front of the daemon names its client, such as x-openwebui-user-id; then `user` in a request counts as well. Clients of a model are served in turns; keys, programs and connections of one client divide its turns.",
    ),
    found(
        "server.buffer_budget_bytes",
        Shape::Size,
        "a sixteenth of the memory that this process may use, from 64MiB to 1GiB",
        "Memory for all request bodies and unread answers together; no address may use more of it than it leaves to the others. Beyond it, requests get 503.",
    ),
    key(
        "server.connections",
        Shape::Count { min: 1, max: MANY },
        "1024",
        "The most simultaneous connections, for HTTP and for the socket each.",
    ),
    found(
        "server.connections_per_address",
        Shape::Count { min: 1, max: MANY },
        "a quarter of all for other machines; all for this one",
        "The most simultaneous connections of one address. The next one closes an idle connection of the same address.",
    ),
    key(
        "server.idle_timeout",
        Shape::Span,
        "75s",
        "How long a connection is kept open after its last answer.",
    ),
    key(
        "server.keep_alive_floor",
        Shape::Span,
        "1m",
        "The shortest keep-alive that a request over HTTP can set.",
    ),
    key(
        "server.keep_alive_ceiling",
        Shape::Span,
        "1h",
        "The longest keep-alive that a request over HTTP can set.",
    ),
    key(
        "server.context_ceiling_tokens",
        Shape::Count { min: 0, max: CONTEXT_MAX },
        "0",
        "The most context_tokens that a request over HTTP can ask a model for whose own setting is less; 0 = no more than the model's setting.",
    ),
    key(
        "server.tls.certificate",
        Shape::PathOrNone,
        "",
        "A PEM file with the certificate that HTTP is served over TLS with, and those of its issuers after it. It is read again when it changes.",
    ),
    key(
        "server.tls.key",
        Shape::PathOrNone,
        "",
        "A PEM file with the private key of that certificate, without a password.",
    ),
    key(
        "server.tls.client_ca",
        Shape::PathOrNone,
        "",
        "A PEM file with authorities; then only clients with a certificate that one of them issued are served.",
    ),
    key(
        "server.insecure_no_auth",
        Shape::Flag,
        "false",
        "Serve other machines although there is no key (`samovar key add`). Where there is one, requests need it all the same.",
    ),
    found(
        "server.request_timeout",
        Shape::Span,
        "none",
        "The deadline of requests without their own; afterwards the partial text is returned, or an error if there is no text yet.",
    ),
    found(
        "server.request_log",
        Shape::Path,
        "none",
        "A file with one line per request, which `samovar plan` replays: time, model, durations, a number for the client; no prompt. It and one older file take at most 64 MiB.",
    ),
    key(
        "server.audit_log",
        Shape::PathOrNone,
        "",
        "A file with one JSON line per request: time, client, address, route, model, numbers of tokens, outcome, duration; no prompt and no answer. It and eight older files take at most 288 MiB.",
    ),
    key(
        "server.usage",
        Shape::Flag,
        "true",
        "Count requests and tokens for each client, model and day, which `samovar usage` shows; kept for 400 days.",
    ),
    key(
        "log.level",
        Shape::Text,
        "info",
        "What the daemon logs: error, warn, info, debug, trace, or a filter such as `warn,samovar_pool=debug`.",
    ),
];

/// Keys that people look for and that are not there, with what to do instead.
const INSTEAD: &[(&str, &str)] = &[
    ("fleet", "it comes with the fleet; remove the section for now"),
    ("cache.enabled", "the cache is always there; `cache.cache_dir` says where"),
    ("cache.eviction_policy", "on disk there is one policy; for memory write pool.eviction_policy"),
    ("cache.save_prefixes", "write cache.prefix_quota_bytes = 0 and no prompt's state is kept or used"),
    ("sources.hub_token", TOKEN_PLACE),
    ("sources.token", TOKEN_PLACE),
    ("sources.hf_token", TOKEN_PLACE),
];
const TOKEN_PLACE: &str =
    "a token does not belong in this file: set HF_TOKEN, or write it to the file that HF_TOKEN_PATH names";

impl Key {
    /// The variable that sets it: `pool.budget_bytes` → `SAMOVAR_POOL_BUDGET_BYTES`.
    pub(crate) fn variable(&self) -> String {
        variables::variable_of(self.path)
    }
}

/// The setting of this path.
pub(crate) fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// What to do instead of writing a path that is not there, where that is known.
pub(crate) fn instead_of(path: &str) -> Option<&'static str> {
    INSTEAD.iter().find(|(absent, _)| *absent == path).map(|(_, instead)| *instead)
}

/// The known name that is most like `unknown`, if one is like it at all.
pub(crate) fn nearest<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let likeness = |name: &str| strsim::jaro_winkler(&unknown.to_lowercase(), &name.to_lowercase());
    known
        .into_iter()
        .map(|name| (name, likeness(name)))
        .filter(|(_, likeness)| *likeness >= 0.8)
        .max_by(|left, right| left.1.total_cmp(&right.1))
        .map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::model_keys::MODEL_KEYS;
    use super::*;

    #[test]
    fn every_default_has_the_shape_of_its_key() {
        for key in KEYS.iter().chain(MODEL_KEYS) {
            if let Some(default) = key.default {
                let raw = key.shape.raw_of_text(default);
                assert!(key.shape.read(&raw, Path::new("/")).is_ok(), "{}", key.path);
            }
            assert_eq!(key.default.is_none(), !key.otherwise.is_empty(), "{}", key.path);
            assert!(key.about.ends_with('.'), "{}", key.path);
        }
    }

    #[test]
    fn nearest_finds_slips_of_the_finger_and_nothing_else() {
        let known = ["budget_bytes", "soft_ratio", "queue_total"];
        assert_eq!(nearest("budget_byte", known), Some("budget_bytes"));
        assert_eq!(nearest("budjet_bytes", known), Some("budget_bytes"));
        assert_eq!(nearest("xyz", known), None);
    }
}
