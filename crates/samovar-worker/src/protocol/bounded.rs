//! Bounds on what a worker says: a few bytes of a frame must not become many bytes of the daemon's memory.
//!
//! A frame is bounded in bytes, but the smallest event takes four of them on the wire and more than a hundred in
//! memory. So every sequence that a worker sends is bounded in its items as well, every text in its bytes, because texts
//! are kept and shown, and numbers that are no numbers never reach statistics.

use std::fmt;
use std::marker::PhantomData;

use samovar_core::footprint::Speed;
use samovar_core::generation::{CachedPrefix, DELTAS_MAX, Delta, Usage};
use samovar_core::scope::Scope;
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

use super::frame::FrameError;
use super::wire::{Event, Likelihood};
use crate::sandbox::{Part, PartStatus};

/// Events in one frame.
pub(crate) const FRAME_EVENTS: usize = 256;
/// Bytes of text and vectors after which a worker puts no further event into a frame, so that no request waits for the many
/// vectors of another. A bound of this side only: one event may be larger.
pub(crate) const FRAME_BYTES: usize = 1 << 20;
/// Alternatives to one token; a request for more is refused. OpenAI's routes allow 20.
pub(crate) const ALTERNATIVES: usize = 128;
/// Layouts whose speed is measured.
const SPEEDS: usize = 16;
/// Parts of the sandbox: there are fewer.
const PARTS: usize = 16;
/// Sequences that an instance keeps; llama.cpp follows 256 in all.
const PREFIXES: usize = 256;
/// Token ids of one reply. Written out they fill most of the largest frame; in memory they are 64 MiB.
const TOKENS: usize = 16 << 20;
/// What a prompt or an answer can take: eleven days.
const MILLISECONDS: f64 = 1e9;
/// Text of one event: a token, and what was withheld before it for a stop string.
pub(super) const EVENT_TEXT_BYTES: usize = 1 << 20;
/// Bytes of one token whose probability is told; a vocabulary's longest has 4 KiB.
pub(super) const TOKEN_BYTES: usize = 16 << 10;
/// A sentence for people: what went wrong, what to do, why something was refused.
pub(super) const SENTENCE_BYTES: usize = 16 << 10;

/// Refuses a text that is longer than anything of its kind.
pub(super) fn text(what: &'static str, text: &[u8], most_bytes: usize) -> Result<(), FrameError> {
    let bytes = text.len();
    if bytes <= most_bytes { Ok(()) } else { Err(FrameError::TextTooLong { what, bytes, most_bytes }) }
}

/// The same for a sentence that people get to read.
pub(super) fn sentence(what: &'static str, sentence: &str) -> Result<(), FrameError> {
    text(what, sentence.as_bytes(), SENTENCE_BYTES)
}

/// Cuts a sentence of this side, so that the other side does not refuse it.
pub(super) fn cut(mut sentence: String) -> String {
    let mut end = sentence.len().min(SENTENCE_BYTES);
    while !sentence.is_char_boundary(end) {
        end -= 1;
    }
    sentence.truncate(end);
    sentence
}

pub(super) fn events<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<(u64, Event)>, D::Error> {
    at_most::<_, _, FRAME_EVENTS>(from)
}

pub(super) fn alternatives<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Likelihood>, D::Error> {
    at_most::<_, _, ALTERNATIVES>(from)
}

/// What one token added.
pub(super) fn deltas<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Delta>, D::Error> {
    at_most::<_, _, DELTAS_MAX>(from)
}

/// Refuses a delta whose texts are longer than any model's.
pub(super) fn delta(delta: &Delta) -> Result<(), FrameError> {
    text("a piece of an answer", delta.text().as_bytes(), EVENT_TEXT_BYTES)?;
    match delta {
        Delta::Call { id, name, .. } => {
            sentence("the id of a call", id)?;
            sentence("the name of a tool", name)
        }
        Delta::Text(_) | Delta::Thinking(_) | Delta::Arguments { .. } => Ok(()),
    }
}

pub(super) fn tokens<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u32>, D::Error> {
    at_most::<_, _, TOKENS>(from)
}

/// Prefixes that have no more tokens together than one answer may have.
pub(super) fn prefixes<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<CachedPrefix>, D::Error> {
    let prefixes: Vec<Prefix> = at_most::<_, _, PREFIXES>(from)?;
    if prefixes.iter().map(|prefix| prefix.tokens.len()).sum::<usize>() > TOKENS {
        return Err(D::Error::custom(format_args!("prefixes have more than {TOKENS} tokens")));
    }
    Ok(prefixes.into_iter().map(|Prefix { id, tokens, scope }| CachedPrefix { id, tokens, scope }).collect())
}

/// A [`CachedPrefix`] as it arrives.
#[derive(serde::Deserialize)]
struct Prefix {
    id: u64,
    #[serde(deserialize_with = "tokens")]
    tokens: Vec<u32>,
    scope: Scope,
}

