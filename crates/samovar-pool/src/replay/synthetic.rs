//! Traces from a seed, of the three kinds that tell policies apart.
//!
//! - `zipf`: a few models get most of the requests, at any time
//! - `daily`: other models by day than by night, and a quiet hour between
//! - `scan`: as `zipf`, and every now and then a client tries every model once
//!
//! Arithmetic with whole numbers and divisions only: the same seed gives the same trace on every machine.

use samovar_core::port::Millis;

use super::log::{ModelCosts, Named, Request, Trace};
use crate::rng::Rng;

/// Models of every trace.
const MODELS: u64 = 24;
const MB: u64 = 1_000_000;
const HOUR_MS: u64 = 3_600_000;

/// A kind of trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A few models get most of the requests.
    Zipf,
    /// Other models by day than by night.
    Daily,
    /// A few models get most of the requests; sometimes all are tried in turn.
    Scan,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Zipf, Self::Daily, Self::Scan];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Zipf => "zipf",
            Self::Daily => "daily",
            Self::Scan => "scan",
        }
    }
}

/// A trace of this kind with so many requests, with the facts of its models.
pub fn trace(kind: Kind, requests: usize, seed: u64) -> Trace {
    let mut rng = Rng::new(seed);
    let models = (0..MODELS).map(|number| model(&mut rng, number)).collect();
    let popularity = shuffled(&mut rng);
    let mut trace = Trace { models, requests: Vec::with_capacity(requests) };
    let mut now_ms = 0;
    while trace.requests.len() < requests {
        now_ms += rng.between(0, 2 * pause_ms(kind, now_ms));
        if kind == Kind::Scan && rng.chance_of(1, 400) {
            scan(&mut trace, &mut rng, &mut now_ms, requests);
            continue;
        }
        let rank = zipf(&mut rng);
        let model = match kind {
            Kind::Daily => by_hour(&popularity, rank, now_ms),
            Kind::Zipf | Kind::Scan => popularity[rank],
        };
        trace.requests.push(request(&mut rng, now_ms, model));
    }
    trace
}

/// Sizes of what people run: most are small, some are large. A load takes 300 ms, and 0.4 to 1.2 ms a megabyte.
fn model(rng: &mut Rng, number: u64) -> Named {
    let doublings = rng.between(0, 6);
    let megabytes = rng.between(400, 800) << doublings;
    let name = format!("model-{number:02}");
    let facts = ModelCosts {
        model: name.clone(),
        held_bytes: Some(megabytes * MB / 8),
        mapped_bytes: Some(megabytes * MB),
        load_ms: Some(300 + megabytes * rng.between(4, 13) / 10),
        ..ModelCosts::default()
    };
    Named { name, facts: Some(facts) }
}

/// Which model is the most asked for, the next, and so on: size says nothing about it.
fn shuffled(rng: &mut Rng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..MODELS as usize).collect();
    for last in (1..order.len()).rev() {
        order.swap(last, rng.between(0, last as u64 + 1) as usize);
    }
    order
}

/// A rank, the first twice as often as the second, thrice as often as the third.
fn zipf(rng: &mut Rng) -> usize {
    const PARTS: u64 = 1 << 20;
    let weight = |rank: u64| PARTS / (rank + 1);
    let total: u64 = (0..MODELS).map(weight).sum();
    let mut at = rng.between(0, total);
    let mut rank = 0;
    while at >= weight(rank) {
        at -= weight(rank);
        rank += 1;
    }
    rank as usize
}

/// The mean time between two requests.
fn pause_ms(kind: Kind, now_ms: u64) -> u64 {
    /// Seconds between requests at each hour of a day.
    const BY_HOUR: [u64; 24] = [
        120, 180, 240, 300, 300, 240, 120, 60, 30, 15, 10, 10, 15, 12, 10, 10, 12, 15, 30, 40, 40, 50, 60, 90,
    ];
    match kind {
        Kind::Zipf | Kind::Scan => 20_000,
        Kind::Daily => BY_HOUR[(now_ms / HOUR_MS % 24) as usize] * 1_000,
    }
}

/// By day the order of the whole trace, in the evening and at night another one.
fn by_hour(popularity: &[usize], rank: usize, now_ms: u64) -> usize {
    let shift = match now_ms / HOUR_MS % 24 {
        8..18 => 0,
        18..24 => popularity.len() / 3,
        _ => popularity.len() * 2 / 3,
    };
    popularity[(rank + shift) % popularity.len()]
}

/// A client tries every model once.
fn scan(trace: &mut Trace, rng: &mut Rng, now_ms: &mut u64, requests: usize) {
    for model in 0..MODELS as usize {
        if trace.requests.len() < requests {
            *now_ms += rng.between(5_000, 15_000);
            trace.requests.push(request(rng, *now_ms, model));
        }
    }
}

fn request(rng: &mut Rng, now_ms: u64, model: usize) -> Request {
    let client = format!("client-{}", rng.between(0, 5));
    let hold_ms = Some(rng.between(500, 15_000));
    Request { at: Millis(now_ms), model, client, hold_ms, tokens: None }
}
