//! The files of the audit log, written by a thread of its own. A file that is full moves to the next number; the last one is replaced.
//! What a failing disk does not take is counted, and the count is written when it takes lines again.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;

use tokio::sync::oneshot;

use super::line;
use crate::request_record::EndedRequest;

/// Size at which a file is put aside.
const FILE_MAX_BYTES: u64 = 32 << 20;
/// Files that were put aside and are kept.
const OLDER_FILES: u32 = 8;

/// What goes to the thread.
pub(super) enum Entry {
    Ended(Box<EndedRequest>),
    /// Answered when all lines before it are on the disk.
    Mark(oneshot::Sender<()>),
}

/// The thread's end.
#[derive(Debug)]
pub(super) struct Writer {
    path: PathBuf,
    file: Option<File>,
    /// What the file holds; a device or a pipe holds nothing.
    written_bytes: Option<u64>,
    max_bytes: u64,
    /// Lines that are missing, and have not been told of.
    dropped: Arc<AtomicU64>,
    has_complained: bool,
}

impl Writer {
    pub(super) fn open(path: PathBuf, dropped: Arc<AtomicU64>) -> io::Result<Self> {
        let (file, written_bytes) = open(&path)?;
        let file = Some(file);
        Ok(Self { path, file, written_bytes, max_bytes: FILE_MAX_BYTES, dropped, has_complained: false })
    }

    /// Writes what comes until the other end is dropped.
    pub(super) fn write_all(mut self, queue: &Receiver<Entry>) {
        for entry in queue {
            match entry {
                Entry::Ended(ended) => self.write_request(&ended),
                Entry::Mark(mark) => {
                    self.write_dropped();
                    self.sync();
                    // Its sender may have gone.
                    mark.send(()).ok();
                }
            }
        }
    }

    fn write_request(&mut self, ended: &EndedRequest) {
        self.write_dropped();
        if !self.write(&line::of(ended)) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        // What changed the daemon itself must outlast a loss of power. Refusals are not synced: clients without a key can have any number.
        if ended.has_changed_daemon() {
            self.sync();
        }
    }

    /// Tells of lines that are missing.
    fn write_dropped(&mut self) {
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 && !self.write(&line::of_dropped(dropped)) {
            self.dropped.fetch_add(dropped, Ordering::Relaxed);
        }
    }

    /// A whole line, or nothing that counts.
    fn write(&mut self, line: &str) -> bool {
        let is_full = |written: u64| written > 0 && written + line.len() as u64 > self.max_bytes;
        if self.written_bytes.is_some_and(is_full) && !self.put_aside() {
            return false;
        }
        if self.file.is_none() {
            match open(&self.path) {
                Ok((file, bytes)) => (self.file, self.written_bytes) = (Some(file), bytes),
                Err(error) => {
                    self.complain(&error);
                    return false;
                }
            }
        }
        let Some(file) = &mut self.file else { return false };
        if let Err(error) = file.write_all(line.as_bytes()) {
            self.complain(&error);
            return false;
        }
        self.written_bytes = self.written_bytes.map(|bytes| bytes + line.len() as u64);
        self.has_complained = false;
        true
    }

    /// Gives the file the first number, and each older one the next. False where that fails: then nothing more is written, so that the
    /// files stay within their size.
    fn put_aside(&mut self) -> bool {
        self.sync();
        for number in (1..OLDER_FILES).rev() {
            let older = numbered(&self.path, number);
            if let Err(error) = fs_err::rename(&older, numbered(&self.path, number + 1))
                && error.kind() != io::ErrorKind::NotFound
            {
                self.complain(&error);
                return false;
            }
        }
        match fs_err::rename(&self.path, numbered(&self.path, 1)) {
            // A file that was moved by another program is gone already.
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                self.complain(&error);
                false
            }
            _ => {
                (self.file, self.written_bytes) = (None, None);
                true
            }
        }
    }

    fn sync(&mut self) {
        if self.written_bytes.is_some()
            && let Some(file) = &self.file
            && let Err(error) = file.sync_data()
        {
            self.complain(&error);
        }
    }

    /// Says once that lines are lost, until one is written again.
    fn complain(&mut self, error: &io::Error) {
        // The next line begins a new one, whatever was written of this.
        (self.file, self.written_bytes) = (None, None);
        if !std::mem::replace(&mut self.has_complained, true) {
            tracing::warn!(path = %self.path.display(), "lines of the audit log are lost: {error}");
        }
    }
}

