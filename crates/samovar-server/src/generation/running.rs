//! One generation as the server sees it: counted, measured, and cut when the server leaves.

use std::time::Duration;

use samovar::{Answer, AnswerEvent, Common, Input, Origin, Request, Summary, TraceView, Work};
use samovar_core::generation::Usage;
use samovar_core::units::{KeepAlive, TimeSpan};
use samovar_core::{ErrorKind, Failure};

use crate::activity::{InFlight, Phase};
use crate::app::{App, Surface};
use crate::config::Limits;
use crate::keys::{Account, Reserved};
use crate::metrics::Counted;
use crate::request_record::{EndedWork, RequestRecord};
use crate::request_table::{RequestFacts, TableEntry};

/// When a client comes back after the server has left and, probably, another has taken its place.
const RETRY_AFTER_LEAVING_MS: u64 = 5_000;

/// A generation that runs. Dropping it cancels it and frees its slot.
pub(crate) struct Running {
    answer: Answer,
    app: App,
    /// The model's name, once a slot was granted.
    granted: Option<String>,
    has_ended: bool,
    /// What it takes from the limits of the request's key.
    reserved: Option<Reserved>,
    /// Tokens of its prompt or its inputs, as far as their bytes tell.
    expected_prompt_tokens: u64,
    record: RequestRecord,
    entry: TableEntry,
    _in_flight: InFlight,
    _counted: Counted,
}

/// The works of one request: they have one record, and take from the limits of its key together.
pub(crate) struct Works {
    record: RequestRecord,
    /// Tokens that all of them may use.
    expected_tokens: u64,
    /// Set aside when the first one starts.
    reserved: Option<Reserved>,
}

impl Works {
    /// Those of the request that this task answers.
    pub(crate) fn of(app: &App, requests: &[Request]) -> Self {
        let expected_tokens =
            requests.iter().map(|request| prompt_tokens(&request.work) + answer_tokens(&request.work)).sum();
        Self { record: RequestRecord::current(app), expected_tokens, reserved: None }
    }

    /// Starts one of them.
    ///
    /// # Errors
    /// `Unavailable` when the server is leaving; what the request's key may not do, or not now.
    pub(crate) fn start(&mut self, app: &App, mut request: Request) -> Result<Running, Failure> {
        // At the owner's socket a client is a user; each run of the command line has a name of its own for fairness.
        if app.surface == Surface::Network {
            self.record.asked_by(&request.common.client);
        }
        self.record.work_begins(&request.common.model);
        let in_flight = admit(app, &mut request.common)?;
        let reserved = self.reserve(app)?;
        let expected_prompt_tokens = prompt_tokens(&request.work);
        let facts = RequestFacts::of(&request);
        let answer = app.runtime.generate(request);
        Ok(Running {
            entry: app.requests.add(facts, answer.trace().clone()),
            answer,
            app: app.clone(),
            granted: None,
            has_ended: false,
            reserved,
            expected_prompt_tokens,
            record: self.record.clone(),
            _in_flight: in_flight,
            _counted: app.metrics.generation(),
        })
    }

    /// What one of them takes from the limits of the request's key.
    fn reserve(&mut self, app: &App) -> Result<Option<Reserved>, Failure> {
        let Some(account) = &app.account else { return Ok(None) };
        let reserved = match self.reserved.take() {
            Some(reserved) => reserved,
            None => account.reserve(self.expected_tokens)?,
        };
        Ok(Some(self.reserved.insert(reserved).share()))
    }
}

impl Running {
    /// Starts the only work of the request that this task answers.
    ///
    /// # Errors
    /// As [`Works::start`].
    pub(crate) fn start(app: &App, request: Request) -> Result<Self, Failure> {
        Works::of(app, std::slice::from_ref(&request)).start(app, request)
    }

    /// What is known of it, on the one clock that it has.
    pub(crate) fn trace(&self) -> TraceView {
        self.answer.trace().clone()
    }

    /// The next event; `None` after `Done` or `Failed`.
    ///
    /// # Cancel safety
    /// Cancel safe: no event is lost.
    pub(crate) async fn next(&mut self) -> Option<AnswerEvent> {
        if self.has_ended {
            return None;
        }
        // Also where events are always ready.
        let ended = self.app.account.as_ref().and_then(|account| account.check_validity().err());
        let event = if let Some(failure) = ended {
            AnswerEvent::Failed(failure)
        } else {
            tokio::select! {
                biased;
                event = self.answer.next() => event.unwrap_or_else(|| AnswerEvent::Failed(without_summary())),
                () = self.app.server.reached(Phase::Cut) => self.cut(),
                failure = end_of_key(self.app.account.as_deref()) => AnswerEvent::Failed(failure),
            }
        };
        self.observe(&event);
        Some(event)
    }

