//! What a route is, and how the table of [`routes`](crate::routes) writes one down. Nothing is answered here.

use std::sync::Arc;

use axum::extract::Request;
use axum::handler::Handler;
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter};
use futures_util::future::BoxFuture;

use crate::app::{App, Surface};
use crate::field::Field;
use crate::keys::Scope;
use crate::openapi::{Answers, Api};
use crate::refusal::Refusal;
use crate::{admin, llama_server, messages, ollama, openai, rpc};

/// A route.
#[non_exhaustive]
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// `GET`, `HEAD`, `POST`, `PATCH` or `DELETE`.
    pub method: &'static str,
    /// Its path; `{id}` stands for any text.
    pub path: &'static str,
    /// Whether it is the owner's: it is served on the Unix socket, and over TCP only for a key of the scope that it needs.
    pub is_owners: bool,
    /// What it needs of the key of a request over TCP, once there is a key.
    pub scope: Scope,
    /// What it does.
    pub about: &'static str,
    /// The fields of its body, in groups. Others are passed over, or refused by name ([`crate::refused_fields`]); the owner's
    /// routes take no others.
    pub fields: &'static [&'static [Field]],
    /// The fields of its query.
    pub query: &'static [Field],
    /// Whose clients it is for.
    pub api: Api,
    /// What it answers with, where its fields do not tell.
    fixed_answers: Option<Answers>,
    /// Whether its body is bytes of any kind rather than JSON.
    pub(crate) takes_bytes: bool,
    /// Whether `{id}` in its path stands for one segment, and not for all that is left.
    id_is_segment: bool,
    pub(crate) handler: fn() -> MethodRouter<App>,
    /// Writes a refusal as its clients read it.
    pub(crate) refuse: fn(Refusal) -> Response,
}

impl Route {
    /// As the router knows it.
    pub(crate) fn pattern(&self) -> String {
        if self.id_is_segment { self.path.to_owned() } else { self.path.replace("{id}", "{*id}") }
    }

    /// Whether a request for `path` comes here.
    pub(crate) fn is_of(&self, path: &str) -> bool {
        let Some((before, after)) = self.path.split_once("{id}") else { return path == self.path };
        let Some(rest) = path.strip_prefix(before) else { return false };
        let id = rest.strip_suffix(after);
        !self.id_is_segment || id.is_some_and(|id| !id.is_empty() && !id.contains('/'))
    }

    /// Whether it is not to be known here that there is such a route.
    pub(crate) fn is_hidden(&self, app: &App) -> bool {
        self.is_owners && app.surface == Surface::Network && !app.keys.are_needed()
    }

    /// Writes a refusal as its clients read it.
    pub(crate) fn refuse(&self, refusal: Refusal) -> Response {
        (self.refuse)(refusal)
    }

    pub(crate) const fn new(
        method: &'static str,
        path: &'static str,
        about: &'static str,
        handler: fn() -> MethodRouter<App>,
    ) -> Self {
        Self {
            method,
            path,
            is_owners: false,
            scope: Scope::Infer,
            about,
            fields: &[],
            query: &[],
            api: Api::OpenAi,
            fixed_answers: None,
            takes_bytes: false,
            id_is_segment: false,
            handler,
            refuse: openai::refuse,
        }
    }

    /// What it answers with: where its body has `stream`, that decides.
    pub fn answers(&self) -> Answers {
        let may_stream = self.fields.iter().copied().flatten().any(|field| field.name == "stream");
        match (self.fixed_answers, self.api) {
            (Some(answers), _) => answers,
            (None, _) if !may_stream => Answers::Json,
            (None, Api::Ollama) => Answers::JsonOrLines,
            (None, _) => Answers::JsonOrEvents,
        }
    }

    /// Whether `path` lies below it.
    pub(crate) fn is_above(&self, path: &str) -> bool {
        self.path != "/" && path.strip_prefix(self.path).is_some_and(|rest| rest.starts_with('/'))
    }

    pub(crate) const fn of_anthropic(self) -> Self {
        Self { refuse: messages::refuse, api: Api::Anthropic, ..self }
    }

    pub(crate) const fn for_owner(self) -> Self {
        Self { is_owners: true, scope: Scope::Manage, refuse: admin::refuse, api: Api::Owner, ..self }
    }

    /// What a key must be for, where it is not for asking models.
    pub(crate) const fn needs(self, scope: Scope) -> Self {
        Self { scope, ..self }
    }

    pub(crate) const fn of_ollama(self) -> Self {
        Self { refuse: ollama::refuse, api: Api::Ollama, ..self }
    }

    pub(crate) const fn with_bytes(self) -> Self {
        Self { takes_bytes: true, ..self }
    }

    pub(crate) const fn with_segment(self) -> Self {
        Self { id_is_segment: true, ..self }
    }

    pub(crate) const fn for_llama_server(self) -> Self {
        Self { refuse: llama_server::refuse, api: Api::LlamaServer, ..self }
    }

    pub(crate) const fn of_rpc(self) -> Self {
        Self { refuse: rpc::refuse, ..self }
    }

    pub(crate) const fn with(self, fields: &'static [&'static [Field]]) -> Self {
        Self { fields, ..self }
    }

    pub(crate) const fn asked(self, query: &'static [Field]) -> Self {
        Self { query, ..self }
    }

    pub(crate) const fn answering(self, answers: Answers) -> Self {
        Self { fixed_answers: Some(answers), ..self }
    }
}

/// Any handler, so that the compiler makes what axum puts around a handler once, and not for each.
#[derive(Clone)]
struct AnyHandler(Arc<dyn Fn(Request, App) -> BoxFuture<'static, Response> + Send + Sync>);

impl Handler<(), App> for AnyHandler {
    type Future = BoxFuture<'static, Response>;

    fn call(self, request: Request, app: App) -> Self::Future {
        (self.0)(request, app)
    }
}

/// What axum calls the same, for any handler.
macro_rules! methods {
    ($($name:ident: $method:ident),+) => {$(
        pub(crate) fn $name<H, T>(handler: H) -> MethodRouter<App>
        where
            H: Handler<T, App, Future = BoxFuture<'static, Response>>,
            T: 'static,
        {
            let handler = AnyHandler(Arc::new(move |request, app| handler.clone().call(request, app)));
            axum::routing::on::<AnyHandler, (), App>(MethodFilter::$method, handler)
        }
    )+};
}

methods!(delete: DELETE, get: GET, head: HEAD, patch: PATCH, post: POST);
