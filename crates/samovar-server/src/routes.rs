//! Every route there is, by method, path and listener, with what the reference says of it: the router, the metrics' labels and
//! the reference are read from this table. Nothing is answered here.

use axum::response::Response;
use axum::routing::{MethodRouter, delete, get, post};

use crate::app::{App, Surface};
use crate::embedding::terms;
use crate::field::Field;
use crate::generation::request_terms;
use crate::refusal::Refusal;
use crate::{admin, health, llama_server, messages, metrics, ollama, openai, rerank, responses, tei};

/// A route.
#[non_exhaustive]
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// `GET`, `POST` or `DELETE`.
    pub method: &'static str,
    /// Its path; `{id}` stands for any text.
    pub path: &'static str,
    /// Whether it is served on the Unix socket alone.
    pub is_owners: bool,
    /// What it does.
    pub about: &'static str,
    /// The fields of its body, in groups. Others are passed over, or refused by name ([`crate::refused_fields`]); the owner's
    /// routes take no others.
    pub fields: &'static [&'static [Field]],
    pub(crate) handler: fn() -> MethodRouter<App>,
    /// Writes a refusal as its clients read it.
    refuse: fn(Refusal) -> Response,
}

impl Route {
    /// As the router knows it.
    pub(crate) fn pattern(&self) -> String {
        self.path.replace("{id}", "{*id}")
    }

    /// Whether a request for `path` comes here.
    pub(crate) fn is_of(&self, path: &str) -> bool {
        match self.path.split_once('{') {
            Some((before, _)) => path.starts_with(before),
            None => path == self.path,
        }
    }

    pub(crate) fn is_served_on(&self, surface: Surface) -> bool {
        !self.is_owners || surface == Surface::Local
    }

    const fn new(
        method: &'static str,
        path: &'static str,
        about: &'static str,
        handler: fn() -> MethodRouter<App>,
    ) -> Self {
        Self { method, path, is_owners: false, about, fields: &[], handler, refuse: openai::refuse }
    }

    /// Whether `path` lies below it.
    fn is_above(&self, path: &str) -> bool {
        self.path != "/" && path.strip_prefix(self.path).is_some_and(|rest| rest.starts_with('/'))
    }

    const fn of_anthropic(self) -> Self {
        Self { refuse: messages::refuse, ..self }
    }

    const fn for_owner(self) -> Self {
        Self { is_owners: true, refuse: admin::refuse, ..self }
    }

    const fn of_ollama(self) -> Self {
        Self { refuse: ollama::refuse, ..self }
    }

    const fn for_llama_server(self) -> Self {
        Self { refuse: llama_server::refuse, ..self }
    }

    const fn with(self, fields: &'static [&'static [Field]]) -> Self {
        Self { fields, ..self }
    }
}

