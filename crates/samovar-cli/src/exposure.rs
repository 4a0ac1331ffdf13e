//! Whether others could change what is ours: folders that they own or may write, and who is behind a socket.
//!
//! Looks only. A folder in which all users may make files and none may remove another's (`/tmp`) is no fault. Whose writing
//! counts as that of others is the server's rule, so that what is fine here is fine there.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use samovar_core::{ErrorKind, Failure};
use samovar_server::others_write;

use crate::home;
use crate::settings::Settings;

const STICKY: u32 = 0o1000;
/// How to name other directories.
const WAYS: &str = "SAMOVAR_HOME for all, `cache.cache_dir` and `server.socket` for those two";
/// `f_type` of file systems that may keep no permissions of their own: FUSE (ntfs-3g, the shares of virtual machines), 9p,
/// FAT, exFAT, NTFS.
const WITHOUT_MODES: [u32; 5] = [0x6573_5546, 0x0102_1997, 0x4d44, 0x2011_bab0, 0x7366_746e];
/// A list of users that is longer is not worth the name.
const USERS_MAX_BYTES: u64 = 4 << 20;

/// Refuses places that others could change: home, cache, the socket's folder, and the configuration file that was read.
///
/// # Errors
/// `Forbidden` with the place and what to do about it; `Storage` for what cannot be looked at.
pub(crate) fn check(settings: &Settings) -> Result<(), Failure> {
    let home = &settings.home;
    let places = [
        home.root.as_deref(),
        home.config_file.parent(),
        Some(&home.state_dir),
        Some(&home.run_dir),
        Some(&settings.runtime.store.cache_dir),
        settings.socket.parent(),
    ];
    places.into_iter().flatten().try_for_each(folder)?;
    settings.config_file.as_deref().map_or(Ok(()), file)
}

/// Refuses a folder that others could change; one that is not there yet is no fault.
///
/// # Errors
/// As [`check`].
pub(crate) fn folder(path: &Path) -> Result<(), Failure> {
    let Some(facts) = look(path)? else { return Ok(()) };
    let name = path.display();
    if is_strange(facts.uid()) {
        let message = format!("the directory {name} belongs to {}", user(facts.uid()));
        let hint =
            strangers(path, facts.uid()).unwrap_or_else(|| format!("name a directory of your own: {WAYS}"));
        return Err(Failure::new(ErrorKind::Forbidden, message).with_hint(hint));
    }
    if facts.mode() & STICKY == 0 && others_write(&facts) {
        return Err(Failure::new(ErrorKind::Forbidden, format!("other users may write into {name}"))
            .with_hint(closing(path, kind_of_disk(path))));
    }
    Ok(())
}

/// How a folder on a file system of this kind is closed to others.
fn closing(path: &Path, kind: u32) -> String {
    let name = path.display();
    if WITHOUT_MODES.contains(&kind) {
        return format!(
            "run `chmod go-w {name}`; where that changes nothing, mount its file system with the option umask=022, or name a directory of your own: {WAYS}"
        );
    }
    format!("run `chmod go-w {name}`, or name a directory of your own: {WAYS}")
}

/// The `f_type` of the file system that a path is on; 0 where it is unknown.
#[cfg(target_os = "linux")]
fn kind_of_disk(path: &Path) -> u32 {
    // Its width differs from one machine to the next, and no kind is wider than this.
    rustix::fs::statfs(path).map_or(0, |facts| facts.f_type as u32)
}

#[cfg(not(target_os = "linux"))]
fn kind_of_disk(_: &Path) -> u32 {
    0
}

/// Refuses a configuration file that others could change, wherever it lies: one that they put there is theirs.
///
/// # Errors
/// As [`check`].
pub(crate) fn file(path: &Path) -> Result<(), Failure> {
    let Some(facts) = look(path)? else { return Ok(()) };
    let name = path.display();
    if is_strange(facts.uid()) {
        let message = format!("the file {name} belongs to {}", user(facts.uid()));
        let hint = strangers(path, facts.uid())
            .unwrap_or_else(|| "remove it, or name one of your own with --config".to_owned());
        return Err(Failure::new(ErrorKind::Forbidden, message).with_hint(hint));
    }
    if others_write(&facts) {
        return Err(Failure::new(ErrorKind::Forbidden, format!("other users may write the file {name}"))
            .with_hint(format!("run `chmod go-w {name}`")));
    }
    Ok(())
}

/// What root can do in a place of another user.
fn strangers(path: &Path, owner: u32) -> Option<String> {
    rustix::process::geteuid().is_root().then(|| {
        let name = name_of(owner).unwrap_or_else(|| format!("'#{owner}'"));
        format!(
            "run as that user: `sudo -u {name} samovar …`, or `docker run --user {owner} …` in a container; or make it root's: `chown -R root {}`",
            path.display()
        )
    })
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

/// Whether a user is neither this one nor the system.
pub(crate) fn is_strange(uid: u32) -> bool {
    uid != rustix::process::geteuid().as_raw() && uid != 0
}

/// Refuses a socket behind which another user listens, before a word is said to it.
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

/// A user as people know one.
fn user(uid: u32) -> String {
    name_of(uid).map_or_else(|| format!("user {uid}"), |name| format!("{name} (user {uid})"))
}

/// A user's name, where the system's list has one.
fn name_of(uid: u32) -> Option<String> {
    let facts = fs_err::metadata("/etc/passwd").ok()?;
    let text = fs_err::read("/etc/passwd").ok().filter(|_| facts.len() <= USERS_MAX_BYTES)?;
    let text = String::from_utf8_lossy(&text);
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid.to_string()).then(|| name.to_owned())
    })
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
    fn where_modes_may_not_be_kept_mount_options_are_named() {
        let hint = |kind| closing(Path::new("/mnt/models"), kind);
        for kind in WITHOUT_MODES {
            assert!(hint(kind).contains("umask=022") && hint(kind).contains("chmod go-w"), "{kind:x}");
        }
        assert!(!hint(0xef53).contains("umask"));
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
        let hint = failure.hint.expect("hint");
        for way in ["sudo -u '#4242' samovar", "docker run --user 4242", "chown -R root"] {
            assert!(hint.contains(way), "{hint}");
        }
        assert!(super::file(&file).is_err());
        assert!(listener(&file, 4242).expect_err("refused").message.contains("user 4242"));
        assert!(listener(&file, 0).is_ok());
        assert!(user(0).starts_with("root"), "{}", user(0));
    }
}