    /// What there is when the server cannot wait any longer.
    fn cut(&self) -> AnswerEvent {
        let so_far = self.granted.as_ref().and_then(|_| self.answer.trace().cut());
        so_far.map_or_else(|| AnswerEvent::Failed(leaving()), AnswerEvent::Done)
    }

    fn uses_more(&mut self, tokens: u64) {
        if let Some(reserved) = &mut self.reserved {
            reserved.use_more(tokens);
        }
    }

    fn observe(&mut self, event: &AnswerEvent) {
        self.entry.observe(event);
        match event {
            AnswerEvent::Granted { model, tier, load_ms, .. } => {
                self.app.metrics.granted(model, *tier, *load_ms);
                self.granted = Some(model.clone());
            }
            AnswerEvent::Embedded(embedded) => {
                self.app.metrics.embedded(embedded.tokens);
                self.uses_more(u64::from(embedded.tokens));
            }
            AnswerEvent::Prefilled { usage } => {
                if let Some(reserved) = &mut self.reserved {
                    reserved.use_up_to(u64::from(usage.prompt_tokens));
                }
            }
            // About one each; the summary says how many there were.
            AnswerEvent::Text { .. } | AnswerEvent::Thinking { .. } | AnswerEvent::ToolArguments { .. } => {
                self.uses_more(1);
            }
            AnswerEvent::Done(summary) => {
                if let Some(reserved) = &mut self.reserved {
                    let tokens =
                        u64::from(summary.usage.prompt_tokens) + u64::from(summary.usage.completion_tokens);
                    // Vectors are counted input by input.
                    if tokens > 0 {
                        reserved.use_exactly(tokens);
                    }
                }
                self.end(Ok(summary));
            }
            AnswerEvent::Failed(failure) => self.end(Err(failure.kind)),
            _ => {}
        }
    }

    /// Has the key pay for what was computed for an answer that has no summary.
    fn charge_unfinished(&mut self, kind: ErrorKind, usage: Usage) {
        let Some(reserved) = &mut self.reserved else { return };
        reserved.use_up_to(u64::from(usage.prompt_tokens) + u64::from(usage.completion_tokens));
        // Its client did not wait for the end of the prompt, and how much of it was computed is not known.
        let was_left = matches!(kind, ErrorKind::Cancelled | ErrorKind::DeadlineExceeded);
        if was_left && self.granted.is_some() && reserved.used() == 0 {
            reserved.use_up_to(self.expected_prompt_tokens);
        }
    }

    /// Tells how it ended to everything that counts.
    fn end(&mut self, outcome: Result<&Summary, ErrorKind>) {
        self.has_ended = true;
        let so_far = || self.answer.trace().cut().map(|summary| summary.usage).unwrap_or_default();
        let usage = outcome.map_or_else(|_| so_far(), |summary| summary.usage);
        if let Err(kind) = outcome {
            self.charge_unfinished(kind, usage);
        }
        let work = EndedWork { model: self.granted.as_deref(), outcome, usage };
        self.app.metrics.ended(&work);
        self.record.work_ended(&work);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.has_ended {
            self.end(Err(ErrorKind::Cancelled));
        }
        if let Some(reserved) = &self.reserved {
            self.app.metrics.used(reserved);
        }
    }
}

/// Lets a request in, its wishes brought within bounds; it counts as in flight for as long as the result lives.
///
/// # Errors
/// `Unavailable` when the server is leaving; `Forbidden` for a model that the request's key may not use.
pub(crate) fn admit(app: &App, common: &mut Common) -> Result<InFlight, Failure> {
    if app.server.is_draining() {
        return Err(leaving());
    }
    app.check_model(&common.model)?;
    if common.origin == Origin::Network {
        common.keep_alive = common.keep_alive.map(|wish| within_bounds(wish, &app.limits));
    }
    Ok(app.server.begin())
}

