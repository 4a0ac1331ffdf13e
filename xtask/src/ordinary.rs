//! `cargo x ordinary`: the tests of workers and of the command line once more, as a user without rights. What holds for
//! root alone is found that way.
//!
//! ```text
//!   root ─► nextest lists what was built ─► setpriv: `nobody` ─► nextest runs it, in a home of that user's own
//!             └─ a checkout behind a folder that others may not enter is shown to them in a mount namespace
//! ```
//!
//! Nothing is built twice: the same test binaries are run that the main pass runs. A user who is not root runs every test as
//! an ordinary user anyway. Where something is missing that this needs, it says what, and is skipped.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::process;
use crate::test::TESTED;
use crate::tree::Tree;

/// A user without rights, as nearly every system has it.
const NOBODY: u32 = 65534;
/// How `setpriv` becomes that user.
const AS_NOBODY: [&str; 3] = ["--reuid=65534", "--regid=65534", "--clear-groups"];
/// What behaves differently for different users, without the long runs.
const TESTS: &str = "(package(samovar-worker) - binary(crashes) - binary(leaks)) \
    + (package(samovar-cli) & (test(/^walls::/) + test(/^run::/) + test(/^worker::/) + test(/^stampede::/) \
    + test(/^strangers::/)))";

/// Runs them, if this is root.
pub(crate) fn run(tree: &Tree) -> Result<()> {
    if process::output("id", &["-u"])?.trim() != "0" {
        println!("not root: all tests run as an ordinary user anyway");
        return Ok(());
    }
    match OrdinaryUser::prepare(tree)? {
        Ok(user) => user.run_tests(tree),
        Err(reason) => {
            println!("skipped: no test runs as an ordinary user here: {reason}");
            Ok(())
        }
    }
}

/// Everything that the other user needs.
struct OrdinaryUser {
    scratch: tempfile::TempDir,
    /// The checkout, and where it is built.
    shown: Vec<PathBuf>,
    /// Folders around those that others may not enter.
    closed: Vec<PathBuf>,
}

