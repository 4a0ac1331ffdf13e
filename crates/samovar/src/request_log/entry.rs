//! One asking on its way into the log: a line that is sent when its lease has ended, however it ended.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use samovar_pool::replay::log::Asked;
use samovar_pool::{Lease, ModelSpec};
use tokio::time::Instant;

use super::RequestLog;
use super::writer::LogMessage;
use crate::answer::CacheStatus;
use crate::request_trace::RequestTrace;

/// A request on its way into the log; nothing when there is none.
pub(crate) struct LogEntry(Option<Entry>);

struct Entry {
    log: Arc<RequestLog>,
    asked: Asked,
    granted: Option<Instant>,
}

impl LogEntry {
    /// Now a request asks for a slot.
    pub(crate) fn begin(log: Option<&Arc<RequestLog>>, spec: &ModelSpec, client: &str) -> Self {
        Self(log.map(|log| {
            let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let asked = Asked {
                time_ms: since_1970.as_millis() as u64,
                model: spec.name.clone(),
                client: log.client(client),
                // Until it is said otherwise, the caller has gone.
                tier: Some("left".to_owned()),
                ..Asked::default()
            };
            Entry { log: Arc::clone(log), asked, granted: None }
        }))
    }

    /// It has one.
    pub(crate) fn granted(&mut self, lease: &Lease, tier: CacheStatus) {
        if let Some(entry) = &mut self.0 {
            entry.granted = Some(Instant::now());
            entry.asked.tier = Some(tier.as_str().to_owned());
            entry.asked.queue_ms = Some(lease.queue_ms() as u64);
            entry.asked.load_ms = Some(lease.load_ms() as u64);
        }
    }

    /// The log, where that has not heard yet what the model costs, or costs now.
    pub(crate) fn unheard_of(
        &self,
        spec: &ModelSpec,
        request_trace: &RequestTrace,
    ) -> Option<Arc<RequestLog>> {
        let log = &self.0.as_ref()?.log;
        let was_loaded = matches!(request_trace.tier(), CacheStatus::Cold | CacheStatus::Fetched);
        (was_loaded || !log.known().contains(&spec.name)).then(|| Arc::clone(log))
    }

    /// It has none and gets none.
    pub(crate) fn refused(&mut self) {
        if let Some(entry) = &mut self.0 {
            entry.asked.tier = Some("refused".to_owned());
        }
    }

    /// Its answer is complete, with so many tokens.
    pub(crate) fn answered(&mut self, tokens: u32) {
        if let Some(entry) = &mut self.0 {
            entry.asked.tokens = Some(u64::from(tokens));
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.asked.hold_ms = self.granted.map(|granted| granted.elapsed().as_millis() as u64);
        self.log.lines.try_send(LogMessage::Asked(std::mem::take(&mut self.asked))).ok();
    }
}
