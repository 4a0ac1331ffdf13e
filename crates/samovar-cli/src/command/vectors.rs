//! Many texts to vectors or scores: batches are sent while earlier ones are computed, and what comes of them is handed on in the
//! order of the texts. Memory is bounded, however many texts there are.
//!
//! ```text
//!   batches ─► two requests on their way ─► events in any order ─► `take`, in the order of the texts
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use samovar::{AnswerEvent, EmbedInput, Embedded, Request};
use samovar_core::units::counted;
use samovar_core::{ErrorKind, Failure};
use serde::Serialize;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::time::Instant;

use super::backend::{Answers, Backend};
use super::texts::{Item, TextOrigin, Texts};
use super::{Context, answer, stored};
use crate::args::{VectorForm, WorkTerms};
use crate::ended::Ended;
use crate::report::Report;

/// Requests that are on their way at a time: while one is computed, the next waits in the instance.
const AT_ONCE: usize = 2;

/// How far a command is.
#[derive(Debug)]
pub(super) struct Tally {
    /// Texts that something came of.
    pub(super) texts: u64,
    /// Tokens of those whose requests are complete.
    tokens: u64,
    /// The place after the last of them: what is to be skipped by a command that goes on.
    next: u64,
    began: Instant,
}

impl Tally {
    pub(super) fn new(skip: u64) -> Self {
        Self { texts: 0, tokens: 0, next: skip, began: Instant::now() }
    }

    /// How far it is, for a person.
    fn sentence(&self) -> String {
        let seconds = self.began.elapsed().as_secs_f64().max(1e-3);
        let rate = self.texts as f64 / seconds;
        format!("{}, {} tokens, {rate:.0} texts per second", counted(self.texts, "text"), self.tokens)
    }

    /// How a command that ended early is continued, if something of it is kept.
    pub(super) fn how_to_go_on(&self, origin: &TextOrigin) -> Option<String> {
        let written = counted(self.texts, "text");
        (self.texts > 0 && *origin != TextOrigin::Arguments)
            .then(|| format!("note: {written} written; --skip {} continues after them", self.next))
    }
}

/// The backend that a command's terms ask for.
///
/// # Errors
/// When the engine does not start in this process.
pub(super) fn backend<'a>(context: &'a Context, terms: &WorkTerms) -> Result<Backend<'a>, Failure> {
    if terms.no_daemon {
        Backend::here(context.settings.runtime.clone())
    } else {
        Ok(Backend::daemon(context))
    }
}

/// Has all texts computed. `request` makes a request of a batch; `take` is handed each text with what came of it, in their order.
/// Ctrl-C hangs up.
///
/// # Errors
/// Whatever ends a request, with the text's place; `Interrupted`; whatever `take` says.
pub(super) async fn compute(
    context: &Context,
    backend: &Backend<'_>,
    terms: &WorkTerms,
    texts: &mut Texts,
    tally: &mut Tally,
    request: impl Fn(Vec<EmbedInput>) -> Request,
    take: impl FnMut(Item, Embedded) -> Result<(), Ended>,
) -> Result<(), Ended> {
    let request = |inputs| {
        let mut request = request(inputs);
        request.common.keep_alive = terms.keep_alive;
        request.common.client = answer::client();
        request
    };
    tokio::select! {
        ended = pump(context, backend, texts, tally, request, take) => ended,
        _ = tokio::signal::ctrl_c() => Err(Ended::Interrupted),
    }
}

