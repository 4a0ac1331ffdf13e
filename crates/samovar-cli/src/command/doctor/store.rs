//! The store: whether it opens, can be written, and what its disk is.

use std::path::Path;

use samovar_core::Failure;
use samovar_core::units::{ByteSize, counted};

use super::Finding;
use crate::command::{Context, stored};

/// Magic numbers that `statfs` gives, by the names of their file systems.
const FILE_SYSTEMS: [(u64, &str); 12] = [
    (0xef53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683e, "btrfs"),
    (0x2fc1_2fc1, "zfs"),
    (0xf2f5_2010, "f2fs"),
    (0x0102_1994, "tmpfs"),
    (0x794c_7630, "overlayfs"),
    (0x6969, "nfs"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb"),
    (0x0bd0_0bd0, "lustre"),
    (0x6573_5546, "fuse"),
];

pub(super) async fn finding(context: &Context) -> Finding {
    let gone = context.settings.runtime.store.read_only_dirs.iter().find(|lower| !lower.is_dir());
    match look(context).await {
        Ok((text, _)) if gone.is_some() => Finding::odd(
            "store",
            format!(
                "{text}; {} of cache.read_only_dirs does not exist",
                gone.map_or_else(String::new, |gone| gone.display().to_string())
            ),
            "mount it, or remove it from cache.read_only_dirs",
        ),
        Ok((text, true)) => Finding::fine("store", text),
        Ok((text, false)) => Finding::odd(
            "store",
            format!("{text}; it can only be read"),
            "what is in it can be used; to fetch more, name another place with SAMOVAR_CACHE_CACHE_DIR",
        ),
        Err(failure) => Finding::broken("store", failure),
    }
}

/// What there is, and whether more can be put there.
async fn look(context: &Context) -> Result<(String, bool), Failure> {
    let store = context.store().await?;
    let artifacts = stored::list(&store).await?;
    let bytes: u64 = artifacts.iter().map(samovar::store::Artifact::bytes).sum();
    let dir = store.dir().to_owned();
    let models = counted(artifacts.len(), "model");
    let text =
        format!("{models}, {}, on {} at {}", ByteSize::from_bytes(bytes), file_system(&dir), dir.display());
    Ok((text, store.is_writable()))
}

#[cfg(target_os = "linux")]
fn file_system(path: &Path) -> String {
    match rustix::fs::statfs(path) {
        Ok(facts) => {
            let magic = facts.f_type as u64 & 0xffff_ffff;
            let known = FILE_SYSTEMS.iter().find(|(number, _)| *number == magic);
            known.map_or_else(|| format!("a file system of type {magic:#x}"), |(_, name)| (*name).to_owned())
        }
        Err(_) => "an unknown file system".to_owned(),
    }
}

#[cfg(not(target_os = "linux"))]
fn file_system(_: &Path) -> String {
    "this disk".to_owned()
}
