//! What a route is, and how the table of [`routes`](crate::routes) writes one down. Nothing is answered here.

use axum::response::Response;
use axum::routing::MethodRouter;

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
    /// `GET`, `HEAD`, `POST` or `DELETE`.
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
    pub(crate) handler: fn() -> MethodRouter<App>,
    /// Writes a refusal as its clients read it.
    pub(crate) refuse: fn(Refusal) -> Response,
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
