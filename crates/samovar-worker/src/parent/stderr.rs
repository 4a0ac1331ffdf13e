//! What a worker says on its standard error: passed on to the log line by line, and the last lines kept for its obituary.
//!
//! A worker that writes without end is heard at a bounded pace and waits; what it may put into the log is bounded by the
//! minute, and by half as much after each minute that reached the bound, so that it can neither fill the disk nor silence
//! what it says later. Lines that tell of a denied call have a bound of their own: no talk hides them.

use std::collections::VecDeque;
use std::time::Duration;

use crate::sandbox::DENIED;

/// Lines kept.
const KEPT_LINES: usize = 20;
/// Characters of a line that are kept.
const KEPT_CHARS: usize = 300;
/// Lines of one worker that are passed on to the log in a minute: its disk is shared by all.
const LOGGED_LINES: u32 = 2_000;
/// The same of lines that tell of a denied call. An honest worker tells of each of a few hundred calls once.
const LOGGED_DENIALS: u32 = 1_000;
/// However often it has said too much, so many lines of a minute are logged.
const LOGGED_LEAST: u32 = 20;
/// A bound is halved no more often than it takes to come to the least.
const HALVED_MOST: u32 = 7;
/// After so many minutes below it a bound is doubled.
const QUIET_MINUTES: u32 = 10;
/// After so long both begin anew.
const MINUTE: Duration = Duration::from_secs(60);
/// Bytes that are heard in a second; a worker that writes more waits for the next.
const HEARD_BYTES: usize = 1 << 20;
const SECOND: Duration = Duration::from_secs(1);
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

/// How much of one kind goes into the log.
#[derive(Debug, Default)]
struct Allowance {
    /// Lines of this minute.
    said: u32,
    /// How often the bound is halved now.
    halved: u32,
    /// Minutes below it in a row.
    quiet: u32,
}

impl Allowance {
    /// Lines of this minute that go into the log, where `most` do if there never were too many.
    fn lines(&self, most: u32) -> u32 {
        (most >> self.halved).max(LOGGED_LEAST)
    }

    /// A minute is over; so many of its lines were left out.
    fn next_minute(&mut self, most: u32) -> u32 {
        let lines = self.lines(most);
        let said = std::mem::take(&mut self.said);
        self.quiet = if said >= lines { 0 } else { self.quiet + 1 };
        if said >= lines {
            self.halved = (self.halved + 1).min(HALVED_MOST);
        } else if self.quiet >= QUIET_MINUTES {
            (self.quiet, self.halved) = (0, self.halved.saturating_sub(1));
        }
        said.saturating_sub(lines)
    }
}

/// The last lines of a worker.
#[derive(Debug, Default)]
pub(super) struct Stderr {
    unfinished: Vec<u8>,
    /// Lines of this minute, and of these what told of a denied call is counted apart.
    talk: Allowance,
    denials: Allowance,
    minute: Duration,
    /// Bytes of this second.
    heard_bytes: usize,
    second: Duration,
    lines: VecDeque<String>,
    /// Lines that told of a denied call.
    denied: u64,
}

impl Stderr {
    /// Takes what was said, and passes whole lines on.
    pub(super) fn put(&mut self, pid: u32, bytes: &[u8]) {
        self.heard_bytes = self.heard_bytes.saturating_add(bytes.len());
        for byte in bytes {
            if *byte == b'\n' || self.unfinished.len() >= MAX_LINE_BYTES {
                self.finish(pid);
            }
            if *byte != b'\n' {
                self.unfinished.push(*byte);
            }
        }
    }

    /// Whether it may be heard now, or has said enough for this second.
    pub(super) fn may_be_heard(&self) -> bool {
        self.heard_bytes < HEARD_BYTES
    }

