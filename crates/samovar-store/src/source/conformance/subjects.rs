//! The sources under test, each with a server or folder of its kind.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use object_store::ObjectStoreExt as _;
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use samovar_core::model::reference::Scheme;
use samovar_testhub::{Content, Hub as TestHub};

use super::{Replace, Subject};
use crate::config::{RetryConfig, SourceConfig};
use crate::source::folder::Folder;
use crate::source::http::Http;
use crate::source::hub::Hub;
use crate::source::object::Object;
use crate::source::object::tests::{Server, config as s3_config};
use crate::source::ollama::Ollama;
use crate::source::origin::Client;

/// What the model's file is called.
const NAME: &str = "tiny-Q4_K_M.gguf";

fn config(server: &TestHub) -> SourceConfig {
    SourceConfig {
        hub_endpoint: Some(server.endpoint()),
        ollama_endpoint: Some(server.endpoint()),
        retry: RetryConfig {
            tries: 2,
            first_wait: Duration::from_millis(1),
            longest_wait: Duration::from_millis(5),
        },
        ..SourceConfig::default()
    }
}

/// For what is replaced without waiting.
fn at_once(put: impl Fn(Vec<u8>) + 'static) -> Replace {
    Box::new(move |bytes| {
        put(bytes);
        std::future::ready(()).boxed_local()
    })
}

pub(super) async fn hub() -> Subject {
    let server = TestHub::start().await;
    let config = config(&server);
    let source = Hub::new(Arc::new(Client::new(&config)), &config).unwrap();
    let replace = at_once(move |bytes| {
        server.add_repo("org/name").put(NAME, Content::bytes(bytes));
    });
    Subject::new(source, ["hf://org/name", "hf://org/absent", "ollama://tiny"], replace).await
}

pub(super) async fn http() -> Subject {
    let server = TestHub::start().await;
    let config = config(&server);
    let source = Http::new(Arc::new(Client::new(&config)), &config);
    let (model, missing) = (server.plain_url(NAME), server.plain_url("absent.gguf"));
    let replace = at_once(move |bytes| {
        server.add_plain(NAME, Content::bytes(bytes));
    });
    Subject::new(source, [&model, &missing, "hf://org/name"], replace).await
}

pub(super) async fn ollama() -> Subject {
    let server = TestHub::start().await;
    let config = config(&server);
    let source = Ollama::new(Arc::new(Client::new(&config)), &config).unwrap();
    let replace = at_once(move |bytes| {
        let model = ("application/vnd.ollama.image.model", Content::bytes(bytes));
        server.add_ollama("library/tiny:latest", &[model]);
    });
    Subject::new(source, ["ollama://tiny", "ollama://absent", "hf://org/name"], replace).await
}

pub(super) async fn folder() -> Subject {
    let dir = tempfile::tempdir().unwrap();
    let url = |name: &str| format!("file://{}", dir.path().join(name).display());
    let (model, missing) = (url(NAME), url("absent.gguf"));
    let replace = at_once(move |bytes| fs_err::write(dir.path().join(NAME), bytes).unwrap());
    Subject::new(Folder, [&model, &missing, "hf://org/name"], replace).await
}

pub(super) async fn gs() -> Subject {
    in_memory(Scheme::Gs).await
}

pub(super) async fn az() -> Subject {
    in_memory(Scheme::Az).await
}

/// A bucket of this scheme, in memory.
async fn in_memory(scheme: Scheme) -> Subject {
    let bucket = Arc::new(InMemory::new());
    let source = Object::with_bucket(scheme, "models", bucket.clone());
    let replace: Replace = Box::new(move |bytes: Vec<u8>| {
        let bucket = Arc::clone(&bucket);
        async move {
            bucket.put(&Key::from(format!("m/{NAME}")), bytes.into()).await.unwrap();
        }
        .boxed_local()
    });
    let url = |key: &str| format!("{scheme}://models/{key}");
    let (model, missing) = (url(&format!("m/{NAME}")), url("absent.gguf"));
    Subject::new(source, [&model, &missing, "hf://org/name"], replace).await
}

/// A server process; `None` where there is none, and then the test says so.
pub(super) async fn s3() -> Option<Subject> {
    let server = Server::start(None)?;
    let source = Object::new(&s3_config(&server, "test"));
    let replace = at_once(move |bytes| server.put(&format!("m/{NAME}"), &bytes));
    let model = format!("s3://models/m/{NAME}");
    Some(Subject::new(source, [&model, "s3://models/absent.gguf", "hf://org/name"], replace).await)
}
