//! How much memory instances may use, found from what this process may use.
//!
//! ```text
//!   /proc/meminfo  MemAvailable ─────────────────────────────┐
//!   cgroup v2      memory.max − (current − page cache) ──────┼─ min ── × 70 % ──► Budget
//!   cgroup v1      limit_in_bytes − (usage − page cache) ────┘
//! ```
//!
//! Page cache is not use: it leaves when memory is wanted. A group is bound by its parents as well.

mod cgroup;
mod meminfo;

use samovar_core::units::ByteSize;
use serde::Serialize;

/// Share of what this process may use that becomes the budget.
const SHARE_PERCENT: u32 = 70;
/// Assumed available where the system does not say.
const ASSUMED_BYTES: u64 = 4_000_000_000;

/// Bytes that instances may use together, and where that number comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Budget {
    /// The number.
    pub bytes: u64,
    /// Where it comes from, such as `70 % of 22.1 GB available (/proc/meminfo)`.
    pub source: String,
}

/// Memory that could be had, and the file that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Available {
    bytes: u64,
    told_by: String,
}

impl Budget {
    /// A budget that the owner has set.
    pub fn fixed(bytes: u64, source: impl Into<String>) -> Self {
        Self { bytes, source: source.into() }
    }

    /// Memory that this process may use, as far as the system says; else 4 GB are assumed.
    pub fn available_bytes() -> u64 {
        available_bytes(&|path| fs_err::read_to_string(path).ok()).unwrap_or(ASSUMED_BYTES)
    }

    /// 70 % of what this process may use.
    pub fn detect() -> Self {
        Self::share(SHARE_PERCENT)
    }

    /// So many percent, at most 100, of what this process may use.
    pub fn share(percent: u32) -> Self {
        Self::detect_with(percent, &|path| fs_err::read_to_string(path).ok())
    }

    /// The same, where `read` gives the text of a file of `/proc` and `/sys`, if it is there.
    fn detect_with(percent: u32, read: &dyn Fn(&str) -> Option<String>) -> Self {
        let share = |bytes: u64| (u128::from(bytes) * u128::from(percent.min(100)) / 100) as u64;
        match smallest(read) {
            Some(Available { bytes, told_by }) => Self {
                bytes: share(bytes),
                source: format!("{percent} % of {} available ({told_by})", ByteSize::from_bytes(bytes)),
            },
            None => Self {
                bytes: share(ASSUMED_BYTES),
                source: format!(
                    "{percent} % of {} assumed (the system does not say what is available)",
                    ByteSize::from_bytes(ASSUMED_BYTES)
                ),
            },
        }
    }
}

/// The least of what the machine has and what this process's groups leave it.
fn smallest(read: &dyn Fn(&str) -> Option<String>) -> Option<Available> {
    let machine = read("/proc/meminfo").and_then(|text| meminfo::available_bytes(&text));
    let machine = machine.map(|bytes| Available { bytes, told_by: "/proc/meminfo".into() });
    cgroup::limits(read).into_iter().chain(machine).min_by_key(|found| found.bytes)
}

/// Bytes that this process could have now, where the system says.
pub(crate) fn available_bytes(read: &dyn Fn(&str) -> Option<String>) -> Option<u64> {
    smallest(read).map(|available| available.bytes)
}

/// Folders of this process's own groups.
pub(crate) fn group_folders(read: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
    cgroup::folders(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str = "MemTotal: 24682404 kB\nMemFree: 1000 kB\nMemAvailable: 20000000 kB\n";

    fn detect(files: &[(&str, &str)]) -> Budget {
        share(SHARE_PERCENT, files)
    }

    fn share(percent: u32, files: &[(&str, &str)]) -> Budget {
        Budget::detect_with(percent, &|path| {
            files.iter().find(|(name, _)| *name == path).map(|(_, text)| (*text).to_owned())
        })
    }

    #[test]
    fn without_groups_the_machine_decides() {
        let budget = detect(&[("/proc/meminfo", MEMINFO)]);
        assert_eq!(budget.bytes, 20_000_000 * 1024 / 100 * 70);
        assert_eq!(budget.source, "70 % of 20.5 GB available (/proc/meminfo)");
        let half = share(50, &[("/proc/meminfo", MEMINFO)]);
        assert_eq!(half.bytes, 20_000_000 * 1024 / 2);
        assert!(half.source.starts_with("50 % of 20.5 GB"), "{}", half.source);
    }

    #[test]
    fn the_tightest_parent_group_decides_and_page_cache_is_not_use() {
        let budget = detect(&[
            ("/proc/meminfo", MEMINFO),
            ("/proc/self/cgroup", "0::/outer/inner\n"),
            ("/proc/self/mountinfo", "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"),
            ("/sys/fs/cgroup/outer/inner/memory.max", "max\n"),
            ("/sys/fs/cgroup/outer/inner/memory.current", "3000\n"),
            ("/sys/fs/cgroup/outer/memory.max", "10000\n"),
            ("/sys/fs/cgroup/outer/memory.current", "5000\n"),
            (
                "/sys/fs/cgroup/outer/memory.stat",
                "anon 1000\ninactive_file 2500\nactive_file 1000\nslab_reclaimable 500\n",
            ),
        ]);
        assert_eq!(budget.bytes, 9000 / 100 * 70);
        assert!(budget.source.contains("(/sys/fs/cgroup/outer/memory.max)"), "{}", budget.source);
    }

    #[test]
    fn version_one_groups_count_as_well() {
        let budget = detect(&[
            ("/proc/meminfo", MEMINFO),
            ("/proc/self/cgroup", "4:memory:/box\n0::/\n"),
            ("/proc/self/mountinfo", "35 31 0:32 /box /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "10000\n"),
            ("/sys/fs/cgroup/memory/memory.usage_in_bytes", "4000\n"),
            (
                "/sys/fs/cgroup/memory/memory.stat",
                "cache 9\ntotal_inactive_file 1000\ntotal_active_file 1000\n",
            ),
        ]);
        assert_eq!(budget.bytes, 8000 / 100 * 70);
    }

    #[test]
    fn a_system_that_says_nothing_gets_an_assumption_that_says_so() {
        let budget = detect(&[]);
        assert_eq!(budget.bytes, 2_800_000_000);
        assert!(budget.source.contains("assumed"), "{}", budget.source);
    }

    #[test]
    fn this_machine_has_a_budget() {
        assert!(Budget::detect().bytes > 0);
    }
}
