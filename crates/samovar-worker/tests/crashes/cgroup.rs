//! A control group with little memory, where this system lets us make one.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A control group of its own, gone with this value.
pub(crate) struct Group {
    path: PathBuf,
}

impl Group {
    /// A group that may use so many bytes.
    ///
    /// # Errors
    /// The reason why there is none.
    pub(crate) fn new(bytes: u64) -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("making a control group needs root".to_owned());
        }
        let name = format!("samovar-test-{}", std::process::id());
        // The old interface, then the new one.
        let old = Path::new("/sys/fs/cgroup/memory");
        let (parent, limit) = if old.is_dir() {
            (old.to_owned(), "memory.limit_in_bytes")
        } else {
            (PathBuf::from("/sys/fs/cgroup"), "memory.max")
        };
        let path = parent.join(name);
        let told = |error: std::io::Error| format!("no control group can be made here: {error}");
        fs_err::create_dir(&path).map_err(told)?;
        let group = Self { path };
        fs_err::write(group.path.join(limit), bytes.to_string()).map_err(told)?;
        // Memory that is paged out is not counted, and the test would eat the machine's.
        for file in ["memory.swap.max", "memory.memsw.limit_in_bytes"] {
            let file = group.path.join(file);
            if file.exists() {
                let bytes = if file.ends_with("memory.swap.max") { 0 } else { bytes };
                fs_err::write(file, bytes.to_string()).ok();
            }
        }
        Ok(group)
    }

    /// Runs one of this binary's ignored tests in the group, and returns what it printed.
    pub(crate) fn run_this_test_binary(&self, test: &str) -> String {
        let program = std::env::current_exe().expect("this program has a path");
        // The shell enters the group and becomes the test.
        let enter = "echo $$ > \"$1\" && shift && exec \"$@\"";
        let output = Command::new("/bin/sh")
            .args(["-c", enter, "sh"])
            .arg(self.path.join("cgroup.procs"))
            .arg(program)
            .args(["--exact", test, "--ignored", "--nocapture"])
            .output()
            .expect("a shell");
        format!(
            "{}{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The kernel lets go of its dead a moment later.
        for _ in 0..100 {
            if std::fs::remove_dir(&self.path).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}
