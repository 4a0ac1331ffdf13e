//! What was done with packed weights as metrics: loads by layout, refusals by reason, what was made and what it took.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use samovar::PackedTally;
use samovar_core::Layout;

use super::described::{self, PACKED_LOADS, PACKED_REFUSED};

/// What was done in this life.
#[derive(Debug)]
pub(super) struct Packed(pub(super) PackedTally);

const LAYOUTS: [Layout; 4] = [Layout::Mapped, Layout::Packed, Layout::Hybrid, Layout::Repacked];
const REASONS: [&str; 2] = ["gone", "refused"];

impl Collector for Packed {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let tally = &self.0;
        let mut family = PACKED_LOADS.begin(&mut encoder)?;
        for layout in LAYOUTS.map(Layout::as_str) {
            let count = tally.loads.get(layout).copied().unwrap_or_default();
            let labels = PACKED_LOADS.labelled([layout]);
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        let mut family = PACKED_REFUSED.begin(&mut encoder)?;
        for reason in REASONS {
            let count = tally.refused.get(reason).copied().unwrap_or_default();
            let labels = PACKED_REFUSED.labelled([reason]);
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        for (family, count) in [
            (described::PACKED_MADE, tally.made),
            (described::PACKED_MADE_BYTES, tally.made_bytes),
            (described::PACKED_FAILED, tally.failed),
            (described::PACKED_INTERRUPTED, tally.interrupted),
            (described::PACKED_CALIBRATIONS, tally.calibrations),
        ] {
            family.counter(&mut encoder, count)?;
        }
        described::PACKED_MADE_SECONDS.counter(&mut encoder, tally.made_seconds)
    }
}
