//! Tests that look at their whole process: its memory, threads and processor time. They run one at a time, and each
//! bears what the others left behind; predictions of memory do not, and have a binary of their own.

#[path = "../support/mod.rs"]
mod support;

mod leaks;
mod minilm_memory;
mod threads;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Waits until no other of these tests runs, and keeps them out.
fn alone() -> MutexGuard<'static, ()> {
    static PROCESS: Mutex<()> = Mutex::new(());
    PROCESS.lock().unwrap_or_else(PoisonError::into_inner)
}
