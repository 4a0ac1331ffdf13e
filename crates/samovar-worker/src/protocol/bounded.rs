//! Bounds on what a worker says: a few bytes of a frame must not become many bytes of the daemon's memory.
//!
//! A frame is bounded in bytes, but the smallest event takes four of them on the wire and more than a hundred in
//! memory. So every sequence that a worker sends is bounded in its items as well, and numbers that are no numbers never
//! reach statistics.

use std::fmt;
use std::marker::PhantomData;

use samovar_core::footprint::Speed;
use samovar_core::generation::CachedPrefix;
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

use super::wire::{Event, Likelihood};
use crate::sandbox::{Outcome, Part};

/// Events in one frame.
pub(crate) const FRAME_EVENTS: usize = 256;
/// Alternatives to one token; HTTP allows 20.
const ALTERNATIVES: usize = 128;
/// Layouts whose speed is measured.
const SPEEDS: usize = 16;
/// Parts of the sandbox: there are fewer.
const PARTS: usize = 16;
/// Sequences that an instance keeps; llama.cpp follows 256 in all.
const PREFIXES: usize = 256;

pub(super) fn events<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<(u64, Event)>, D::Error> {
    at_most::<_, _, FRAME_EVENTS>(from)
}

pub(super) fn alternatives<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Likelihood>, D::Error> {
    at_most::<_, _, ALTERNATIVES>(from)
}

pub(super) fn prefixes<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<CachedPrefix>, D::Error> {
    at_most::<_, _, PREFIXES>(from)
}

/// Parts of the sandbox, each said once.
pub(crate) fn parts<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<(Part, Outcome)>, D::Error> {
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

/// A time that can be added to others.
pub(super) fn milliseconds(said: f64) -> f64 {
    sane(said)
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
    use samovar_core::footprint::Measurement;
    use samovar_core::{Layout, Scope, TokenEvent};

    use super::super::{Achieved, Answer, Reply, decode, encode};
    use super::*;

    fn arrives(reply: &Reply) -> Result<Reply, super::super::FrameError> {
        decode(&encode(reply).expect("encodes")[4..])
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
    fn a_speed_that_is_no_number_counts_as_not_measured() {
        let speed = Speed {
            layout: Layout::Mapped,
            prefill: f64::NAN,
            decode: f64::INFINITY,
            decode_eight: -1.0,
            lacked: f64::NAN,
        };
        let reply = Reply::Achieved {
            achieved: Achieved::Calibrated(vec![speed]),
            measured: Measurement::default(),
            sandbox: crate::sandbox::Report::off(),
        };
        let Ok(Reply::Achieved { achieved: Achieved::Calibrated(speeds), .. }) = arrives(&reply) else {
            panic!("does not arrive")
        };
        assert_eq!((speeds[0].prefill, speeds[0].decode, speeds[0].decode_eight), (0.0, 0.0, 0.0));
    }

    #[test]
    fn a_time_that_is_no_number_never_reaches_statistics() {
        let usage = samovar_core::generation::Usage::default();
        let event = TokenEvent::from(Event::Prefilled { usage, prefill_ms: f64::NAN });
        assert_eq!(event, TokenEvent::Prefilled { usage, prefill_ms: 0.0 });
    }
}