async fn pump(
    context: &Context,
    backend: &Backend<'_>,
    texts: &mut Texts,
    tally: &mut Tally,
    request: impl Fn(Vec<EmbedInput>) -> Request,
    mut take: impl FnMut(Item, Embedded) -> Result<(), Ended>,
) -> Result<(), Ended> {
    let progress = context.report.progress();
    // Vectors on a terminal are progress enough.
    let is_quiet = context.report.stdout_is_terminal();
    let mut on_their_way: VecDeque<OnItsWay<'_>> = VecDeque::new();
    let mut has_more = true;
    let mut failed = None;
    loop {
        // The next is sent once the first has its slot. Of two that wait for one slot, the second might get it, and keep it
        // until its answer is read: after the first's.
        while has_more
            && on_their_way.len() < AT_ONCE
            && on_their_way.front().is_none_or(|first| first.is_granted)
        {
            let batch = if on_their_way.is_empty() {
                texts.batches.recv().await
            } else {
                match texts.batches.try_recv() {
                    Ok(batch) => Some(batch),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => None,
                }
            };
            match batch {
                Some(Ok(items)) => {
                    let inputs = items.iter().map(|item| item.input.clone()).collect();
                    let request = request(inputs);
                    let model = request.common.model.clone();
                    let answers = backend.generate(request).await?;
                    on_their_way.push_back(OnItsWay::new(model, answers, items));
                }
                // It is said after what was read before.
                Some(Err(failure)) => (failed, has_more) = (Some(failure), false),
                None => has_more = false,
            }
        }
        let Some(first) = on_their_way.front_mut() else {
            return failed.map_or(Ok(()), |failure| Err(failure.into()));
        };
        match first.answers.next().await? {
            AnswerEvent::Waiting(wait) => context.report.waiting(&progress, &first.model, &wait),
            AnswerEvent::Granted { .. } => {
                first.is_granted = true;
                progress.clear();
            }
            AnswerEvent::Embedded(embedded) => {
                first.came.insert(embedded.index, embedded);
                while let Some((item, embedded)) = first.next_in_order() {
                    let next = item.place + 1;
                    take(item, embedded)?;
                    tally.texts += 1;
                    tally.next = next;
                }
            }
            AnswerEvent::Done(_) if !first.items.is_empty() => {
                let message = "the answer ended before all texts were computed";
                return Err(Failure::new(ErrorKind::Internal, message).into());
            }
            AnswerEvent::Done(summary) => {
                tally.tokens += u64::from(summary.usage.prompt_tokens);
                on_their_way.pop_front();
                if !is_quiet {
                    progress.say(tally.sentence());
                }
            }
            AnswerEvent::Failed(failure) => {
                let failure = first.of_text(failure, &texts.origin);
                return Err(stored::with_near(&first.model, failure, &context.settings).into());
            }
            _ => {}
        }
    }
}

/// A request whose answer is not complete.
struct OnItsWay<'a> {
    model: String,
    answers: Answers<'a>,
    /// Whether it has a slot.
    is_granted: bool,
    /// The texts that nothing was handed on of yet.
    items: VecDeque<Item>,
    /// The first of them, counted in the request.
    index: u32,
    /// The place of every text.
    places: Vec<u64>,
    /// What came out of its turn.
    came: BTreeMap<u32, Embedded>,
}

impl<'a> OnItsWay<'a> {
    fn new(model: String, answers: Answers<'a>, items: Vec<Item>) -> Self {
        let places = items.iter().map(|item| item.place).collect();
        let items = items.into();
        Self { model, answers, is_granted: false, items, index: 0, places, came: BTreeMap::new() }
    }

    fn next_in_order(&mut self) -> Option<(Item, Embedded)> {
        let embedded = self.came.remove(&self.index)?;
        self.index += 1;
        Some((self.items.pop_front()?, embedded))
    }

    /// What is said of an input of the request, said of the text that a person wrote.
    fn of_text(&self, failure: Failure, origin: &TextOrigin) -> Failure {
        of_text(failure, &self.places, origin)
    }
}

fn of_text(failure: Failure, places: &[u64], origin: &TextOrigin) -> Failure {
    let index = |param: &str| param.strip_prefix("input[")?.strip_suffix(']')?.parse::<usize>().ok();
    let Some(param) = failure.param.clone() else { return failure };
    let Some(&place) = index(&param).and_then(|index| places.get(index)) else { return failure };
    let text = origin.place(place);
    let message = match named_input(&failure.message) {
        Some(named) => {
            let (before, after) = (&failure.message[..named.start], &failure.message[named.end..]);
            format!("{before}{text}{after}")
        }
        None => format!("{text}: {}", failure.message),
    };
    failure.with_message(message).with_param(format!("input[{place}]"))
}