    /// Time has passed since the last call.
    pub(super) fn passed(&mut self, pid: u32, elapsed: Duration) {
        self.second = self.second.saturating_add(elapsed);
        if self.second >= SECOND {
            (self.second, self.heard_bytes) = (Duration::ZERO, 0);
        }
        self.minute = self.minute.saturating_add(elapsed);
        if self.minute >= MINUTE {
            let left_out = self.talk.next_minute(LOGGED_LINES);
            self.denials.next_minute(LOGGED_DENIALS);
            if left_out > 0 {
                tracing::warn!(target: "samovar::worker", pid, "{left_out} lines of a minute were not logged");
            }
            self.minute = Duration::ZERO;
        }
    }

    /// Whether one more line goes into the log.
    fn is_logged(&mut self, pid: u32, line: &str) -> bool {
        let (allowance, most) = if line.starts_with(DENIED) {
            (&mut self.denials, LOGGED_DENIALS)
        } else {
            (&mut self.talk, LOGGED_LINES)
        };
        let most = allowance.lines(most);
        allowance.said = allowance.said.saturating_add(1);
        if allowance.said == most + 1 {
            tracing::warn!(target: "samovar::worker", pid, "said {most} lines in a minute: no more of it are logged");
        }
        allowance.said <= most
    }

    fn log(&mut self, pid: u32, line: &str) {
        if !self.is_logged(pid, line) {
            return;
        }
        if is_complaint(line) {
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

/// A line of native code begins with a place in a build folder.
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
    fn a_flood_of_lines_is_not_logged_and_mutes_nobody_for_good() {
        let mut stderr = Stderr::default();
        let logged =
            |stderr: &mut Stderr, line: &str| (0..5_000).filter(|_| stderr.is_logged(1, line)).count();
        assert_eq!(logged(&mut stderr, "talk"), LOGGED_LINES as usize);
        stderr.passed(1, MINUTE / 2);
        assert_eq!(logged(&mut stderr, "talk"), 0);
        stderr.passed(1, MINUTE / 2);
        assert_eq!(logged(&mut stderr, "talk"), LOGGED_LINES as usize / 2);
    }

    #[test]
    fn who_floods_minute_after_minute_has_fewer_lines_and_gets_them_back_slowly() {
        let mut stderr = Stderr::default();
        let flood = |stderr: &mut Stderr| {
            let logged = (0..5_000).filter(|_| stderr.is_logged(1, "talk")).count();
            stderr.passed(1, MINUTE);
            logged
        };
        let logged: Vec<usize> = (0..9).map(|_| flood(&mut stderr)).collect();
        assert_eq!(logged, [2_000, 1_000, 500, 250, 125, 62, 31, 20, 20]);
        for _ in 0..QUIET_MINUTES - 1 {
            stderr.passed(1, MINUTE);
        }
        assert_eq!(stderr.talk.lines(LOGGED_LINES), 20);
        stderr.passed(1, MINUTE);
        assert_eq!(stderr.talk.lines(LOGGED_LINES), 31);
        assert_eq!(stderr.denials.lines(LOGGED_DENIALS), LOGGED_DENIALS, "each kind has its own");
    }

    #[test]
    fn no_talk_hides_a_denied_call_and_no_denied_call_fills_the_disk() {
        let mut stderr = Stderr::default();
        for _ in 0..5_000 {
            stderr.is_logged(1, "talk");
        }
        let denied = format!("{DENIED}157");
        let logged = (0..5_000).filter(|_| stderr.is_logged(1, &denied)).count();
        assert_eq!(logged, LOGGED_DENIALS as usize);
    }

    #[test]
    fn who_writes_without_end_waits_for_the_next_second() {
        let mut stderr = Stderr::default();
        let mut heard = 0;
        while stderr.may_be_heard() {
            stderr.put(1, &vec![b'x'; 64 << 10]);
            heard += 64 << 10;
        }
        assert_eq!(heard, HEARD_BYTES);
        stderr.passed(1, SECOND / 2);
        assert!(!stderr.may_be_heard());
        stderr.passed(1, SECOND / 2);
        assert!(stderr.may_be_heard());
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
