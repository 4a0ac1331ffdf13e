//! A hub on this machine for measurements: the test hub's program, serving files from the disk.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

/// A hub of one repository; it ends when dropped.
pub(crate) struct Hub {
    child: Child,
    /// What `HF_ENDPOINT` has to be.
    pub(crate) endpoint: String,
}

impl Hub {
    /// Serves `file` as `bench/model` at `path`.
    pub(crate) fn of(programs: &Path, path: &str, file: &Path) -> Result<Self> {
        let mut child = Command::new(programs.join("samovar-testhub"))
            .args(["--repo", REPOSITORY, "--file", &format!("{path}={}", file.display())])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start samovar-testhub")?;
        let stdout = child.stdout.take().context("the hub has no output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let endpoint = line.trim().strip_prefix("endpoint ").context("the hub does not say where it is")?;
        Ok(Self { child, endpoint: endpoint.to_owned() })
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        // Ending a process that has ended already is no failure, and the failure has no reader.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The repository that every hub of a measurement has.
pub(crate) const REPOSITORY: &str = "bench/model";
