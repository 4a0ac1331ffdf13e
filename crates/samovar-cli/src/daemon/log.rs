//! The background daemon's log: a file of bounded size, one older one beside it. A full disk loses lines, never the daemon.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use samovar_core::{ErrorKind, Failure};
use tracing_subscriber::EnvFilter;

/// Size at which the log is put aside and a new one begun.
const MAX_BYTES: u64 = 4 << 20;
/// What of one line is written: what was logged may be as long as a stranger made it.
const LINE_BYTES: usize = 16 << 10;
/// In place of the rest.
const CUT: &[u8] = "…\n".as_bytes();

/// Where log lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LogTarget {
    /// A person watches.
    Stderr {
        /// With colours.
        is_coloured: bool,
    },
    /// No user watches.
    File(PathBuf),
}

/// Sends log lines of this process to `place` from now on.
///
/// # Errors
/// `InvalidRequest` when `level` is no filter.
pub(crate) fn begin(place: &LogTarget, level: &str) -> Result<(), Failure> {
    let filter = EnvFilter::builder().parse(level).map_err(|error| {
        Failure::new(ErrorKind::InvalidRequest, format!("log.level: {level:?} is no filter: {error}"))
            .with_hint("write error, warn, info, debug, trace, or target=level pairs with commas")
    })?;
    // Without this, a failing write is reported with `eprintln!`, which panics when stderr fails too.
    let lines = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false);
    let begun = match place {
        LogTarget::Stderr { is_coloured } => {
            lines.with_ansi(*is_coloured).with_target(false).with_writer(std::io::stderr).try_init()
        }
        LogTarget::File(path) => {
            lines.with_ansi(false).with_writer(Mutex::new(BoundedLog::open(path, MAX_BYTES))).try_init()
        }
    };
    // A second call in one process (tests) keeps the first logger.
    drop(begun);
    Ok(())
}

/// Opens the log for appending, as the stderr of a process that is about to start.
pub(crate) fn open_for_append(path: &Path) -> std::io::Result<File> {
    let mut options = File::options();
    options.append(true).create(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
        // Never through a link, and a planted FIFO delays no caller.
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        options.custom_flags(flags.bits().cast_signed());
    }
    options.open(path)
}

/// The last lines of the log, to show why the daemon did not come up. Native code and strangers' words
/// are among them, so nothing in them is a command to a terminal.
pub(crate) fn tail(path: &Path, lines: usize) -> Vec<String> {
    use std::io::{Read, Seek, SeekFrom};
    const WINDOW_BYTES: u64 = 16 << 10;
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::options().read(true).open(path)?;
        let begin = file.metadata()?.len().saturating_sub(WINDOW_BYTES);
        file.seek(SeekFrom::Start(begin))?;
        let mut bytes = Vec::new();
        file.take(WINDOW_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let text = read().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let all: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    all[all.len().saturating_sub(lines)..].iter().map(|line| line.replace(char::is_control, " ")).collect()
}

/// What a daemon logs when it begins; lines before that are of an earlier one.
const FIRST_WORDS: &str = "serving version=";
/// What native code and panics say when they end a process.
const LAST_WORDS: [&str; 5] = ["GGML_ASSERT", "GGML_ABORT", "panicked at", "terminate called", "fatal"];

/// The line among these that tells why a process died, if one does; without the place in a build folder.
pub(crate) fn cause_of_death<'a>(lines: impl DoubleEndedIterator<Item = &'a str>) -> Option<&'a str> {
    let of_this_life = lines.rev().take_while(|line| !line.contains(FIRST_WORDS));
    let line =
        of_this_life.into_iter().find(|line| LAST_WORDS.iter().any(|words| line.contains(words)))?.trim();
    match line.split_once(": ") {
        Some((place, what)) if place.starts_with('/') => Some(what),
        _ => Some(line),
    }
}

/// A file that is put aside as `NAME.1` when it has grown to `max_bytes`. Never fails: what cannot be
/// written is lost.
struct BoundedLog {
    path: PathBuf,
    file: Option<File>,
    written_bytes: u64,
    max_bytes: u64,
    /// Whether native code's stderr follows the file.
    takes_stderr: bool,
}

