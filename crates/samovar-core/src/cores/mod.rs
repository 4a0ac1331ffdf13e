//! The processor cores that this process may use: how many, how many idle, and how those who compute share them.
//!
//! ```text
//!   /proc/stat, affinity, cgroup ─► CoreWatch ─► cores, idle ─┐
//!   who computes, and with how many threads at most ─► split ─┴─► Cores for each, told when it changes
//! ```
//!
//! It reads small files of the kernel and computes. It never starts, stops or moves a thread.

mod quota;
mod watch;

use serde::{Deserialize, Serialize};

pub use watch::CoreWatch;

/// What one instance is told of the cores that it may compute with.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cores {
    /// Threads that a step of it may have at most; at least 1.
    pub share: u32,
    /// Cores that were not used lately, or only by what yields to all others. `None` where that is not known.
    pub idle: Option<f32>,
    /// Cores that other programs left just before: the last `idle` while no model computed. `None` where that is not
    /// known, or was too long ago.
    pub free: Option<f32>,
}

/// Why a step has as many threads as it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThreadsWhy {
    /// It has all that it was loaded for.
    #[default]
    All,
    /// This process may use fewer cores (affinity, or a quota of its control group).
    FewCores,
    /// Other models compute at the same time.
    OtherModels,
    /// Other programs have the cores.
    OtherPrograms,
}

impl ThreadsWhy {
    /// All reasons, for those who keep one as a number.
    pub const ALL: [Self; 4] = [Self::All, Self::FewCores, Self::OtherModels, Self::OtherPrograms];

    /// As metrics and reports in JSON write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::FewCores => "few_cores",
            Self::OtherModels => "other_models",
            Self::OtherPrograms => "other_programs",
        }
    }
}

/// The threads of an instance's last step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadUse {
    /// Threads of its last step; 0 before the first.
    pub used: u32,
    /// Threads that it was loaded for.
    pub most: u32,
    /// Why it has not all of them.
    pub why: ThreadsWhy,
}

impl std::fmt::Display for ThreadUse {
    /// Such as `2`, or `2 → 1: another program has a core`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { used, most, why } = *self;
        if used == 0 || used >= most {
            return write!(f, "{}", used.max(most));
        }
        let reason = match (why, most - used) {
            (ThreadsWhy::All, _) => return write!(f, "{used}"),
            (ThreadsWhy::FewCores, _) => "this process has fewer cores",
            (ThreadsWhy::OtherModels, _) => "other models compute as well",
            (ThreadsWhy::OtherPrograms, 1) => "another program has a core",
            (ThreadsWhy::OtherPrograms, _) => "other programs have cores",
        };
        write!(f, "{most} → {used}: {reason}")
    }
}

/// Shares of `cores` for those who compute, of whom each has use for `wanted` threads at most. None gets less than
/// one; what one has no use for goes to the others, and a rest to the first. The sum is at most `cores`, unless there
/// are more who compute than cores.
pub fn split(cores: u32, wanted: &[u32]) -> Vec<u32> {
    let mut shares: Vec<u32> = wanted.iter().map(|_| 1).collect();
    let mut left = cores.saturating_sub(shares.len() as u32);
    while left > 0 {
        let before = left;
        for (share, wanted) in shares.iter_mut().zip(wanted) {
            if left > 0 && *share < *wanted {
                *share += 1;
                left -= 1;
            }
        }
        if left == before {
            break;
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_equal_and_together_no_more_than_the_cores() {
        let table: [(u32, &[u32], &[u32]); 9] = [
            (2, &[2], &[2]),
            (2, &[2, 2], &[1, 1]),
            (2, &[2, 2, 2, 2], &[1, 1, 1, 1]),
            (16, &[16, 16, 16], &[6, 5, 5]),
            (16, &[2, 16], &[2, 14]),
            (16, &[1, 1, 1], &[1, 1, 1]),
            (4, &[8], &[4]),
            (0, &[2], &[1]),
            (4, &[], &[]),
        ];
        for (cores, wanted, shares) in table {
            assert_eq!(split(cores, wanted), shares, "{cores} {wanted:?}");
        }
    }

    #[test]
    fn shares_stay_within_cores_and_wishes_and_differ_by_one_at_most() {
        for cores in 0..40 {
            for members in 1..12_u32 {
                let wanted: Vec<u32> = (0..members).map(|index| 1 + (index * 7 + cores) % 9).collect();
                let shares = split(cores, &wanted);
                assert!(shares.iter().sum::<u32>() <= cores.max(members));
                assert!(shares.iter().zip(&wanted).all(|(share, wanted)| (1..=*wanted).contains(share)));
                let unsated = shares.iter().zip(&wanted).filter(|(share, wanted)| share < wanted);
                let least = unsated.map(|(share, _)| *share).min().unwrap_or(u32::MAX);
                assert!(shares.iter().all(|share| *share <= least.saturating_add(1)));
            }
        }
    }

    #[test]
    fn the_reason_is_told_where_threads_are_missing() {
        let told = |used, most, why| ThreadUse { used, most, why }.to_string();
        assert_eq!(told(2, 2, ThreadsWhy::All), "2");
        assert_eq!(told(0, 2, ThreadsWhy::All), "2");
        assert_eq!(told(1, 2, ThreadsWhy::OtherPrograms), "2 → 1: another program has a core");
        assert_eq!(told(4, 8, ThreadsWhy::OtherPrograms), "8 → 4: other programs have cores");
        assert_eq!(told(1, 2, ThreadsWhy::OtherModels), "2 → 1: other models compute as well");
        assert_eq!(told(1, 2, ThreadsWhy::FewCores), "2 → 1: this process has fewer cores");
    }
}
