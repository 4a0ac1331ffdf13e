//! A line of statistics in the log, now and then, while there is something new to tell.

use std::time::Duration;

use samovar::{PoolStats, Runtime};
use samovar_core::units::{ByteSize, counted};

/// Logs a line after each such time in which a client asked for a model. Never ends by itself.
pub(crate) async fn tell(runtime: Runtime, every: Duration) {
    let mut told = 0;
    loop {
        tokio::time::sleep(every).await;
        let stats = runtime.stats().await;
        if std::mem::replace(&mut told, stats.pool.requests) == stats.pool.requests {
            continue;
        }
        let loaded = stats.models.iter().filter(|model| model.instances > 0).count();
        tracing::info!("statistics: {}", line(&stats.pool, loaded));
    }
}

fn line(pool: &PoolStats, loaded: usize) -> String {
    format!(
        "{} ({} queued), {:.0} % hits, {} (median {:.0} ms), {} evicted, {} refused, {} in memory, {:.0} % of {} used",
        counted(pool.requests, "request"),
        pool.queued,
        pool.hit_rate * 100.0,
        counted(pool.loads, "load"),
        pool.load_ms_p50,
        pool.evictions,
        pool.refused,
        counted(loaded, "model"),
        pool.usage_percent,
        ByteSize::from_bytes(pool.budget_bytes),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_the_pool_in_a_sentence() {
        let pool = PoolStats {
            requests: 12,
            hit_rate: 0.75,
            loads: 1,
            load_ms_p50: 15.0,
            usage_percent: 50.0,
            budget_bytes: 8_000_000_000,
            ..PoolStats::default()
        };
        let expected = "12 requests (0 queued), 75 % hits, 1 load (median 15 ms), 0 evicted, 0 refused, 1 model in memory, 50 % of 8.0 GB used";
        assert_eq!(line(&pool, 1), expected);
    }
}
