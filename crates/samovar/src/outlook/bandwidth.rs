//! How fast this machine reads its memory: what bounds the tokens of an answer. As it was found with models, else measured once.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use samovar_core::footprint::Speed;
use samovar_core::{Descriptor, Failure};
use samovar_store::Store;
use serde::{Deserialize, Serialize};

use crate::runtime::{Runtime, blocking};

/// Memory that is read: more than caches hold.
const BUFFER_BYTES: u64 = 256 << 20;
/// How long it is read.
const READING: Duration = Duration::from_millis(150);
/// Numbers that are read between two looks at the clock.
const CHUNK_WORDS: usize = 64 << 10;
/// Threads that read, at most.
const THREADS_MAX: u32 = 64;
/// Smaller models compute for longer than they read.
const MODEL_BYTES_LEAST: u64 = 256 << 20;
/// Where the rate that models reached is kept.
const OF_MODELS: &str = "bandwidth/models";

/// Bytes of weights that are read in a second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ReadRate {
    /// Bytes a second.
    pub(crate) bytes_per_s: f64,
    /// Whether a model reached it; else it is what the memory gives, which none exceeds.
    pub(crate) is_of_models: bool,
}

/// Keeps the rate that a model's answers reached, for the forecasts of others.
pub(crate) fn note(store: &Store, descriptor: &Descriptor, speeds: &[Speed]) {
    let is_sound = speeds.iter().all(|speed| !speed.is_provisional());
    if descriptor.tensor_bytes < MODEL_BYTES_LEAST || !is_sound {
        return;
    }
    let decode = speeds.iter().map(|speed| speed.decode).fold(0.0, f64::max);
    if decode > 0.0 {
        let bytes_per_s = decode * descriptor.tensor_bytes as f64;
        keep(store, OF_MODELS, ReadRate { bytes_per_s, is_of_models: true });
    }
}

fn keep(store: &Store, memo: &str, rate: ReadRate) {
    if let Ok(json) = serde_json::to_string(&rate) {
        store.remember(memo, &json);
    }
}

fn kept(store: &Store, memo: &str) -> Option<ReadRate> {
    let rate: ReadRate = serde_json::from_str(&store.recall(memo).ok()??).ok()?;
    (rate.bytes_per_s.is_finite() && rate.bytes_per_s > 0.0).then_some(rate)
}

impl Runtime {
    /// The rate that is known of this machine, else measured now, which takes a fifth of a second; `None` where the memory for
    /// that is not free.
    pub(super) async fn read_rate(&self, store: &Store) -> Result<Option<ReadRate>, Failure> {
        let threads = self.inner.catalog.cores().clamp(1, THREADS_MAX);
        let memo = format!("bandwidth/{threads}");
        let (looking, own) = (store.clone(), memo.clone());
        let known = blocking(move || kept(&looking, OF_MODELS).or_else(|| kept(&looking, &own))).await?;
        if known.is_some() {
            return Ok(known);
        }
        let Some(memory) = self.inner.pool.reserve_background(BUFFER_BYTES).await else { return Ok(None) };
        let store = store.clone();
        let measured = blocking(move || {
            let rate = ReadRate { bytes_per_s: measure(threads), is_of_models: false };
            drop(memory);
            keep(&store, &memo, rate);
            rate
        })
        .await?;
        Ok(Some(measured))
    }
}

/// Bytes that so many threads read in a second together.
fn measure(threads: u32) -> f64 {
    let words = BUFFER_BYTES as usize / size_of::<u64>() / threads as usize;
    let filled = Barrier::new(threads as usize);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..threads).map(|_| scope.spawn(|| read(words, &filled))).collect();
        readers.into_iter().filter_map(|reader| reader.join().ok()).sum()
    })
}

/// Bytes that this thread reads in a second, from when all have filled theirs.
fn read(words: usize, filled: &Barrier) -> f64 {
    // Pages that were never written are all one.
    let buffer = vec![1_u64; words.max(1)];
    filled.wait();
    let (began, mut read_bytes) = (Instant::now(), 0_usize);
    loop {
        for chunk in buffer.chunks(CHUNK_WORDS) {
            black_box(chunk.iter().fold(0_u64, |sum, word| sum.wrapping_add(*word)));
            read_bytes += size_of_val(chunk);
            let elapsed = began.elapsed();
            if elapsed >= READING {
                return read_bytes as f64 / elapsed.as_secs_f64();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use samovar_core::footprint::Layout;
    use samovar_core::testing::fake::FakeEngine;
    use samovar_store::StoreConfig;

    use super::*;

    #[test]
    fn what_models_reach_is_kept_unless_they_are_small_or_were_disturbed() {
        let home = tempfile::tempdir().expect("a folder");
        let mut config = StoreConfig::new(home.path().join("cache"), home.path().join("state"));
        config.min_free_bytes = 0;
        let store = Store::open(config).expect("opens");
        let speed = |decode, lacked| Speed {
            layout: Layout::Mapped,
            prefill: 1.0,
            decode,
            decode_eight: 1.0,
            lacked,
        };
        let (large, small) =
            (FakeEngine::descriptor("large", 1 << 30), FakeEngine::descriptor("small", 1 << 20));
        note(&store, &small, &[speed(10.0, 0.0)]);
        note(&store, &large, &[speed(10.0, 0.0), speed(12.0, 0.5)]);
        assert_eq!(kept(&store, OF_MODELS), None);
        note(&store, &large, &[speed(10.0, 0.0), speed(12.0, 0.0)]);
        let expected = ReadRate { bytes_per_s: 12.0 * large.tensor_bytes as f64, is_of_models: true };
        assert_eq!(kept(&store, OF_MODELS), Some(expected));
    }
}
