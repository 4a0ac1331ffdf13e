//! Whatever becomes of workers, this process keeps nothing of them. Alone in its process: see the runner's settings.

#![allow(clippy::unwrap_used, reason = "helpers of a test: what fails panics")]

#[path = "fake/stand.rs"]
#[allow(dead_code, reason = "each test file uses its part")]
mod stand;

use std::time::{Duration, Instant};

use samovar_core::TokenEvent;

use crate::stand::{LIMIT, broken, engine, events, load, long_request};

/// Two hundred lives in all.
const ROUNDS: usize = 25;

#[test]
fn two_hundred_lives_and_deaths_leave_nothing_behind() {
    let faults = [
        "none=",
        "load=abort",
        "idle=kill",
        "token:2=segv",
        "park=abort",
        "resume=kill",
        "drop=abort",
        "start=exit:1",
    ];
    let engines: Vec<_> = faults.iter().map(|fault| (*fault, engine(&[fault]))).collect();
    for (_, engine) in &engines {
        drop(load(engine));
    }
    let before = Belongings::now();
    for _ in 0..ROUNDS {
        for (fault, engine) in &engines {
            live(fault, engine);
        }
    }
    before.come_back();
}

/// What this process has that a worker may leave behind.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Belongings {
    descriptors: usize,
    threads: usize,
    children: usize,
}

impl Belongings {
    fn now() -> Self {
        let entries = |path: &str| fs_err::read_dir(path).unwrap().count();
        #[allow(clippy::disallowed_methods, reason = "a thread may end between being listed and being asked")]
        let children = fs_err::read_dir("/proc/self/task").unwrap().flatten().map(|task| {
            std::fs::read_to_string(task.path().join("children"))
                .unwrap_or_default()
                .split_whitespace()
                .count()
        });
        Self {
            children: children.sum(),
            descriptors: entries("/proc/self/fd"),
            threads: entries("/proc/self/task"),
        }
    }

    /// Waits until this process has no more than it had then.
    #[track_caller]
    fn come_back(&self) {
        let deadline = Instant::now() + LIMIT;
        loop {
            let now = Self::now();
            if now.descriptors <= self.descriptors
                && now.threads <= self.threads
                && now.children <= self.children
            {
                return;
            }
            assert!(Instant::now() < deadline, "{now:?} instead of {self:?}");
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
}

fn live(fault: &str, engine: &samovar_worker::WorkerEngine) {
    let (outcome, obituaries) = load(engine);
    let Ok(instance) = outcome else {
        assert!(
            fault.starts_with("load") || fault.starts_with("start") || fault.starts_with("idle"),
            "{fault}"
        );
        return;
    };
    let running =
        instance.generate(samovar_core::GenerationRequest { max_tokens: Some(20), ..long_request() });
    let said = running.map(events);
    let parked = instance.park();
    let resumed =
        parked.clone().and_then(|()| instance.resume(&samovar_core::testing::FakeEngine::options()));
    match fault.split_once('=').unwrap_or_default().0 {
        "none" | "drop" => {
            assert!(matches!(said.unwrap().last(), Some(TokenEvent::Done(_))));
            resumed.unwrap();
        }
        "park" => assert!(parked.is_err() && resumed.is_err()),
        "resume" => assert!(parked.is_ok() && resumed.is_err()),
        "token:2" => {
            broken(&said.unwrap());
            obituaries.first();
        }
        _ => drop(obituaries.first()),
    }
    drop(instance);
    assert_eq!(obituaries.all().len(), usize::from(!fault.starts_with("none") && !fault.starts_with("drop")));
}
