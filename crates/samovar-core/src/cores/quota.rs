//! The processor time that the control groups of this process leave it, versions 1 and 2.
//!
//! *Source:* `Documentation/admin-guide/cgroup-v2.rst` and `scheduler/sched-bwc.rst` of the Linux kernel. It only reads.

/// Reads a file of the kernel whole.
pub(super) type Read<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The tightest limit above this process.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Quota {
    /// Cores' worth of time.
    pub(super) cores: f64,
    folder: String,
}

impl Quota {
    /// Looks for limits from this process's group up to the root.
    pub(super) fn find(read: Read<'_>) -> Option<Self> {
        let (groups, mounts) = (read("/proc/self/cgroup")?, read("/proc/self/mountinfo")?);
        let folders = mounts.lines().filter_map(|line| folders(line, &groups)).flatten();
        let quotas = folders.filter_map(|folder| Some(Self { cores: limit(&folder, read)?, folder }));
        quotas.min_by(|one, other| one.cores.total_cmp(&other.cores))
    }

    /// Seconds of processor time that the limited group has used.
    pub(super) fn used_seconds(&self, read: Read<'_>) -> Option<f64> {
        let folder = &self.folder;
        let v2 = read(&format!("{folder}/cpu.stat"))
            .and_then(|stat| {
                stat.lines().find_map(|line| line.strip_prefix("usage_usec ")?.trim().parse().ok())
            })
            .map(|microseconds: f64| microseconds / 1e6);
        let v1 = || Some(read(&format!("{folder}/cpuacct.usage"))?.trim().parse::<f64>().ok()? / 1e9);
        v2.or_else(v1)
    }
}

/// Folders of this process's groups in a mounted tree that counts processor time.
fn folders(line: &str, groups: &str) -> Option<Vec<String>> {
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ').skip(3);
    let (root, point) = (before.next()?, before.next()?.trim_end_matches('/'));
    let mut after = after.split(' ');
    let (kind, options) = (after.next()?, after.nth(1).unwrap_or_default());
    let controller = match kind {
        "cgroup2" => "",
        "cgroup" if options.split(',').any(|option| option == "cpu") => "cpu",
        _ => return None,
    };
    let path = groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        controllers.split(',').any(|name| name == controller).then_some(path)
    })?;
    // A container may see only a part of the tree; a group outside of it is shown by its root.
    let mut group = path.strip_prefix(root).unwrap_or_default().trim_matches('/');
    let mut folders = Vec::new();
    loop {
        folders.push(if group.is_empty() { point.to_owned() } else { format!("{point}/{group}") });
        if group.is_empty() {
            return Some(folders);
        }
        group = group.rsplit_once('/').map_or("", |(parent, _)| parent);
    }
}

/// Cores' worth of time that a group may use.
fn limit(folder: &str, read: Read<'_>) -> Option<f64> {
    let cores = |quota: &str, period: &str| {
        // The words `max` and `-1` mean no limit.
        let (quota, period) = (quota.trim().parse::<f64>().ok()?, period.trim().parse::<f64>().ok()?);
        (quota > 0.0 && period > 0.0).then(|| quota / period)
    };
    let v2 = read(&format!("{folder}/cpu.max"))
        .and_then(|line| line.trim().split_once(' ').and_then(|(quota, period)| cores(quota, period)));
    let v1 = || {
        let quota = read(&format!("{folder}/cpu.cfs_quota_us"))?;
        cores(&quota, &read(&format!("{folder}/cpu.cfs_period_us"))?)
    };
    v2.or_else(v1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(files: &[(&str, &str)]) -> Option<Quota> {
        Quota::find(&|path| files.iter().find(|(name, _)| *name == path).map(|(_, text)| (*text).to_owned()))
    }

    #[test]
    fn the_tightest_limit_above_this_process_counts() {
        let found = quota(&[
            ("/proc/self/cgroup", "0::/a/b\n"),
            ("/proc/self/mountinfo", "29 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"),
            ("/sys/fs/cgroup/a/b/cpu.max", "max 100000\n"),
            ("/sys/fs/cgroup/a/cpu.max", "150000 100000\n"),
            ("/sys/fs/cgroup/cpu.max", "400000 100000\n"),
        ]);
        assert_eq!(found, Some(Quota { cores: 1.5, folder: "/sys/fs/cgroup/a".to_owned() }));
    }

    #[test]
    fn version_one_is_read_as_well_and_no_limit_is_none() {
        let groups = ("/proc/self/cgroup", "5:memory:/x\n2:cpu,cpuacct:/x\n");
        let mounts = ("/proc/self/mountinfo", "29 23 0:26 / /cg/cpu rw - cgroup cgroup rw,cpu,cpuacct\n");
        let limited = [
            groups,
            mounts,
            ("/cg/cpu/x/cpu.cfs_quota_us", "50000\n"),
            ("/cg/cpu/x/cpu.cfs_period_us", "100000\n"),
        ];
        assert_eq!(quota(&limited).map(|quota| quota.cores), Some(0.5));
        let free = [groups, mounts, ("/cg/cpu/x/cpu.cfs_quota_us", "-1\n")];
        assert_eq!(quota(&free), None);
        assert_eq!(quota(&[]), None);
    }
}
