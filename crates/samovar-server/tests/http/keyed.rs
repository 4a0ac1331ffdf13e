//! A server with a file of keys, and a client that sends one.

use samovar_core::testing::fake::{Builder, FakeEngine};
use samovar_server::{KeyFile, KeyTerms, Scope, Secret};
use serde_json::{Value, json};

use crate::fixture::Fixture;
use crate::raw::{Answer, exchange, owner, request, tcp};

pub(crate) const CHAT: &str = "/v1/chat/completions";

/// A server whose file of keys is `file`.
pub(crate) struct Keyed {
    pub(crate) fixture: Fixture,
    pub(crate) file: KeyFile,
    _folder: tempfile::TempDir,
}

impl Keyed {
    pub(crate) async fn on(engine: Builder) -> Self {
        let folder = tempfile::tempdir().expect("tempdir");
        let file = KeyFile::new(folder.path().join("keys.json"));
        let path = file.path().to_owned();
        let fixture = Fixture::with(engine, |config| config.keys = Some(path)).await;
        Self { fixture, file, _folder: folder }
    }

    pub(crate) async fn new() -> Self {
        Self::on(FakeEngine::builder()).await
    }

    pub(crate) async fn add(&self, name: &str, terms: KeyTerms) -> Secret {
        let secret = self.file.add(name, terms).expect("adds");
        self.reload().await;
        secret
    }

    pub(crate) async fn reload(&self) -> Answer {
        owner(&self.fixture, "POST", "/admin/keys/reload", &Value::Null).await
    }

    pub(crate) async fn get(&self, key: &Secret, path: &str) -> Answer {
        exchange(tcp(&self.fixture).await, with_key("GET", path, key, "")).await
    }

    pub(crate) async fn post(&self, key: &Secret, path: &str, body: &Value) -> Answer {
        exchange(tcp(&self.fixture).await, with_key("POST", path, key, &body.to_string())).await
    }
}

pub(crate) fn with_key(method: &str, path: &str, key: &Secret, body: &str) -> String {
    let value = format!("Bearer {}", key.text());
    request(method, path, &[("authorization", value.as_str())], body)
}

pub(crate) fn for_scopes(scopes: &[Scope]) -> KeyTerms {
    KeyTerms { scopes: scopes.to_vec(), ..KeyTerms::default() }
}

pub(crate) fn chat(model: &str, max_tokens: u32) -> Value {
    json!({ "model": model, "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": max_tokens,
            "ignore_eos": true })
}
