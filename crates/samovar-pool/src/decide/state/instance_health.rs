//! How far an instance is believed to work.

use samovar_core::Failure;
use samovar_core::port::Millis;

/// How far an instance is believed to work.
#[derive(Clone, Debug, Default)]
pub(in crate::decide) struct InstanceHealth {
    /// Why it is being looked at: no new grants until a probe went well.
    pub(in crate::decide) suspected: Option<Failure>,
    pub(in crate::decide) is_probed: bool,
    pub(in crate::decide) failed_requests: u32,
    pub(in crate::decide) failed_probes: u32,
    /// Probes since it was used last.
    pub(in crate::decide) probes: u32,
    /// When the next one is due, while it is idle.
    pub(in crate::decide) due: Option<Millis>,
}
