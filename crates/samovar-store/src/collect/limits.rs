//! What may stay: marks of the quota, and for how long a process may still come back for what is unfinished.

use super::view::LeftoverKind;

/// Collection begins above this share of the quota …
const HIGH_PERCENT: u64 = 95;
/// … and stops at this.
const LOW_PERCENT: u64 = 85;
pub(super) const HOUR_MS: u64 = 3_600_000;
/// After so long no process comes back to finish a download.
const PARTIAL_MS: u64 = 7 * 24 * HOUR_MS;
/// An artifact is committed within moments of its blobs; one in flight holds them besides.
pub(super) const ORPHAN_MS: u64 = HOUR_MS;
/// A file under construction is written to all the time.
const TMP_MS: u64 = 24 * HOUR_MS;
/// What is damaged is kept for a look, as long as an artifact would be; this long where age has no limit.
const QUARANTINE_MS: u64 = 30 * 24 * HOUR_MS;

/// What may stay.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) quota_bytes: u64,
    /// `None` = no limit of age.
    pub(crate) max_age_ms: Option<u64>,
    pub(crate) min_free_bytes: u64,
    /// Bytes that are about to be written.
    pub(crate) incoming_bytes: u64,
    /// Of the quota, what saved prefixes may take.
    pub(crate) prefix_bytes: u64,
    /// What comes is a copy of what is here, and can be made again.
    pub(crate) is_for_copy: bool,
}

impl Limits {
    /// Where collection begins.
    pub(super) fn high_mark_bytes(&self) -> u64 {
        percent(self.quota_bytes, HIGH_PERCENT)
    }

    /// Where it stops.
    pub(super) fn low_mark_bytes(&self) -> u64 {
        percent(self.quota_bytes, LOW_PERCENT)
    }

    /// What may be used at most once what comes is here.
    pub(super) fn ceiling_bytes(&self) -> u64 {
        if self.is_for_copy { self.high_mark_bytes() } else { self.quota_bytes }
    }

    /// How long a leftover of this kind stays.
    pub(super) fn grace_ms(&self, kind: LeftoverKind) -> u64 {
        match kind {
            LeftoverKind::Trash => 0,
            LeftoverKind::Orphan => ORPHAN_MS,
            LeftoverKind::Tmp => TMP_MS,
            LeftoverKind::Partial => PARTIAL_MS.min(self.max_age_ms.unwrap_or(u64::MAX)).max(HOUR_MS),
            LeftoverKind::Quarantine => self.max_age_ms.unwrap_or(QUARANTINE_MS),
            LeftoverKind::Prefix | LeftoverKind::Packed | LeftoverKind::Prepared => {
                self.max_age_ms.unwrap_or(u64::MAX)
            }
        }
    }
}

fn percent(bytes: u64, share: u64) -> u64 {
    (u128::from(bytes) * u128::from(share) / 100) as u64
}
