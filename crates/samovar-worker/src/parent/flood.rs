//! Whether a worker says more than any model has to say: hearing it costs the daemon a core.

use std::time::Duration;

/// Frames a second that no engine comes near: one step of the smallest model takes a fifth of a millisecond, and its
/// events are one frame.
const MOST_FRAMES: u32 = 50_000;
/// Over so long frames are counted.
const WINDOW: Duration = Duration::from_secs(1);

/// Counts frames in windows of time in which they were heard.
#[derive(Debug, Default)]
pub(super) struct Flood {
    frames: u32,
    passed: Duration,
}

impl Flood {
    /// One more was heard.
    pub(super) fn frame(&mut self) {
        self.frames = self.frames.saturating_add(1);
    }

    /// So much time has passed since the last call. What is wrong with the worker, if it says too much.
    pub(super) fn passed(&mut self, elapsed: Duration) -> Option<String> {
        self.passed += elapsed;
        if self.passed < WINDOW {
            return None;
        }
        let frames_per_second = f64::from(self.frames) / self.passed.as_secs_f64();
        *self = Self::default();
        (frames_per_second > f64::from(MOST_FRAMES))
            .then(|| format!("sent {frames_per_second:.0} messages a second, which no model has to say"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_fastest_model_says_is_no_flood() {
        let mut flood = Flood::default();
        (0..20_000).for_each(|_| flood.frame());
        assert_eq!(flood.passed(WINDOW), None);
    }

    #[test]
    fn a_flood_is_told_once_it_has_lasted() {
        let mut flood = Flood::default();
        (0..100_000).for_each(|_| flood.frame());
        assert_eq!(flood.passed(WINDOW / 2), None);
        let complaint = flood.passed(WINDOW / 2).expect("complains");
        assert!(complaint.contains("100000 messages a second"), "{complaint}");
        assert_eq!(flood.passed(WINDOW), None, "counts anew");
    }

    #[test]
    fn frames_that_waited_while_nobody_looked_are_no_flood() {
        let mut flood = Flood::default();
        (0..100_000).for_each(|_| flood.frame());
        assert_eq!(flood.passed(Duration::from_secs(60)), None);
    }
}
