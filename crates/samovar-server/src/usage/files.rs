//! The files of the counts of use: one for each day, replaced as a whole. A lock lets several daemons add to one file.

use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use samovar_core::{ErrorKind, Failure, system_words};
use serde::{Deserialize, Serialize};

use super::rows::{Count, Key, Rows};
use crate::moment;

/// The version of the files' format.
const VERSION: u32 = 1;
/// Days that are kept.
const KEPT: Duration = Duration::from_secs(400 * 86_400);
/// No file of ours is larger.
const FILE_MAX_BYTES: u64 = 16 << 20;
const LOCK: &str = "lock";
const ENDING: &str = ".json";

/// A day as it is written.
#[derive(Debug, Serialize, Deserialize)]
struct Day {
    version: u32,
    rows: Vec<Row>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Row {
    client: String,
    model: String,
    #[serde(flatten)]
    count: Count,
}

/// Only the part that every version has.
#[derive(Debug, Deserialize)]
struct Version {
    version: u32,
}

/// What a day's file holds.
enum Found {
    Nothing,
    Rows(Vec<Row>),
    /// What is not to be read as ours: cut off, or of something else.
    Damaged,
    /// A newer version of the program wrote it.
    Newer,
}

/// The folder of the files.
#[derive(Debug)]
pub(super) struct UsageFolder {
    path: PathBuf,
}

impl UsageFolder {
    pub(super) const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Hands the counts of this day and later ones on, day by day. Files that are damaged, or of a newer version, are left out with a
    /// line in the log.
    ///
    /// # Errors
    /// `Storage` when a file cannot be read.
    pub(super) fn read_since(&self, day: &str, mut each: impl FnMut(Key, Count)) -> Result<(), Failure> {
        for found in self.days()?.into_iter().filter(|found| found.as_str() >= day) {
            let path = self.file_of(&found);
            match read(&path)? {
                Found::Rows(of_day) => counted(&found, of_day).for_each(|(key, count)| each(key, count)),
                Found::Nothing => {}
                Found::Damaged | Found::Newer => {
                    tracing::warn!(path = %path.display(), "these counts of use cannot be read, and are left out");
                }
            }
        }
        Ok(())
    }

    /// Adds these counts to the files of their days, and removes files that are too old. Returns what could not be written, and why.
    pub(super) fn add(&self, rows: Rows) -> (Rows, Option<Failure>) {
        let _lock = match self.lock() {
            Ok(lock) => lock,
            Err(error) => return (rows, Some(unwritable(&self.path, &error))),
        };
        let (mut unwritten, mut failed) = (Rows::default(), None);
        for (day, of_day) in rows.by_day() {
            if let Err(failure) = self.add_to(&day, &of_day) {
                unwritten.extend(of_day);
                failed = Some(failure);
            }
        }
        (unwritten, failed)
    }

    fn add_to(&self, day: &str, more: &Rows) -> Result<(), Failure> {
        let path = self.file_of(day);
        let mut rows = Rows::default();
        match read(&path)? {
            Found::Rows(before) => rows.extend(counted(day, before)),
            Found::Nothing => self.remove_old(),
            Found::Damaged => {
                let aside = beside(&path, ".damaged");
                tracing::warn!(path = %aside.display(), "counts of use were damaged, and are put aside");
                fs_err::rename(&path, &aside).map_err(|error| unwritable(&path, &error))?;
            }
            Found::Newer => {
                let message = format!("{} was written by a newer version", path.display());
                return Err(fault(&message).with_hint("run the newer version, or move the file away"));
            }
        }
        rows.extend(more.since(day));
        let row = |(key, count): (Key, Count)| Row { client: key.client, model: key.model, count };
        let day = Day { version: VERSION, rows: rows.into_iter().map(row).collect() };
        replace(&path, &day).map_err(|error| unwritable(&path, &error))
    }

    /// The days that there are files of.
    fn days(&self) -> Result<Vec<String>, Failure> {
        let entries = match fs_err::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(unreadable(&self.path, &error)),
        };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let day = |name: String| name.strip_suffix(ENDING).filter(|day| is_day(day)).map(str::to_owned);
        Ok(names.filter_map(day).collect())
    }

    /// Removes files that are too old. One that stays is removed another day.
    fn remove_old(&self) {
        let oldest = moment::day(moment::since_1970().saturating_sub(KEPT));
        for day in self.days().unwrap_or_default().into_iter().filter(|day| *day < oldest) {
            if let Err(error) = fs_err::remove_file(self.file_of(&day)) {
                tracing::debug!(%error, "an old file of counts of use stays");
            }
        }
    }

    fn file_of(&self, day: &str) -> PathBuf {
        self.path.join(format!("{day}{ENDING}"))
    }

    /// Waits until no other process writes here.
    fn lock(&self) -> io::Result<fs_err::File> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.path)?;
        let file = fs_err::File::create(self.path.join(LOCK))?;
        rustix::io::retry_on_intr(|| flock(file.file(), FlockOperation::LockExclusive))?;
        Ok(file)
    }
}

