//! The processes that models run in as metrics: how many there are, how they ended, and what their sandbox keeps from them.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use samovar::worker::WorkerStats;
use samovar::worker::sandbox::{Level, Part};

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
        for (name, help, value) in [
            ("workers", "Processes that models run in", workers.running),
            ("worker_own_bytes", "Memory of their own, without mapped weights", workers.own_bytes),
        ] {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)?;
        }
        let metric =
            encoder.encode_descriptor("worker_starts", "Workers started", None, MetricType::Counter)?;
        ConstCounter::new(workers.started).encode(metric)?;
        let help = "Workers that died or had to be ended, by reason";
        let mut family = encoder.encode_descriptor("worker_failures", help, None, MetricType::Counter)?;
        for (reason, count) in
            [("crash", workers.crashed), ("hang", workers.hung), ("memory", workers.overgrown)]
        {
            ConstCounter::new(count).encode(family.encode_family(&[("reason", reason)])?)?;
        }
        Ok(())
    }

    /// Nothing is told before the first worker has entered its sandbox.
    fn sandbox(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let report = self.0.sandbox.as_ref();
        let help = "Whether this part of the workers' sandbox is in force";
        let mut family = encoder.encode_descriptor("worker_sandbox", help, None, MetricType::Gauge)?;
        for part in Part::ALL.iter().filter(|_| report.is_some()) {
            let is_reached = report.is_some_and(|report| report.has(*part));
            let labels = [("part", part.name())];
            ConstGauge::new(u64::from(is_reached)).encode(family.encode_family(&labels)?)?;
        }
        let help = "How much of the workers' sandbox is in force: 1 at one of none, partial and full";
        let mut family = encoder.encode_descriptor("worker_sandbox_level", help, None, MetricType::Gauge)?;
        let Some(report) = report else { return Ok(()) };
        for level in [Level::None, Level::Partial, Level::Full] {
            let labels = [("level", level.name())];
            let is_it = u64::from(report.level() == level);
            ConstGauge::new(is_it).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
