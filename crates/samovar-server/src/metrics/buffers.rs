//! What requests that are read in, and answers that are not read, hold in memory: as metrics.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use samovar_core::ByteBudget;

use super::described;

#[derive(Debug)]
pub(super) struct Buffers(pub(super) ByteBudget);

impl Collector for Buffers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        described::SERVER_BUFFER_BYTES.gauge(&mut encoder, self.0.used_bytes() as f64)?;
        described::SERVER_BUFFER_BUDGET_BYTES.gauge(&mut encoder, self.0.total_bytes() as f64)?;
        described::SERVER_BUFFER_REFUSALS.counter(&mut encoder, self.0.refusals())
    }
}
