//! The program under measurement: the built binary in a home of its own, so that nothing of the user's takes part.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::{Bench, models, stream};

/// How long a server may take until it answers.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// A home with its configuration; its daemon leaves with it.
pub(crate) struct Home {
    binary: PathBuf,
    folder: tempfile::TempDir,
}

/// One `samovar run`, from start to exit.
pub(crate) struct Asked {
    /// What a user waits: process start, connection, queue, load, answer.
    pub(crate) elapsed_ms: f64,
    /// What it printed.
    pub(crate) stdout: String,
}

/// A question for one model.
#[derive(Clone, Copy)]
pub(crate) struct Question<'a> {
    /// Name of the model.
    pub(crate) model: &'a str,
    /// The prompt.
    pub(crate) prompt: &'a str,
    /// Tokens to generate at most.
    pub(crate) tokens: u32,
}

impl Home {
    /// A fresh home in which these models have their names, with lines of `[defaults]` such as `layout = "repacked"`,
    /// which other sections may follow.
    pub(crate) fn new(bench: &Bench<'_>, names: &[&str], settings: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut settings = format!("[defaults]\n{settings}\n");
        for name in names {
            if let Some(path) = models::file(bench.tree, name)? {
                writeln!(settings, "[models.\"{name}\"]\nsource = \"{}\"", path.display())?;
            }
        }
        fs_err::write(folder.path().join("samovar.toml"), settings)?;
        Ok(Self { binary: bench.programs.join("samovar"), folder })
    }

    /// Where everything of this home lies.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// `samovar …` in this home, without any setting from the environment.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SAMOVAR_"))
        {
            command.env_remove(name);
        }
        command.arg("--home").arg(self.folder.path()).args(arguments).stdin(Stdio::null());
        command
    }

    /// `samovar run` until it has exited.
    pub(crate) fn ask(&self, question: Question<'_>, flags: &[&str]) -> Result<Asked> {
        let mut command = self.run_command(question, flags);
        let started = Instant::now();
        let output = command.output().context("cannot start samovar")?;
        let elapsed_ms = milliseconds(started.elapsed());
        ensure!(output.status.success(), "samovar run: {}", String::from_utf8_lossy(&output.stderr).trim());
        let stdout = String::from_utf8(output.stdout)?;
        ensure!(!stdout.trim().is_empty(), "samovar run answered nothing");
        Ok(Asked { elapsed_ms, stdout })
    }

    /// `samovar run` with its greedy answer of a fixed length, not started yet.
    pub(crate) fn run_command(&self, question: Question<'_>, flags: &[&str]) -> Command {
        let tokens = question.tokens.to_string();
        let fixed = ["run", "--model", question.model, "-n", &tokens, "-t", "0"];
        self.command(&[&fixed, flags, &[question.prompt]].concat())
    }

    /// A verb's answer as JSON.
    pub(crate) fn json(&self, arguments: &[&str]) -> Result<Value> {
        let output = self.command(&[&["--json"], arguments].concat()).output()?;
        ensure!(
            output.status.success(),
            "samovar {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// One of the pool's counters.
    pub(crate) fn pool(&self, counter: &str) -> Result<f64> {
        let stats = self.json(&["stats"])?;
        stats["pool"][counter].as_f64().with_context(|| format!("`samovar stats` has no pool.{counter}"))
    }

    /// Stops the daemon, if there is one, and waits until it has.
    pub(crate) fn shut_down(&self) -> Result<()> {
        let output = self.command(&["shutdown"]).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        // Without a daemon there is nothing to do; the exit code says so, and the socket is gone either way.
        let socket = self.folder.path().join("run/samovar.sock");
        let deadline = Instant::now() + READY_WITHIN;
        while std::os::unix::net::UnixStream::connect(&socket).is_ok() {
            if Instant::now() > deadline {
                bail!("the daemon does not leave: {}", said.trim());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Starts `samovar serve` over HTTP and waits until it is ready.
    pub(crate) fn serve(&self) -> Result<Server> {
        let address = stream::free_address()?;
        let child = self
            .command(&["serve", "--listen", &address])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start samovar serve")?;
        Server::wait_for(child, &address, "/readyz")
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Err(error) = self.shut_down() {
            eprintln!("{error:#}");
        }
    }
}

/// A server of ours or of a peer; it ends when dropped, and what it started with it.
pub(crate) struct Server {
    child: Child,
    /// It is asked to leave before it is made to: its children would outlive it.
    leaves_when_asked: bool,
    /// `http://address:port`.
    pub(crate) url: String,
}

impl Server {
    /// Waits until `path` answers 200.
    pub(crate) fn wait_for(child: Child, address: &str, path: &str) -> Result<Self> {
        let mut server = Self { child, leaves_when_asked: false, url: format!("http://{address}") };
        let deadline = Instant::now() + READY_WITHIN;
        while !stream::is_fine(&format!("{}{path}", server.url)) {
            if let Some(status) = server.child.try_wait()? {
                bail!("the server ended with {status} before it was ready");
            }
            if Instant::now() > deadline {
                bail!("the server is not ready after {} s", READY_WITHIN.as_secs());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(server)
    }

    /// The same for a server that starts others.
    pub(crate) fn wait_for_all_below(child: Child, address: &str, path: &str) -> Result<Self> {
        let mut server = Self::wait_for(child, address, path)?;
        server.leaves_when_asked = true;
        Ok(server)
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Ending a process that has ended already is no failure, and the failure has no reader.
        if self.leaves_when_asked {
            let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        } else {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// A duration in milliseconds.
pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
