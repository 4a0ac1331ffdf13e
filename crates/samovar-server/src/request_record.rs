//! One request from its head to the last byte of its answer, as the audit log and the counts of use are told of it.
//!
//! ```text
//!   layer/count ─► RequestRecord: client, address, route, status ─┐
//!   Running ─────► EndedWork: model, tokens, how it ended ────────┼─► the last clone is dropped ─► EndedRequest ─┬─► audit log
//!                     └─► metrics                                 ┘                                              └─► counts of use
//! ```
//!
//! A request has several works where its answer has several choices, and none where nothing is generated or embedded. What clients send
//! as prompts, and what models answer, never comes here.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Method, StatusCode};
use samovar::Summary;
use samovar_core::ErrorKind;
use samovar_core::generation::{FinishReason, Usage};

use crate::app::App;
use crate::held_body::hold;
use crate::moment;

/// Names that clients send are cut to so many bytes.
const NAME_MAX_BYTES: usize = 256;

/// Stands for the route of what came by none.
const NO_ROUTE: &str = "rpc";
/// How a request ended that came to nothing, if no error of its work says more.
const REFUSED: &str = "refused";

tokio::task_local! {
    /// The record of the request that a handler answers.
    static CURRENT: RequestRecord;
}

/// A generation, or the computing of vectors, that has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EndedWork<'a> {
    /// The model, once a slot was granted.
    pub(crate) model: Option<&'a str>,
    /// What it came to, or why it failed.
    pub(crate) outcome: Result<&'a Summary, ErrorKind>,
    /// What was computed for it, also where it failed.
    pub(crate) usage: Usage,
}

impl EndedWork<'_> {
    /// The word for how it ended.
    fn word(&self) -> &'static str {
        match self.outcome {
            Ok(summary) => finish_word(summary.finish),
            Err(kind) => kind.surface().code,
        }
    }
}

/// The word for the end of an answer, in metrics and logs.
pub(crate) const fn finish_word(finish: FinishReason) -> &'static str {
    match finish {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
        FinishReason::TimedOut => "timed_out",
        FinishReason::ToolCalls => "tool_calls",
    }
}

/// A request that has ended.
#[derive(Clone, Debug)]
pub(crate) struct EndedRequest {
    /// When it began, since 1970.
    pub(crate) began: Duration,
    /// How long it took, with its answer.
    pub(crate) took: Duration,
    pub(crate) id: String,
    /// The client, as fairness knows it: the name of a key, a trusted header's, an address, a user.
    pub(crate) client: String,
    /// The address or the user at the other end of the connection.
    pub(crate) address: String,
    pub(crate) method: Method,
    /// The route's path in the table, or `other`.
    pub(crate) route: &'static str,
    /// Whether it changes something of the daemon's.
    pub(crate) is_admin: bool,
    pub(crate) status: u16,
    /// How its work ended, if it had any.
    pub(crate) finish: Option<&'static str>,
    /// The model that was asked for, or the one that was granted.
    pub(crate) model: Option<String>,
    /// Whether any of its work was granted a slot of a model.
    pub(crate) is_granted: bool,
    /// Generations and computings of vectors.
    pub(crate) works: u32,
    pub(crate) prompt_tokens: u64,
    pub(crate) cached_tokens: u64,
    pub(crate) answer_tokens: u64,
}

impl EndedRequest {
    /// How it ended: as its work did, or by its status.
    pub(crate) fn outcome(&self) -> &'static str {
        match self.finish {
            Some(word) => word,
            None if self.status < 400 => "ok",
            None => REFUSED,
        }
    }

    /// Whether something of the daemon's may be another one since: what is refused changes nothing.
    pub(crate) fn has_changed_daemon(&self) -> bool {
        self.is_admin && self.works == 0 && self.status < 400 && self.finish.is_none()
    }
}

/// Where requests go that have ended.
pub(crate) trait Ledger: Send + Sync {
    /// Takes note of a request. Must not wait.
    fn take(&self, ended: EndedRequest);
}

/// What is known of a request that is being answered. Clones are the same; the last one that is dropped ends it.
#[derive(Clone)]
pub(crate) struct RequestRecord {
    open: Arc<Open>,
}

