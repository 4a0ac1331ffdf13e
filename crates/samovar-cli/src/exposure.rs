//! Whether others could change what is ours: folders that they own or may write, and who is behind a socket.
//!
//! Looks only. A folder in which everybody may make files and nobody take away another's (`/tmp`) is no fault, and
//! neither is one that may be written by a group which has this user alone.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use samovar_core::{ErrorKind, Failure};

use crate::home::{self, Home};

const OTHERS_WRITE: u32 = 0o002;
const GROUP_WRITES: u32 = 0o020;
const STICKY: u32 = 0o1000;
/// A list of users that is longer is not worth the name.
const USERS_MAX_BYTES: u64 = 4 << 20;

/// Refuses a home that others could change.
///
/// # Errors
/// `Forbidden` with the place and what to do about it; `Storage` for what cannot be looked at.
pub(crate) fn check(home: &Home, socket: &Path) -> Result<(), Failure> {
    let places =
        [home.root.as_deref(), home.config_file.parent(), Some(&home.state_dir), Some(&home.run_dir)];
    places.into_iter().flatten().chain(socket.parent()).try_for_each(folder)?;
    file(&home.config_file)
}

/// Refuses a folder that others could change; one that is not there yet is no fault.
///
/// # Errors
/// As [`check`].
pub(crate) fn folder(path: &Path) -> Result<(), Failure> {
    let Some(facts) = look(path)? else { return Ok(()) };
    let name = path.display();
    if is_strange(facts.uid()) {
        let owner = user(facts.uid());
        return Err(Failure::new(ErrorKind::Forbidden, format!("the directory {name} belongs to {owner}"))
            .with_hint("set SAMOVAR_HOME to a directory of your own"));
    }
    if facts.mode() & STICKY == 0 && others_write(&facts) {
        return Err(Failure::new(ErrorKind::Forbidden, format!("other users may write into {name}"))
            .with_hint(format!("run `chmod go-w {name}`, or set SAMOVAR_HOME to a directory of your own")));
    }
    Ok(())
}

/// Refuses a configuration file that others could change.
fn file(path: &Path) -> Result<(), Failure> {
    let Some(facts) = look(path)? else { return Ok(()) };
    let name = path.display();
    if is_strange(facts.uid()) {
        let owner = user(facts.uid());
        return Err(Failure::new(ErrorKind::Forbidden, format!("the file {name} belongs to {owner}"))
            .with_hint("remove it, or name one of your own with --config"));
    }
    if others_write(&facts) {
        return Err(Failure::new(ErrorKind::Forbidden, format!("other users may write the file {name}"))
            .with_hint(format!("run `chmod go-w {name}`")));
    }
    Ok(())
}

/// The facts of what lies there, if anything does.
fn look(path: &Path) -> Result<Option<Metadata>, Failure> {
    match fs_err::metadata(path) {
        Ok(facts) => Ok(Some(facts)),
        Err(error)
            if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
        {
            Ok(None)
        }
        Err(error) => Err(home::storage("look at", path, &error)),
    }
}

fn others_write(facts: &Metadata) -> bool {
    let me = rustix::process::geteuid().as_raw();
    // Where each user has a group of the same number, that group is the user alone.
    let is_group_me = me != 0 && facts.gid() == me && rustix::process::getegid().as_raw() == me;
    facts.mode() & OTHERS_WRITE != 0 || facts.mode() & GROUP_WRITES != 0 && !is_group_me
}

/// Whether somebody is neither this user nor the system.
pub(crate) fn is_strange(uid: u32) -> bool {
    uid != rustix::process::geteuid().as_raw() && uid != 0
}

/// Refuses a socket behind which somebody else listens, before a word is said to it.
///
/// # Errors
/// `Forbidden` with who it is.
pub(crate) fn listener(socket: &Path, uid: u32) -> Result<(), Failure> {
    if !is_strange(uid) {
        return Ok(());
    }
    let message =
        format!("the socket {} is that of {}, not yours; nothing was sent", socket.display(), user(uid));
    Err(Failure::new(ErrorKind::Forbidden, message)
        .with_hint("set SAMOVAR_HOME to a directory that only you may write"))
}

/// A user by name where the system's list has one.
fn user(uid: u32) -> String {
    let named = || {
        let facts = fs_err::metadata("/etc/passwd").ok()?;
        let text = fs_err::read("/etc/passwd").ok().filter(|_| facts.len() <= USERS_MAX_BYTES)?;
        let text = String::from_utf8_lossy(&text);
        let name = text.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)? == uid.to_string()).then(|| name.to_owned())
        })?;
        Some(format!("{name} (user {uid})"))
    };
    named().unwrap_or_else(|| format!("user {uid}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn with_mode(path: &Path, mode: u32) {
        fs_err::set_permissions(path, PermissionsExt::from_mode(mode)).expect("chmod");
    }

    #[test]
    fn a_folder_that_others_may_write_is_refused_unless_it_is_sticky() {
        let home = tempfile::tempdir().expect("temporary folder");
        for (mode, is_fine) in [(0o700, true), (0o755, true), (0o777, false), (0o702, false), (0o1777, true)]
        {
            with_mode(home.path(), mode);
            assert_eq!(folder(home.path()).is_ok(), is_fine, "{mode:o}");
        }
        with_mode(home.path(), 0o777);
        let failure = folder(home.path()).expect_err("refused");
        assert_eq!(failure.kind, ErrorKind::Forbidden);
        assert!(failure.hint.expect("hint").contains("chmod go-w"));
        assert!(folder(&home.path().join("not there")).is_ok());
    }

    #[test]
    fn what_belongs_to_another_user_is_refused_and_the_user_named() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root can give a folder away");
            return;
        }
        let home = tempfile::tempdir().expect("temporary folder");
        let file = home.path().join("samovar.toml");
        fs_err::write(&file, "").expect("file");
        for path in [home.path(), &file] {
            fs_err::os::unix::fs::chown(path, Some(4242), None).expect("chown");
        }
        let failure = folder(home.path()).expect_err("refused");
        assert!(failure.message.ends_with("belongs to user 4242"), "{failure}");
        assert!(super::file(&file).is_err());
        assert!(listener(&file, 4242).expect_err("refused").message.contains("user 4242"));
        assert!(listener(&file, 0).is_ok());
        assert!(user(0).starts_with("root"), "{}", user(0));
    }
}