/// Tokens of a prompt, or of inputs, before a model has split them: one for four bytes.
fn prompt_tokens(work: &Work) -> u64 {
    const BYTES_PER_TOKEN: u64 = 4;
    let of_bytes = |bytes: usize| (bytes as u64).div_ceil(BYTES_PER_TOKEN);
    match work {
        Work::Generate(generate) => match &generate.input {
            Input::Chat(messages) => of_bytes(messages.iter().map(|message| message.content.len()).sum()),
            Input::Text(text) => of_bytes(text.len()),
            Input::Tokens(tokens) => tokens.len() as u64,
            Input::Infill(infill) => of_bytes(infill.bytes()),
            _ => 0,
        },
        Work::Embed(embed) => embed.inputs.iter().map(|input| of_bytes(input.bytes())).sum(),
        _ => 0,
    }
}

/// Tokens that an answer may have.
fn answer_tokens(work: &Work) -> u64 {
    /// Of one that may have any number.
    const UNBOUNDED: u64 = 1_024;
    match work {
        Work::Generate(generate) => generate.max_tokens.map_or(UNBOUNDED, u64::from),
        _ => 0,
    }
}

/// Resolves when the request's key is not valid any more; never for one without.
pub(crate) async fn end_of_key(account: Option<&Account>) -> Failure {
    match account {
        Some(account) => account.invalid().await,
        None => std::future::pending().await,
    }
}

/// Does work that has no events, unless the server cannot wait any longer.
///
/// # Errors
/// Whatever the work fails with; `Unavailable` when it was cut.
pub(crate) async fn until_cut<T>(
    app: &App,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        biased;
        outcome = work => outcome,
        () = app.server.reached(Phase::Cut) => Err(leaving()),
    }
}

/// What a client of the network may ask of a model that others use as well.
fn within_bounds(wish: KeepAlive, limits: &Limits) -> KeepAlive {
    let ms = |span: Duration| span.as_millis() as u64;
    let (floor_ms, ceiling_ms) = (ms(limits.keep_alive_floor), ms(limits.keep_alive_ceiling));
    let wished_ms = match wish {
        KeepAlive::Ms(ms) => ms,
        KeepAlive::ParkAtOnce => 0,
        KeepAlive::UntilEvicted => ceiling_ms,
    };
    KeepAlive::from_span(TimeSpan::from_ms(wished_ms.min(ceiling_ms).max(floor_ms)))
}

pub(crate) fn leaving() -> Failure {
    Failure::new(ErrorKind::Unavailable, "the server is leaving")
        .with_hint("try again when it is back")
        .with_retry_after_ms(RETRY_AFTER_LEAVING_MS)
}

/// An answer that has ended without a word of its end.
pub(crate) fn without_summary() -> Failure {
    Failure::new(ErrorKind::Internal, "the answer ended without a summary")
        .with_hint("this is a fault of the program; please report it with the log")
}

#[cfg(test)]
mod tests {
    use samovar::Generate;
    use samovar_core::infill::Infill;

    use super::*;

    #[test]
    fn tokens_are_set_aside_for_every_kind_of_prompt() {
        let text = "x".repeat(40);
        let infill =
            Infill { prefix: text.clone(), suffix: text.clone(), chunks: Vec::new(), answer_tokens: 8 };
        for (input, tokens) in [
            (Input::Text(text.clone()), 10),
            (Input::Tokens(vec![1; 7]), 7),
            (Input::Chat(vec![samovar::Message::user(text)]), 10),
            (Input::Infill(infill), 20),
        ] {
            let mut generate = Generate::new(input);
            assert_eq!(answer_tokens(&Work::Generate(generate.clone())), 1_024);
            generate.max_tokens = Some(5);
            let work = Work::Generate(generate);
            assert_eq!((prompt_tokens(&work), answer_tokens(&work)), (tokens, 5));
        }
    }

    #[test]
    fn a_client_of_the_network_neither_drops_a_model_nor_keeps_it_for_ever() {
        let limits = Limits::default();
        let minutes = |minutes: u64| KeepAlive::Ms(minutes * 60_000);
        for (wish, allowed) in [
            (KeepAlive::ParkAtOnce, minutes(1)),
            (KeepAlive::Ms(1), minutes(1)),
            (minutes(5), minutes(5)),
            (minutes(600), minutes(60)),
            (KeepAlive::UntilEvicted, minutes(60)),
        ] {
            assert_eq!(within_bounds(wish, &limits), allowed, "{wish:?}");
        }
    }
}
