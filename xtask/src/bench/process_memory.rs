//! What processes use together: a page that three of them map counts for each by a third.

use anyhow::{Context, Result};

/// Memory of a process, in KiB.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ProcessMemory {
    /// Its fair share of everything: shared pages divided by those who share them.
    pub(crate) proportional_kib: u64,
    /// Pages of its own that no file backs.
    pub(crate) anonymous_kib: u64,
}

impl ProcessMemory {
    /// Asks the kernel.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let text = fs_err::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        Self::parse(&text).with_context(|| format!("/proc/{pid}/smaps_rollup lacks a field"))
    }

    /// A process and all that it started, and these in turn.
    pub(crate) fn of_family(pid: u32) -> Result<Self> {
        let mut sum = Self::of(pid)?;
        for child in children(pid) {
            // It may have ended meanwhile.
            if let Ok(more) = Self::of_family(child) {
                sum.proportional_kib += more.proportional_kib;
                sum.anonymous_kib += more.anonymous_kib;
            }
        }
        Ok(sum)
    }

    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse().ok()
        };
        Some(Self { proportional_kib: field("Pss:")?, anonymous_kib: field("Anonymous:")? })
    }
}

/// The processes that a process started and that have not ended.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs_err::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists =
        threads.filter_map(|thread| fs_err::read_to_string(thread.ok()?.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rollup_of_this_process_has_every_field() {
        let own = ProcessMemory::of(std::process::id()).expect("the kernel answers");
        assert!(own.anonymous_kib > 0 && own.proportional_kib >= own.anonymous_kib / 2);
    }
}
