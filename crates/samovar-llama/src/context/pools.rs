//! The threads that contexts compute with: pools of several sizes, of which a step uses one. It never computes.
#![allow(unsafe_code, reason = "the safe binding knows no pools of threads")]

use std::ptr::NonNull;

use llama_cpp_sys_2 as sys;

/// How long idle compute threads look for work before they sleep, in units of a few milliseconds: enough
/// to bridge sampling between two steps, too short to burn a core when there is nothing to do.
const POLL_LEVEL: u32 = 1;

/// Pools that are kept: for prompts, for answers, and for a number that is being tried.
const POOLS: usize = 3;

/// Pools of threads, each of another size; the latest used is the last. A pool of the very size of a step has no threads
/// that look for work in vain, and those of the other pools sleep: llama.cpp pauses the pool that it leaves.
#[derive(Debug, Default)]
pub(super) struct Pools {
    all: Vec<Pool>,
    /// Threads of the next step; 0 before anything was chosen.
    pub(super) chosen: u32,
}

impl Pools {
    /// The pool of this size, made if there is none.
    pub(super) fn of(&mut self, threads: u32) -> Option<NonNull<sys::ggml_threadpool>> {
        let pool = match self.all.iter().position(|pool| pool.threads == threads) {
            Some(index) => self.all.remove(index),
            None => Pool::new(threads)?,
        };
        let raw = pool.raw;
        self.all.push(pool);
        Some(raw)
    }

    /// A step was computed with what was chosen last: nothing refers to the others any more.
    pub(super) fn computed(&mut self) {
        if self.all.len() > POOLS && self.all.last().is_some_and(|pool| pool.threads == self.chosen) {
            self.all.drain(..self.all.len() - POOLS);
        }
    }
}

#[derive(Debug)]
struct Pool {
    threads: u32,
    raw: NonNull<sys::ggml_threadpool>,
}

impl Pool {
    fn new(threads: u32) -> Option<Self> {
        // SAFETY: a pure function of a small number.
        let mut params = unsafe { sys::ggml_threadpool_params_default(threads as i32) };
        params.poll = POLL_LEVEL;
        // SAFETY: the parameters are the library's own but for a plain number.
        let raw = NonNull::new(unsafe { sys::ggml_threadpool_new(&raw mut params) })?;
        Some(Self { threads, raw })
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: its owner drops it only when nothing refers to it.
        unsafe { sys::ggml_threadpool_free(self.raw.as_ptr()) };
    }
}
