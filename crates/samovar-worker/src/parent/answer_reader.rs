//! Who reads one answer of a worker, and how much of it was asked for: what a worker says beyond that, or instead, is not
//! delivered.

use samovar_core::embedding::{EmbedOutput, EmbedRequest, Embedded};
use samovar_core::generation::{TokenEvent, may_tell_progress};
use samovar_core::{ErrorKind, Failure};
use tokio::sync::mpsc;

use crate::protocol::Event;

/// A prompt makes at most so many steps that are news, however often the worker tells of it.
pub(super) const PROMPT_STEPS: u32 = 4096;
/// Numbers of one vector, or scores of one input: several times the widest model's.
const VALUES: usize = 64 << 10;

/// Who reads an answer. A place for its end is kept free from the beginning.
#[derive(Debug)]
pub(super) struct AnswerReader {
    events: mpsc::Sender<TokenEvent>,
    end: Option<mpsc::OwnedPermit<TokenEvent>>,
    asked: Asked,
    /// Tokens of its prompt, by what the worker said first.
    prompt: Option<u32>,
    /// Of these, those that the worker has said to have computed when that was news last.
    computed: u32,
    /// The adapters that the request names, by the numbers that the worker knows.
    pub(super) adapters: Vec<u64>,
}

/// What was asked of the worker and has not come; progress counts for nothing.
#[derive(Debug)]
enum Asked {
    /// Text: so many events, its end apart.
    Text(usize),
    Embeddings(Inputs),
}

/// The inputs of a request for vectors or scores.
#[derive(Debug)]
pub(super) struct Inputs {
    /// Whether each has been answered.
    answered: Vec<bool>,
    /// How many numbers each becomes: so many as were asked for, or as the first became.
    values: Option<usize>,
    /// Tokens of each at most.
    context_tokens: u32,
}

impl Inputs {
    /// Those of a request to an instance that reads so many tokens at once.
    pub(super) fn new(request: &EmbedRequest, context_tokens: u32) -> Self {
        let values = match request.output {
            EmbedOutput::Vector { dimensions, .. } => dimensions.map(|dimensions| dimensions as usize),
            EmbedOutput::Score => None,
        };
        Self { answered: vec![false; request.inputs.len()], values, context_tokens }
    }

    /// Whether this can be what an input became that was not answered before.
    fn take(&mut self, embedded: &Embedded) -> bool {
        let Embedded { index, tokens, ref values, .. } = *embedded;
        let Some(is_answered) = self.answered.get_mut(index as usize) else { return false };
        let is_as_wide = self.values.is_none_or(|width| width == values.len());
        let is_sound = is_as_wide
            && (1..=VALUES).contains(&values.len())
            && tokens <= self.context_tokens
            && values.iter().all(|value| value.is_finite());
        if !is_sound || *is_answered {
            return false;
        }
        *is_answered = true;
        self.values = Some(values.len());
        true
    }

    fn are_answered(&self) -> bool {
        self.answered.iter().all(|is_answered| *is_answered)
    }
}

/// What an event came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A caller waited for it.
    News,
    /// No caller did, or it was known already.
    Nothing,
    /// The worker says more than was asked, or something else.
    TooMuch,
}

impl AnswerReader {
    /// Who reads text.
    pub(super) fn of_text(events: mpsc::Sender<TokenEvent>) -> Self {
        let left = events.max_capacity().saturating_sub(1);
        Self::new(events, Asked::Text(left))
    }

    /// Who reads vectors or scores of these.
    pub(super) fn of_embeddings(events: mpsc::Sender<TokenEvent>, inputs: Inputs) -> Self {
        Self::new(events, Asked::Embeddings(inputs))
    }

    fn new(events: mpsc::Sender<TokenEvent>, asked: Asked) -> Self {
        let end = events.clone().try_reserve_owned().ok();
        Self { end, asked, prompt: None, computed: 0, events, adapters: Vec::new() }
    }

    /// Delivers an event that is not its last.
    pub(super) fn hear(&mut self, event: Event) -> Heard {
        if let Event::Prefilling { computed, of } = event {
            if computed > of || *self.prompt.get_or_insert(of) != of {
                return Heard::Nothing;
            }
            let is_further = computed >= self.computed.saturating_add((of / PROMPT_STEPS).max(1));
            if is_further {
                self.computed = computed;
            }
            if self.takes_progress() {
                self.events.try_send(event.into()).ok();
            }
            return if is_further { Heard::News } else { Heard::Nothing };
        }
        if !self.asked.take(&event) {
            return Heard::TooMuch;
        }
        match self.events.try_send(event.into()) {
            Ok(()) => Heard::News,
            // A closed one is removed by the code that closed it.
            Err(mpsc::error::TrySendError::Closed(_)) => Heard::Nothing,
            Err(mpsc::error::TrySendError::Full(_)) => Heard::TooMuch,
        }
    }

    fn takes_progress(&self) -> bool {
        may_tell_progress(&self.events, usize::from(self.end.is_some()))
    }

    /// The end that a worker tells of. It cannot be done before every input has been answered.
    pub(super) fn checked_end(&self, event: Event) -> TokenEvent {
        match (&self.asked, event) {
            (Asked::Embeddings(inputs), Event::Done(_)) if !inputs.are_answered() => {
                TokenEvent::Failed(self.lie())
            }
            (_, event) => event.into(),
        }
    }

    /// What is wrong with a worker that says more than was asked, or something else.
    pub(super) fn lie(&self) -> Failure {
        let lie = match self.asked {
            Asked::Text(_) => "the worker says more than it was asked, and was not listened to further",
            Asked::Embeddings(_) => {
                "the worker's vectors are not those that it was asked for, and it was not listened to further"
            }
        };
        Failure::new(ErrorKind::EngineFailed, lie).with_hint("what it had said until then has been delivered")
    }

