//! Programs that a task calls: shown before they run, named when they fail.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// Runs a program in `folder` with this terminal, after printing its command line.
pub(crate) fn run(folder: &Path, program: &str, arguments: &[&str]) -> Result<()> {
    println!("$ {program} {}", arguments.join(" "));
    run_quietly(folder, program, arguments)
}

/// The same without printing anything before.
pub(crate) fn run_quietly(folder: &Path, program: &str, arguments: &[&str]) -> Result<()> {
    let started = Instant::now();
    let mut command = Command::new(program);
    command.current_dir(folder).args(arguments).stdin(Stdio::null());
    let status = command.status().with_context(|| format!("cannot start {program}"))?;
    if !status.success() {
        bail!(
            "`{program} {}` ended with {status} after {:.0} s",
            arguments.join(" "),
            started.elapsed().as_secs_f64()
        );
    }
    Ok(())
}

/// What a program prints to its standard output.
pub(crate) fn output(program: &str, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    let output = command.output().with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{program} {}` ended with {}: {}", arguments.join(" "), output.status, said.trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("{program} printed something that is not UTF-8"))
}

/// Whether a program can be started and ends well with these arguments.
pub(crate) fn works(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_program_is_named_with_what_it_said() {
        let error = output("sh", &["-c", "echo no room >&2; exit 3"]).expect_err("it fails").to_string();
        assert!(error.contains("no room") && error.contains("sh -c"), "{error}");
    }

    #[test]
    fn a_missing_program_does_not_work() {
        assert!(!works("a-program-that-nobody-has", &[]));
        assert!(works("sh", &["-c", "exit 0"]));
    }
}
