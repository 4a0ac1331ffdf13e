//! Looks at how many cores this process has, and how many of them were unused since the last look.
//!
//! Time of niced programs counts as unused: they yield to any program that wants the core. Where the kernel's files cannot be
//! read, the number of cores is the standard library's and nothing is said of idle ones.

use std::time::Instant;

use super::quota::Quota;

type Read = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Looks at the cores from time to time.
pub struct CoreWatch {
    read: Read,
    quota: Option<Quota>,
    last: Option<Sample>,
}

/// What was counted until a moment.
struct Sample {
    at: Instant,
    /// Of each core that this process may use: ticks in all, and unused ones.
    ticks: Vec<(u64, u64)>,
    used_seconds: Option<f64>,
}

impl CoreWatch {
    /// Finds the limits that hold for this process. Reads a few small files.
    pub fn new() -> Self {
        Self::reading(Box::new(|path| fs_err::read_to_string(path).ok()))
    }

    fn reading(read: Read) -> Self {
        Self { quota: Quota::find(&*read), last: None, read }
    }

    /// Cores that this process may use now, by affinity and quota; part of a core counts as one. At least 1.
    pub fn cores(&self) -> u32 {
        let allowed = match self.allowed() {
            Some(cpus) => cpus.len(),
            None => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        };
        let quota = self.quota.as_ref().map_or(f64::INFINITY, |quota| quota.cores.ceil());
        (allowed as f64).min(quota).max(1.0) as u32
    }

    /// Cores that were unused since the last call, on average. `None` at the first call and where the kernel does not
    /// tell.
    pub fn idle(&mut self, now: Instant) -> Option<f32> {
        let sample = self.sample(now)?;
        let before = self.last.replace(sample)?;
        let after = self.last.as_ref()?;
        if before.ticks.len() != after.ticks.len() {
            return None;
        }
        let idle = |(before, after): (&(u64, u64), &(u64, u64))| {
            let all = after.0.saturating_sub(before.0);
            let unused = after.1.saturating_sub(before.1).min(all);
            if all == 0 { 0.0 } else { unused as f64 / all as f64 }
        };
        let idle: f64 = before.ticks.iter().zip(&after.ticks).map(idle).sum();
        let seconds = after.at.duration_since(before.at).as_secs_f64().max(1e-6);
        let left = match (&self.quota, before.used_seconds, after.used_seconds) {
            (Some(quota), Some(before), Some(after)) => quota.cores - (after - before) / seconds,
            _ => f64::INFINITY,
        };
        Some(idle.min(left).max(0.0) as f32)
    }

    /// Forgets the last look, so that the next one begins anew. Says whether the kernel tells.
    pub fn restart(&mut self, now: Instant) -> bool {
        self.last = self.sample(now);
        self.last.is_some()
    }

    fn sample(&self, now: Instant) -> Option<Sample> {
        let allowed = self.allowed()?;
        let stat = (self.read)("/proc/stat")?;
        let mut ticks = Vec::with_capacity(allowed.len());
        for line in stat.lines().take_while(|line| line.starts_with("cpu")) {
            let mut words = line.split_ascii_whitespace();
            let cpu = words.next().and_then(|name| name.strip_prefix("cpu")?.parse::<u32>().ok());
            if cpu.is_some_and(|cpu| allowed.contains(&cpu)) {
                // user, nice, system, idle, iowait, irq, softirq, steal; guests are part of the first two.
                let counts: Vec<u64> = words.take(8).map_while(|word| word.parse().ok()).collect();
                let [_, nice, _, idle, iowait, ..] = counts[..] else { return None };
                ticks.push((counts.iter().sum(), nice + idle + iowait));
            }
        }
        let used_seconds = self.quota.as_ref().and_then(|quota| quota.used_seconds(&*self.read));
        Some(Sample { at: now, ticks, used_seconds })
    }

    /// Numbers of the cores that the scheduler may put this process on.
    fn allowed(&self) -> Option<Vec<u32>> {
        let status = (self.read)("/proc/self/status")?;
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
        let mut cpus = Vec::new();
        for range in list.trim().split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            cpus.extend(first.parse::<u32>().ok()?..=last.parse().ok()?);
        }
        (!cpus.is_empty()).then_some(cpus)
    }
}

impl Default for CoreWatch {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for CoreWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CoreWatch").field("quota", &self.quota).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::*;

    type Files = Arc<Mutex<HashMap<String, String>>>;

    fn watch(files: &[(&str, &str)]) -> (CoreWatch, Files) {
        let owned = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned()));
        let files: Files = Arc::new(Mutex::new(owned.collect()));
        let read = Arc::clone(&files);
        (CoreWatch::reading(Box::new(move |path| read.lock().unwrap().get(path).cloned())), files)
    }

    const STATUS: (&str, &str) = ("/proc/self/status", "Name:\tx\nCpus_allowed_list:\t0,2-3\n");

    #[test]
    fn idle_and_niced_time_of_allowed_cores_counts_as_idle() {
        let before = "cpu  9 9 9 9\ncpu0 0 0 0 0 0 0 0 0\ncpu1 0 0 0 0 0 0 0 0\ncpu2 5 0 0 0 0 0 0 0\ncpu3 0 0 0 0 0 0 0 0\nintr 1\n";
        let after = "cpu  9 9 9 9\ncpu0 10 0 0 90 0 0 0 0\ncpu1 0 0 0 100 0 0 0 0\ncpu2 5 50 0 25 25 0 0 0\ncpu3 0 0 50 0 0 0 0 50\n";
        let (mut watch, files) = watch(&[STATUS, ("/proc/stat", before)]);
        let now = Instant::now();
        assert_eq!((watch.cores(), watch.idle(now)), (3, None));
        files.lock().unwrap().insert("/proc/stat".to_owned(), after.to_owned());
        let idle = watch.idle(now + Duration::from_secs(1)).unwrap();
        assert!((idle - 1.9).abs() < 1e-6, "{idle}");
        assert_eq!(watch.idle(now + Duration::from_secs(2)), Some(0.0), "nothing was counted meanwhile");
    }

    #[test]
    fn a_quota_bounds_cores_and_what_is_idle() {
        let stat = |idle: u32| {
            format!("cpu0 0 0 0 {idle} 0 0 0 0\ncpu2 0 0 0 {idle} 0 0 0 0\ncpu3 0 0 0 {idle} 0 0 0 0\n")
        };
        let (mut watch, files) = watch(&[
            STATUS,
            ("/proc/stat", &stat(0)),
            ("/proc/self/cgroup", "0::/\n"),
            ("/proc/self/mountinfo", "29 23 0:26 / /cg rw - cgroup2 cgroup2 rw\n"),
            ("/cg/cpu.max", "150000 100000\n"),
            ("/cg/cpu.stat", "usage_usec 0\n"),
        ]);
        let now = Instant::now();
        assert_eq!((watch.cores(), watch.idle(now)), (2, None));
        files.lock().unwrap().insert("/proc/stat".to_owned(), stat(100));
        files.lock().unwrap().insert("/cg/cpu.stat".to_owned(), "usage_usec 1000000\n".to_owned());
        assert_eq!(watch.idle(now + Duration::from_secs(1)), Some(0.5));
    }

    #[test]
    fn where_nothing_can_be_read_nothing_is_said() {
        let (mut watch, _) = watch(&[]);
        assert!(watch.cores() >= 1);
        assert_eq!(watch.idle(Instant::now()), None);
        assert_eq!(watch.idle(Instant::now()), None);
    }
}