/// Every route; the last one ends the daemon.
pub const ROUTES: &[Route] = &[
    Route::new("POST", "/v1/chat/completions", "OpenAI: an answer to a conversation, whole or streamed.", || {
        post(openai::chat::complete)
    })
    .with(&[openai::chat::FIELDS, openai::COMMON_FIELDS, request_terms::FIELDS]),
    Route::new("POST", "/v1/completions", "OpenAI: a text continued, whole or streamed.", || {
        post(openai::completions::complete)
    })
    .with(&[openai::completions::FIELDS, openai::COMMON_FIELDS, request_terms::FIELDS]),
    Route::new("POST", "/v1/responses", "OpenAI: an answer to a conversation, in items, whole or streamed.", || {
        post(responses::create::create)
    })
    .with(&[responses::create::FIELDS, request_terms::FIELDS]),
    Route::new("POST", "/v1/messages", "Anthropic: an answer to a conversation, whole or streamed.", || {
        post(messages::create::create)
    })
    .of_anthropic()
    .with(&[messages::create::FIELDS, request_terms::FIELDS]),
    Route::new("POST", "/v1/embeddings", "OpenAI: a vector for each input.", || {
        post(openai::embeddings::create)
    })
    .with(&[openai::embeddings::FIELDS, terms::FIELDS]),
    Route::new(
        "POST",
        "/v1/rerank",
        "Jina, Cohere and text-embeddings-inference: documents in the order in which they answer a query.",
        || post(rerank::rerank),
    )
    .with(&[rerank::FIELDS, terms::FIELDS]),
    Route::new("POST", "/rerank", "The same.", || post(rerank::rerank)).with(&[rerank::FIELDS, terms::FIELDS]),
    Route::new("POST", "/embed", "text-embeddings-inference: a vector for each input, as a bare array.", || {
        post(tei::embed::embed)
    })
    .with(&[tei::embed::FIELDS, terms::FIELDS]),
    Route::new("POST", "/tokenize", "text-embeddings-inference and llama-server: token ids of texts.", || {
        post(tei::tokenize::tokenize)
    })
    .with(&[tei::tokenize::FIELDS, terms::FIELDS]),
    Route::new("POST", "/detokenize", "llama-server: the text of token ids.", || {
        post(tei::detokenize::detokenize)
    })
    .with(&[tei::detokenize::FIELDS, terms::FIELDS]),
    Route::new("POST", "/decode", "text-embeddings-inference: the texts of lists of token ids.", || {
        post(tei::detokenize::decode)
    })
    .with(&[tei::detokenize::DECODE_FIELDS, terms::FIELDS]),
    Route::new(
        "GET",
        "/info",
        "text-embeddings-inference: `?model=NAME`: what an embedder's vectors are, with a fingerprint that stored vectors should carry.",
        || get(tei::info::info),
    ),
    Route::new("POST", "/completion", "llama-server: a text continued, whole or streamed.", || {
        post(llama_server::completion::complete)
    })
    .for_llama_server()
    .with(&[llama_server::FIELDS]),
    Route::new("POST", "/completions", "The same.", || post(llama_server::completion::complete))
        .for_llama_server()
        .with(&[llama_server::FIELDS]),
    Route::new(
        "GET",
        "/props",
        "llama-server: `?model=NAME`: a model's context, slots and usual sampling.",
        || get(llama_server::props::props),
    )
    .for_llama_server(),
    Route::new(
        "GET",
        "/slots",
        "llama-server: `?model=NAME`: a model's slots, and which are in use; with `&fail_on_no_slot=1` 503 if all are.",
        || get(llama_server::props::slots),
    )
    .for_llama_server(),
    Route::new("GET", "/health", "llama-server: 200 while requests are accepted, 503 while the daemon shuts down.", || {
        get(llama_server::props::health)
    })
    .for_llama_server(),
    Route::new("GET", "/v1/health", "The same.", || get(llama_server::props::health)).for_llama_server(),
    Route::new("GET", "/v1/models", "OpenAI: the models that requests may name.", || {
        get(openai::models::list)
    }),
    Route::new("GET", "/v1/models/{id}", "OpenAI: one model.", || get(openai::models::one)),
    Route::new("GET", "/", "Ollama: says that it is running; `HEAD` as well.", || get(ollama::root::running))
        .of_ollama(),
    Route::new(
        "GET",
        "/api/version",
        "Ollama: the version of Ollama whose API this is; ours is in `x-samovar-version`.",
        || get(ollama::root::version),
    )
    .of_ollama(),
    Route::new("POST", "/api/chat", "Ollama: an answer to a conversation, streamed or whole.", || {
        post(ollama::chat::chat)
    })
    .of_ollama()
    .with(&[ollama::chat::FIELDS, ollama::COMMON_FIELDS]),
    Route::new("POST", "/api/generate", "Ollama: an answer to a prompt, streamed or whole.", || {
        post(ollama::generate::generate)
    })
    .of_ollama()
    .with(&[ollama::generate::FIELDS, ollama::COMMON_FIELDS]),
    Route::new("POST", "/api/embed", "Ollama: a vector for each text.", || post(ollama::embed::embed))
        .of_ollama()
        .with(&[ollama::embed::FIELDS]),
    Route::new("POST", "/api/embeddings", "Ollama: the vector of one text, not normalised.", || {
        post(ollama::embed::embeddings)
    })
    .of_ollama()
    .with(&[ollama::embed::OLD_FIELDS]),
    Route::new("GET", "/api/tags", "Ollama: the models that requests may name.", || {
        get(ollama::models::tags)
    })
    .of_ollama(),
    Route::new("GET", "/api/ps", "Ollama: the models in memory.", || get(ollama::models::ps)).of_ollama(),
    Route::new("POST", "/api/show", "Ollama: what is known of a model.", || post(ollama::show::show))
        .of_ollama()
        .with(&[ollama::show::FIELDS]),
    Route::new(
        "POST",
        "/api/pull",
        "Ollama: fetches a model, on the socket alone; on the port it succeeds for one that is here.",
        || post(ollama::pull::pull),
    )
    .of_ollama()
    .with(&[ollama::pull::FIELDS]),
    Route::new("POST", "/api/push", "Ollama: refused.", || post(ollama::manage::push)).of_ollama(),
    Route::new("POST", "/api/copy", "Ollama: refused.", || post(ollama::manage::copy)).of_ollama(),
    Route::new("POST", "/api/create", "Ollama: refused.", || post(ollama::manage::create)).of_ollama(),
    Route::new("DELETE", "/api/delete", "Ollama: refused.", || delete(ollama::manage::delete)).of_ollama(),
    Route::new("GET", "/healthz", "200 while the process lives.", || get(health::live)),
    Route::new("GET", "/readyz", "200 while requests are accepted, 503 while the daemon shuts down.", || {
        get(health::ready)
    }),
    Route::new("GET", "/metrics", "Prometheus; see [metrics](metrics.md).", || get(metrics::scrape)),
    Route::new("GET", "/admin/stats", "Counters and gauges, as `samovar stats --json` prints them.", || {
        get(admin::facts::stats)
    })
    .for_owner(),
    Route::new("GET", "/admin/models", "The models with their files.", || get(admin::facts::models))
        .for_owner(),
    Route::new("GET", "/admin/why", "`?model=NAME`: the pool's latest decisions about a model.", || {
        get(admin::facts::why)
    })
    .for_owner(),
    Route::new("POST", "/admin/generate", "An answer as events, one JSON object a line.", || {
        post(admin::generate::generate)
    })
    .for_owner()
    .with(&[admin::fields::GENERATE]),
    Route::new(
        "POST",
        "/admin/embed",
        "Vectors or scores of texts as events, one JSON object a line.",
        || post(admin::embed::embed),
    )
    .for_owner()
    .with(&[admin::fields::EMBED]),
    Route::new("POST", "/admin/tokenize", "Token ids of texts.", || post(admin::embed::tokenize))
        .for_owner()
        .with(&[admin::fields::TOKENIZE]),
    Route::new("POST", "/admin/detokenize", "Texts of token ids.", || post(admin::embed::detokenize))
        .for_owner()
        .with(&[admin::fields::DETOKENIZE]),
    Route::new("POST", "/admin/warm", "Loads a model; progress as events, one JSON object a line.", || {
        post(admin::warm::warm)
    })
    .for_owner()
    .with(&[admin::fields::WARM]),
    Route::new(
        "POST",
        "/admin/pack",
        "Packs a model's weights for this CPU and measures its layouts; progress as events, one JSON object a line.",
        || post(admin::pack::pack),
    )
    .for_owner()
    .with(&[admin::fields::PACK]),
    Route::new("POST", "/admin/pin", "Pins a model, or lets it go.", || post(admin::commands::pin))
        .for_owner()
        .with(&[admin::fields::PIN]),
    Route::new("POST", "/admin/unload", "Unloads one model or all.", || post(admin::commands::unload))
        .for_owner()
        .with(&[admin::fields::UNLOAD]),
    Route::new(
        "POST",
        "/admin/reload",
        "Reads the configuration again; what changed, and what needs a restart.",
        || post(admin::commands::reload),
    )
    .for_owner(),
    Route::new("POST", "/admin/shutdown", "Stops the daemon.", || post(admin::commands::shutdown))
        .for_owner()
        .with(&[admin::fields::SHUTDOWN]),
];

