//! The port over TLS: certificates that change, clients that must show one, and everything that holds on a plain port.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use samovar_core::testing::fake::{Builder, FakeEngine};
use samovar_server::{Error, ServeConfig, Server, TlsFiles};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::fixture::{Fixture, eventually, runtime};
use crate::raw::{Answer, exchange, get, owner, read, request, tcp};

/// A certificate and its key, in PEM.
type Pair = [&'static str; 2];

macro_rules! pem {
    ($name:literal) => {
        include_str!(concat!("../certificates/", $name, ".pem"))
    };
}

const CA: &str = pem!("ca");
const SERVER: Pair = [pem!("server"), pem!("server.key")];
const SERVER_2: Pair = [pem!("server2"), pem!("server2.key")];
const CLIENT: Pair = [pem!("client"), pem!("client.key")];
const STRANGER: Pair = [pem!("stranger"), pem!("stranger.key")];
const COMPLETIONS: &str = "/v1/completions";

fn write(folder: &Path, [certificate, key]: Pair) -> TlsFiles {
    let files = TlsFiles {
        certificate: folder.join("server.pem"),
        key: folder.join("server.key.pem"),
        client_ca: None,
    };
    for (path, text) in [(&files.certificate, certificate), (&files.key, key)] {
        // As another file: pairs are of one size, and many kernels tell the time of a change to a few milliseconds.
        let new = folder.join("new.pem");
        fs_err::write(&new, text).expect("writes");
        fs_err::rename(&new, path).expect("renames");
    }
    files
}

/// A server over TLS, and the folder of its files.
async fn secured(engine: Builder, adjust: impl FnOnce(&mut ServeConfig)) -> (Fixture, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("tempdir");
    let files = write(folder.path(), SERVER);
    let fixture = Fixture::with(engine, |config| {
        config.tls = Some(files);
        adjust(config);
    });
    (fixture.await, folder)
}

/// The same for clients that have a certificate of the tests' authority.
async fn secured_for_clients() -> (Fixture, tempfile::TempDir) {
    secured(FakeEngine::builder(), |config| {
        let files = config.tls.as_mut().expect("TLS");
        let path = files.certificate.with_file_name("ca.pem");
        fs_err::write(&path, CA).expect("writes");
        files.client_ca = Some(path);
    })
    .await
}

fn certificate(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate")
}

/// A client that trusts the tests' authority.
fn connector(identity: Option<Pair>, protocol: &str) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(certificate(CA)).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let mut config = match identity {
        Some([pem, key]) => {
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
            builder.with_client_auth_cert(vec![certificate(pem)], key).expect("a pair")
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    TlsConnector::from(Arc::new(config))
}

async fn connect_as(
    fixture: &Fixture,
    identity: Option<Pair>,
    protocol: &str,
) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from("localhost").expect("a name");
    connector(identity, protocol).connect(name, tcp(fixture).await).await
}

async fn connect(fixture: &Fixture) -> TlsStream<TcpStream> {
    connect_as(fixture, None, "http/1.1").await.expect("a handshake")
}

async fn ask(fixture: &Fixture, headers: &[(&str, &str)]) -> Answer {
    exchange(connect(fixture).await, request("GET", "/v1/models", headers, "")).await
}

fn completion(more: &Value) -> String {
    let mut body = json!({ "model": "demo", "prompt": "Hi", "max_tokens": 3, "ignore_eos": true });
    for (field, value) in more.as_object().expect("object") {
        body[field] = value.clone();
    }
    request("POST", COMPLETIONS, &[], &body.to_string())
}

/// What the server shows of itself.
fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    let chain = stream.get_ref().1.peer_certificates().expect("certificates");
    chain.first().expect("a certificate").clone()
}

async fn handshakes(fixture: &Fixture, outcome: &str) -> bool {
    let text = owner(fixture, "GET", "/metrics", &Value::Null).await.body;
    text.contains(&format!("samovar_tls_handshakes_total{{outcome=\"{outcome}\"}}"))
}