/// Parts of the sandbox, each said once.
pub(crate) fn parts<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<(Part, PartStatus)>, D::Error> {
    at_most::<_, _, PARTS>(from)
}

/// Speeds that are speeds: one that is not finite or negative counts as not measured.
pub(super) fn speeds<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Speed>, D::Error> {
    let mut speeds: Vec<Speed> = at_most::<_, _, SPEEDS>(from)?;
    for speed in &mut speeds {
        for number in [&mut speed.prefill, &mut speed.decode, &mut speed.decode_eight, &mut speed.lacked] {
            *number = sane(*number);
        }
    }
    Ok(speeds)
}

/// Counts that can be added to those of many other requests, and of which each is a part of what it is a part of.
pub(super) fn usage(said: Usage) -> Usage {
    const MOST: u32 = TOKENS as u32;
    let prompt_tokens = said.prompt_tokens.min(MOST);
    Usage {
        prompt_tokens,
        cached_tokens: said.cached_tokens.min(prompt_tokens),
        completion_tokens: said.completion_tokens.min(MOST),
        thinking_tokens: said.thinking_tokens.min(said.completion_tokens).min(MOST),
    }
}

/// A time that can be added to others.
pub(super) fn milliseconds(said: f64) -> f64 {
    sane(said).min(MILLISECONDS)
}

fn sane(number: f64) -> f64 {
    if number.is_finite() { number.max(0.0) } else { 0.0 }
}

/// A sequence of at most `MOST` items. One that says it has more is refused before any is read.
fn at_most<'de, D, T, const MOST: usize>(from: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    from.deserialize_seq(Items::<T, MOST>(PhantomData))
}

