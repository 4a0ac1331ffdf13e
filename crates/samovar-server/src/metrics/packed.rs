//! What was done with packed weights as metrics: loads by layout, refusals by reason, what was made and what it took.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use samovar::PackedTally;
use samovar_core::Layout;

/// What was done in this life.
#[derive(Debug)]
pub(super) struct Packed(pub(super) PackedTally);

const LAYOUTS: [Layout; 4] = [Layout::Mapped, Layout::Packed, Layout::Hybrid, Layout::Repacked];
const REASONS: [&str; 2] = ["gone", "refused"];

impl Collector for Packed {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let tally = &self.0;
        let help = "Loads, by the layout that the weights came to have";
        let mut family = encoder.encode_descriptor("packed_loads", help, None, MetricType::Counter)?;
        for layout in LAYOUTS.map(Layout::as_str) {
            let count = tally.loads.get(layout).copied().unwrap_or_default();
            ConstCounter::new(count).encode(family.encode_family(&[("layout", layout)])?)?;
        }
        let help = "Packed files that a load could not use, by reason";
        let mut family = encoder.encode_descriptor("packed_refused", help, None, MetricType::Counter)?;
        for reason in REASONS {
            let count = tally.refused.get(reason).copied().unwrap_or_default();
            ConstCounter::new(count).encode(family.encode_family(&[("reason", reason)])?)?;
        }
        for (name, help, count) in [
            ("packed_made", "Packed files made", tally.made),
            ("packed_made_bytes", "Bytes of packed files made", tally.made_bytes),
            ("packed_failed", "Packed files that could not be made or measured", tally.failed),
            ("packed_interrupted", "Times that making one gave way to a request", tally.interrupted),
            (
                "packed_calibrations",
                "Times that the speeds of a model's layouts were measured",
                tally.calibrations,
            ),
        ] {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(count).encode(metric)?;
        }
        let help = "Seconds spent on making packed files";
        let metric = encoder.encode_descriptor("packed_made_seconds", help, None, MetricType::Counter)?;
        ConstCounter::new(tally.made_seconds).encode(metric)
    }
}
