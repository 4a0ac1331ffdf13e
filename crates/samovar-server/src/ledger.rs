//! Where requests go that have ended: the audit log and the counts of use, each if there is one.

use crate::audit::AuditLog;
use crate::request_record::{EndedRequest, Ledger};
use crate::usage::UsageCounts;

/// What is kept of requests that have ended.
#[derive(Debug, Default)]
pub(crate) struct Ledgers {
    pub(crate) audit: Option<AuditLog>,
    pub(crate) usage: Option<UsageCounts>,
}

impl Ledgers {
    /// Writes down what was told so far. A disk that is stuck is not waited for.
    pub(crate) async fn close(&self) {
        if let Some(audit) = &self.audit {
            audit.flush().await;
        }
        if let Some(usage) = &self.usage {
            usage.flush_at_the_end().await;
        }
    }
}

impl Ledger for Ledgers {
    fn take(&self, ended: EndedRequest) {
        if let Some(usage) = &self.usage {
            usage.count(&ended);
        }
        if let Some(audit) = &self.audit {
            audit.tell(ended);
        }
    }
}
