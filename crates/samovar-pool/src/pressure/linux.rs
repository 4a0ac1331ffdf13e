//! What Linux says: `/proc/meminfo`, `/proc/pressure/memory`, and the same of the control groups.
//!
//! A stall counts when it has lasted (the kernel's average of ten seconds) and lasts still (since the reading before):
//! the average alone would go on for seconds after the memory was given back.
//!
//! *Source:* `Documentation/accounting/psi.rst` of the Linux kernel.

use std::time::Instant;

use super::{Gauge, Reading};
use crate::budget;

/// Stalls of the whole machine.
const MACHINE: &str = "/proc/pressure/memory";
/// Stalls of a group of version 2.
const OF_GROUP: &str = "memory.pressure";

/// One row of a file of stalls.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Stall {
    /// Share of the last ten seconds, in percent.
    average: f32,
    /// Since the machine or the group began, in microseconds.
    total_us: u64,
}

#[derive(Debug, Default)]
pub(super) struct System {
    /// Where stalls are told.
    files: Option<Vec<String>>,
    before: Option<(Instant, Vec<Stall>)>,
}

impl Gauge for System {
    #[allow(
        clippy::disallowed_methods,
        reason = "the kernel's clock and this one are compared, not the pool's"
    )]
    fn read(&mut self) -> Option<Reading> {
        let read = |path: &str| fs_err::read_to_string(path).ok();
        self.read_with(&read, Instant::now())
    }
}

impl System {
    fn read_with(&mut self, read: &dyn Fn(&str) -> Option<String>, now: Instant) -> Option<Reading> {
        let available_bytes = budget::available_bytes(read)?;
        let files = self.files.get_or_insert_with(|| {
            let groups = budget::group_folders(read).into_iter().map(|folder| format!("{folder}/{OF_GROUP}"));
            std::iter::once(MACHINE.to_owned()).chain(groups).collect()
        });
        let stalls: Vec<_> =
            files.iter().map(|file| read(file).and_then(|text| some(&text)).unwrap_or_default()).collect();
        let stall_percent = match &self.before {
            None => 0.0,
            Some((then, before)) => {
                let passed_us = (now - *then).as_micros().max(1) as f32;
                let lasts = before.iter().zip(&stalls).map(|(before, stall)| {
                    let since = stall.total_us.saturating_sub(before.total_us) as f32 * 100.0 / passed_us;
                    stall.average.min(since)
                });
                lasts.fold(0.0, f32::max)
            }
        };
        self.before = Some((now, stalls));
        Some(Reading { available_bytes, stall_percent })
    }
}

/// The row `some avg10=1.00 avg60=0.20 avg300=0.00 total=123`.
fn some(text: &str) -> Option<Stall> {
    let row = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let value = |name: &str| row.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
    Some(Stall { average: value("avg10")?.parse().ok()?, total_us: value("total")?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;

    #[test]
    fn reads_the_row_of_some() {
        let text = "some avg10=12.50 avg60=0.20 avg300=0.00 total=2763282\nfull avg10=1.00 total=5\n";
        assert_eq!(some(text), Some(Stall { average: 12.5, total_us: 2_763_282 }));
        for nonsense in ["", "full avg10=1 total=5", "some avg10=x total=5", "some total=5"] {
            assert_eq!(some(nonsense), None, "{nonsense:?}");
        }
    }

    #[test]
    fn a_stall_counts_when_it_has_lasted_and_lasts_and_the_groups_own_counts_too() {
        let mut files: BTreeMap<&str, String> = BTreeMap::from([
            ("/proc/meminfo", "MemAvailable: 1000 kB\n".to_owned()),
            ("/proc/self/cgroup", "0::/box\n".to_owned()),
            ("/proc/self/mountinfo", "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n".to_owned()),
            ("/sys/fs/cgroup/box/memory.max", "500\n".to_owned()),
            ("/sys/fs/cgroup/box/memory.current", "100\n".to_owned()),
        ]);
        let row = |average: f32, total_us: u64| format!("some avg10={average:.2} total={total_us}\n");
        let mut system = System::default();
        let began = Instant::now();
        let mut at = |seconds: u64, machine: String, group: String| {
            files.insert(MACHINE, machine);
            files.insert("/sys/fs/cgroup/box/memory.pressure", group);
            let read = |path: &str| files.get(path).cloned();
            system.read_with(&read, began + Duration::from_secs(seconds)).expect("it reads")
        };
        let first = at(0, row(50.0, 1_000_000), row(0.0, 0));
        assert_eq!(first, Reading { available_bytes: 400, stall_percent: 0.0 }, "nothing is known of before");
        let over = at(1, row(45.0, 1_000_000), row(0.0, 0));
        assert!(over.stall_percent < 0.01, "it has lasted, and is over");
        let lasts = at(2, row(45.0, 1_300_000), row(0.0, 0));
        assert!((lasts.stall_percent - 30.0).abs() < 0.1, "{lasts:?}");
        let in_group = at(3, row(0.0, 1_300_000), row(20.0, 400_000));
        assert!((in_group.stall_percent - 20.0).abs() < 0.1, "{in_group:?}");
    }

    #[test]
    fn a_system_without_stalls_is_told_by_its_memory_alone() {
        let read = |path: &str| (path == "/proc/meminfo").then(|| "MemAvailable: 1 kB\n".to_owned());
        let reading = System::default().read_with(&read, Instant::now());
        assert_eq!(reading, Some(Reading { available_bytes: 1_024, stall_percent: 0.0 }));
        assert_eq!(System::default().read_with(&|_| None, Instant::now()), None);
    }
}