/// A refusal of a request for `path`, as clients of its route read it. Where there is no such route, the first one whose path has the
/// same beginning says how; OpenAI's clients come to all other paths.
pub(crate) fn refuse(path: &str, refusal: Refusal) -> Response {
    let alike = |route: &&Route| beginning(route.path).is_some() && beginning(route.path) == beginning(path);
    let route = ROUTES.iter().find(|route| route.is_of(path) || route.is_above(path));
    let route = route.or_else(|| ROUTES.iter().find(alike));
    route.map_or(openai::refuse as fn(Refusal) -> Response, |route| route.refuse)(refusal)
}

/// The first part of a path that has several.
fn beginning(path: &str) -> Option<&str> {
    path.strip_prefix('/')?.split_once('/').map(|(first, _)| first)
}

#[cfg(test)]
mod tests {
    use super::*;
    #[tokio::test]
    async fn a_refusal_looks_as_the_clients_of_its_route_read_it() {
        use axum::http::StatusCode;
        use http_body_util::BodyExt;

        for (path, is_openais) in [
            ("/v1/models", true),
            ("/v1/nothing", true),
            ("/v1/responses", true),
            ("/metrics", true),
            ("/nothing", true),
            ("/rerank", true),
            ("/info", true),
            ("/admin", true),
            ("/", true),
            ("/api/chat", true),
            ("/api/nothing", true),
            ("/admin/pin", false),
            ("/admin/nothing", false),
        ] {
            let response = refuse(path, Refusal::new(StatusCode::NOT_FOUND, "none", "there is none"));
            assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
            let body = response.into_body().collect().await.expect("reads").to_bytes();
            let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
            assert_eq!(body.get("error").is_some(), is_openais, "{path}: {body}");
            assert_eq!(body.get("kind").is_some(), !is_openais, "{path}: {body}");
        }
    }

