//! What the control groups of this process leave it, versions 1 and 2.
//!
//! *Source:* `Documentation/admin-guide/cgroup-v2.rst` and `cgroup-v1/memory.rst` of the Linux kernel.

use super::Available;

/// A limit at or above this is none: version 1 writes `i64::MAX` rounded down to a page.
const NO_LIMIT_BYTES: u64 = 1 << 60;

/// The files of one version of control groups.
struct Version {
    limit: &'static str,
    usage: &'static str,
    /// Rows of `memory.stat` that leave when memory is wanted.
    reclaimable: &'static [&'static str],
}

const V2: Version = Version {
    limit: "memory.max",
    usage: "memory.current",
    reclaimable: &["inactive_file", "active_file", "slab_reclaimable"],
};

const V1: Version = Version {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    reclaimable: &["total_inactive_file", "total_active_file"],
};

/// What each limited group above this process leaves it.
pub(super) fn limits(read: &dyn Fn(&str) -> Option<String>) -> Vec<Available> {
    mounts(read).iter().flat_map(|mount| mount.limits(read)).collect()
}

/// Folders of the groups that this process is in itself.
pub(super) fn folders(read: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
    mounts(read).iter().map(|mount| mount.folder(&mount.group)).collect()
}

fn mounts(read: &dyn Fn(&str) -> Option<String>) -> Vec<Mount> {
    let (Some(groups), Some(mounts)) = (read("/proc/self/cgroup"), read("/proc/self/mountinfo")) else {
        return Vec::new();
    };
    mounts.lines().filter_map(|line| Mount::parse(line, &groups)).collect()
}

/// A mounted tree of groups, with this process's place in it.
struct Mount {
    version: &'static Version,
    point: String,
    /// Path of this process's group below the mount, without slashes at its ends.
    group: String,
}

impl Mount {
    /// Reads a line of mountinfo: `id parent dev root point options… - type source super-options`.
    fn parse(line: &str, groups: &str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, point) = (before.next()?, before.next()?);
        let mut after = after.split(' ');
        let (kind, super_options) = (after.next()?, after.nth(1).unwrap_or_default());
        let (version, path) = match kind {
            "cgroup2" => (&V2, group_path(groups, "")?),
            "cgroup" if super_options.split(',').any(|option| option == "memory") => {
                (&V1, group_path(groups, "memory")?)
            }
            _ => return None,
        };
        // A container may see only a part of the tree; a group outside of it is shown by its root.
        let group = path.strip_prefix(root).unwrap_or_default().trim_matches('/');
        Some(Self { version, point: point.trim_end_matches('/').to_owned(), group: group.to_owned() })
    }

    fn folder(&self, group: &str) -> String {
        if group.is_empty() { self.point.clone() } else { format!("{}/{group}", self.point) }
    }

    /// From this process's group up to the root of the mount.
    fn limits(&self, read: &dyn Fn(&str) -> Option<String>) -> Vec<Available> {
        let mut found = Vec::new();
        let mut group = self.group.as_str();
        loop {
            found.extend(self.version.available(&self.folder(group), read));
            if group.is_empty() {
                return found;
            }
            group = group.rsplit_once('/').map_or("", |(parent, _)| parent);
        }
    }
}

/// The path after `hierarchy:controllers:` in `/proc/self/cgroup`.
fn group_path<'a>(groups: &'a str, controller: &str) -> Option<&'a str> {
    groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let controllers = parts.next()?;
        let path = parts.next()?;
        controllers.split(',').any(|name| name == controller).then_some(path)
    })
}

impl Version {
    fn available(&self, folder: &str, read: &dyn Fn(&str) -> Option<String>) -> Option<Available> {
        let number = |file: &str| read(&format!("{folder}/{file}"))?.trim().parse::<u64>().ok();
        // The word `max` is no number, and means no limit.
        let limit = number(self.limit).filter(|limit| *limit < NO_LIMIT_BYTES)?;
        let usage = number(self.usage).unwrap_or(0);
        let stat = read(&format!("{folder}/memory.stat")).unwrap_or_default();
        let used = usage.saturating_sub(self.reclaimable_bytes(&stat));
        Some(Available { bytes: limit.saturating_sub(used), told_by: format!("{folder}/{}", self.limit) })
    }

    fn reclaimable_bytes(&self, stat: &str) -> u64 {
        stat.lines()
            .filter_map(|line| line.split_once(' '))
            .filter(|(row, _)| self.reclaimable.contains(row))
            .filter_map(|(_, number)| number.trim().parse::<u64>().ok())
            .fold(0, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unlimited_group_gives_no_limit() {
        let read = |path: &str| match path {
            "/proc/self/cgroup" => Some("4:memory:/a\n0::/\n".to_owned()),
            "/proc/self/mountinfo" => Some("1 2 0:3 / /g rw - cgroup cgroup rw,memory".to_owned()),
            "/g/a/memory.limit_in_bytes" => Some("9223372036854771712\n".to_owned()),
            _ => None,
        };
        assert_eq!(limits(&read), Vec::new());
    }

    #[test]
    fn a_group_outside_the_visible_tree_is_shown_by_its_root() {
        let mount =
            Mount::parse("1 2 0:3 /docker/abc /sys/fs/cgroup rw - cgroup2 none rw", "0::/elsewhere\n");
        let mount = mount.unwrap();
        assert_eq!((mount.point.as_str(), mount.group.as_str()), ("/sys/fs/cgroup", ""));
    }

    #[test]
    fn use_beyond_the_limit_leaves_nothing() {
        let read = |path: &str| match path {
            "/g/memory.max" => Some("100".to_owned()),
            "/g/memory.current" => Some("500".to_owned()),
            _ => None,
        };
        assert_eq!(V2.available("/g", &read).map(|found| found.bytes), Some(0));
    }

    #[test]
    fn lines_that_are_no_mounts_are_passed_over() {
        for line in [
            "",
            "-",
            "1 2 3",
            "1 2 0:3 / /sys/fs/cgroup rw - tmpfs tmpfs rw",
            "1 2 0:3 / /g rw - cgroup cgroup rw,cpu",
        ] {
            assert!(Mount::parse(line, "4:memory:/a\n0::/\n").is_none(), "{line:?}");
        }
    }
}