#[tokio::test]
async fn a_client_is_answered_and_guarded_as_on_a_plain_port() {
    let (fixture, _files) = secured(FakeEngine::builder(), |config| config.limits.body_bytes = 1_000).await;
    let stream = connect(&fixture).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert_eq!(shown(&stream), certificate(SERVER[0]));
    let answer = exchange(stream, completion(&json!({}))).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.json()["usage"]["completion_tokens"], 3);
    let streamed = exchange(connect(&fixture).await, completion(&json!({ "stream": true }))).await;
    assert!(streamed.events().len() > 3);
    assert_eq!(ask(&fixture, &[("host", "evil.example")]).await.error()["code"], "host_not_allowed");
    let page = ask(&fixture, &[("origin", "https://evil.example")]).await;
    assert_eq!(page.error()["code"], "origin_not_allowed");
    let large = request("POST", COMPLETIONS, &[], &"x".repeat(2_000));
    assert_eq!(exchange(connect(&fixture).await, large).await.status, 413);
    assert_eq!(owner(&fixture, "GET", "/admin/stats", &Value::Null).await.json()["tls"], true);
    assert!(handshakes(&fixture, "done").await);
}

#[tokio::test]
async fn plain_http_is_told_to_use_https_and_noise_is_closed() {
    let (fixture, _files) = secured(FakeEngine::builder(), |_| ()).await;
    let answer = get(&fixture, "/v1/models").await;
    assert_eq!((answer.status, answer.header("connection")), (400, Some("close")));
    let error = answer.error();
    assert_eq!(error["code"], "https_required");
    assert!(error["message"].as_str().expect("text").contains("https://"), "{error}");
    let mut noise = tcp(&fixture).await;
    noise.write_all(&[0x80, 1, 2, 3]).await.expect("writes");
    let mut said = Vec::new();
    let _ = noise.read_to_end(&mut said).await;
    assert!(said.is_empty(), "{said:?}");
    assert!(connect_as(&fixture, None, "h2").await.is_err(), "this server speaks HTTP/1.1");
    assert!(handshakes(&fixture, "plain_http").await && handshakes(&fixture, "failed").await);
    assert_eq!(ask(&fixture, &[]).await.status, 200);
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_new_connections_and_old_ones_stay() {
    let (fixture, files) = secured(FakeEngine::builder(), |_| ()).await;
    let mut kept = connect(&fixture).await;
    write(files.path(), SERVER_2);
    // The files are looked at once per second.
    let is_new = async || shown(&connect(&fixture).await) == certificate(SERVER_2[0]);
    eventually("the new certificate is shown", is_new).await;
    assert_eq!(shown(&kept), certificate(SERVER[0]));
    kept.write_all(request("GET", "/healthz", &[], "").as_bytes()).await.expect("writes");
    assert_eq!(read(kept).await.status, 200);
}

#[tokio::test]
async fn where_authorities_are_set_only_their_clients_are_served() {
    let (fixture, _files) = secured_for_clients().await;
    let is_served = async |identity: Option<Pair>| {
        // By TLS 1.3 a client hears only after its own part that it is not wanted.
        let Ok(mut stream) = connect_as(&fixture, identity, "http/1.1").await else { return false };
        let _ = stream.write_all(request("GET", "/healthz", &[], "").as_bytes()).await;
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said).await;
        said.starts_with(b"HTTP/1.1 200")
    };
    assert!(is_served(Some(CLIENT)).await);
    assert!(!is_served(Some(STRANGER)).await, "of another authority");
    assert!(!is_served(None).await, "without a certificate");
}

#[tokio::test]
async fn a_client_shows_its_certificate_by_each_connection() {
    let (fixture, _files) = secured_for_clients().await;
    let connector = connector(Some(CLIENT), "http/1.1");
    for _ in 0..2 {
        let name = ServerName::try_from("localhost").expect("a name");
        let mut stream = connector.connect(name, tcp(&fixture).await).await.expect("a handshake");
        stream.write_all(request("GET", "/healthz", &[], "").as_bytes()).await.expect("writes");
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said).await;
        assert!(said.starts_with(b"HTTP/1.1 200"));
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
    }
}

