//! Where Samovar keeps its things: configuration, cache, state and socket.
//!
//! ```text
//!   SAMOVAR_HOME=/x        /x/samovar.toml   /x/cache           /x/state                  /x/run
//!   otherwise (XDG)        ~/.config/…       ~/.cache/samovar   ~/.local/state/samovar    $XDG_RUNTIME_DIR/samovar
//! ```
//!
//! Names paths and makes directories; never reads what is in them.

use std::path::{Path, PathBuf};

use samovar::Directories;
use samovar_core::{ErrorKind, Failure};

use crate::exposure;
use crate::settings::Environment;

/// The longest socket path that every Unix takes, in bytes without the closing NUL.
#[cfg(target_os = "linux")]
pub(crate) const SOCKET_PATH_MAX_BYTES: usize = 107;
#[cfg(not(target_os = "linux"))]
pub(crate) const SOCKET_PATH_MAX_BYTES: usize = 103;

/// The four places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Home {
    /// The one directory, when there is one.
    pub(crate) root: Option<PathBuf>,
    /// The configuration file that is read when none is named.
    pub(crate) config_file: PathBuf,
    /// What can be made again: unpacked models.
    pub(crate) cache_dir: PathBuf,
    /// What cannot: chat history, logs, keys.
    pub(crate) state_dir: PathBuf,
    /// What lives as long as the daemon: socket and locks.
    pub(crate) run_dir: PathBuf,
}

impl Home {
    /// The places that the environment names; `named` (a flag) wins over `SAMOVAR_HOME`.
    ///
    /// # Errors
    /// `InvalidRequest` when neither they nor `HOME` say where.
    pub(crate) fn find(named: Option<&Path>, environment: &Environment) -> Result<Self, Failure> {
        let root = named.map(Path::to_owned).or_else(|| environment.path("SAMOVAR_HOME"));
        let root = root.map(|root| absolute(&root)).transpose()?;
        let directories = match &root {
            Some(root) => Directories::below(root),
            None => Directories::of_user(|name| environment.path(name))?,
        };
        let Directories { config_dir, cache_dir, state_dir, .. } = directories;
        let of_session =
            || environment.path("XDG_RUNTIME_DIR").filter(|path| path.is_absolute() && path.is_dir());
        let run_dir = match &root {
            Some(root) => root.join("run"),
            None => of_session().map_or_else(|| state_dir.join("run"), |path| path.join("samovar")),
        };
        Ok(Self { root, config_file: config_dir.join("samovar.toml"), cache_dir, state_dir, run_dir })
    }

    /// The socket's path when none is configured.
    pub(crate) fn socket(&self) -> PathBuf {
        self.run_dir.join("samovar.sock")
    }

    /// The daemon's log when it runs in the background.
    pub(crate) fn log_file(&self) -> PathBuf {
        self.state_dir.join("daemon.log")
    }

    /// The keys of clients over HTTP.
    pub(crate) fn keys_file(&self) -> PathBuf {
        self.state_dir.join("keys.json")
    }

    /// Whether keys were made here, so that clients are told apart by them.
    pub(crate) fn has_keys(&self) -> bool {
        self.keys_file().exists()
    }

    /// What clients used, by day.
    pub(crate) fn usage_dir(&self) -> PathBuf {
        self.state_dir.join("usage")
    }

    /// Where earlier versions kept what was typed into `chat`.
    pub(crate) fn history_file(&self) -> PathBuf {
        self.state_dir.join("chat-history")
    }

    /// The conversations.
    pub(crate) fn chats_file(&self) -> PathBuf {
        self.state_dir.join("chats.sqlite3")
    }
}

/// Makes a directory that only its owner may enter.
///
/// # Errors
/// `Storage` when it cannot be made; `Forbidden` when it belongs to another user, or others may write into it.
pub(crate) fn make_private_dir(path: &Path) -> Result<(), Failure> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(path).map_err(|error| storage("create the directory", path, &error))?;
    exposure::folder(path)
}

/// A file-system failure in one sentence.
pub(crate) fn storage(action: &str, path: &Path, error: &std::io::Error) -> Failure {
    let hint = match error.kind() {
        std::io::ErrorKind::PermissionDenied => "check who owns it, or set SAMOVAR_HOME to another directory",
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            "free some disk space, or set SAMOVAR_HOME to another disk"
        }
        std::io::ErrorKind::ReadOnlyFilesystem => "set SAMOVAR_HOME to a place that can be written",
        _ => "check the path, or set SAMOVAR_HOME to another directory",
    };
    Failure::new(ErrorKind::Storage, format!("could not {action} {}: {}", path.display(), plain(error)))
        .with_hint(hint)
}

/// An I/O error without what we say ourselves: the path and the number.
pub(crate) fn plain(error: &std::io::Error) -> String {
    samovar_core::system_words(error)
}

/// The path from the root, also when nothing is there yet.
///
/// # Errors
/// `Storage` when the working directory is gone; `InvalidRequest` for an empty path.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::InvalidInput => Failure::new(ErrorKind::InvalidRequest, "the path is empty"),
        _ => storage("make absolute", path, &error),
    })
}

/// Refuses a socket path that the kernel would refuse with a riddle.
///
/// # Errors
/// `InvalidRequest` with both lengths.
pub(crate) fn check_socket_length(path: &Path) -> Result<(), Failure> {
    let bytes = path.as_os_str().len();
    if bytes <= SOCKET_PATH_MAX_BYTES {
        return Ok(());
    }
    Err(Failure::new(
        ErrorKind::InvalidRequest,
        format!(
            "the socket path has {bytes} bytes, and a Unix socket takes at most {SOCKET_PATH_MAX_BYTES}: {}",
            path.display()
        ),
    )
    .with_hint("set SAMOVAR_HOME to a shorter path, or name a socket with --socket or SAMOVAR_SERVER_SOCKET"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        Environment::from_pairs(pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())))
    }

    #[test]
    fn samovar_home_holds_everything() {
        let home =
            Home::find(None, &environment(&[("SAMOVAR_HOME", "/x"), ("HOME", "/home/a")])).expect("home");
        for path in [&home.config_file, &home.cache_dir, &home.state_dir, &home.run_dir] {
            assert!(path.starts_with("/x"), "{}", path.display());
        }
    }

    #[test]
    fn a_flag_wins_over_the_environment() {
        let home = Home::find(Some(Path::new("/y")), &environment(&[("SAMOVAR_HOME", "/x")])).expect("home");
        assert!(home.socket().starts_with("/y"));
    }

    #[test]
    fn xdg_variables_count_only_when_absolute() {
        let home = Home::find(
            None,
            &environment(&[("HOME", "/home/a"), ("XDG_CACHE_HOME", "/c"), ("XDG_STATE_HOME", "relative")]),
        )
        .expect("home");
        assert_eq!(home.cache_dir, Path::new("/c/samovar"));
        assert_eq!(home.state_dir, Path::new("/home/a/.local/state/samovar"));
        assert_eq!(home.run_dir, Path::new("/home/a/.local/state/samovar/run"));
    }

    #[test]
    fn without_any_home_the_hint_names_samovar_home() {
        let failure = Home::find(None, &environment(&[])).expect_err("no home");
        assert!(failure.hint.expect("hint").contains("SAMOVAR_HOME"));
    }

    #[test]
    fn a_socket_path_too_long_is_refused_with_both_numbers() {
        let failure = check_socket_length(Path::new(&format!("/{}", "x".repeat(150)))).expect_err("too long");
        assert!(
            failure.message.contains("151") && failure.message.contains(&SOCKET_PATH_MAX_BYTES.to_string())
        );
    }
}
