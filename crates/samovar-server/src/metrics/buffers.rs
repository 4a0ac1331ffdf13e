//! What requests that are read in, and answers that are not read, hold in memory: as metrics.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use samovar_core::ByteBudget;

#[derive(Debug)]
pub(super) struct Buffers(pub(super) ByteBudget);

impl Collector for Buffers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, bytes) in [
            ("server_buffer_bytes", "Memory of request bodies and unread answers", self.0.used_bytes()),
            ("server_buffer_budget_bytes", "Memory that those may take together", self.0.total_bytes()),
        ] {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(bytes as f64).encode(metric)?;
        }
        let help = "Requests and answers that found no memory left for them";
        let metric = encoder.encode_descriptor("server_buffer_refusals", help, None, MetricType::Counter)?;
        ConstCounter::new(self.0.refusals()).encode(metric)
    }
}