    #[tokio::test]
    async fn a_refusal_at_and_below_anthropics_route_looks_as_its_clients_read_it() {
        use axum::http::StatusCode;
        use http_body_util::BodyExt;

        for (path, is_anthropics) in [
            ("/v1/messages", true),
            ("/v1/messages/count_tokens", true),
            ("/v1/messages/batches/x", true),
            ("/v1/messages2", false),
        ] {
            let response = refuse(path, Refusal::new(StatusCode::NOT_FOUND, "none", "there is none"));
            let body = response.into_body().collect().await.expect("reads").to_bytes();
            let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
            assert_eq!(body["type"] == "error", is_anthropics, "{path}: {body}");
        }
    }

    #[test]
    fn no_field_is_both_taken_and_refused() {
        let refused: Vec<&str> = openai::refused_fields().map(|(name, _)| name).collect();
        for route in ROUTES {
            for field in route.fields.iter().copied().flatten() {
                assert!(field.about.ends_with('.'), "{}", field.name);
                // Reranking is what documents are for, Ollama's API has fields of its own, and llama-server has the schema next to
                // the grammar.
                let is_of_rerank = route.path.ends_with("/rerank") && field.name == "documents";
                let is_of_llama_server = route.path.starts_with("/completion") && field.name == "json_schema";
                let is_of_others = is_of_rerank || is_of_llama_server || route.path.starts_with("/api/");
                assert!(!refused.contains(&field.name) || is_of_others, "{}", field.name);
            }
        }
    }

    #[test]
    fn only_the_owners_routes_are_kept_from_the_network() {
        for route in ROUTES {
            assert_eq!(route.is_owners, route.path.starts_with("/admin/"), "{}", route.path);
            assert_eq!(route.is_served_on(Surface::Network), !route.is_owners, "{}", route.path);
            assert!(route.is_served_on(Surface::Local), "{}", route.path);
        }
    }
}