struct Open {
    ledger: Arc<dyn Ledger>,
    began: Instant,
    request: Mutex<EndedRequest>,
}

impl RequestRecord {
    /// A request begins, of which this is known.
    pub(crate) fn begin(ledger: &Arc<dyn Ledger>, id: &str, address: &str, method: Method) -> Self {
        let request = EndedRequest {
            began: moment::since_1970(),
            took: Duration::ZERO,
            id: id.to_owned(),
            client: address.to_owned(),
            address: address.to_owned(),
            method,
            route: "other",
            is_admin: false,
            status: 0,
            finish: None,
            model: None,
            is_granted: false,
            works: 0,
            prompt_tokens: 0,
            cached_tokens: 0,
            answer_tokens: 0,
        };
        let open = Open { ledger: Arc::clone(ledger), began: Instant::now(), request: Mutex::new(request) };
        Self { open: Arc::new(open) }
    }

    /// This client's call of a method of JSON-RPC, which stands for the route; some change something of the daemon's.
    pub(crate) fn of_call(app: &App, client: &str, method: &'static str, is_admin: bool) -> Self {
        let record = Self::begin(&app.ledger, "", client, Method::POST);
        record.came_to(method, is_admin);
        record
    }

    /// The record of the request that this task answers; where there is none, a new one.
    pub(crate) fn current(app: &App) -> Self {
        CURRENT.try_with(Self::clone).unwrap_or_else(|_| Self::of_call(app, "", NO_ROUTE, false))
    }

    /// Its handler changes something of the daemon's, unless it only looks.
    pub(crate) fn changes_daemon(&self) {
        let mut request = self.request();
        request.is_admin = request.method != Method::GET && request.method != Method::HEAD;
    }

    /// It came to nothing, and no status says so.
    pub(crate) fn refused(&self) {
        self.request().finish.get_or_insert(REFUSED);
    }

    /// Answers the request: what runs meanwhile finds this record.
    pub(crate) async fn during<T>(&self, answering: impl Future<Output = T>) -> T {
        CURRENT.scope(self.clone(), answering).await
    }

    /// Which route it came to, and whether that changes something of the daemon's.
    pub(crate) fn came_to(&self, route: &'static str, is_admin: bool) {
        let mut request = self.request();
        (request.route, request.is_admin) = (route, is_admin);
    }

    /// Which status its answer has.
    pub(crate) fn answered(&self, status: StatusCode) {
        self.request().status = status.as_u16();
    }

    /// Who asks, where that is more than an address.
    pub(crate) fn asked_by(&self, client: &str) {
        if !client.is_empty() {
            cut(client).clone_into(&mut self.request().client);
        }
    }

    /// Some work begins, for this model.
    pub(crate) fn work_begins(&self, model: &str) {
        let mut request = self.request();
        request.works += 1;
        request.model.get_or_insert_with(|| cut(model).to_owned());
    }

    /// Some work has ended. A failure counts for more than a success.
    pub(crate) fn work_ended(&self, work: &EndedWork<'_>) {
        let mut request = self.request();
        if let Some(model) = work.model {
            (request.model, request.is_granted) = (Some(cut(model).to_owned()), true);
        }
        if request.finish.is_none() || work.outcome.is_err() {
            request.finish = Some(work.word());
        }
        request.prompt_tokens += u64::from(work.usage.prompt_tokens);
        request.cached_tokens += u64::from(work.usage.cached_tokens);
        request.answer_tokens += u64::from(work.usage.completion_tokens);
    }

    /// A body that keeps the request open until its last byte is taken, or its reader has left.
    pub(crate) fn until_end_of(self, body: Body) -> Body {
        hold(body, self)
    }

    fn request(&self) -> MutexGuard<'_, EndedRequest> {
        self.open.request.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let request = self.request.get_mut().unwrap_or_else(PoisonError::into_inner);
        request.took = self.began.elapsed();
        self.ledger.take(request.clone());
    }
}

