//! Looks at the machine's memory once a second, as long as the pool has anything in it, or has set
//! memory aside.
//!
//! ```text
//!   owner ── is anything in memory? ──► watch ── a second ──► gauge: MemAvailable, limits of groups, stalls
//!                                         └──────────── Event::Pressure ──────────► owner
//! ```
//!
//! Whether that is pressure, and who leaves, is decided elsewhere. Where the system says nothing, nothing is watched.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod unknown;

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

#[cfg(target_os = "linux")]
use linux::System;
#[cfg(not(target_os = "linux"))]
use unknown::System;

use crate::effects::EffectResult;
use crate::protocol::Event;

/// What the machine says of its memory at a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Reading {
    /// What could be had: by this machine, and within the limits of this process's groups.
    available_bytes: u64,
    /// Share of time in which some task waited for memory, in percent.
    stall_percent: f32,
}

/// Where readings come from.
trait Gauge: Send + 'static {
    /// `None` where the system does not say.
    fn read(&mut self) -> Option<Reading>;
}

/// Starts to watch; the interval in milliseconds that is sent is kept to, and 0 rests.
pub(crate) fn start(outcomes: mpsc::Sender<EffectResult>) -> watch::Sender<u64> {
    let (every_ms, wishes) = watch::channel(0);
    tokio::spawn(watch_over(System::default(), wishes, outcomes));
    every_ms
}

async fn watch_over(
    mut gauge: impl Gauge,
    mut every_ms: watch::Receiver<u64>,
    outcomes: mpsc::Sender<EffectResult>,
) {
    loop {
        let Ok(wish) = every_ms.wait_for(|ms| *ms > 0).await.map(|ms| *ms) else { return };
        let mut ticks = interval(Duration::from_millis(wish));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first one is due at once.
        ticks.tick().await;
        loop {
            tokio::select! {
                changed = every_ms.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                _ = ticks.tick() => {}
            }
            // These files take microseconds, except on a machine that is in trouble.
            let Ok((same, reading)) = spawn_blocking(move || {
                let reading = gauge.read();
                (gauge, reading)
            })
            .await
            else {
                return;
            };
            gauge = same;
            let Some(Reading { available_bytes, stall_percent }) = reading else { return };
            let event = Event::Pressure { available_bytes, stall_percent };
            // An owner that is busy hears of the next one.
            if let Err(mpsc::error::TrySendError::Closed(_)) = outcomes.try_send(event.into()) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    struct Scripted(Arc<AtomicU64>);

    impl Gauge for Scripted {
        fn read(&mut self) -> Option<Reading> {
            let reads = self.0.fetch_add(1, Ordering::SeqCst);
            Some(Reading { available_bytes: reads, stall_percent: 0.5 })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_looks_once_a_second_and_only_while_it_is_told_to() {
        let reads = Arc::new(AtomicU64::new(0));
        let (every_ms, wishes) = watch::channel(0);
        let (outcomes, mut heard) = mpsc::channel(8);
        tokio::spawn(watch_over(Scripted(Arc::clone(&reads)), wishes, outcomes));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(reads.load(Ordering::SeqCst), 0);

        every_ms.send(1_000).expect("it listens");
        let began = tokio::time::Instant::now();
        for expected in 0..3 {
            let event = heard.recv().await.expect("it watches").event;
            assert!(matches!(event, Event::Pressure { available_bytes, .. } if available_bytes == expected));
        }
        assert_eq!(began.elapsed(), Duration::from_secs(3));

        every_ms.send(0).expect("it listens");
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(reads.load(Ordering::SeqCst), 3);
        drop(every_ms);
        assert!(heard.recv().await.is_none(), "it ends with its owner");
    }
}
