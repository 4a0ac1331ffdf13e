//! Every route there is, by method, path and listener, with what the reference says of it: the router, the metrics' labels and
//! the reference are read from this table. Nothing is answered here.

use axum::response::Response;

use crate::embedding::terms;
use crate::generation::request_terms;
use crate::keys::Scope;
use crate::openapi::Answers;
use crate::refusal::Refusal;
use crate::route::{Route, delete, get, head, patch, post};
use crate::{
    admin, chat, events, health, llama_server, messages, metrics, ollama, openai, openapi, page, rerank,
    responses, rpc, tei,
};

/// Every route; the last one ends the daemon.
// Not a constant: each crate that reads one compiles the handlers that it names again.
pub static ROUTES: &[Route] = &[
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
    Route::new(
        "POST",
        "/v1/responses/input_tokens",
        "OpenAI: how many tokens such an input has as a prompt; nothing is computed.",
        || post(responses::count::count),
    )
    .with(&[responses::create::FIELDS, request_terms::FIELDS]),
    Route::new("POST", "/v1/messages", "Anthropic: an answer to a conversation, whole or streamed.", || {
        post(messages::create::create)
    })
    .of_anthropic()
    .with(&[messages::create::FIELDS, request_terms::FIELDS]),
    Route::new(
        "POST",
        "/v1/messages/count_tokens",
        "Anthropic: how many tokens a conversation has as a prompt, with its tools; nothing is computed.",
        || post(messages::count::count),
    )
    .of_anthropic()
    .with(&[messages::count::FIELDS, request_terms::FIELDS]),
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
    )
    .asked(terms::QUERY),
    Route::new("POST", "/completion", "llama-server: a text continued, whole or streamed.", || {
        post(llama_server::completion::complete)
    })
    .for_llama_server()
    .with(&[llama_server::PROMPT, llama_server::FIELDS]),
    Route::new("POST", "/completions", "The same.", || post(llama_server::completion::complete))
        .for_llama_server()
        .with(&[llama_server::PROMPT, llama_server::FIELDS]),
    Route::new("POST", "/infill", "llama-server: a gap in a text filled in, whole or streamed.", || {
        post(llama_server::infill::fill_in)
    })
    .for_llama_server()
    .with(&[llama_server::infill::FIELDS, llama_server::FIELDS]),
    Route::new(
        "POST",
        "/apply-template",
        "llama-server: the text that a conversation becomes by the model's chat template; nothing is computed.",
        || post(llama_server::apply_template::apply),
    )
    .for_llama_server()
    .with(&[openai::chat::FIELDS, llama_server::apply_template::FIELDS]),
    Route::new(
        "GET",
        "/props",
        "llama-server: `?model=NAME`: a model's context, slots and usual sampling.",
        || get(llama_server::props::props),
    )
    .for_llama_server()
    .asked(llama_server::PROPS_QUERY),
    Route::new(
        "GET",
        "/slots",
        "llama-server: `?model=NAME`: a model's slots, and which are in use; with `&fail_on_no_slot=1` 503 if all are.",
        || get(llama_server::props::slots),
    )
    .for_llama_server()
    .asked(llama_server::SLOTS_QUERY),
    Route::new("GET", "/health", "llama-server: 200 while requests are accepted, 503 while the daemon shuts down.", || {
        get(llama_server::props::health)
    })
    .for_llama_server()
    .needs(Scope::Open),
    Route::new("GET", "/v1/health", "The same.", || get(llama_server::props::health))
        .for_llama_server()
        .needs(Scope::Open),
    Route::new("GET", "/v1/models", "OpenAI: the models that requests may name.", || {
        get(openai::models::list)
    }),
    Route::new("GET", "/v1/models/{id}", "OpenAI: one model.", || get(openai::models::one)),
    Route::new(
        "GET",
        "/",
        "The page for browsers (`accept: text/html`); Ollama: says that it is running; `HEAD` as well.",
        || get(page::root),
    )
    .of_ollama()
    .answering(Answers::Page)
    .needs(Scope::Open),
    Route::new("GET", "/page/{id}", "A file of the page for browsers; it holds no data.", || get(page::file))
        .answering(Answers::PageFile)
        .needs(Scope::Open),
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
        "Ollama: fetches a model, for the owner, or a key of the scope `manage`; for others it succeeds for one that is here.",
        || post(ollama::pull::pull),
    )
    .of_ollama()
    .with(&[ollama::pull::FIELDS]),
    Route::new("POST", "/api/push", "Ollama: refused.", || post(ollama::manage::push)).of_ollama(),
    Route::new("POST", "/api/copy", "Ollama: another name for a model, for the owner, or a key of the scope `manage`.", || {
        post(ollama::manage::copy)
    })
    .of_ollama()
    .needs(Scope::Manage)
    .with(&[ollama::manage::COPY_FIELDS]),
    Route::new(
        "POST",
        "/api/create",
        "Ollama: a name over a model, with what its requests begin with, for the owner, or a key of the scope `manage`.",
        || post(ollama::create::create),
    )
    .of_ollama()
    .needs(Scope::Manage)
    .with(&[ollama::create::FIELDS]),
    Route::new(
        "DELETE",
        "/api/delete",
        "Ollama: deletes a created name, for the owner, or a key of the scope `manage`; or a model of the store, for the owner, or a key of the scope `admin`.",
        || delete(ollama::manage::delete),
    )
    .of_ollama()
    .needs(Scope::Manage)
    .with(&[ollama::manage::DELETE_FIELDS]),
    Route::new(
        "HEAD",
        "/api/blobs/{id}",
        "Ollama: 200 if bytes of this digest are here, else 404; for the owner, or a key of the scope `manage`.",
        || head(ollama::blobs::head),
    )
    .of_ollama()
    .needs(Scope::Manage),
    Route::new(
        "POST",
        "/api/blobs/{id}",
        "Ollama: takes in bytes of this digest, for `/api/create`; for the owner, or a key of the scope `manage`.",
        || post(ollama::blobs::send),
    )
    .of_ollama()
    .needs(Scope::Manage)
    .with_bytes(),
    Route::new(
        "POST",
        "/chat",
        "A message of a conversation that is kept, and its answer, whole or streamed.",
        || post(chat::send::send),
    )
    .with(&[chat::fields::MESSAGE, chat::fields::TERMS]),
    Route::new(
        "GET",
        "/chat/conversations",
        "The client's conversations, the latest first, or those with the words of a query.",
        || get(chat::list::list),
    )
    .asked(chat::fields::LIST_QUERY),
    Route::new("POST", "/chat/conversations/import", "Takes in a conversation that was exported as JSON.", || {
        post(chat::export::import)
    })
    .with(&[chat::fields::IMPORT]),
    Route::new("GET", "/chat/conversations/{id}", "A conversation with the messages of all its branches.", || {
        get(chat::one::read)
    })
    .with_segment(),
    Route::new("PATCH", "/chat/conversations/{id}", "Changes a conversation.", || patch(chat::one::change))
        .with_segment()
        .with(&[chat::fields::CHANGE]),
    Route::new(
        "DELETE",
        "/chat/conversations/{id}",
        "Deletes a conversation; no byte of its text stays in the file.",
        || delete(chat::one::delete),
    )
    .with_segment(),
    Route::new(
        "GET",
        "/chat/conversations/{id}/export",
        "A conversation as a document.",
        || get(chat::export::export),
    )
    .with_segment()
    .asked(chat::fields::EXPORT_QUERY),
    Route::new("GET", "/healthz", "200 while the process lives.", || get(health::live)).needs(Scope::Open),
    Route::new("GET", "/readyz", "200 while requests are accepted, 503 while the daemon shuts down.", || {
        get(health::ready)
    })
    .needs(Scope::Open),
    Route::new("GET", "/metrics", "Prometheus; see [metrics](metrics.md).", || get(metrics::scrape))
        .answering(Answers::Metrics)
        .needs(Scope::Manage),
    Route::new("GET", "/openapi.json", "These routes with their fields, as an OpenAPI document.", || {
        get(openapi::serve)
    }),
    Route::new("GET", "/admin/stats", "Counters and gauges, as `samovar stats --json` prints them.", || {
        get(admin::facts::stats)
    })
    .for_owner(),
    Route::new("GET", "/admin/models", "The models with their files.", || get(admin::facts::models))
        .for_owner(),
    Route::new("GET", "/admin/why", "`?model=NAME`: the pool's latest decisions about a model.", || {
        get(admin::facts::why)
    })
    .for_owner()
    .asked(admin::fields::MODEL_QUERY),
    Route::new(
        "GET",
        "/admin/outlook",
        "`?model=NAME`: the variants of a model at its source, with the memory that each takes, whether it fits, and how fast it would answer. Nothing is fetched but headers.",
        || get(admin::facts::outlook),
    )
    .for_owner()
    .asked(admin::fields::MODEL_QUERY),
    Route::new(
        "GET",
        "/admin/config",
        "The settings in force, each with where it comes from, without secrets, as `samovar config --json` prints them; what changed since the start.",
        || get(admin::facts::config),
    )
    .for_owner()
    .needs(Scope::Admin),
    Route::new(
        "GET",
        "/admin/usage",
        "`?by=client,model,day&since_ms=…`: requests and tokens, by client, model and day (UTC).",
        || get(admin::facts::usage),
    )
    .for_owner()
    .asked(admin::fields::USAGE_QUERY),
    Route::new("GET", "/admin/disk", "What the models take of the disk, as `samovar df --json` prints it.", || {
        get(admin::disk::usage)
    })
    .for_owner(),
    Route::new(
        "GET",
        "/admin/events",
        "Server-sent events for a dashboard: a `snapshot` first, then a `delta` for each change; `last-event-id` goes on after an event.",
        || get(events::events),
    )
    .for_owner()
    .answering(Answers::Events),
    Route::new("POST", "/admin/generate", "An answer as events, one JSON object a line.", || {
        post(admin::generate::generate)
    })
    .for_owner()
    .needs(Scope::Admin)
    .with(&[admin::fields::GENERATE])
    .answering(Answers::Lines),
    Route::new(
        "POST",
        "/admin/embed",
        "Vectors or scores of texts as events, one JSON object a line.",
        || post(admin::embed::embed),
    )
    .for_owner()
    .needs(Scope::Admin)
    .with(&[admin::fields::EMBED])
    .answering(Answers::Lines),
    Route::new("POST", "/admin/tokenize", "Token ids of texts.", || post(admin::embed::tokenize))
        .for_owner()
        .needs(Scope::Admin)
        .with(&[admin::fields::TOKENIZE]),
    Route::new("POST", "/admin/detokenize", "Texts of token ids.", || post(admin::embed::detokenize))
        .for_owner()
        .needs(Scope::Admin)
        .with(&[admin::fields::DETOKENIZE]),
    Route::new("POST", "/admin/warm", "Loads a model; progress as events, one JSON object a line.", || {
        post(admin::warm::warm)
    })
    .for_owner()
    .with(&[admin::fields::WARM])
    .answering(Answers::Lines),
    Route::new(
        "POST",
        "/admin/prepare",
        "Converts a model that was published in safetensors, once for all later loads; progress as events, one JSON object a line.",
        || post(admin::prepare::prepare),
    )
    .for_owner()
    .with(&[admin::fields::PREPARE])
    .answering(Answers::Lines),
    Route::new(
        "POST",
        "/admin/pack",
        "Packs a model's weights for this CPU and measures its layouts; progress as events, one JSON object a line.",
        || post(admin::pack::pack),
    )
    .for_owner()
    .with(&[admin::fields::PACK])
    .answering(Answers::Lines),
    Route::new(
        "POST",
        "/admin/pull",
        "Fetches a model; progress as events, one JSON object a line. A client that hangs up cancels it, unless `background` is true.",
        || post(admin::pull::pull),
    )
    .for_owner()
    .with(&[admin::fields::PULL])
    .answering(Answers::JsonOrLines),
    Route::new("POST", "/admin/pull/cancel", "Stops the fetches of a model that `/admin/pull` began; what they fetched is kept.", || {
        post(admin::pull::cancel)
    })
    .for_owner()
    .with(&[admin::fields::CANCEL_PULL]),
    Route::new("POST", "/admin/rm", "Removes a model from the disk. One that is in use stays.", || {
        post(admin::disk::remove)
    })
    .for_owner()
    .needs(Scope::Admin)
    .with(&[admin::fields::REMOVE]),
    Route::new("POST", "/admin/gc", "Removes from the disk what is past its limits.", || post(admin::disk::collect))
        .for_owner()
    .needs(Scope::Admin)
        .with(&[admin::fields::COLLECT]),
    Route::new(
        "POST",
        "/admin/verify",
        "Reads models on disk and holds them against their digests; progress as events, one JSON object a line.",
        || post(admin::disk::verify),
    )
    .for_owner()
    .with(&[admin::fields::VERIFY])
    .answering(Answers::Lines),
    Route::new("POST", "/admin/clear", "Empties a level of the cache.", || post(admin::disk::clear))
        .for_owner()
    .needs(Scope::Admin)
        .with(&[admin::fields::CLEAR]),
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
    .for_owner()
    .needs(Scope::Admin),
    Route::new("POST", "/admin/keys/reload", "Reads the file of keys again.", || {
        post(admin::commands::reload_keys)
    })
    .for_owner()
    .needs(Scope::Admin),
    Route::new(
        "POST",
        "/rpc",
        "JSON-RPC 2.0, on the Unix socket alone: one message, answered whole, or with its notifications as one object a line for clients that accept `application/x-ndjson`; `rpc.discover` lists the methods.",
        || post(rpc::post),
    )
    .for_owner()
    .needs(Scope::Admin)
    .of_rpc(),
    Route::new("POST", "/admin/shutdown", "Stops the daemon.", || post(admin::commands::shutdown))
        .for_owner()
        .needs(Scope::Admin)
        .with(&[admin::fields::SHUTDOWN]),
];