struct Items<T, const MOST: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for Items<T, MOST> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a sequence of at most {MOST} items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
        let too_many = || A::Error::custom(format_args!("a sequence has more than {MOST} items"));
        if items.size_hint().is_some_and(|said| said > MOST) {
            return Err(too_many());
        }
        let mut taken = Vec::new();
        while let Some(item) = items.next_element()? {
            if taken.len() == MOST {
                return Err(too_many());
            }
            taken.push(item);
        }
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use samovar_core::footprint::{Arrangement, Measurement};
    use samovar_core::generation::{Completion, FinishReason, TokenLogprob};
    use samovar_core::{ErrorKind, Failure, Layout, TokenEvent};

    use super::super::{Answer, JobOutput, Reply, decode_reply, encode};
    use super::*;
    use crate::sandbox;

    fn arrives(reply: &Reply) -> Result<Reply, FrameError> {
        decode_reply(&encode(reply).expect("encodes")[4..])
    }

    fn tokens(count: usize) -> Reply {
        let token = || Event::Token { text: String::new(), logprob: None };
        Reply::Events {
            events: (0..count).map(|id| (id as u64, token())).collect(),
            measured: Measurement::default(),
        }
    }

    #[test]
    fn a_frame_full_of_tiny_events_is_refused_before_it_takes_memory() {
        assert!(arrives(&tokens(FRAME_EVENTS)).is_ok());
        assert!(arrives(&tokens(FRAME_EVENTS + 1)).is_err());
        assert!(arrives(&tokens(1 << 20)).is_err());
    }

    #[test]
    fn so_is_a_list_of_prefixes_longer_than_an_engine_can_keep() {
        let answer = |count| Reply::Answer {
            id: 1,
            answer: Ok(Answer::Prefixes(vec![
                CachedPrefix {
                    id: 0,
                    tokens: Vec::new(),
                    scope: Scope::default()
                };
                count
            ])),
            measured: Measurement::default(),
        };
        assert!(arrives(&answer(PREFIXES)).is_ok());
        assert!(arrives(&answer(PREFIXES + 1)).is_err());
    }

    #[test]
    fn prefixes_have_no_more_tokens_together_than_one_answer_may_have() {
        let answer = |answer| Reply::Answer { id: 1, answer: Ok(answer), measured: Measurement::default() };
        let prefix = || CachedPrefix { id: 0, tokens: vec![0; TOKENS / 2], scope: Scope::default() };
        assert!(arrives(&answer(Answer::Prefixes(vec![prefix(); 2]))).is_ok());
        assert!(arrives(&answer(Answer::Prefixes(vec![prefix(); 3]))).is_err());
        assert!(arrives(&answer(Answer::Tokens(vec![0; TOKENS]))).is_ok());
        assert!(arrives(&answer(Answer::Tokens(vec![0; TOKENS + 1]))).is_err());
    }

    #[test]
    fn every_text_is_bounded_and_the_one_that_is_too_long_is_named() {
        let measured = Measurement::default();
        let long = |bytes: usize| "x".repeat(bytes + 1);
        let event = |event| Reply::Events { events: vec![(1, event)], measured };
        let likelihood = |bytes| TokenLogprob { token: 1, bytes, logprob: 0.0, top: Vec::new() };
        let token = |text: String, logprob| event(TokenEvent::Token { text, logprob }.into());
        let loaded = |refused: Option<String>, sandbox| Reply::JobOutput {
            job_output: JobOutput::Loaded(Arrangement { refused, ..Arrangement::default() }),
            measured,
            sandbox,
        };
        let off = sandbox::Report::off;
        let why = |why: String| sandbox::Report { parts: vec![(Part::Calls, PartStatus::Missing(why))] };
        let sentence = long(SENTENCE_BYTES);
        let refused = [
            token(long(EVENT_TEXT_BYTES), None),
            token(String::new(), Some(likelihood(vec![0; TOKEN_BYTES + 1]))),
            token(
                String::new(),
                Some(TokenLogprob {
                    top: vec![likelihood(vec![0; TOKEN_BYTES + 1])],
                    ..likelihood(Vec::new())
                }),
            ),
            loaded(Some(sentence.clone()), off()),
            loaded(None, why(sentence.clone())),
        ];
        for reply in refused {
            let error = arrives(&reply).unwrap_err();
            assert!(matches!(error, FrameError::TextTooLong { .. }), "{error}");
        }
        let taken = [
            token("x".repeat(EVENT_TEXT_BYTES), Some(likelihood(vec![0; TOKEN_BYTES]))),
            loaded(Some("x".repeat(SENTENCE_BYTES)), why("x".repeat(SENTENCE_BYTES))),
        ];
        for reply in taken {
            assert!(arrives(&reply).is_ok());
        }
    }

    #[test]
    fn an_honest_worker_cuts_its_failures_and_a_dishonest_one_is_refused() {
        let long = "é".repeat(SENTENCE_BYTES);
        let failure = || Failure::new(ErrorKind::Internal, long.clone()).with_hint(long.clone());
        let Ok(Reply::Failed(cut)) = arrives(&Reply::Failed(failure().into())) else { panic!("is refused") };
        let cut = Failure::from(cut);
        assert_eq!((cut.message.len(), cut.hint.unwrap().len()), (SENTENCE_BYTES, SENTENCE_BYTES));
        // The variant of a failed job, a kind, and a message of more bytes than any sentence has.
        let mut frame = vec![2, 0];
        frame.extend(postcard::to_allocvec(&"x".repeat(SENTENCE_BYTES + 1)).unwrap());
        frame.extend([0, 0, 0]);
        let error = decode_reply(&frame).unwrap_err();
        assert!(matches!(error, FrameError::TextTooLong { what: "a failure", .. }), "{error}");
    }

    #[test]
    fn a_speed_that_is_no_number_counts_as_not_measured() {
        let speed = Speed {
            layout: Layout::Mapped,
            prefill: f64::NAN,
            decode: f64::INFINITY,
            decode_eight: -1.0,
            lacked: f64::NAN,
        };
        let reply = Reply::JobOutput {
            job_output: JobOutput::Calibrated(vec![speed]),
            measured: Measurement::default(),
            sandbox: sandbox::Report::off(),
        };
        let Ok(Reply::JobOutput { job_output: JobOutput::Calibrated(speeds), .. }) = arrives(&reply) else {
            panic!("does not arrive")
        };
        assert_eq!((speeds[0].prefill, speeds[0].decode, speeds[0].decode_eight), (0.0, 0.0, 0.0));
    }

    #[test]
    fn a_time_that_is_none_never_reaches_statistics() {
        let usage = Usage::default();
        let event = TokenEvent::from(Event::Prefilled { usage, prefill_ms: f64::NAN });
        assert_eq!(event, TokenEvent::Prefilled { usage, prefill_ms: 0.0 });
        let event = TokenEvent::from(Event::Prefilled { usage, prefill_ms: f64::MAX });
        assert_eq!(event, TokenEvent::Prefilled { usage, prefill_ms: MILLISECONDS });
    }

    #[test]
    fn counts_of_tokens_that_no_model_has_can_still_be_added() {
        let most = u32::MAX;
        let said =
            Usage { prompt_tokens: 5, cached_tokens: most, completion_tokens: most, thinking_tokens: most };
        let tokens = TOKENS as u32;
        let heard = Usage { cached_tokens: 5, completion_tokens: tokens, thinking_tokens: tokens, ..said };
        let done = Completion {
            finish: FinishReason::Stop,
            stopped_by: None,
            usage: said,
            prefill_ms: 1.0,
            decode_ms: f64::NAN,
        };
        let right = Completion { usage: heard, decode_ms: 0.0, ..done };
        assert_eq!(TokenEvent::from(Event::Done(done)), TokenEvent::Done(right));
        let prefilled = TokenEvent::from(Event::Prefilled { usage: said, prefill_ms: 1.0 });
        assert_eq!(prefilled, TokenEvent::Prefilled { usage: heard, prefill_ms: 1.0 });
    }
}
