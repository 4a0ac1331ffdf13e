//! A small file system of its own, which needs the rights of an administrator.

use std::path::Path;
use std::process::Command;

use fs_err::File;
use tempfile::TempDir;

/// A file system in memory, unmounted when this is dropped.
pub(crate) struct Mount {
    dir: TempDir,
}

impl Mount {
    /// One of this size; `None` and a word about it where that cannot be had.
    pub(crate) fn new(bytes: u64) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={bytes},mode=0700");
        match run("mount", &["-t", "tmpfs", "-o", &size, "samovar-test", dir.path().to_str().unwrap()]) {
            Ok(()) => Some(Self { dir }),
            Err(reason) => {
                println!("skipped: no file system can be mounted here: {reason}");
                None
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn remount(&self, how: &str) -> Result<(), String> {
        run("mount", &["-o", &format!("remount,{how}"), self.dir.path().to_str().unwrap()])
    }

    pub(crate) fn free_bytes(&self) -> u64 {
        let facts = rustix::fs::statvfs(self.path()).unwrap();
        facts.f_bavail * facts.f_frsize
    }

    /// Takes all but so many bytes, until [`Mount::make_room`].
    pub(crate) fn fill_up(&self, but_bytes: u64) {
        let ballast = File::create(self.path().join("ballast")).unwrap();
        let bytes = self.free_bytes().saturating_sub(but_bytes);
        if bytes > 0 {
            rustix::fs::fallocate(&ballast, rustix::fs::FallocateFlags::empty(), 0, bytes).unwrap();
        }
    }

    pub(crate) fn make_room(&self) {
        fs_err::remove_file(self.path().join("ballast")).unwrap();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Err(reason) = run("umount", &["--lazy", self.dir.path().to_str().unwrap()]) {
            println!("left mounted: {reason}");
        }
    }
}

/// Runs a program of the system; its words when it fails.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output =
        Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}