/// The route that a request for `path` comes to, if there is one.
pub(crate) fn of(path: &str) -> Option<&'static Route> {
    ROUTES.iter().find(|route| route.is_of(path))
}

/// A refusal of a request for `path`, as clients of its route read it. Where there is no such route, the first one whose path has the
/// same beginning says how; OpenAI's clients come to all other paths.
pub(crate) fn refuse(path: &str, refusal: Refusal) -> Response {
    let alike = |route: &&Route| beginning(route.path).is_some() && beginning(route.path) == beginning(path);
    let route = ROUTES.iter().find(|route| route.is_of(path) || route.is_above(path));
    let route = route.or_else(|| ROUTES.iter().find(alike));
    route.map_or(openai::refuse as fn(Refusal) -> Response, |route| route.refuse)(refusal)
}

/// Whether the bodies of requests for `path` are bytes of any kind, rather than JSON.
pub(crate) fn takes_bytes(path: &str) -> bool {
    ROUTES.iter().any(|route| route.takes_bytes && route.is_of(path))
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
                // Reranking is what documents are for, Ollama's API and the chat service have fields of their own, and llama-server
                // has the schema next to the grammar.
                let is_of_rerank = route.path.ends_with("/rerank") && field.name == "documents";
                let is_of_llama_server = ["/completion", "/completions", "/infill"].contains(&route.path)
                    && field.name == "json_schema";
                let has_own_fields = route.path.starts_with("/api/") || route.path.starts_with("/chat");
                let is_of_others = is_of_rerank || is_of_llama_server || has_own_fields;
                assert!(!refused.contains(&field.name) || is_of_others, "{}", field.name);
            }
        }
    }

    #[test]
    fn the_owners_routes_need_more_than_a_key_for_asking_models() {
        for route in ROUTES {
            let is_owners = route.path.starts_with("/admin/") || route.path == "/rpc";
            assert_eq!(route.is_owners, is_owners, "{}", route.path);
            assert!(!route.is_owners || !Scope::Infer.covers(route.scope), "{}", route.path);
        }
    }

    #[test]
    fn only_the_page_and_what_says_that_the_server_lives_need_no_key() {
        let open: Vec<&str> =
            ROUTES.iter().filter(|route| route.scope == Scope::Open).map(|route| route.path).collect();
        assert_eq!(open, ["/health", "/v1/health", "/", "/page/{id}", "/healthz", "/readyz"]);
    }
}
