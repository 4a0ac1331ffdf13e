//! Whether a request is being served, for work that runs only while none is.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// Requests under way.
#[derive(Clone, Debug)]
pub(crate) struct ActivityCounter {
    running: Arc<watch::Sender<u32>>,
}

/// One of them, until it is dropped.
pub(crate) struct Passing {
    running: Arc<watch::Sender<u32>>,
}

impl ActivityCounter {
    pub(crate) fn new() -> Self {
        Self { running: Arc::new(watch::Sender::new(0)) }
    }

    /// A request came.
    pub(crate) fn enter(&self) -> Passing {
        self.running.send_modify(|running| *running += 1);
        Passing { running: Arc::clone(&self.running) }
    }

    /// Returns when nothing has run for so long.
    pub(super) async fn idle_for(&self, idle: Duration) {
        let mut running = self.running.subscribe();
        loop {
            // The sender lives as long as `self`.
            let _ = running.wait_for(|running| *running == 0).await;
            tokio::select! {
                biased;
                _ = running.changed() => {}
                () = tokio::time::sleep(idle) => return,
            }
        }
    }

    /// Returns as soon as something runs.
    pub(super) async fn busy(&self) {
        let _ = self.running.subscribe().wait_for(|running| *running > 0).await;
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        self.running.send_modify(|running| *running -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_quiet_when_nothing_has_run_for_long_enough() {
        let activity_counter = ActivityCounter::new();
        let began = tokio::time::Instant::now();
        let first = activity_counter.enter();
        activity_counter.busy().await;
        let waiting = activity_counter.clone();
        let idle = tokio::spawn(async move { waiting.idle_for(Duration::from_secs(5)).await });
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(!idle.is_finished());
        drop(first);
        tokio::time::sleep(Duration::from_secs(4)).await;
        drop(activity_counter.enter());
        idle.await.unwrap();
        assert_eq!(began.elapsed().as_secs(), 19);
    }
}