/// As much of a name as is kept of it.
fn cut(name: &str) -> &str {
    let mut end = name.len().min(NAME_MAX_BYTES);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

#[cfg(test)]
pub(crate) mod tests {
    use axum::body::HttpBody;

    use super::*;

    /// Keeps what it is told.
    #[derive(Default)]
    pub(crate) struct RecordedRequests(Mutex<Vec<EndedRequest>>);

    impl Ledger for RecordedRequests {
        fn take(&self, ended: EndedRequest) {
            self.0.lock().expect("not poisoned").push(ended);
        }
    }

    /// A request that came to this.
    pub(crate) fn ended(client: &str, model: &str, tokens: u64) -> EndedRequest {
        let kept = Arc::new(RecordedRequests::default());
        let ledger: Arc<dyn Ledger> = Arc::<RecordedRequests>::clone(&kept);
        let record = RequestRecord::begin(&ledger, "id-1", "10.0.0.7", Method::POST);
        record.asked_by(client);
        record.work_begins(model);
        record.answered(StatusCode::OK);
        drop(record);
        let mut ended = kept.0.lock().expect("not poisoned").pop().expect("one request");
        (ended.is_granted, ended.prompt_tokens, ended.answer_tokens) = (true, tokens, 2 * tokens);
        ended
    }

    fn usage(prompt_tokens: u32, completion_tokens: u32) -> Usage {
        Usage { prompt_tokens, completion_tokens, ..Usage::default() }
    }

    #[tokio::test]
    async fn a_request_ends_once_with_its_last_byte_and_with_all_its_works() {
        let kept = Arc::new(RecordedRequests::default());
        let ledger: Arc<dyn Ledger> = Arc::<RecordedRequests>::clone(&kept);
        let record = RequestRecord::begin(&ledger, "id", "10.0.0.7", Method::POST);
        record.came_to("/v1/completions", false);
        let failed = |usage| EndedWork { model: Some("m"), outcome: Err(ErrorKind::Cancelled), usage };
        let inside = record.during(async { CURRENT.with(RequestRecord::clone) }).await;
        inside.asked_by("alice");
        inside.work_begins("asked");
        inside.work_begins("asked");
        inside.work_ended(&failed(usage(3, 1)));
        inside.work_ended(&failed(usage(3, 4)));
        drop(inside);
        record.answered(StatusCode::OK);
        let body = record.until_end_of(Body::from("x"));
        assert!(kept.0.lock().expect("not poisoned").is_empty(), "the answer is not complete");
        assert_eq!(body.size_hint().exact(), Some(1));
        drop(body);
        let ended = kept.0.lock().expect("not poisoned").pop().expect("one request");
        assert_eq!((ended.client.as_str(), ended.address.as_str()), ("alice", "10.0.0.7"));
        assert_eq!((ended.model.as_deref(), ended.works), (Some("m"), 2));
        assert_eq!((ended.prompt_tokens, ended.answer_tokens), (6, 5));
        assert_eq!((ended.outcome(), ended.route), ("cancelled", "/v1/completions"));
    }

    #[test]
    fn names_are_cut_between_characters() {
        assert_eq!(cut("demo"), "demo");
        assert_eq!(cut(&"é".repeat(200)).len(), NAME_MAX_BYTES);
        assert_eq!(ended(&"x".repeat(500), "m", 1).client.len(), NAME_MAX_BYTES);
    }

    #[test]
    fn a_request_without_work_is_known_by_its_status() {
        let mut request = ended("a", "m", 0);
        assert_eq!(request.outcome(), "ok");
        request.status = 403;
        assert_eq!(request.outcome(), "refused");
    }

    #[test]
    fn only_an_order_that_was_carried_out_has_changed_the_daemon() {
        let kept = Arc::new(RecordedRequests::default());
        let ledger: Arc<dyn Ledger> = Arc::<RecordedRequests>::clone(&kept);
        let is_order = |method: Method, status: StatusCode| {
            let record = RequestRecord::begin(&ledger, "id", "10.0.0.7", method);
            record.changes_daemon();
            record.answered(status);
            drop(record);
            kept.0.lock().expect("not poisoned").pop().expect("one request").has_changed_daemon()
        };
        assert!(is_order(Method::POST, StatusCode::OK) && is_order(Method::DELETE, StatusCode::OK));
        assert!(!is_order(Method::HEAD, StatusCode::OK));
        for refused in [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::NOT_FOUND] {
            assert!(!is_order(Method::POST, refused), "{refused}");
        }
    }
}