#[tokio::test]
async fn a_client_that_never_ends_its_handshake_is_closed() {
    let (fixture, _files) = secured(FakeEngine::builder(), |config| {
        config.limits.head_timeout = Duration::from_secs(1);
    })
    .await;
    let silent = tcp(&fixture).await;
    let mut half = tcp(&fixture).await;
    // The head of a record whose rest does not come.
    half.write_all(&[0x16, 3, 1, 2, 0, 1]).await.expect("writes");
    for mut stream in [silent, half] {
        let mut said = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut said)).await;
        assert!(closed.is_ok(), "it was closed");
    }
    assert!(handshakes(&fixture, "dropped").await);
}

#[tokio::test]
async fn handshakes_count_as_connections_and_give_their_places_to_others() {
    let (fixture, _files) =
        secured(FakeEngine::builder().gate_tokens(), |config| config.limits.connections = 2).await;
    let _silent = [tcp(&fixture).await, tcp(&fixture).await];
    assert_eq!(ask(&fixture, &[]).await.status, 200, "in the place of one that says nothing");
    let mut busy = Vec::new();
    for number in 1..=2 {
        let mut stream = connect(&fixture).await;
        stream.write_all(completion(&json!({})).as_bytes()).await.expect("writes");
        fixture.engine.wait_until(|counts| counts.generations_running == number).await;
        busy.push(stream);
    }
    let turned_away = ask(&fixture, &[]).await;
    assert_eq!((turned_away.status, turned_away.header("retry-after")), (503, Some("1")));
    fixture.engine.tokens_gate().open();
    for stream in busy {
        assert_eq!(read(stream).await.status, 200);
    }
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_slot() {
    let (fixture, _files) = secured(FakeEngine::builder().gate_tokens(), |_| ()).await;
    let mut stream = connect(&fixture).await;
    stream.write_all(completion(&json!({})).as_bytes()).await.expect("writes");
    fixture.engine.wait_until(|counts| counts.generations_running == 1).await;
    drop(stream);
    fixture.engine.wait_until(|counts| counts.generations_cancelled == 1).await;
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn a_client_that_says_that_it_sends_no_more_gets_its_answer() {
    let (fixture, _files) = secured(FakeEngine::builder().gate_tokens(), |_| ()).await;
    let mut stream = connect(&fixture).await;
    stream.write_all(completion(&json!({})).as_bytes()).await.expect("writes");
    stream.shutdown().await.expect("shuts");
    fixture.engine.wait_until(|counts| counts.generations_running == 1).await;
    fixture.engine.tokens_gate().open();
    assert_eq!(read(stream).await.status, 200);
}

#[tokio::test]
async fn files_that_cannot_be_used_are_an_error_at_the_start() {
    let engine = FakeEngine::new();
    let home = tempfile::tempdir().expect("tempdir");
    let bind = async |listen: &str, files: TlsFiles| {
        let listen = Some(listen.parse().expect("an address"));
        let config = ServeConfig { listen, tls: Some(files), ..ServeConfig::default() };
        Server::bind(runtime(&engine, &home), config).await
    };
    let mut files = write(home.path(), [SERVER[0], SERVER_2[1]]);
    let error = bind("127.0.0.1:0", files.clone()).await.err().expect("the key of another certificate");
    assert!(matches!(error, Error::Tls(_)));
    assert!(error.to_string().contains("server.key.pem") && !error.hint().is_empty(), "{error}");
    write(home.path(), SERVER);
    let error = bind("0.0.0.0:0", files.clone()).await.err().expect("it knows no client");
    assert!(matches!(error, Error::Exposed(_)), "{error}");
    let ca = home.path().join("ca.pem");
    fs_err::write(&ca, CA).expect("writes");
    files.client_ca = Some(ca);
    assert!(bind("0.0.0.0:0", files).await.is_ok(), "only clients with certificates come in");
}
