//! Whether a model could be loaded now: by what the memory holds, and what may leave it. Pure.

use samovar_pool::Snapshot;
use serde::{Deserialize, Serialize};

/// What the memory for models holds at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryInUse {
    /// Bytes that models may use together.
    pub budget_bytes: u64,
    /// Bytes in memory and promised.
    pub used_bytes: u64,
    /// Models that have some of it.
    pub users: Vec<MemoryUser>,
}

/// A model in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryUser {
    /// What people call it.
    pub name: String,
    /// Bytes that it counts for.
    pub bytes: u64,
    /// Milliseconds since its last use; `None` while it is in use.
    pub idle_ms: Option<u64>,
    /// Whether it may not leave.
    pub is_pinned: bool,
}

impl From<&Snapshot> for MemoryInUse {
    fn from(snapshot: &Snapshot) -> Self {
        let users = snapshot.models.iter().map(|model| MemoryUser {
            name: model.name.clone(),
            bytes: model.held_bytes.saturating_add(model.mapped_bytes),
            idle_ms: model.idle_ms,
            is_pinned: model.must_stay,
        });
        Self {
            budget_bytes: snapshot.pool.budget_bytes,
            used_bytes: snapshot.pool.resident_bytes.saturating_add(snapshot.pool.reserved_bytes),
            users: users.filter(|user| user.bytes > 0).collect(),
        }
    }
}

impl MemoryInUse {
    /// Bytes that no model has.
    pub fn free_bytes(&self) -> u64 {
        self.budget_bytes.saturating_sub(self.used_bytes)
    }
}

/// Whether a model could be loaded.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Now, next to all that is in memory.
    FitsNow,
    /// Once some models have left the memory.
    AfterEvictions,
    /// Not as long as some models are pinned.
    AfterUnpinning,
    /// Not with this budget.
    Never,
    /// It is not known what it would take.
    Unknown,
}

/// Whether a model that takes so much could be loaded, and the names of those that would have to go: what was used last goes
/// last, and what is in use after all others.
pub(crate) fn judge(needed_bytes: Option<u64>, memory: &MemoryInUse) -> (Verdict, Vec<String>) {
    let Some(needed_bytes) = needed_bytes else { return (Verdict::Unknown, Vec::new()) };
    if needed_bytes > memory.budget_bytes {
        return (Verdict::Never, Vec::new());
    }
    let mut free_bytes = memory.free_bytes();
    let (pinned, mut others): (Vec<&MemoryUser>, Vec<&MemoryUser>) =
        memory.users.iter().partition(|user| user.is_pinned);
    others.sort_by_key(|user| std::cmp::Reverse(user.idle_ms));
    let mut gone = Vec::new();
    for user in others {
        if free_bytes >= needed_bytes {
            break;
        }
        free_bytes = free_bytes.saturating_add(user.bytes);
        gone.push(user.name.clone());
    }
    if free_bytes < needed_bytes {
        return (Verdict::AfterUnpinning, pinned.iter().map(|user| user.name.clone()).collect());
    }
    let verdict = if gone.is_empty() { Verdict::FitsNow } else { Verdict::AfterEvictions };
    (verdict, gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> MemoryInUse {
        let user = |name: &str, bytes, idle_ms, is_pinned| MemoryUser {
            name: name.to_owned(),
            bytes,
            idle_ms,
            is_pinned,
        };
        let users = vec![
            user("busy", 10, None, false),
            user("recent", 20, Some(5), false),
            user("pinned", 30, Some(900), true),
            user("old", 10, Some(500), false),
        ];
        MemoryInUse { budget_bytes: 100, used_bytes: 70, users }
    }

    #[test]
    fn what_was_not_used_for_longest_leaves_first_and_what_is_pinned_stays() {
        let table: [(u64, Verdict, &[&str]); 7] = [
            (30, Verdict::FitsNow, &[]),
            (31, Verdict::AfterEvictions, &["old"]),
            (41, Verdict::AfterEvictions, &["old", "recent"]),
            (70, Verdict::AfterEvictions, &["old", "recent", "busy"]),
            (71, Verdict::AfterUnpinning, &["pinned"]),
            (100, Verdict::AfterUnpinning, &["pinned"]),
            (101, Verdict::Never, &[]),
        ];
        for (needed_bytes, verdict, names) in table {
            let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
            assert_eq!(judge(Some(needed_bytes), &memory()), (verdict, names), "{needed_bytes}");
        }
        assert_eq!(judge(None, &memory()).0, Verdict::Unknown);
    }
}