    pub(super) fn end(self, event: TokenEvent) {
        match self.end {
            Some(place) => drop(place.send(event)),
            None => drop(self.events.try_send(event)),
        }
    }
}

impl Asked {
    /// Whether this was asked for; it is not from then on.
    fn take(&mut self, event: &Event) -> bool {
        match (self, event) {
            (Self::Text(left), Event::Prefilled { .. } | Event::Token { .. } | Event::Deltas { .. })
                if *left > 0 =>
            {
                *left -= 1;
                true
            }
            (Self::Embeddings(inputs), Event::Embedded(embedded)) => inputs.take(embedded),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use samovar_core::embedding::{EmbedInput, Truncate, Urgency};
    use samovar_core::generation::{Completion, FinishReason, Generation, Usage};

    use super::*;

    fn reader(inputs: usize, dimensions: Option<u32>) -> (AnswerReader, Generation) {
        let request = EmbedRequest {
            inputs: vec![EmbedInput::Text("x".to_owned()); inputs],
            output: EmbedOutput::Vector { dimensions, normalize: true },
            truncate: Truncate::Refuse,
            urgency: Urgency::Bulk,
        };
        let (events, generation) = Generation::channel_for_inputs(inputs);
        (AnswerReader::of_embeddings(events, Inputs::new(&request, 8)), generation)
    }

    fn embedded(index: u32, values: &[f32]) -> Embedded {
        Embedded { index, tokens: 8, was_cut: false, values: values.to_vec() }
    }

    fn done() -> Event {
        let (finish, usage) = (FinishReason::Stop, Usage::default());
        Event::Done(Completion { finish, stopped_by: None, usage, prefill_ms: 0.0, decode_ms: 0.0 })
    }

    fn word() -> Event {
        Event::Token { text: "x".to_owned(), logprob: None }
    }

    #[test]
    fn every_input_is_answered_once_in_any_order_and_then_it_is_done() {
        let (mut reader, mut generation) = reader(3, None);
        for index in [2, 0] {
            assert_eq!(reader.hear(Event::Embedded(embedded(index, &[1.0, 0.0]))), Heard::News);
        }
        assert_eq!(reader.checked_end(done()), TokenEvent::Failed(reader.lie()), "one has no vector");
        assert_eq!(reader.hear(Event::Prefilling { computed: 5, of: 9 }), Heard::News);
        assert_eq!(reader.hear(Event::Embedded(embedded(1, &[0.0, 1.0]))), Heard::News);
        let end = reader.checked_end(done());
        assert!(matches!(end, TokenEvent::Done(_)), "{end:?}");
        reader.end(end);
        let heard: Vec<_> = std::iter::from_fn(|| generation.blocking_next()).collect();
        assert_eq!(heard.len(), 4, "{heard:?}");
        assert_eq!(heard[0], TokenEvent::Embedded(embedded(2, &[1.0, 0.0])));
    }

    #[test]
    fn vectors_that_were_not_asked_for_are_lies() {
        let wide = vec![0.0; VALUES + 1];
        let lies = [
            Event::Embedded(embedded(0, &[1.0, 0.0])),
            Event::Embedded(embedded(3, &[1.0, 0.0])),
            Event::Embedded(embedded(u32::MAX, &[1.0, 0.0])),
            Event::Embedded(embedded(1, &[1.0])),
            Event::Embedded(embedded(1, &[])),
            Event::Embedded(embedded(1, &[1.0, f32::NAN])),
            Event::Embedded(embedded(1, &[f32::INFINITY, 0.0])),
            Event::Embedded(Embedded { tokens: 9, ..embedded(1, &[1.0, 0.0]) }),
            Event::Embedded(embedded(1, &wide)),
            word(),
            Event::Prefilled { usage: Usage::default(), prefill_ms: 0.0 },
        ];
        for lie in lies {
            let (mut reader, _generation) = reader(3, None);
            assert_eq!(reader.hear(Event::Embedded(embedded(0, &[1.0, 0.0]))), Heard::News);
            let said = format!("{lie:?}");
            assert_eq!(reader.hear(lie), Heard::TooMuch, "{said:.80}");
        }
        let first = |event| reader(1, None).0.hear(event);
        assert_eq!(first(Event::Embedded(embedded(0, &wide))), Heard::TooMuch);
        assert_eq!(first(Event::Embedded(embedded(0, &[]))), Heard::TooMuch);
    }

    #[test]
    fn vectors_have_the_dimensions_that_were_asked_for() {
        let hear = |values: &[f32]| {
            let (mut reader, generation) = reader(1, Some(2));
            (reader.hear(Event::Embedded(embedded(0, values))), generation).0
        };
        assert_eq!(hear(&[1.0, 0.0]), Heard::News);
        assert_eq!(hear(&[1.0, 0.0, 0.0]), Heard::TooMuch);
    }

    #[test]
    fn who_asked_for_text_hears_no_vectors() {
        let (events, _generation) = Generation::channel(4);
        let mut reader = AnswerReader::of_text(events);
        assert_eq!(reader.hear(Event::Embedded(embedded(0, &[1.0]))), Heard::TooMuch);
        assert_eq!(reader.hear(word()), Heard::News);
    }

    #[test]
    fn an_end_that_is_a_failure_needs_no_vectors() {
        let (reader, _generation) = reader(2, None);
        let failure = Failure::new(ErrorKind::ContextExceeded, "long");
        let end = reader.checked_end(Event::Failed(failure.clone().into()));
        assert_eq!(end, TokenEvent::Failed(failure));
    }
}