fn counted(day: &str, rows: Vec<Row>) -> impl Iterator<Item = (Key, Count)> {
    rows.into_iter()
        .map(move |row| (Key { day: day.to_owned(), client: row.client, model: row.model }, row.count))
}

fn read(path: &Path) -> Result<Found, Failure> {
    let facts = match fs_err::metadata(path) {
        Ok(facts) => facts,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(unreadable(path, &error)),
    };
    if facts.len() > FILE_MAX_BYTES {
        return Ok(Found::Damaged);
    }
    let bytes = fs_err::read(path).map_err(|error| unreadable(path, &error))?;
    Ok(match serde_json::from_slice::<Version>(&bytes) {
        Ok(Version { version }) if version > VERSION => Found::Newer,
        _ => serde_json::from_slice(&bytes).map_or(Found::Damaged, |day: Day| Found::Rows(day.rows)),
    })
}

/// Writes a file next to the old one and puts it in its place, so that one of the two is there whole at any time.
fn replace(path: &Path, day: &Day) -> io::Result<()> {
    let partial = beside(path, ".partial");
    let mut file = fs_err::File::create(&partial)?;
    file.write_all(&serde_json::to_vec(day)?)?;
    file.sync_all()?;
    fs_err::rename(&partial, path)
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// Whether this looks like `2026-11-30`.
fn is_day(name: &str) -> bool {
    name.len() == 10
        && name.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    fault(&format!("the counts of use in {} cannot be read: {}", path.display(), system_words(error)))
        .with_hint("check who owns it")
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    fault(&format!("the counts of use in {} cannot be written: {}", path.display(), system_words(error)))
        .with_hint("free some disk space, or check who owns it")
}

pub(super) fn fault(message: &str) -> Failure {
    Failure::new(ErrorKind::Storage, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TODAY: &str = "2026-11-30";

    fn rows(day: &str, requests: u64) -> Rows {
        let mut rows = Rows::default();
        let key = Key { day: day.into(), client: "alice".into(), model: "demo".into() };
        rows.add(key, Count { requests, ..Count::default() });
        rows
    }

    fn requests(folder: &UsageFolder) -> u64 {
        let mut requests = 0;
        folder.read_since("", |_, count| requests += count.requests).expect("reads");
        requests
    }

    #[test]
    fn two_daemons_add_to_one_file() {
        let home = tempfile::tempdir().expect("tempdir");
        let [one, other] = [(); 2].map(|()| UsageFolder::new(home.path().join("usage")));
        std::thread::scope(|scope| {
            for folder in [&one, &other] {
                scope.spawn(move || {
                    for _ in 0..50 {
                        assert!(folder.add(rows(TODAY, 1)).1.is_none());
                    }
                });
            }
        });
        assert_eq!(requests(&one), 100);
        one.read_since("2026-12-01", |key, _| panic!("{key:?} is of a day before")).expect("reads");
    }

    #[test]
    fn damaged_counts_are_put_aside_and_those_of_a_newer_version_left_alone() {
        let home = tempfile::tempdir().expect("tempdir");
        let folder = UsageFolder::new(home.path().join("usage"));
        assert!(folder.add(rows(TODAY, 1)).1.is_none());
        let file = folder.file_of(TODAY);
        for damage in ["", "{\"version\":1,\"rows\":[{", "{\"version\":1}", "[]"] {
            fs_err::write(&file, damage).expect("writes");
            assert_eq!(requests(&folder), 0, "{damage}");
            assert!(folder.add(rows(TODAY, 3)).1.is_none());
            assert_eq!(requests(&folder), 3, "{damage}");
            assert_eq!(fs_err::read_to_string(beside(&file, ".damaged")).expect("is there"), damage);
        }
        let newer = r#"{"version":2,"other":"things"}"#;
        fs_err::write(&file, newer).expect("writes");
        let (unwritten, failure) = folder.add(rows(TODAY, 3));
        assert_eq!(unwritten, rows(TODAY, 3));
        assert!(failure.expect("told").message.contains("newer version"));
        assert_eq!(fs_err::read_to_string(&file).expect("is there"), newer);
    }

    #[test]
    fn old_days_are_removed_and_other_files_are_left_alone() {
        let home = tempfile::tempdir().expect("tempdir");
        let folder = UsageFolder::new(home.path().to_owned());
        for name in ["1999-12-31.json", "notes.json", "1999-12-3x.json"] {
            fs_err::write(home.path().join(name), r#"{"version":1,"rows":[]}"#).expect("writes");
        }
        assert!(folder.add(rows(&moment::day(moment::since_1970()), 1)).1.is_none());
        let is_there = |name: &str| home.path().join(name).exists();
        assert!(!is_there("1999-12-31.json") && is_there("notes.json") && is_there("1999-12-3x.json"));
    }
}
