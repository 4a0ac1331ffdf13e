//! From a request to an answer: what it is for, what is refused, what is said, and what is untrue about it.
//!
//! Nothing here waits or sends; an answer is made under the hub's lock.

mod api;
pub(crate) mod control;
mod denial;
mod file;
pub(crate) mod ollama;
mod resolve;
mod target;

use std::time::{Duration, SystemTime};

use crate::bad_answer::{BadAnswer, RetryAfter, Topic};
use crate::count::{Listener, Route, Seen};
use crate::reply::Reply;
use crate::request::Request;
use crate::rule::Told;
use crate::state::{Addresses, Shared, State};

pub(crate) use target::Target;

/// All that a route needs.
pub(crate) struct Asked<'a> {
    pub(crate) request: &'a Request,
    pub(crate) target: &'a Target,
    pub(crate) listener: Listener,
    pub(crate) addresses: Addresses,
    /// What is untrue in the headers of the answer.
    pub(crate) headers: Vec<Told>,
}

/// The answer to a request that came to this listener.
pub(crate) fn answer(shared: &Shared, listener: Listener, request: &Request) -> Reply {
    let target = Target::of(listener, request.path());
    let mut asked =
        Asked { request, target: &target, listener, addresses: shared.addresses, headers: Vec::new() };
    let mut state = shared.state();
    let reply = if target.route == Route::Control {
        control::answer(&mut state, &shared.gates, request)
    } else {
        answer_in(&mut state, &mut asked)
    };
    state.counts.note(seen(&asked, reply.status));
    reply
}

fn answer_in(state: &mut State, asked: &mut Asked<'_>) -> Reply {
    let occasion = asked.target.occasion(&asked.request.method);
    let refusals = state.draw(Topic::Refusal, occasion);
    let refusal = refusals.iter().find_map(|told| refusal(&told.lie));
    asked.headers = state.draw(Topic::Header, occasion);
    let mut reply = match refusal {
        Some(reply) => reply,
        None => truth(state, asked),
    };
    for told in &refusals {
        match told.lie {
            BadAnswer::HangUp => reply.is_silent = true,
            BadAnswer::Late { by_ms } => reply.late += Duration::from_millis(by_ms),
            _ => (),
        }
    }
    for told in &asked.headers {
        distort_headers(&mut reply, &told.lie, asked.target.route);
    }
    reply
}

fn truth(state: &mut State, asked: &Asked<'_>) -> Reply {
    match asked.target.route {
        Route::Info | Route::Tree => api::answer(state, asked),
        Route::Resolve => resolve::resolve(state, asked),
        Route::ResolveCache => resolve::cached(state, asked),
        Route::Cdn => resolve::cdn(state, asked),
        Route::Elsewhere => resolve::elsewhere(state, asked),
        Route::Plain => resolve::plain(state, asked),
        Route::OllamaManifest => ollama::manifest(state, asked),
        Route::OllamaBlob => ollama::blob(state, asked),
        Route::Control | Route::Unknown => Reply::text(404, "text/plain", "Not Found"),
    }
}

fn refusal(lie: &BadAnswer) -> Option<Reply> {
    match lie {
        BadAnswer::Status { status, retry_after } => {
            let mut reply = Reply::json(*status, &serde_json::json!({"error": "the hub is not well"}));
            if let Some(retry_after) = retry_after {
                reply.set("Retry-After", retry_after_text(*retry_after));
            }
            Some(reply)
        }
        BadAnswer::Denied(denial) => Some(denial::reply(*denial)),
        BadAnswer::Text(text) => Some(Reply::text(200, "application/json; charset=utf-8", text.as_str())),
        _ => None,
    }
}

fn retry_after_text(retry_after: RetryAfter) -> String {
    match retry_after {
        RetryAfter::Seconds(seconds) => seconds.to_string(),
        RetryAfter::Date(seconds) => {
            httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(seconds))
        }
        RetryAfter::Nonsense => "when the moon is full".to_owned(),
    }
}

fn distort_headers(reply: &mut Reply, lie: &BadAnswer, route: Route) {
    match lie {
        BadAnswer::Etag(text) => {
            reply.set("X-Linked-Etag", text.clone());
            reply.set("ETag", text.clone());
        }
        // A description says it in its text.
        BadAnswer::Commit(_) if route == Route::Info => (),
        BadAnswer::Commit(text) => reply.set("X-Repo-Commit", text.clone()),
        BadAnswer::LinkedSize(size) => reply.set("X-Linked-Size", size.to_string()),
        BadAnswer::Header { name, value } => reply.set(name, value.clone()),
        BadAnswer::NoHeader { name } => reply.unset(name),
        _ => (),
    }
}

fn seen(asked: &Asked<'_>, status: u16) -> Seen {
    let header = |name| asked.request.header(name).map(str::to_owned);
    Seen {
        listener: asked.listener,
        route: asked.target.route,
        method: asked.request.method.clone(),
        target: asked.request.target.clone(),
        status,
        host: header("host"),
        authorization: header("authorization"),
        range: header("range"),
        if_range: header("if-range"),
        user_agent: header("user-agent"),
        cookie: header("cookie"),
    }
}
