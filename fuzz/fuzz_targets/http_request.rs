//! Any bytes at the server's port: each exchange ends, what is answered is HTTP, nothing of the owner's API is reached, and
//! the next client is served. The first byte says whether the rest is sent as it is, or as the body of a request.
#![no_main]

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use samovar::{ModelSettings, Runtime};
use samovar_core::testing::FakeEngine;
use samovar_server::{Limits, ServeConfig, Server, ServerHandle};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// No exchange takes longer.
const PATIENCE: Duration = Duration::from_secs(10);

struct Subject {
    tokio: tokio::runtime::Runtime,
    address: SocketAddr,
    handle: ServerHandle,
    _home: tempfile::TempDir,
}

static SUBJECT: LazyLock<Subject> = LazyLock::new(|| {
    let tokio = tokio::runtime::Runtime::new().expect("a runtime");
    let home = tempfile::tempdir().expect("a folder");
    let (address, handle) = tokio.block_on(async {
        let settings = ModelSettings::default().slots(2).context_tokens(256);
        let builder = Runtime::builder().cache_dir(home.path()).defaults(settings);
        let runtime = builder.engine(Arc::new(FakeEngine::new())).build().expect("builds");
        let config = ServeConfig {
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            limits: Limits { body_bytes: 64 << 10, ..Limits::default() },
            ..ServeConfig::default()
        };
        let server = Server::bind(runtime, config).await.expect("binds");
        let (address, handle) = (server.address().expect("listens"), server.handle());
        tokio::spawn(server.run(std::future::pending()));
        (address, handle)
    });
    Subject { tokio, address, handle, _home: home }
});

fn message(bytes: &[u8]) -> Vec<u8> {
    let Some((kind, rest)) = bytes.split_first() else { return Vec::new() };
    let path = match kind % 4 {
        1 => "/v1/chat/completions",
        2 => "/v1/completions",
        3 => "/admin/shutdown",
        _ => return rest.to_vec(),
    };
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        rest.len()
    );
    [head.as_bytes(), rest].concat()
}

async fn exchange(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.expect("connects");
    let (mut reader, mut writer) = stream.split();
    let mut answer = Vec::new();
    let send = async {
        let _ = writer.write_all(bytes).await;
        let _ = writer.shutdown().await;
    };
    let receive = async {
        let _ = reader.read_to_end(&mut answer).await;
    };
    tokio::time::timeout(PATIENCE, async { tokio::join!(send, receive) }).await.expect("the exchange ends");
    answer
}

fuzz_target!(|bytes: &[u8]| {
    let subject = &*SUBJECT;
    let answer = subject.tokio.block_on(exchange(subject.address, &message(bytes)));
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{:?}", String::from_utf8_lossy(&answer));
    assert!(!answer.windows(8).any(|window| window == b"panicked"));
    let well = subject.tokio.block_on(exchange(
        subject.address,
        b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
    ));
    assert!(well.starts_with(b"HTTP/1.1 200"));
    assert!(!subject.handle.is_draining(), "no client of the network ends the server");
});