/// Where a message names an input by its number: `input 3`, `input[3]`, with or without quotes.
fn named_input(message: &str) -> Option<Range<usize>> {
    const INPUT: &str = "input";
    let mut start = message.find(INPUT)?;
    let rest = &message[start + INPUT.len()..];
    let number = rest.strip_prefix(' ').or_else(|| rest.strip_prefix('['))?;
    let after = number.trim_start_matches(|c: char| c.is_ascii_digit());
    if after.len() == number.len() {
        return None;
    }
    let mut end = message.len() - after.strip_prefix(']').unwrap_or(after).len();
    if message[..start].ends_with('`') && message[end..].starts_with('`') {
        (start, end) = (start - 1, end + 1);
    }
    Some(start..end)
}

/// Prints one thing for each text, as lines or as one JSON array.
pub(super) struct Rows<'a> {
    report: &'a Report,
    form: VectorForm,
    has_any: bool,
}

impl<'a> Rows<'a> {
    pub(super) fn new(report: &'a Report, form: VectorForm) -> Self {
        Self { report, form, has_any: false }
    }

    /// Prints the next one: `value`, or `text` where rows are text.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn row(&mut self, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), Ended> {
        let json = || {
            serde_json::to_string(value).map_err(|error| {
                Failure::new(ErrorKind::Internal, format!("an answer could not be written as JSON: {error}"))
            })
        };
        let line = match self.form {
            VectorForm::Text => text(),
            VectorForm::Jsonl => json()?,
            VectorForm::Json => format!("{}{}", if self.has_any { "," } else { "[" }, json()?),
        };
        self.has_any = true;
        self.report.line(&line)
    }

    /// Ends the array. What ended early is left open, so that no program takes it for the whole.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn end(self) -> Result<(), Ended> {
        match self.form {
            VectorForm::Json if self.has_any => self.report.line("]"),
            VectorForm::Json => self.report.line("[]"),
            VectorForm::Jsonl | VectorForm::Text => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_an_input_is_said_of_its_line() {
        let origin = TextOrigin::Lines("notes.txt".to_owned());
        let failure =
            |message: &str| Failure::new(ErrorKind::ContextExceeded, message).with_param("input[1]");
        let said = |message: &str| of_text(failure(message), &[4, 7], &origin);
        for message in ["input[1] has 600 tokens", "`input[1]` has 600 tokens", "input 1 has 600 tokens"] {
            assert_eq!(said(message).message, "notes.txt, line 8 has 600 tokens");
        }
        for message in ["600 tokens", "the input has 600 tokens", "inputs 1 and 2"] {
            assert_eq!(said(message).message, format!("notes.txt, line 8: {message}"));
        }
        assert_eq!(said("x").param.as_deref(), Some("input[7]"));
        let other = Failure::new(ErrorKind::NotFound, "no model").with_param("model");
        assert_eq!(of_text(other.clone(), &[4], &origin), other);
        let outside = Failure::new(ErrorKind::Internal, "x").with_param("input[9]");
        assert_eq!(of_text(outside.clone(), &[4], &origin), outside);
    }

    #[test]
    fn a_command_that_ended_early_says_how_to_go_on() {
        let lines = TextOrigin::Lines("x".to_owned());
        let mut tally = Tally::new(3);
        assert_eq!(tally.how_to_go_on(&lines), None);
        (tally.texts, tally.next) = (2, 6);
        let said = tally.how_to_go_on(&lines).expect("something is written");
        assert_eq!(said, "note: 2 texts written; --skip 6 continues after them");
        assert_eq!(tally.how_to_go_on(&TextOrigin::Arguments), None);
    }
}
