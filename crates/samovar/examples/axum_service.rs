//! A route of a service of your own: it takes a question and answers with text that grows.
//!
//! `cargo run --release -p samovar --example axum_service -- [ADDRESS]`
//!
//! A client that hangs up cancels its answer: with the body, the answer is dropped. For OpenAI's API there is `samovar serve`.
#![allow(clippy::print_stdout, reason = "an example talks to a person at a terminal")]

use std::error::Error;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures_util::{StreamExt, stream};
use samovar::{Failure, Message, Origin, Request, Runtime};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let runtime = Runtime::builder().preload("demo").build()?;
    let routes = Router::new().route("/ask", post(ask)).with_state(runtime.clone());
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7267".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("curl --no-buffer --data 'Tell me a story about a fox' http://{}/ask", listener.local_addr()?);
    let told_to_leave = async {
        tokio::signal::ctrl_c().await.ok();
    };
    axum::serve(listener, routes).with_graceful_shutdown(told_to_leave).await?;
    runtime.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

async fn ask(State(runtime): State<Runtime>, question: String) -> Result<Response, (StatusCode, String)> {
    let request = Request::chat("demo", [Message::user(question)]).max_tokens(256).origin(Origin::Network);
    let mut answer = runtime.generate(request);
    // Until the first token, what goes wrong is a status of its own; later it breaks the body off.
    let first = answer.next_text().await.map_err(refused)?;
    let rest = stream::unfold(answer, |mut answer| async move {
        let text = answer.next_text().await.transpose()?;
        Some((text, answer))
    });
    let whole = stream::iter(first.map(Ok::<_, Failure>)).chain(rest);
    Ok(Body::from_stream(whole).into_response())
}

fn refused(failure: Failure) -> (StatusCode, String) {
    let status = StatusCode::from_u16(failure.kind.surface().http_status);
    (status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), failure.message)
}
