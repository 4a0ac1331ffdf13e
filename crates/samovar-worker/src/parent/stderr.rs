//! What a worker says on its standard error: passed on to the log line by line, and the last lines kept for its obituary.

use std::collections::VecDeque;

use crate::sandbox::DENIED;

/// Lines kept.
const KEPT_LINES: usize = 20;
/// Characters of a line that are kept.
const KEPT_CHARS: usize = 300;
/// Lines of one worker that are passed on to the log: its disk is everybody's.
const LOGGED_LINES: u32 = 2_000;
/// A line longer than this is cut where it is.
const MAX_LINE_BYTES: usize = 8 << 10;
/// What programs say when they end against their will.
const LAST_WORDS: [&str; 8] = [
    "panicked at",
    "assert",
    "abort",
    "terminate called",
    "fatal",
    "out of memory",
    "bad_alloc",
    "memory allocation of",
];

/// The last lines of a worker.
#[derive(Debug, Default)]
pub(super) struct Stderr {
    unfinished: Vec<u8>,
    logged: u32,
    lines: VecDeque<String>,
    /// Lines that told of a denied call.
    denied: u64,
}

impl Stderr {
    /// Takes what was said, and passes whole lines on.
    pub(super) fn put(&mut self, pid: u32, bytes: &[u8]) {
        for byte in bytes {
            if *byte == b'\n' || self.unfinished.len() >= MAX_LINE_BYTES {
                self.finish(pid);
            }
            if *byte != b'\n' {
                self.unfinished.push(*byte);
            }
        }
    }

    fn log(&mut self, pid: u32, line: &str) {
        self.logged = self.logged.saturating_add(1);
        if self.logged == LOGGED_LINES {
            tracing::warn!(target: "samovar::worker", pid, "said {LOGGED_LINES} lines: no more of them are logged");
        } else if self.logged > LOGGED_LINES {
        } else if is_complaint(line) {
            tracing::warn!(target: "samovar::worker", pid, "{line}");
        } else {
            tracing::debug!(target: "samovar::worker", pid, "{line}");
        }
    }

    /// What was said last was a whole line, too.
    pub(super) fn finish(&mut self, pid: u32) {
        let bytes = std::mem::take(&mut self.unfinished);
        let text = String::from_utf8_lossy(&bytes);
        let line: String = text.trim().chars().filter(|c| !c.is_control()).take(KEPT_CHARS).collect();
        if line.is_empty() {
            return;
        }
        self.log(pid, &line);
        self.denied += u64::from(line.starts_with(DENIED));
        if self.lines.len() == KEPT_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// How often it has told of a denied call since this was asked last.
    pub(super) fn take_denied(&mut self) -> u64 {
        std::mem::take(&mut self.denied)
    }

    /// The line that most likely tells why it ended: the last one that sounds like it, else the last one that is not
    /// everyday talk.
    pub(super) fn last_words(&self) -> Option<&str> {
        let telling = self.lines.iter().rev().find(|line| has_last_words(line));
        let unusual = || self.lines.iter().rev().find(|line| !is_everyday(line));
        telling.or_else(unusual).map(|line| without_place(line))
    }
}

fn is_complaint(line: &str) -> bool {
    has_last_words(line) || ["ERROR", "WARN"].iter().any(|level| line.starts_with(level))
}

/// A denied call among them: it failed, and the worker went on.
fn is_everyday(line: &str) -> bool {
    ["INFO", "DEBUG", "TRACE", DENIED].iter().any(|level| line.starts_with(level))
}

fn has_last_words(line: &str) -> bool {
    let line = line.to_lowercase();
    LAST_WORDS.iter().any(|words| line.contains(words))
}

/// A line of native code begins with a place in somebody's build folder.
fn without_place(line: &str) -> &str {
    match line.split_once(": ") {
        Some((place, what)) if place.starts_with('/') => what,
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_tells_most_is_found_among_the_rest() {
        let mut stderr = Stderr::default();
        assert_eq!(stderr.last_words(), None);
        stderr.put(1, b"loading\n/build/x.cpp:7: NATIVE_ASSERT(n > 0) fai");
        stderr.put(1, b"led\n#0 frame\n#1 frame");
        stderr.finish(1);
        assert_eq!(stderr.last_words(), Some("NATIVE_ASSERT(n > 0) failed"));
        let mut quiet = Stderr::default();
        quiet.put(1, b"one\ntwo\n INFO loaded\n");
        assert_eq!(quiet.last_words(), Some("two"));
    }

    #[test]
    fn a_denied_call_is_counted_and_is_nobodys_last_word() {
        let mut stderr = Stderr::default();
        stderr.put(1, b"two\nWARN the sandbox denied system call 157\nWARN other\nWARN the sandbox denied system call 9\n");
        assert_eq!((stderr.take_denied(), stderr.take_denied()), (2, 0));
        assert_eq!(stderr.last_words(), Some("WARN other"));
    }

    #[test]
    fn a_flood_takes_no_memory() {
        let mut stderr = Stderr::default();
        for _ in 0..100 {
            stderr.put(1, &vec![b'x'; 100_000]);
        }
        stderr.put(1, "\n\u{1b}[31mend\n".repeat(100).as_bytes());
        assert_eq!(stderr.lines.len(), KEPT_LINES);
        assert!(stderr.unfinished.len() <= MAX_LINE_BYTES);
        assert!(
            stderr.lines.iter().all(|line| line.chars().count() <= KEPT_CHARS && !line.contains('\u{1b}'))
        );
    }
}