impl OrdinaryUser {
    /// Prepares everything, or says why it cannot be.
    fn prepare(tree: &Tree) -> Result<Result<Self, String>> {
        let becoming = [&AS_NOBODY[..], &["true"]].concat();
        for (program, arguments) in [("cargo-nextest", &["--version"][..]), ("setpriv", &becoming[..])] {
            if !process::works(program, arguments) {
                return Ok(Err(format!("`{program} {}` does not work", arguments.join(" "))));
            }
        }
        let (scratch, shown) = (tempfile::tempdir()?, vec![tree.root().to_path_buf(), tree.target()?]);
        open_to_all(scratch.path())?;
        if let Some(folder) = first_closed(scratch.path()) {
            return Ok(Err(format!("others may not enter {}; set TMPDIR", folder.display())));
        }
        if let Some(folder) = shown.iter().find(|folder| is_closed(folder)) {
            return Ok(Err(format!("others may not enter {} (`chmod o+x` lets them)", folder.display())));
        }
        let mut closed: Vec<PathBuf> = shown.iter().filter_map(|path| first_closed(path)).collect();
        closed.dedup();
        if !closed.is_empty() && !process::works("unshare", &["--mount", "true"]) {
            return Ok(Err(format!(
                "others may not enter {}, and nothing can be mounted here to show them what is in it",
                closed[0].display()
            )));
        }
        let user = Self { scratch, shown, closed };
        fs_err::create_dir(user.path("home"))?;
        if let Err(error) = chown(user.path("home"), Some(NOBODY), Some(NOBODY)) {
            return Ok(Err(format!("nothing can be given to user {NOBODY}: {error}")));
        }
        let nextest = process::output("sh", &["-c", "command -v cargo-nextest"])?;
        fs_err::copy(nextest.trim(), user.path("cargo-nextest"))?;
        open_to_all(&user.path("cargo-nextest"))?;
        Ok(Ok(user))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn run_tests(&self, tree: &Tree) -> Result<()> {
        // All of the workspace, as the main pass builds it: fewer packages would have other features.
        process::run(tree.root(), "cargo", &[&["nextest", "run", "--no-run"][..], &TESTED].concat())?;
        let listed = ["--list-type", "binaries-only", "--message-format", "json"];
        let listed = process::output("cargo", &[&["nextest", "list"][..], &TESTED, &listed].concat())?;
        fs_err::write(self.path("binaries.json"), listed)?;
        let metadata = process::output("cargo", &["metadata", "--format-version", "1"])?;
        fs_err::write(self.path("cargo.json"), metadata)?;
        fs_err::write(self.path("show.sh"), self.showing(tree.root()))?;

        let text = |name: &str| self.path(name).to_string_lossy().into_owned();
        let (nextest, binaries, metadata) =
            (text("cargo-nextest"), text("binaries.json"), text("cargo.json"));
        let (home, temporary) = (format!("HOME={}", text("home")), format!("TMPDIR={}", text("home")));
        let mut line = vec!["setpriv"];
        line.extend(AS_NOBODY);
        line.push("env");
        for name in
            ["XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "XDG_STATE_HOME"]
        {
            line.extend(["-u", name]);
        }
        line.extend([home.as_str(), temporary.as_str(), nextest.as_str(), "nextest", "run", "-E", TESTS]);
        line.extend(["--binaries-metadata", binaries.as_str(), "--cargo-metadata", metadata.as_str()]);
        println!("$ setpriv --reuid={NOBODY} … cargo-nextest nextest run -E '{TESTS}' …");
        // Without closed folders nothing is mounted, which not every root may do.
        if self.closed.is_empty() {
            return process::run_quietly(tree.root(), line[0], &line[1..]);
        }
        let show = text("show.sh");
        let line = [&["--mount", "sh", show.as_str()][..], &line[..]].concat();
        process::run_quietly(tree.root(), "unshare", &line)
    }

    /// A script that puts open folders in the place of closed ones, with nothing in them but what is to be shown, and runs
    /// its arguments. Only its own mount namespace sees that.
    fn showing(&self, root: &Path) -> String {
        let mut lines = vec!["set -eu".to_owned(), "umask 022".to_owned()];
        let kept: Vec<String> =
            (0..self.shown.len()).map(|number| quoted(&self.path(&format!("shown-{number}")))).collect();
        for (kept, path) in kept.iter().zip(&self.shown) {
            lines.extend([format!("mkdir {kept}"), format!("mount --bind {} {kept}", quoted(path))]);
        }
        for folder in &self.closed {
            lines.push(format!("mount -t tmpfs -o mode=755 samovar-test {}", quoted(folder)));
        }
        for (kept, path) in kept.iter().zip(&self.shown) {
            let path = quoted(path);
            lines.extend([format!("mkdir -p {path}"), format!("mount --bind {kept} {path}")]);
        }
        lines.extend([format!("cd {}", quoted(root)), "exec \"$@\"\n".to_owned()]);
        lines.join("\n")
    }
}

/// One word for a shell, whatever is in it.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"))
}

/// The outermost folder on the way to `path` that others may not enter.
fn first_closed(path: &Path) -> Option<PathBuf> {
    let outwards: Vec<&Path> = path.ancestors().collect();
    outwards.into_iter().rev().find(|folder| is_closed(folder)).map(Path::to_path_buf)
}

fn is_closed(folder: &Path) -> bool {
    fs_err::metadata(folder).is_ok_and(|facts| facts.permissions().mode() & 0o001 == 0)
}

fn open_to_all(path: &Path) -> Result<()> {
    Ok(fs_err::set_permissions(path, std::fs::Permissions::from_mode(0o755))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outermost_closed_folder_is_found() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let inner = folder.path().join("open/closed/also");
        fs_err::create_dir_all(&inner).expect("folders");
        open_to_all(folder.path()).expect("ours");
        assert_eq!(first_closed(&inner), None);
        let closed = folder.path().join("open/closed");
        fs_err::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).expect("ours");
        assert_eq!(first_closed(&inner), Some(closed));
    }

    #[test]
    fn a_path_with_blanks_and_quotes_is_one_word_to_a_shell() {
        let path = "/it's a/check  out";
        let said = process::output("sh", &["-c", &format!("printf %s {}", quoted(Path::new(path)))]);
        assert_eq!(said.expect("it prints"), path);
    }
}
