//! A server on a scripted engine, with both of its listeners.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use samovar::{ModelSettings, PoolConfig, Runtime};
use samovar_core::ModelRef;
use samovar_core::testing::fake::{Builder, FakeEngine};
use samovar_core::testing::gguf::{LlamaShape, llama};
use samovar_server::{ServeConfig, Server, ServerHandle};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::raw::owner;

/// Requests that one instance serves at the same time.
pub(crate) const SLOTS: u32 = 2;

pub(crate) struct Fixture {
    pub(crate) engine: FakeEngine,
    pub(crate) address: SocketAddr,
    pub(crate) socket: PathBuf,
    pub(crate) home: tempfile::TempDir,
    pub(crate) handle: ServerHandle,
    pub(crate) task: JoinHandle<()>,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        Self::with(FakeEngine::builder(), |_| ()).await
    }

    pub(crate) async fn on(engine: Builder) -> Self {
        Self::with(engine, |_| ()).await
    }

    pub(crate) async fn with(engine: Builder, adjust: impl FnOnce(&mut ServeConfig)) -> Self {
        Self::pooled(engine, PoolConfig::default(), adjust).await
    }

    pub(crate) async fn pooled(
        engine: Builder,
        pool: PoolConfig,
        adjust: impl FnOnce(&mut ServeConfig),
    ) -> Self {
        Self::built(engine, |builder| builder.pool(pool), adjust).await
    }

    pub(crate) async fn built(
        engine: Builder,
        tune: impl FnOnce(samovar::Builder) -> samovar::Builder,
        adjust: impl FnOnce(&mut ServeConfig),
    ) -> Self {
        let engine = engine.build();
        let home = tempfile::tempdir().expect("tempdir");
        let runtime = tune(builder(&engine, &home)).build().expect("builds");
        let socket = home.path().join("run").join("samovar.sock");
        let mut config = ServeConfig {
            listen: Some("127.0.0.1:0".parse().expect("address")),
            socket: Some(socket.clone()),
            drain: Duration::from_secs(60),
            chats: Some(home.path().join("chats.sqlite3")),
            ..ServeConfig::default()
        };
        adjust(&mut config);
        let server = Server::bind(runtime, config).await.expect("binds");
        let address = server.address().expect("listens");
        let handle = server.handle();
        let task = tokio::spawn(server.run(std::future::pending()));
        Self { engine, address, socket, home, handle, task }
    }
}

impl Fixture {
    /// Resolves when no request uses a model.
    pub(crate) async fn handle_quiet(&self) {
        eventually("no request uses a model", async || self.handle.in_flight() == 0).await;
    }

    /// Resolves when so many requests wait for a model.
    pub(crate) async fn queued(&self, count: u64) {
        let is_so =
            async || owner(self, "GET", "/admin/stats", &Value::Null).await.json()["pool"]["queued"] == count;
        eventually(&format!("{count} requests wait"), is_so).await;
    }

    /// Something that the server waits for when it leaves, for as long as it is kept.
    pub(crate) async fn busy(&self) -> TcpStream {
        self.engine.tokens_gate().close();
        let mut stream = TcpStream::connect(self.address).await.expect("connects");
        let body = r#"{"model":"demo","prompt":"x"}"#;
        let text = crate::raw::request("POST", "/v1/completions", &[], body);
        stream.write_all(text.as_bytes()).await.expect("writes");
        self.engine.wait_until(|counts| counts.generations_running == 1).await;
        stream
    }
}

/// Waits until this is so.
///
/// # Panics
/// After 30 seconds, with `what`.
pub(crate) async fn eventually(what: &str, is_so: impl AsyncFn() -> bool) {
    let looks = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(30), looks).await.is_ok(), "not within 30 s: {what}");
}

pub(crate) fn runtime(engine: &FakeEngine, home: &tempfile::TempDir) -> Runtime {
    builder(engine, home).build().expect("builds")
}

fn builder(engine: &FakeEngine, home: &tempfile::TempDir) -> samovar::Builder {
    let settings = ModelSettings::default().slots(SLOTS).context_tokens(512);
    let tiny = home.path().join("tiny-model.gguf");
    if !tiny.exists() {
        fs_err::write(&tiny, llama(LlamaShape::TINY).build()).expect("writes");
    }
    Runtime::builder()
        .cache_dir(home.path().join("cache"))
        .alias("tiny", ModelRef::file(tiny), settings.clone())
        .defaults(settings)
        .engine(Arc::new(engine.clone()))
}

/// The object with what differs from run to run replaced.
pub(crate) fn steady(mut object: Value) -> Value {
    const CHANGING: [(&str, &str); 3] = [("id", "ID"), ("created", "TIME"), ("system_fingerprint", "PRINT")];
    for (field, instead) in CHANGING {
        if let Some(value) = object.get_mut(field) {
            *value = instead.into();
        }
    }
    if let Some(timings) = object.pointer_mut("/samovar/timings") {
        for value in timings.as_object_mut().expect("object").values_mut() {
            assert!(value.is_number(), "{value}");
            *value = "MS".into();
        }
    }
    object
}

/// A stream's objects, one a line, with what differs from run to run replaced.
pub(crate) fn steady_lines(objects: Vec<Value>) -> String {
    objects.into_iter().map(|object| steady(object).to_string() + "\n").collect()
}
