//! A disk whose power can be cut: ext4 in a file, which can be told to stop as if the current were gone.
//!
//! ```text
//!   image ─► mkfs.ext4 ─► mount -o loop ─► … ─► FS_IOC_SHUTDOWN ─► umount ─► mount (replays its journal)
//! ```

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

use crate::sweep;

/// Enough for the models of these tests, and for the smallest journal that ext4 likes.
const IMAGE_BYTES: u64 = 64 << 20;
/// Tells file systems to stop, as standard input says. `FS_IOC_SHUTDOWN` is `_IOR('X', 125, __u32)`.
const SWITCH: &str = r#"
import fcntl, os, struct, sys
for line in sys.stdin:
    how, path = line.rstrip("\n").split(" ", 1)
    directory = os.open(path, os.O_RDONLY)
    fcntl.ioctl(directory, 0x8004587D, struct.pack("I", int(how)))
    os.close(directory)
    print("cut", flush=True)
"#;

/// What reaches the disk at the last moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Nothing that was not synced: neither names nor bytes.
    NothingMore,
    /// All names as they are now, but no bytes that were not synced: the other end of what a journal may do.
    NamesWithoutBytes,
}

impl Cut {
    pub(crate) const BOTH: [Self; 2] = [Self::NothingMore, Self::NamesWithoutBytes];

    /// `EXT4_GOING_FLAGS_NOLOGFLUSH` and `EXT4_GOING_FLAGS_LOGFLUSH`.
    fn flag(self) -> u32 {
        match self {
            Self::NothingMore => 2,
            Self::NamesWithoutBytes => 1,
        }
    }
}

/// Cuts the power.
pub(crate) struct Switch {
    child: Child,
    tell: ChildStdin,
    hear: BufReader<ChildStdout>,
}

impl Switch {
    pub(crate) fn new() -> Result<Self> {
        let mut command = Command::new("python3");
        command.args(["-c", SWITCH]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("python3 could not be started")?;
        let tell = child.stdin.take().context("invariant: it is piped")?;
        let hear = child.stdout.take().context("invariant: it is piped")?;
        Ok(Self { child, tell, hear: BufReader::new(hear) })
    }

    /// Stops the file system that a directory lies on.
    pub(crate) fn cut(&mut self, cut: Cut, directory: &Path) -> Result<()> {
        writeln!(self.tell, "{} {}", cut.flag(), directory.display())?;
        let mut answer = String::new();
        self.hear.read_line(&mut answer)?;
        ensure!(answer == "cut\n", "the file system could not be stopped");
        Ok(())
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A mounted disk; unmounted when dropped.
pub(crate) struct Disk {
    dir: TempDir,
    is_mounted: bool,
}

impl Disk {
    pub(crate) fn new() -> Result<Self> {
        let disk = Self { dir: sweep::room()?, is_mounted: false };
        fs_err::File::create(disk.image())?.set_len(IMAGE_BYTES)?;
        fs_err::create_dir(disk.root())?;
        let image = disk.image();
        tool("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), image.as_ref()])?;
        disk.mounted()
    }

    fn mounted(mut self) -> Result<Self> {
        let (image, root) = (self.image(), self.root());
        tool("mount", &["-o".as_ref(), "loop".as_ref(), image.as_ref(), root.as_ref()])?;
        self.is_mounted = true;
        Ok(self)
    }

    fn image(&self) -> PathBuf {
        self.dir.path().join("image")
    }

    /// Where it is mounted.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("disk")
    }

    /// A file that no power cut reaches.
    pub(crate) fn elsewhere(&self) -> PathBuf {
        self.dir.path().join("said")
    }

    /// Brings all that was written so far to the disk.
    pub(crate) fn sync(&self) -> Result<()> {
        rustix::fs::syncfs(fs_err::File::open(self.root())?)?;
        Ok(())
    }

    /// What is there when the current is back.
    pub(crate) fn again(mut self) -> Result<Self> {
        self.unmount()?;
        self.mounted()
    }

    fn unmount(&mut self) -> Result<()> {
        tool("umount", &[self.root().as_ref()])?;
        self.is_mounted = false;
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.is_mounted && self.unmount().is_err() {
            let _ = tool("umount", &["--lazy".as_ref(), self.root().as_ref()]);
        }
    }
}

/// Whether disks can be made and stopped here; else why not.
pub(crate) fn is_possible() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("mounting needs root".to_owned());
    }
    let try_it = || -> Result<()> {
        let disk = Disk::new()?;
        Switch::new()?.cut(Cut::NothingMore, &disk.root())
    };
    try_it().map_err(|error| format!("no disk to be cut off here: {error:#}"))
}

fn tool(program: &str, arguments: &[&std::ffi::OsStr]) -> Result<()> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("{program} could not be started"))?;
    if !output.status.success() {
        bail!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Shows that a power cut here takes what was not synced: else the sweeps would prove nothing.
pub(crate) fn takes_what_was_not_synced() -> Result<()> {
    let mut switch = Switch::new()?;
    for (cut, is_synced, expected) in [
        (Cut::NothingMore, false, None),
        (Cut::NamesWithoutBytes, false, Some("")),
        (Cut::NamesWithoutBytes, true, Some("whole")),
    ] {
        let disk = Disk::new()?;
        disk.sync()?;
        let (new, last) = (disk.root().join("new"), disk.root().join("last"));
        fs_err::write(&new, "whole")?;
        if is_synced {
            fs_err::File::open(&new)?.sync_all()?;
        }
        fs_err::rename(&new, &last)?;
        switch.cut(cut, &disk.root())?;
        let disk = disk.again()?;
        let got = fs_err::read_to_string(disk.root().join("last")).ok();
        ensure!(got.as_deref() == expected, "{cut:?}, synced: {is_synced}: {got:?} is left");
    }
    Ok(())
}
