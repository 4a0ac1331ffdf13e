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

    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse().ok()
        };
        Some(Self { proportional_kib: field("Pss:")?, anonymous_kib: field("Anonymous:")? })
    }
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
