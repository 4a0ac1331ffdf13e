//! The audit log: a JSON line for each request that has ended, written away from the request.
//!
//! ```text
//!   request ends ─► queue, bounded ─► a thread ─► FILE ─ full ─► FILE.1 ─► … ─► FILE.8 ─► gone
//!                     └ full: dropped, and counted in the next line that is written
//! ```
//!
//! A line says who asked for what and how it ended; it never holds a prompt, an answer or a key. What cannot be written is lost and
//! counted: no request waits for it or fails because of it.

mod line;
mod writer;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::request_record::EndedRequest;
use writer::{Entry, Writer};

/// Lines on their way to the file; the next is dropped.
const QUEUE_LINES: usize = 4_096;
/// How long leaving waits for the last lines.
const LAST_LINES: Duration = Duration::from_secs(1);
/// Between two attempts at a full queue.
const ANOTHER_TRY: Duration = Duration::from_millis(10);

/// The audit log.
#[derive(Debug)]
pub(crate) struct AuditLog {
    entries: SyncSender<Entry>,
    dropped: Arc<AtomicU64>,
}

impl AuditLog {
    /// Begins to write to this file, after what it holds already.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(crate) fn begin(path: PathBuf) -> io::Result<Self> {
        let dropped = Arc::new(AtomicU64::new(0));
        let writer = Writer::open(path, Arc::clone(&dropped))?;
        let (entries, queue) = sync_channel(QUEUE_LINES);
        std::thread::Builder::new().name("audit-log".to_owned()).spawn(move || writer.write_all(&queue))?;
        Ok(Self { entries, dropped })
    }

    /// Has a line written for this request, if there is room for it.
    pub(crate) fn tell(&self, ended: EndedRequest) {
        if self.entries.try_send(Entry::Ended(Box::new(ended))).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until what was told so far is on the disk; for a second at most, since a disk may be stuck.
    pub(crate) async fn flush(&self) {
        tokio::time::timeout(LAST_LINES, self.marked()).await.ok();
    }

    async fn marked(&self) {
        let (mark, marked) = oneshot::channel();
        let mut entry = Entry::Mark(mark);
        while let Err(TrySendError::Full(unsent)) = self.entries.try_send(entry) {
            entry = unsent;
            tokio::time::sleep(ANOTHER_TRY).await;
        }
        // No answer comes where the thread has died.
        marked.await.ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request_record::tests::ended;

    #[tokio::test]
    async fn what_finds_no_room_is_counted_and_a_full_queue_holds_no_request_up() {
        let (entries, queue) = sync_channel(2);
        let log = AuditLog { entries, dropped: Arc::default() };
        for _ in 0..5 {
            log.tell(ended("alice", "demo", 1));
        }
        assert_eq!(log.dropped.load(Ordering::Relaxed), 3);
        let folder = tempfile::tempdir().expect("tempdir");
        let path = folder.path().join("audit.log");
        let writer = Writer::open(path.clone(), Arc::clone(&log.dropped)).expect("opens");
        let writing = std::thread::spawn(move || writer.write_all(&queue));
        log.marked().await;
        let text = fs_err::read_to_string(&path).expect("reads");
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.lines().next().expect("a line").contains(r#""dropped":3"#), "{text}");
        drop(log);
        writing.join().expect("ends with its log");
    }

    #[tokio::test]
    async fn a_path_that_cannot_be_written_is_told_at_the_start() {
        let folder = tempfile::tempdir().expect("tempdir");
        assert!(AuditLog::begin(folder.path().to_owned()).is_err());
        assert!(AuditLog::begin(folder.path().join("none").join("audit.log")).is_err());
    }

    #[tokio::test]
    async fn lines_are_in_the_file_once_the_mark_after_them_is_reached() {
        let folder = tempfile::tempdir().expect("tempdir");
        let path = folder.path().join("audit.log");
        let log = AuditLog::begin(path.clone()).expect("opens");
        (0..100).for_each(|tokens| log.tell(ended("alice", "demo", tokens)));
        log.marked().await;
        assert_eq!(fs_err::read_to_string(&path).expect("reads").lines().count(), 100);
    }
}
