//! A folder with a model and a secret, and processes started there.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use samovar_worker::sandbox::{self, Mode, Part, SandboxPolicy};
use tempfile::TempDir;

use crate::attempt::Attempt;
use crate::order::{ACCOUNT, Account, ORDER, Order};
use crate::sweep::Targets;

/// The program that enters the sandbox and tries things there.
const PROGRAM: &str = env!("CARGO_BIN_EXE_samovar-sandbox-program");
/// A user without rights, as nearly every system has it.
const NOBODY: u32 = 65534;

/// Who runs a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum User {
    /// The user who runs the tests.
    This,
    /// A user without rights; only root can become another one.
    Nobody,
}

impl User {
    fn becomes(self, command: &mut Command) {
        if self == Self::Nobody {
            command.uid(NOBODY).gid(NOBODY);
        }
    }
}

/// A folder with a model and a secret.
pub(crate) struct Scene {
    folder: TempDir,
    /// A descriptor that the process that started us forgot to close.
    forgotten: OwnedFd,
    victims: std::sync::Mutex<Vec<Child>>,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        for name in ["model", "secret", "given"] {
            let content = if name == "given" { String::new() } else { format!("this is the {name}") };
            fs_err::write(folder.path().join(name), content).expect("a file");
        }
        let secret: OwnedFd = fs_err::File::open(folder.path().join("secret")).expect("it is there").into();
        Self { folder, forgotten: secret, victims: std::sync::Mutex::default() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// An order to try these things with the model as all that may be read.
    pub(crate) fn order(&self, mode: Mode, attempts: &[Attempt]) -> Order {
        Order {
            plan: SandboxPolicy::reading(mode, [self.path("model")]),
            attempts: attempts.to_vec(),
            starts_a_thread_first: false,
            hides_landlock: false,
        }
    }

    /// Each attempt works without the sandbox, and fails with an error in it.
    pub(crate) fn only_without_sandbox(&self, attempts: &[Attempt]) {
        // One process each: an attempt that works may change what the next one finds.
        for attempt in attempts {
            let one = std::slice::from_ref(attempt);
            let caged = self.run(&self.order(Mode::Auto, one));
            let outcome = &caged.outcomes[0];
            let is_denied = matches!(outcome.errno(), Some(libc::EPERM | libc::EACCES | libc::ENOSYS));
            assert!(is_denied, "in the sandbox: {attempt:?}: {outcome:?}");
            let free = self.run(&self.order(Mode::Off, one));
            assert!(free.outcomes[0].is_ok(), "the control: {attempt:?}: {:?}", free.outcomes[0]);
        }
    }

    /// Starts the process as a worker is started, and waits for its account.
    pub(crate) fn run(&self, order: &Order) -> Account {
        let mut command = Self::command();
        sandbox::prepare(&mut command);
        self.account_of(&mut command, order)
    }

    /// Starts it as any child is started.
    pub(crate) fn run_unprepared(&self, order: &Order) -> Account {
        self.account_of(&mut Self::command(), order)
    }

    /// The same as such a user.
    pub(crate) fn run_as(&self, user: User, order: &Order) -> Account {
        // By a descriptor: the user may start the program, but perhaps not enter the folders on the way to it.
        let program = fs_err::File::open(PROGRAM).expect("it is built");
        let mut command = Self::command_of(&format!("/proc/self/fd/{}", program.as_raw_fd()));
        sandbox::prepare(&mut command);
        user.becomes(&mut command);
        self.account_of(&mut command, order)
    }

    /// Starts it, and says how it ended.
    pub(crate) fn end_of(&self, order: &Order) -> ExitStatus {
        self.output_of(&mut Self::command(), order).status
    }

    /// What it says on its standard error.
    pub(crate) fn said(&self, order: &Order) -> String {
        let output = self.output_of(&mut Self::command(), order);
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn command() -> Command {
        Self::command_of(PROGRAM)
    }

    fn command_of(program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("HF_TOKEN", "hf_secret");
        command
    }

    fn account_of(&self, command: &mut Command, order: &Order) -> Account {
        let output = self.output_of(command, order);
        let said = String::from_utf8_lossy(&output.stdout);
        let line = said.lines().find_map(|line| line.strip_prefix(ACCOUNT));
        let line = line.unwrap_or_else(|| {
            panic!("no account, {}: {said}{}", output.status, String::from_utf8_lossy(&output.stderr))
        });
        serde_json::from_str(line).expect("an account")
    }

    fn output_of(&self, command: &mut Command, order: &Order) -> Output {
        let given =
            fs_err::OpenOptions::new().read(true).append(true).open(self.path("given")).expect("a file");
        fs_err::write(self.path("given"), "").expect("it can be emptied");
        command
            .env(ORDER, serde_json::to_string(order).expect("an order is plain"))
            .stdin(Stdio::from(given.into_parts().0))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.output().expect("it starts")
    }

    /// Says why, when this kernel lacks landlock.
    pub(crate) fn lacks_landlock(&self) -> bool {
        let report = self.run(&self.order(Mode::Auto, &[])).report.expect("auto goes on");
        if !report.has(Part::Files) {
            println!("skipped: {report}");
        }
        !report.has(Part::Files)
    }

    /// What such a user could harm.
    pub(crate) fn targets(&self, user: User) -> Targets {
        let folder = self.path("victims");
        fs_err::create_dir(&folder).expect("a folder");
        for name in ["file", "removable"] {
            fs_err::write(folder.join(name), "as it was").expect("a file");
        }
        if user == User::Nobody {
            self.share_with_everybody();
            for path in [folder.join("file"), folder.join("removable"), folder.clone()] {
                fs_err::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).expect("root may");
            }
        }
        let victim = self.victim_of(user).cast_signed();
        Targets {
            victim,
            mortal: self.victim_of(user).cast_signed(),
            file: folder.join("file"),
            removable: folder.join("removable"),
            free: folder.join("new"),
            key: 0x5A00_0000 | victim,
        }
    }

    /// A process to be attacked, until the scene ends.
    pub(crate) fn victim(&self) -> u32 {
        self.victim_of(User::This)
    }

    fn victim_of(&self, user: User) -> u32 {
        let mut command = Command::new("/bin/sleep");
        user.becomes(command.arg("300"));
        let child = command.spawn().expect("sleep is everywhere");
        let pid = child.id();
        self.victims.lock().expect("no panic").push(child);
        pid
    }

    /// A descriptor that every child inherits which is not kept from it.
    pub(crate) fn inheritable_descriptor(&self) -> RawFd {
        rustix::io::fcntl_setfd(&self.forgotten, rustix::io::FdFlags::empty()).expect("it is open");
        self.forgotten.as_raw_fd()
    }

    /// Lets other users reach the folder and write what is given.
    pub(crate) fn share_with_everybody(&self) {
        let allow = |path: PathBuf, mode| {
            fs_err::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("it is ours");
        };
        allow(self.folder.path().to_owned(), 0o755);
        allow(self.path("given"), 0o666);
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        for victim in self.victims.get_mut().expect("no panic") {
            victim.kill().ok();
            victim.wait().ok();
        }
    }
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Why this system lets no process trace another's child.
pub(crate) fn refuses_tracing() -> Option<String> {
    let scope = fs_err::read_to_string("/proc/sys/kernel/yama/ptrace_scope").ok()?;
    (scope.trim() != "0").then(|| format!("yama's ptrace_scope is {}", scope.trim()))
}
