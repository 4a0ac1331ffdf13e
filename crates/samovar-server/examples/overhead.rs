//! What HTTP costs a token: the same answers through the runtime alone, as a stream of events over
//! TCP, and as the owner's lines over the Unix socket, from an engine that takes next to no time. And what a key costs a request.
//!
//! `cargo run --release -p samovar-server --example overhead`
#![allow(clippy::print_stdout, reason = "an example talks to a person at a terminal")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use samovar::{Request, Runtime};
use samovar_core::testing::fake::FakeEngine;
use samovar_server::{KeyFile, KeyTerms, ServeConfig, Server};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

const TOKENS: u32 = 400;
const ROUNDS: usize = 51;
/// Keys of which one is looked up for each request.
const KEYS: usize = 1_000;
/// Requests that are timed with and without a key, in turns.
const ASKS: usize = 2_001;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let home = std::env::temp_dir().join(format!("samovar-overhead-{}", std::process::id()));
    let socket = home.join("run").join("samovar.sock");
    let runtime =
        Runtime::builder().cache_dir(home.join("cache")).engine(Arc::new(FakeEngine::new())).build()?;
    let listen = Some("127.0.0.1:0".parse()?);
    let config = ServeConfig { listen, socket: Some(socket.clone()), ..ServeConfig::default() };
    let server = Server::bind(runtime.clone(), config).await?;
    let address = server.address().ok_or("no address")?;
    let handle = server.handle();
    let serving = tokio::spawn(server.run(std::future::pending()));

    let mut rounds = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        rounds[0].push(alone(&runtime).await?);
        rounds[1].push(openai(TcpStream::connect(address).await?).await?);
        rounds[2].push(lines(UnixStream::connect(&socket).await?).await?);
    }
    let [alone, openai, lines] = rounds.map(median_us_per_token);
    println!("median of {ROUNDS} answers of {TOKENS} tokens, in µs a token");
    println!("runtime alone   {alone:8.2}");
    println!("OpenAI stream   {openai:8.2}   {:+.2}", openai - alone);
    println!("owner's lines   {lines:8.2}   {:+.2}", lines - alone);
    let [without, with_key] = key_check(&runtime, &home).await?;
    println!("median of {ASKS} requests that list the models, in µs each");
    println!("without a key   {without:8.2}");
    println!("one of {KEYS} keys {with_key:7.2}   {:+.2}", with_key - without);

    handle.shut_down(None);
    serving.await?;
    std::fs::remove_dir_all(home)?;
    Ok(())
}

/// What a key costs a request, on two servers over one runtime and a connection each.
async fn key_check(
    runtime: &Runtime,
    home: &std::path::Path,
) -> Result<[f64; 2], Box<dyn std::error::Error>> {
    let file = KeyFile::new(home.join("keys.json"));
    let mut key = file.add("key-0", KeyTerms::default())?;
    for number in 1..KEYS {
        key = file.add(&format!("key-{number}"), KeyTerms::default())?;
    }
    let (mut connections, mut servers) = (Vec::new(), Vec::new());
    for keys in [None, Some(file.path().to_owned())] {
        let config = ServeConfig { listen: Some("127.0.0.1:0".parse()?), keys, ..ServeConfig::default() };
        let server = Server::bind(runtime.clone(), config).await?;
        connections.push(TcpStream::connect(server.address().ok_or("no address")?).await?);
        servers.push(tokio::spawn(server.run(std::future::pending())));
    }
    let header = format!("authorization: Bearer {}\r\n", key.text());
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..ASKS {
        for ((stream, times), header) in connections.iter_mut().zip(&mut times).zip(["", header.as_str()]) {
            times.push(listed(stream, header).await?);
        }
    }
    // Ended from outside: to leave in order would end the runtime that they share.
    servers.iter().for_each(tokio::task::JoinHandle::abort);
    Ok(times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64() * 1e6
    }))
}

/// How long the list of models takes on a connection that stays.
async fn listed(stream: &mut TcpStream, header: &str) -> std::io::Result<Duration> {
    let began = Instant::now();
    let request = format!("GET /v1/models HTTP/1.1\r\nhost: localhost\r\n{header}\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    // The body is one object.
    while !answer.ends_with(b"}") {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    Ok(began.elapsed())
}

fn median_us_per_token(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e6 / f64::from(TOKENS)
}

async fn alone(runtime: &Runtime) -> Result<Duration, samovar_core::Failure> {
    let began = Instant::now();
    let request = Request::text("demo", "Once upon a time").max_tokens(TOKENS).ignore_eos();
    let (_, summary) = runtime.generate(request).collect().await?;
    assert_eq!(summary.usage.completion_tokens, TOKENS);
    Ok(began.elapsed())
}

async fn openai(stream: TcpStream) -> std::io::Result<Duration> {
    let body = json!({ "model": "demo", "prompt": "Once upon a time", "max_tokens": TOKENS,
                       "ignore_eos": true, "stream": true });
    exchange(stream, "/v1/completions", &body.to_string()).await
}

async fn lines(stream: UnixStream) -> std::io::Result<Duration> {
    let body = json!({ "model": "demo", "input": { "text": "Once upon a time" }, "max_tokens": TOKENS,
                       "ignore_eos": true });
    exchange(stream, "/admin/generate", &body.to_string()).await
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    path: &str,
    body: &str,
) -> std::io::Result<Duration> {
    let began = Instant::now();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    Ok(began.elapsed())
}
