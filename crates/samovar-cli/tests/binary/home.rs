//! A home of its own for each test, and the binary run in it. The daemon ends with the test, however that ends.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// The demo model's file, for tests that need a path.
pub(crate) const MODEL_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/demo-model/demo.gguf");

/// Whatever another process is to do has happened by then; longer than the daemon lets a worker be silent.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// Looks again and again until there is something to see.
#[track_caller]
pub(crate) fn await_some<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < SOON, "it never came");
        std::thread::yield_now();
    }
}

/// A directory in `/tmp`, since a socket's path is short.
pub(crate) struct Home {
    directory: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

/// What a finished command left.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    /// The output as JSON, of a command that succeeded.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{self:?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Home {
    pub(crate) fn new() -> Self {
        let directory =
            tempfile::Builder::new().prefix("sv").tempdir_in("/tmp").expect("temporary directory");
        Self { directory, variables: Vec::new() }
    }

    pub(crate) fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn with_config(self, text: &str) -> Self {
        fs_err::write(self.path().join("samovar.toml"), text).expect("configuration");
        self
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path().join("run/samovar.sock")
    }

    /// The binary in this home, with nothing on its standard input.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.at_home(Command::new(env!("CARGO_BIN_EXE_samovar")));
        command.args(arguments);
        command
    }

    /// A line as it is typed, by a shell that finds the binary.
    pub(crate) fn typed(&self, line: &str) -> Command {
        let binary = Path::new(env!("CARGO_BIN_EXE_samovar"));
        let folders =
            std::env::vars().find(|(name, _)| name == "PATH").map(|(_, path)| path).unwrap_or_default();
        let folder = binary.parent().expect("a folder").display();
        let mut command = self.at_home(Command::new("sh"));
        command.args(["-c", line]).env("PATH", format!("{folder}:{folders}"));
        command
    }

    fn at_home(&self, mut command: Command) -> Command {
        for (name, _) in std::env::vars().filter(|(name, _)| is_heard(name)) {
            command.env_remove(name);
        }
        command
            .env("SAMOVAR_HOME", self.path())
            // They must not see the tokens and models of the user who runs the tests.
            .env("HOME", self.path())
            .env("HF_HOME", self.path().join("hf"))
            // Tests run side by side: a second thread of one would wait for the other's.
            .env("SAMOVAR_DEFAULTS_THREADS", "1")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(self.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Done {
        self.spawn(arguments).finish()
    }

    /// Runs it to its end with this on its standard input.
    pub(crate) fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Done {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().expect("starts");
        let mut stdin = child.stdin.take().expect("piped");
        let input = input.to_vec();
        // The child may end without reading all of it.
        let writer = std::thread::spawn(move || stdin.write_all(&input).ok());
        let done = Running { child }.finish();
        writer.join().expect("writer");
        done
    }

    pub(crate) fn spawn(&self, arguments: &[&str]) -> Running {
        Running { child: self.command(arguments).spawn().expect("starts") }
    }

    /// A daemon with an open port, and its address.
    #[track_caller]
    pub(crate) fn serve(&self) -> (Running, String) {
        let daemon = self.spawn(&["serve", "--port", "0"]).greeted();
        let address = self.stats()["listen"].as_str().expect("an address").to_owned();
        (daemon, address)
    }

    /// The daemon's numbers.
    #[track_caller]
    pub(crate) fn stats(&self) -> Value {
        self.run(&["stats", "--json"]).json()
    }

    /// The daemon's process id, by its lock.
    pub(crate) fn daemon_pid(&self) -> Option<i32> {
        let text = fs_err::read_to_string(self.path().join("run/samovar.sock.daemon")).ok()?;
        let holder: Value = serde_json::from_str(&text).ok()?;
        i32::try_from(holder["pid"].as_i64()?).ok()
    }

    pub(crate) fn signal_daemon(&self, signal: Signal) {
        let pid = self.daemon_pid().and_then(Pid::from_raw).expect("a daemon");
        kill_process(pid, signal).expect("signals");
    }

    /// Blocks until no daemon holds the lock. The kernel wakes us: nothing is polled.
    pub(crate) fn wait_until_daemon_is_gone(&self) {
        let lock =
            fs_err::File::open(self.path().join("run/samovar.sock.daemon")).expect("there was a daemon");
        flock(lock.file(), FlockOperation::LockExclusive).expect("locks");
    }

    /// Sends one HTTP request over the socket and returns the status.
    pub(crate) fn status_of(&self, method: &str, path: &str, body: &str) -> u16 {
        use std::io::Read;
        let mut stream = UnixStream::connect(self.socket()).expect("connects");
        let length = body.len();
        // In one piece: a route that does not read its body may answer and close the connection before a second one.
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).expect("sends");
        let mut head = [0; 12];
        stream.read_exact(&mut head).expect("answers");
        std::str::from_utf8(&head[9..]).expect("status").parse().expect("status")
    }
}

/// Variables that the program reads.
fn is_heard(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    ["SAMOVAR_", "HF_", "HUGGING", "OLLAMA_", "AWS_", "GOOGLE_", "AZURE_", "XDG_"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
        || name.ends_with("_PROXY")
}

impl Drop for Home {
    fn drop(&mut self) {
        let pid = self.daemon_pid();
        let ended =
            self.command(&["shutdown", "--grace", "0s"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !ended.is_ok_and(|status| status.success())
            && let Some(pid) = pid.and_then(Pid::from_raw)
        {
            kill_process(pid, Signal::KILL).ok();
        }
        // Whatever a test had its models do, none needed more than the sandbox allows. A log may be a device without end.
        let log = self.path().join("state/daemon.log");
        let is_file = fs_err::symlink_metadata(&log).is_ok_and(|facts| facts.is_file());
        let log = if is_file { fs_err::read_to_string(log).unwrap_or_default() } else { String::new() };
        let denied: Vec<&str> = log.lines().filter(|line| line.contains("the sandbox denied")).collect();
        assert!(denied.is_empty() || std::thread::panicking(), "{denied:?}");
    }
}

/// A command on its way.
pub(crate) struct Running {
    pub(crate) child: Child,
}

impl Running {
    /// The same, once it says that it serves: a daemon in the foreground.
    #[track_caller]
    pub(crate) fn greeted(mut self) -> Self {
        let stdout = self.child.stdout.as_mut().expect("piped");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("a greeting");
        assert!(line.contains("is serving"), "{line}");
        self
    }

    pub(crate) fn finish(self) -> Done {
        let output = self.child.wait_with_output().expect("ends");
        Done {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("signals");
    }

    /// Signals again and again: between a handler and its listener, one can be lost.
    #[cfg(target_os = "linux")]
    pub(crate) fn signal_until_it_ends(&mut self, signal: Signal) {
        while self.child.try_wait().expect("waits").is_none() {
            self.signal(signal);
            std::thread::yield_now();
        }
    }

    /// Waits until the process handles `signal` itself, as the kernel tells.
    #[cfg(target_os = "linux")]
    pub(crate) fn wait_until_it_hears(&self, signal: Signal) {
        let path = format!("/proc/{}/status", self.child.id());
        let hears = || {
            let status = fs_err::read_to_string(&path).expect("the process lives");
            let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("a mask");
            (u64::from_str_radix(mask.trim(), 16).expect("a number") >> (signal.as_raw() - 1)) & 1 == 1
        };
        while !hears() {
            std::thread::yield_now();
        }
    }
}
