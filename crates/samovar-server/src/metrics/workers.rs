//! The processes that models run in as metrics: how many there are, how they ended, and what their sandbox keeps from them.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use samovar::worker::WorkerStats;
use samovar::worker::sandbox::{Level, Part};

use super::described::{self, WORKER_FAILURES, WORKER_SANDBOX, WORKER_SANDBOX_LEVEL};

/// What an engine's workers did and do.
#[derive(Debug)]
pub(super) struct Workers(pub(super) WorkerStats);

impl Collector for Workers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.lives(&mut encoder)?;
        self.sandbox(&mut encoder)
    }
}

impl Workers {
    fn lives(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let workers = &self.0;
        described::WORKERS.gauge(encoder, workers.running)?;
        described::WORKER_OWN_BYTES.gauge(encoder, workers.own_bytes)?;
        described::WORKER_STARTS.counter(encoder, workers.started)?;
        let mut family = WORKER_FAILURES.begin(encoder)?;
        for (reason, count) in
            [("crash", workers.crashed), ("hang", workers.hung), ("memory", workers.overgrown)]
        {
            let labels = WORKER_FAILURES.labelled([reason]);
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// Nothing is told before the first worker has entered its sandbox.
    fn sandbox(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let report = self.0.sandbox.as_ref();
        let mut family = WORKER_SANDBOX.begin(encoder)?;
        for part in Part::ALL.iter().filter(|_| report.is_some()) {
            let is_reached = report.is_some_and(|report| report.has(*part));
            let labels = WORKER_SANDBOX.labelled([part.name()]);
            ConstGauge::new(u64::from(is_reached)).encode(family.encode_family(&labels)?)?;
        }
        let mut family = WORKER_SANDBOX_LEVEL.begin(encoder)?;
        let Some(report) = report else { return Ok(()) };
        for level in [Level::None, Level::Partial, Level::Full] {
            let labels = WORKER_SANDBOX_LEVEL.labelled([level.name()]);
            let is_it = u64::from(report.level() == level);
            ConstGauge::new(is_it).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
