//! `cargo x test`: runs the example programs of the library with the built-in model, in a home of their own.
//!
//! It checks that each of them answers and ends well, never what it answers.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::process;
use crate::tree::Tree;

/// Longest time that the service may take to end after SIGINT.
const END_WITHIN: Duration = Duration::from_secs(60);
/// Longest time that the service may take for an answer, its load included.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);
/// What every example is asked.
const QUESTION: &str = "Tell me a story about a fox";

/// Builds the examples as the tests build them, and runs those of the library.
pub(crate) fn run(tree: &Tree) -> Result<()> {
    // All of the workspace: fewer packages would have other features, and the tests would be built again.
    process::run(tree.root(), "cargo", &["build", "--quiet", "--release", "--workspace", "--examples"])?;
    let home = tempfile::tempdir()?;
    let examples = Examples { folder: tree.target()?.join("release/examples"), home: home.path() };
    examples.embed().context("embed")?;
    examples.batch().context("batch")?;
    examples.axum_service().context("axum_service")
}

/// The built examples, and the home in which they run.
struct Examples<'a> {
    folder: PathBuf,
    home: &'a Path,
}

impl Examples<'_> {
    fn embed(&self) -> Result<()> {
        let text = output(&mut self.command("embed"))?;
        ensure!(!text.trim().is_empty(), "it printed no answer");
        Ok(())
    }

    fn batch(&self) -> Result<()> {
        let prompts = self.home.join("prompts");
        fs_err::create_dir(&prompts)?;
        let names = ["one", "two"].map(|name| prompts.join(name));
        for name in &names {
            fs_err::write(name.with_extension("txt"), QUESTION)?;
        }
        output(self.command("batch").arg(&prompts))?;
        for name in &names {
            let answer = fs_err::read_to_string(name.with_extension("answer"))?;
            ensure!(!answer.trim().is_empty(), "an answer is empty");
        }
        Ok(())
    }

    fn axum_service(&self) -> Result<()> {
        let mut command = self.command("axum_service");
        let child = command.arg("127.0.0.1:0").stdout(Stdio::piped()).spawn().context("cannot start it")?;
        let mut service = Running(child);
        let mut stdout = BufReader::new(service.0.stdout.take().context("it has no output")?);
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        let url = line.trim().rsplit(' ').next().filter(|url| url.starts_with("http://"));
        let url = url.with_context(|| format!("it printed no address: {line:?}"))?;
        let in_time = ureq::Agent::config_builder().timeout_global(Some(ANSWER_WITHIN)).build();
        let mut response = ureq::Agent::new_with_config(in_time).post(url).send(QUESTION)?;
        let answer = response.body_mut().read_to_string()?;
        ensure!(!answer.trim().is_empty(), "it sent no answer");
        let pid = service.0.id().to_string();
        process::run_quietly(self.home, "kill", &["-INT", &pid])?;
        service.end()
    }

    fn command(&self, example: &str) -> Command {
        let mut command = Command::new(self.folder.join(example));
        command.current_dir(self.home).env("SAMOVAR_HOME", self.home).stdin(Stdio::null());
        command
    }
}

/// What a program prints to its standard output, once it has ended well.
fn output(command: &mut Command) -> Result<String> {
    let output = command.output().context("cannot start it")?;
    if !output.status.success() {
        bail!("it ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// A program that is killed if it still runs when this is dropped.
struct Running(Child);

impl Running {
    /// Waits until it has ended well.
    fn end(&mut self) -> Result<()> {
        let deadline = Instant::now() + END_WITHIN;
        loop {
            if let Some(status) = self.0.try_wait()? {
                ensure!(status.success(), "it ended with {status}");
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "it still runs {} s after SIGINT", END_WITHIN.as_secs());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Killing a process that has ended already is no failure.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_example_that_fails_is_an_error_with_its_words() {
        let error =
            output(Command::new("sh").args(["-c", "echo no model >&2; exit 1"])).expect_err("it fails");
        assert!(error.to_string().contains("no model"), "{error}");
        let mut failing = Running(Command::new("sh").args(["-c", "exit 1"]).spawn().expect("sh"));
        assert!(failing.end().is_err());
    }
}