/// The file, at whose end a line can begin, and how long it is. A device or a pipe has no length, and so is never put aside.
fn open(path: &Path) -> io::Result<(File, Option<u64>)> {
    let mut file = File::options().read(true).append(true).create(true).mode(0o600).open(path)?;
    let facts = file.metadata()?;
    if !facts.is_file() {
        return Ok((file, None));
    }
    let mut bytes = facts.len();
    if ends_within_a_line(&mut file, bytes)? {
        file.write_all(b"\n")?;
        bytes += 1;
    }
    Ok((file, Some(bytes)))
}

/// After a crash, or on a full disk.
fn ends_within_a_line(file: &mut File, bytes: u64) -> io::Result<bool> {
    let Some(last) = bytes.checked_sub(1) else { return Ok(false) };
    let mut byte = [0];
    file.seek(SeekFrom::Start(last))?;
    file.read_exact(&mut byte)?;
    Ok(byte != *b"\n")
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request_record::tests::ended;

    fn writer(path: &Path, max_bytes: u64) -> Writer {
        let writer = Writer::open(path.to_owned(), Arc::default()).expect("opens");
        Writer { max_bytes, ..writer }
    }

    #[test]
    fn full_files_move_on_and_no_more_than_nine_are_kept() {
        let folder = tempfile::tempdir().expect("tempdir");
        let path = folder.path().join("audit.log");
        let request = ended("alice", "demo", 1);
        let most = 2 * line::of(&request).len() as u64 + 10;
        let mut writer = writer(&path, most);
        (0..100).for_each(|_| writer.write_request(&request));
        let files: Vec<_> = fs_err::read_dir(folder.path()).expect("folder").flatten().collect();
        assert_eq!(files.len(), 1 + OLDER_FILES as usize);
        for file in files {
            assert!(file.metadata().expect("facts").len() <= most, "{:?}", file.path());
        }
        assert_eq!(writer.dropped.load(Ordering::Relaxed), 0);
        assert_eq!(fs_err::read_to_string(numbered(&path, 8)).expect("reads").lines().count(), 2);
    }

    #[test]
    fn a_disk_that_takes_nothing_loses_lines_and_tells_how_many_afterwards() {
        let folder = tempfile::tempdir().expect("tempdir");
        let path = folder.path().join("audit.log");
        let mut writer = writer(&path, 1_000);
        let away = folder.path().join("away");
        // A folder in the file's place: it cannot be opened again.
        writer.complain(&io::Error::from(io::ErrorKind::StorageFull));
        fs_err::rename(&path, &away).expect("renames");
        fs_err::create_dir(&path).expect("creates");
        (0..3).for_each(|_| writer.write_request(&ended("alice", "demo", 1)));
        assert_eq!(writer.dropped.load(Ordering::Relaxed), 3);
        assert!(writer.has_complained);
        fs_err::remove_dir(&path).expect("removes");
        fs_err::rename(&away, &path).expect("renames");
        writer.write_request(&ended("alice", "demo", 1));
        let text = fs_err::read_to_string(&path).expect("reads");
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains(r#""dropped":3"#), "{text}");
        assert!(!writer.has_complained);
    }

    #[test]
    fn a_device_that_is_full_fails_nothing() {
        let full = Path::new("/dev/full");
        if !full.exists() {
            println!("skipped: there is no /dev/full here");
            return;
        }
        let mut writer = writer(full, 1_000);
        writer.write_request(&ended("alice", "demo", 1));
        writer.write_request(&ended("alice", "demo", 1));
        assert_eq!(writer.dropped.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_line_that_a_crash_cut_does_not_take_the_next_with_it() {
        let folder = tempfile::tempdir().expect("tempdir");
        let path = folder.path().join("audit.log");
        fs_err::write(&path, "{\"time\":\"20").expect("writes");
        let mut writer = writer(&path, 1_000);
        writer.write_request(&ended("alice", "demo", 1));
        let text = fs_err::read_to_string(&path).expect("reads");
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(serde_json::from_str::<serde_json::Value>(text.lines().last().expect("a line")).is_ok());
    }
}
