//! The processor time of one thread, readable by every thread of this process.
#![allow(unsafe_code, reason = "the clock of another thread has no safe call")]

use std::time::Duration;

/// What a thread has used so far. One that has ended says nothing any more.
#[derive(Clone, Copy, Debug)]
pub(super) struct CpuClock(libc::clockid_t);

/// How the kernel numbers such clocks (`CPUCLOCK_PERTHREAD | CPUCLOCK_SCHED` below the thread's inverted number).
const OF_A_THREAD: libc::clockid_t = 0b110;

impl CpuClock {
    pub(super) fn of_this_thread() -> Self {
        let thread = rustix::thread::gettid().as_raw_nonzero().get();
        Self((!thread << 3) | OF_A_THREAD)
    }

    /// Nothing when the thread is gone, or a filter of system calls knows no such clocks.
    pub(super) fn now(self) -> Option<Duration> {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the kernel writes one `timespec`, which is ours, or nothing.
        let is_told = unsafe { libc::clock_gettime(self.0, &raw mut time) } == 0;
        is_told.then(|| Duration::new(time.tv_sec.max(0) as u64, time.tv_nsec.clamp(0, 999_999_999) as u32))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_thread_that_computes_is_seen_by_another_and_one_that_waits_is_not() {
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let (stop, stopped) = std::sync::mpsc::sync_channel::<()>(1);
        let thread = std::thread::spawn(move || {
            let clock = CpuClock::of_this_thread();
            let began = Instant::now();
            while began.elapsed() < Duration::from_millis(50)
                || clock.now().unwrap() < Duration::from_millis(20)
            {
                std::hint::spin_loop();
            }
            tell.send(clock).unwrap();
            stopped.recv().ok();
        });
        let clock = told.recv().unwrap();
        let used = clock.now().unwrap();
        assert!((Duration::from_millis(20)..Duration::from_secs(60)).contains(&used), "{used:?}");
        drop(stop);
        thread.join().unwrap();
    }
}
