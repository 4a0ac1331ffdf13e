//! Whether a directory lies on a network file system, where SQLite's shared memory and locks cannot be
//! trusted between machines.
//!
//! A kind that is not listed counts as local. FUSE counts as a network: most of what is mounted through it
//! is one (sshfs, s3fs, gcsfuse, rclone, the shares of virtual machines), and taking a local one
//! for a network costs an index in the state directory and nothing else.

use std::path::Path;

/// `f_type` of file systems that other machines may write at the same time.
/// *Source:* `linux/magic.h`, and coreutils' `stat.c` for those outside of the kernel.
const NETWORK: &[u32] = &[
    0x0000_6969, // NFS
    0x0000_517b, // SMB
    0xff53_4d42, // CIFS
    0xfe53_4d42, // SMB 2
    0x0000_564c, // NCP
    0x0102_1997, // 9p
    0x6573_5546, // FUSE, virtiofs
    0x7375_7245, // Coda
    0x5346_414f, // AFS
    0x6b41_4653, // kAFS
    0x00c3_6400, // Ceph
    0x0bd0_0bd0, // Lustre
    0x4750_4653, // GPFS
    0x1983_0326, // BeeGFS
    0x7461_636f, // OCFS2
    0x0116_1970, // GFS2
    0xaad7_aaea, // PanFS
    0x2003_0528, // OrangeFS
    0xbeef_dead, // StorNext
    0x6163_6673, // ACFS
    0x7c7c_6673, // Parallels shared folders
    0x786f_4256, // VirtualBox shared folders
    0xbacb_acbc, // VMware shared folders
];

/// Whether what lies at this path, which exists, may be shared with other machines. A path that cannot be
/// asked counts as local.
#[cfg(target_os = "linux")]
pub(crate) fn is_network(path: &Path) -> bool {
    // Magic numbers have 32 bits; some architectures sign-extend them.
    rustix::fs::statfs(path).is_ok_and(|found| is_network_kind(found.f_type as u32))
}

/// Elsewhere nothing is known of it.
#[cfg(not(target_os = "linux"))]
pub(crate) fn is_network(_path: &Path) -> bool {
    false
}

fn is_network_kind(kind: u32) -> bool {
    NETWORK.contains(&kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_networks_from_disks() {
        for (name, kind) in
            [("nfs", 0x6969), ("cifs", 0xff53_4d42), ("smb2", 0xfe53_4d42), ("9p", 0x0102_1997)]
        {
            assert!(is_network_kind(kind), "{name}");
        }
        for (name, kind) in [
            ("ext4", 0xef53),
            ("xfs", 0x5846_5342),
            ("btrfs", 0x9123_683e),
            ("tmpfs", 0x0102_1994),
            ("zfs", 0x2fc1_2fc1),
        ] {
            assert!(!is_network_kind(kind), "{name}");
        }
    }

    #[test]
    fn what_cannot_be_asked_counts_as_local() {
        assert!(!is_network(Path::new("/no/such/path/anywhere")));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn proc_is_no_network() {
        assert!(!is_network(Path::new("/proc")));
    }
}
