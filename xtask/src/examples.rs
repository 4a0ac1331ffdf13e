//! `cargo x test`: runs the example programs of the library with the built-in model, in a home of their own.
//!
//! It checks that each of them answers and ends well, never what it answers.

use std::io::{BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::process;
use crate::tree::Tree;

/// Longest time that the service may take to end after SIGINT.
const END_WITHIN: Duration = Duration::from_secs(60);
/// Longest time that an example may take for its answers, their load included.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);
/// What every example is asked.
const QUESTION: &str = "Tell me a story about a fox";

/// The library's examples. A test compiles the one that is missing here, `tool_loop`.
const BUILT: [&str; 8] =
    ["--example", "axum_service", "--example", "batch", "--example", "embed", "--example", "vectors"];

/// Builds the library's examples as the tests build it, and runs those that need no other model.
pub(crate) fn run(tree: &Tree) -> Result<()> {
    // All of the workspace: fewer packages would have other features, and the tests would be built again.
    let build = ["build", "--quiet", "--release", "--workspace"];
    process::run(tree.root(), "cargo", &[&build[..], &BUILT].concat())?;
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
            // Without a file, the program has said why.
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
        service.end(END_WITHIN)
    }

    fn command(&self, example: &str) -> Command {
        let mut command = Command::new(self.folder.join(example));
        command.current_dir(self.home).env("SAMOVAR_HOME", self.home).stdin(Stdio::null());
        command
    }
}

/// What a program prints to its standard output, once it has ended well. Its other words are shown.
fn output(command: &mut Command) -> Result<String> {
    let mut printed = tempfile::tempfile()?;
    let child = command.stdout(printed.try_clone()?).spawn().context("cannot start it")?;
    Running(child).end(ANSWER_WITHIN)?;
    let mut text = String::new();
    printed.rewind()?;
    printed.read_to_string(&mut text)?;
    Ok(text)
}

/// A program that is killed if it still runs when this is dropped.
struct Running(Child);

impl Running {
    /// Waits until it has ended well.
    fn end(&mut self, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.0.try_wait()? {
                ensure!(status.success(), "it ended with {status}");
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "it still runs after {} s", within.as_secs());
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

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn an_example_prints_its_answer_or_is_an_error() {
        assert_eq!(output(&mut sh("echo once upon a time")).expect("it ends well"), "once upon a time\n");
        let error = output(&mut sh("exit 3")).expect_err("it fails");
        assert!(error.to_string().contains('3'), "{error}");
    }

    #[test]
    fn an_example_that_hangs_is_ended() {
        let hanging = sh("exec sleep 600").spawn().expect("sh");
        let error = Running(hanging).end(Duration::ZERO).expect_err("it hangs");
        assert!(error.to_string().contains("still runs"), "{error}");
    }
}
