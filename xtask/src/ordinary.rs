//! The tests of workers and of the command line once more, as a user without rights: what holds for root alone is found.
//!
//! ```text
//!   root ─► nextest lists what was built ─► setpriv: nobody ─► nextest runs it, in a home of that user's own
//!             └─ a checkout that others may not enter is shown to them in a mount namespace, and nowhere else
//! ```
//!
//! Whoever is not root runs the tests as such a user anyway. What this needs and is not there is named, and it is skipped.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::process;
use crate::tree::Tree;

/// A user without rights, as nearly every system has it.
const NOBODY: u32 = 65534;
/// What behaves differently for different users. All of the workspace is built, as for the main pass: fewer packages would
/// have other features, and everything would be built twice.
const TESTS: &str = "(package(samovar-worker) & (binary(sandbox) + binary(fake))) \
    + (package(samovar-cli) & (test(/^walls::/) + test(/^run::/) + test(/^worker::/) + test(/^stampede::/)))";

/// Becomes that user and runs what follows. The first arguments are a folder for mounts and the checkout; then come closed
/// folders, `--`, what of them is to be seen all the same, and `--` again.
const BECOME: &str = r#"
set -eu
behind=$1 checkout=$2 closed= number=0
shift 2
while [ "$1" != -- ]; do closed="$closed $1"; shift; done
shift
while [ "$1" != -- ]; do
  if [ -n "$closed" ]; then
    mkdir -p "$behind/$number"
    mount --bind "$1" "$behind/$number"
    printf '%s\n' "$1" > "$behind/$number.path"
  fi
  number=$((number + 1))
  shift
done
shift
for folder in $closed; do mount -t tmpfs -o mode=755 samovar-test "$folder"; done
for path in "$behind"/*.path; do
  [ -e "$path" ] || continue
  place=$(cat "$path")
  mkdir -p "$place"
  mount --bind "${path%.path}" "$place"
done
cd "$checkout"
exec setpriv --reuid=65534 --regid=65534 --clear-groups "$@"
"#;

/// Runs them.
pub(crate) fn run(tree: &Tree) -> Result<()> {
    if process::output("id", &["-u"])?.trim() != "0" {
        println!("not root: the tests below run as an ordinary user anyway");
        return Ok(());
    }
    match Stage::set(tree)? {
        Ok(stage) => stage.play(tree),
        Err(reason) => {
            println!("skipped: the tests do not run as an ordinary user: {reason}");
            Ok(())
        }
    }
}

/// Everything that the other user needs.
struct Stage {
    scratch: tempfile::TempDir,
    nextest: PathBuf,
    seen: Vec<PathBuf>,
    closed: Vec<PathBuf>,
}

impl Stage {
    /// The stage, or why there is none.
    fn set(tree: &Tree) -> Result<Result<Self, String>> {
        for (program, arguments) in [("setpriv", "--version"), ("cargo-nextest", "--version")] {
            if !process::works(program, &[arguments]) {
                return Ok(Err(format!("there is no {program}")));
            }
        }
        let (scratch, seen) = (tempfile::tempdir()?, vec![tree.root().to_path_buf(), tree.target()?]);
        let mut closed: Vec<PathBuf> = seen.iter().filter_map(|path| first_closed(path)).collect();
        closed.dedup();
        if !closed.is_empty() && !process::works("unshare", &["--mount", "true"]) {
            let folder = closed[0].display();
            return Ok(Err(format!(
                "others may not enter {folder}, and nothing can be mounted here to show it to them"
            )));
        }
        let program = process::output("sh", &["-c", "command -v cargo-nextest"])?;
        let nextest = scratch.path().join("cargo-nextest");
        fs_err::copy(program.trim(), &nextest)?;
        open_to_all(scratch.path())?;
        open_to_all(&nextest)?;
        for name in ["home", "behind"] {
            fs_err::create_dir(scratch.path().join(name))?;
        }
        chown(scratch.path().join("home"), Some(NOBODY), Some(NOBODY)).context("a home for another user")?;
        Ok(Ok(Self { scratch, nextest, seen, closed }))
    }

    fn play(&self, tree: &Tree) -> Result<()> {
        let file = |name: &str| self.scratch.path().join(name).to_string_lossy().into_owned();
        let built = ["nextest", "list", "--release", "--workspace"];
        let built = [&built[..], &["--list-type", "binaries-only", "--message-format", "json"]].concat();
        fs_err::write(file("binaries.json"), process::output("cargo", &built)?)?;
        fs_err::write(file("cargo.json"), process::output("cargo", &["metadata", "--format-version", "1"])?)?;

        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        let mut line = ["--mount", "sh", "-c", BECOME, "sh"].map(str::to_owned).to_vec();
        line.extend([file("behind"), text(&tree.root().to_path_buf())]);
        line.extend(self.closed.iter().map(text));
        line.push("--".into());
        line.extend(self.seen.iter().map(text));
        line.push("--".into());
        let home = file("home");
        line.extend(
            ["env", "-u", "XDG_CACHE_HOME", "-u", "XDG_CONFIG_HOME", "-u", "XDG_RUNTIME_DIR"]
                .map(str::to_owned),
        );
        line.extend([format!("HOME={home}"), format!("TMPDIR={home}")]);
        line.extend([text(&self.nextest), "nextest".into(), "run".into(), "-E".into(), TESTS.into()]);
        line.extend(["--binaries-metadata".into(), file("binaries.json")]);
        line.extend(["--cargo-metadata".into(), file("cargo.json")]);
        println!("$ … setpriv --reuid={NOBODY} … cargo nextest run --release -E '{TESTS}'");
        let line: Vec<&str> = line.iter().map(String::as_str).collect();
        // Without closed folders nothing is mounted, which not everybody who is root may do.
        match self.closed.is_empty() {
            true => process::run_quietly(tree.root(), "sh", &line[2..]),
            false => process::run_quietly(tree.root(), "unshare", &line),
        }
    }
}

/// The outermost folder on the way to `path` that others may not enter.
fn first_closed(path: &Path) -> Option<PathBuf> {
    let is_closed =
        |folder: &&Path| fs_err::metadata(folder).is_ok_and(|facts| facts.permissions().mode() & 0o001 == 0);
    let outwards: Vec<&Path> = path.ancestors().collect();
    outwards.into_iter().rev().find(is_closed).map(Path::to_path_buf)
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
}
