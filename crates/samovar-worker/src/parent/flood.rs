//! Whether a worker says more than any model has to say: hearing it costs the daemon a core.

use std::time::Duration;

/// Frames a second that no engine comes near: one step of the smallest model takes a fifth of a millisecond, and its
/// events are one frame.
const MOST_FRAMES: u32 = 50_000;
/// Bytes a second that no engine comes near: two of the largest frames. Ten thousand tokens a second with twenty
/// alternatives each are a tenth of it.
const MOST_BYTES: u64 = 128 << 20;
/// Over so long both are counted.
const WINDOW: Duration = Duration::from_secs(1);

/// Counts frames and bytes in windows of time in which they were heard.
#[derive(Debug, Default)]
pub(super) struct Flood {
    frames: u32,
    bytes: u64,
    passed: Duration,
}

impl Flood {
    /// One more frame was heard.
    pub(super) fn frame(&mut self) {
        self.frames = self.frames.saturating_add(1);
    }

    /// So many bytes arrived, of whole frames or not.
    pub(super) fn bytes(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }

    /// So much time has passed since the last call. What is wrong with the worker, if it says too much.
    pub(super) fn passed(&mut self, elapsed: Duration) -> Option<String> {
        self.passed += elapsed;
        if self.passed < WINDOW {
            return None;
        }
        let seconds = self.passed.as_secs_f64();
        let frames_per_second = f64::from(self.frames) / seconds;
        let bytes_per_second = self.bytes as f64 / seconds;
        *self = Self::default();
        if frames_per_second > f64::from(MOST_FRAMES) {
            return Some(format!("sent {frames_per_second:.0} messages per second, more than the limit"));
        }
        (bytes_per_second > MOST_BYTES as f64).then(|| {
            let mebibytes = bytes_per_second / f64::from(1 << 20);
            format!("sent {mebibytes:.0} MiB per second, more than the limit")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_fastest_model_says_is_no_flood() {
        let mut flood = Flood::default();
        (0..20_000).for_each(|_| flood.frame());
        // The tokens of the largest prompt there is, in one answer.
        flood.bytes(64 << 20);
        assert_eq!(flood.passed(WINDOW), None);
    }

    #[test]
    fn a_flood_is_told_once_it_has_lasted() {
        let mut flood = Flood::default();
        (0..100_000).for_each(|_| flood.frame());
        assert_eq!(flood.passed(WINDOW / 2), None);
        let complaint = flood.passed(WINDOW / 2).expect("complains");
        assert!(complaint.contains("100000 messages per second"), "{complaint}");
        assert_eq!(flood.passed(WINDOW), None, "counts anew");
    }

    #[test]
    fn few_messages_of_many_bytes_are_a_flood_as_well() {
        let mut flood = Flood::default();
        (0..4_000).for_each(|_| flood.bytes(64 << 10));
        assert_eq!(flood.passed(WINDOW / 2), None);
        let complaint = flood.passed(WINDOW / 2).expect("complains");
        assert!(complaint.contains("250 MiB per second"), "{complaint}");
        assert_eq!(flood.passed(WINDOW), None, "counts anew");
    }

    #[test]
    fn frames_that_waited_while_nobody_looked_are_no_flood() {
        let mut flood = Flood::default();
        (0..100_000).for_each(|_| flood.frame());
        assert_eq!(flood.passed(Duration::from_secs(60)), None);
    }
}