impl BoundedLog {
    fn open(path: &Path, max_bytes: u64) -> Self {
        let mut log =
            Self { path: path.to_owned(), file: None, written_bytes: 0, max_bytes, takes_stderr: true };
        log.reopen();
        log
    }

    fn reopen(&mut self) {
        self.file = open_for_append(&self.path).ok();
        self.written_bytes =
            self.file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |facts| facts.len());
        #[cfg(unix)]
        if let (Some(file), true) = (&self.file, self.takes_stderr) {
            // llama.cpp and panics write to stderr; they belong into the same file.
            rustix::stdio::dup2_stderr(file).ok();
        }
    }

    fn put_aside(&mut self) {
        let mut older = self.path.as_os_str().to_owned();
        older.push(".1");
        if std::fs::rename(&self.path, PathBuf::from(older)).is_ok() {
            self.reopen();
        } else {
            // Not possible now: go on in the same file and try again after as many bytes.
            self.written_bytes = 0;
        }
    }
}

impl Write for BoundedLog {
    /// Each line comes whole, in one call.
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let cut = (bytes.len() > LINE_BYTES).then(|| [&bytes[..LINE_BYTES], CUT].concat());
        let line = cut.as_deref().unwrap_or(bytes);
        if self.written_bytes.saturating_add(line.len() as u64) > self.max_bytes {
            self.put_aside();
        }
        if let Some(file) = &mut self.file
            && file.write_all(line).is_ok()
        {
            self.written_bytes += line.len() as u64;
        }
        // What was cut is not offered again.
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(path: &Path, max_bytes: u64) -> BoundedLog {
        let mut log = BoundedLog {
            path: path.to_owned(),
            file: None,
            written_bytes: 0,
            max_bytes,
            takes_stderr: false,
        };
        log.reopen();
        log
    }

    #[test]
    fn two_files_are_the_most_a_log_takes() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("daemon.log");
        let mut log = log(&path, 100);
        for _ in 0..50 {
            log.write_all(b"twenty bytes a line.").expect("never fails");
        }
        let sizes: Vec<u64> = fs_err::read_dir(folder.path())
            .expect("folder")
            .map(|entry| entry.expect("entry").metadata().expect("facts").len())
            .collect();
        assert_eq!(sizes.len(), 2);
        assert!(sizes.iter().all(|bytes| *bytes <= 100), "{sizes:?}");
    }

    #[test]
    fn a_line_without_end_is_cut_and_the_next_is_whole() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("daemon.log");
        let mut log = log(&path, 1 << 20);
        log.write_all(&vec![b'x'; 4 << 20]).expect("never fails");
        log.write_all(b"next\n").expect("never fails");
        let written = fs_err::read_to_string(&path).expect("text");
        let lengths: Vec<usize> = written.lines().map(str::len).collect();
        assert_eq!(lengths, [LINE_BYTES + CUT.len() - 1, 4]);
        assert_eq!(log.written_bytes, written.len() as u64);
    }

    #[test]
    fn nothing_in_the_tail_commands_a_terminal() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("daemon.log");
        fs_err::write(&path, "\u{1b}]0;title\u{7}\u{9b}2Jend\n").expect("file");
        assert_eq!(tail(&path, 1), [" ]0;title  2Jend"]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_loses_lines_and_nothing_else() {
        let mut log = log(Path::new("/dev/full"), 100);
        log.write_all(&[b'x'; 64]).expect("never fails");
        log.write_all(&[b'x'; 64]).expect("never fails");
    }

    #[test]
    fn the_cause_of_death_is_found_among_backtraces() {
        let log = "INFO serving\n/build/llama-context.cpp:2275: GGML_ASSERT(n > 0) failed\n#0 syscall ()\n";
        assert_eq!(cause_of_death(log.lines()), Some("GGML_ASSERT(n > 0) failed"));
        let earlier = "GGML_ASSERT(n > 0) failed\nINFO serving version=1\nINFO left\n";
        assert_eq!(cause_of_death(earlier.lines()), None);
    }

    #[test]
    fn the_tail_is_the_last_lines() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("daemon.log");
        fs_err::write(&path, "one\ntwo\n\nthree\n").expect("file");
        assert_eq!(tail(&path, 2), ["two", "three"]);
        assert!(tail(&folder.path().join("none"), 2).is_empty());
    }
}
