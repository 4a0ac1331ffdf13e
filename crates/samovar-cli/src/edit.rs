//! Changes files that people edit as well: what is there keeps its place and its comments, and a file is replaced as a whole or not at all.
//!
//! ```text
//!   read ─► edited text ─► the same file still? ─► a new file next to it, synced ─► renamed over it
//!                                                └─ no: nothing is written
//! ```

use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use samovar_core::{ErrorKind, Failure};

use crate::{home, place};

/// Rights of a file that was not there before.
const NEW_MODE: u32 = 0o600;
/// Files with the text of before that are kept next to a file.
const BACKUPS_MAX: usize = 100;

/// The text of a file; `None` when there is none.
///
/// # Errors
/// `InvalidRequest` for a file that is no text or longer than `most_bytes`; `Storage` when it cannot be read.
pub(crate) fn text_before(path: &Path, most_bytes: u64) -> Result<Option<String>, Failure> {
    // A link to nothing is no absent file: writing would make a file elsewhere.
    if fs_err::symlink_metadata(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
        return Ok(None);
    }
    place::text_of(path, most_bytes).map(Some).map_err(|reason| {
        Failure::new(ErrorKind::InvalidRequest, format!("{} {reason}", path.display()))
            .with_hint("check the file; nothing was written")
    })
}

/// Puts a text in the place of another one, of which a copy is kept if that is wanted. Returns where the copy is.
///
/// # Errors
/// `Busy` when the file is no longer what was read; `Storage` when it cannot be written. Then it is as it was.
pub(crate) fn replace(
    path: &Path,
    before: Option<&str>,
    after: &str,
    keeps_copy: bool,
) -> Result<Option<PathBuf>, Failure> {
    // A link stays one: the file that it leads to is replaced.
    let target = match path.canonicalize() {
        Ok(target) => target,
        Err(_) if before.is_none() => path.to_owned(),
        Err(error) => return Err(home::storage("write", path, &error)),
    };
    let most_bytes = before.map_or(0, |text| text.len() as u64);
    let is_same = text_before(&target, most_bytes).is_ok_and(|now| now.as_deref() == before);
    if !is_same {
        return Err(Failure::new(
            ErrorKind::Busy,
            format!("{} was changed by another program meanwhile", path.display()),
        )
        .with_hint("nothing was written; run the command again"));
    }
    let mode = fs_err::metadata(&target).map_or(NEW_MODE, |facts| facts.mode() & 0o777);
    let copy = match before.filter(|_| keeps_copy) {
        Some(before) => Some(keep(&target, before, mode)?),
        None => None,
    };
    let new = beside(&target, &format!("new-{}", std::process::id()));
    let written = create(&new, after, mode).and_then(|()| fs_err::rename(&new, &target));
    if let Err(error) = written {
        fs_err::remove_file(&new).ok();
        return Err(home::storage("write", &target, &error));
    }
    if let Some(folder) = target.parent() {
        // The new name is there; that it survives a power cut is not worth an error.
        fs_err::File::open(folder).and_then(|folder| folder.sync_all()).ok();
    }
    Ok(copy)
}

/// Writes the text of before next to a file, under a name that is free.
fn keep(target: &Path, before: &str, mode: u32) -> Result<PathBuf, Failure> {
    for number in 0..BACKUPS_MAX {
        let copy = beside(target, &if number == 0 { "bak".to_owned() } else { format!("bak{number}") });
        match create(&copy, before, mode) {
            Ok(()) => return Ok(copy),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(home::storage("write", &copy, &error)),
        }
    }
    Err(Failure::new(
        ErrorKind::Storage,
        format!("there are {BACKUPS_MAX} copies of {} next to it", target.display()),
    )
    .with_hint("remove those that are not needed; nothing was written"))
}

fn beside(target: &Path, ending: &str) -> PathBuf {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(ending);
    target.with_file_name(name)
}

/// Makes a file that is not there yet, and sees that its bytes are on the disk.
fn create(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    // Whatever the process takes away from new files: it replaces one that had these rights.
    file.set_permissions(PermissionsExt::from_mode(mode))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs_err::read_dir(folder).expect("a folder").flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_with_its_rights_and_a_copy_of_what_it_was() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.toml");
        assert_eq!(replace(&path, None, "a", true).expect("new"), None);
        assert_eq!(fs_err::metadata(&path).expect("file").permissions().mode() & 0o777, 0o600);
        fs_err::set_permissions(&path, PermissionsExt::from_mode(0o644)).expect("mode");
        let first = replace(&path, Some("a"), "b", true).expect("replaced");
        assert_eq!(first, Some(folder.path().canonicalize().expect("a path").join("x.toml.bak")));
        replace(&path, Some("b"), "c", true).expect("replaced");
        assert_eq!(fs_err::metadata(&path).expect("file").permissions().mode() & 0o777, 0o644);
        assert_eq!(names(folder.path()), ["x.toml", "x.toml.bak", "x.toml.bak1"]);
        let text = |name: &str| fs_err::read_to_string(folder.path().join(name)).expect("text");
        assert_eq!(
            (text("x.toml"), text("x.toml.bak"), text("x.toml.bak1")),
            ("c".into(), "a".into(), "b".into())
        );
    }

    #[test]
    fn a_file_that_changed_meanwhile_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.toml");
        fs_err::write(&path, "theirs").expect("written");
        for before in [None, Some("their"), Some("other!")] {
            assert_eq!(replace(&path, before, "ours", true).expect_err("changed").kind, ErrorKind::Busy);
        }
        assert_eq!(fs_err::read_to_string(&path).expect("text"), "theirs");
        assert_eq!(names(folder.path()), ["x.toml"]);
    }

    #[test]
    fn a_link_stays_a_link() {
        let folder = tempfile::tempdir().expect("a folder");
        let (link, file) = (folder.path().join("link"), folder.path().join("file"));
        fs_err::write(&file, "a").expect("written");
        fs_err::os::unix::fs::symlink(&file, &link).expect("a link");
        replace(&link, Some("a"), "b", false).expect("replaced");
        assert!(fs_err::symlink_metadata(&link).expect("link").is_symlink());
        assert_eq!(fs_err::read_to_string(&file).expect("text"), "b");
        assert!(text_before(&folder.path().join("none"), 9).expect("absent").is_none());
        fs_err::os::unix::fs::symlink("nowhere", folder.path().join("lost")).expect("a link");
        assert!(text_before(&folder.path().join("lost"), 9).is_err());
    }
}
