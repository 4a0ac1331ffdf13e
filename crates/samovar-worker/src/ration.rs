//! An allocator that counts what a thread allocates while it does a rationed piece of work, and says so when that is
//! too much. Everything goes to the system's allocator; outside rationed work it costs a look at a number.
//!
//! A chat template can make a value twice as large with each of its steps. Whatever it calls for that, the memory comes
//! from here, so that no operation of the template engine can be forgotten. An allocation cannot fail as an ordinary
//! error, so that the code that is told must end the process: a worker does, a daemon never runs such work.
#![allow(unsafe_code, reason = "an allocator is unsafe by its trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::OnceLock;

/// The allocator. A program whose workers are to be rationed makes it its global one:
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: samovar_worker::Ration = samovar_worker::Ration;
/// # fn main() {}
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Ration;

/// Means that a thread does no rationed work.
const UNLIMITED: i64 = i64::MAX;

thread_local! {
    /// Bytes that this thread may still allocate.
    static LEFT: Cell<i64> = const { Cell::new(UNLIMITED) };
    /// What it had at the beginning.
    static LIMIT: Cell<i64> = const { Cell::new(UNLIMITED) };
    /// What the work is known by.
    static WORK: Cell<u64> = const { Cell::new(0) };
}

/// What hears of work that takes more than it may, and never returns.
static EXCEEDED: OnceLock<Box<dyn Fn(u64) + Send + Sync>> = OnceLock::new();

/// From now on `exceeded` is called, on the thread at fault, with what the work is known by, when its ration is used
/// up; it must end the process. Only the first call counts.
pub(crate) fn on_exceeded(exceeded: impl Fn(u64) + Send + Sync + 'static) {
    EXCEEDED.set(Box::new(exceeded)).ok();
}

/// Does work that may hold `limit_bytes` more than this thread holds now. Without [`Ration`] as the program's
/// allocator nothing is counted.
pub(crate) fn within(limit_bytes: i64, work_id: u64, work: &mut dyn FnMut()) {
    WORK.set(work_id);
    LIMIT.set(limit_bytes);
    LEFT.set(limit_bytes);
    work();
    LEFT.set(UNLIMITED);
}

fn take(bytes: usize) {
    let left = LEFT.get();
    if left == UNLIMITED {
        return;
    }
    let left = left.saturating_sub_unsigned(bytes as u64);
    if left >= 0 {
        LEFT.set(left);
        return;
    }
    // The code that is told needs memory, too.
    LEFT.set(UNLIMITED);
    if let Some(exceeded) = EXCEEDED.get() {
        exceeded(WORK.get());
    }
}

fn give_back(bytes: usize) {
    let left = LEFT.get();
    if left != UNLIMITED {
        // What was there before the work is not its to use.
        LEFT.set(left.saturating_add_unsigned(bytes as u64).min(LIMIT.get()));
    }
}

// SAFETY: every call is handed to the system's allocator as it came; beside that only numbers of this thread change,
// which needs no memory (they are constants at first, and nothing is dropped).
unsafe impl GlobalAlloc for Ration {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        give_back(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_bytes: usize) -> *mut u8 {
        take(new_bytes);
        give_back(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, new_bytes) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[global_allocator]
    static ALLOCATOR: Ration = Ration;

    #[test]
    fn work_is_told_of_when_it_holds_too_much_and_may_take_much_in_turn() {
        static TOLD: AtomicU64 = AtomicU64::new(0);
        on_exceeded(|work| TOLD.store(work, Ordering::SeqCst));
        within(1 << 20, 7, &mut || {
            for _ in 0..100 {
                std::hint::black_box(vec![1_u8; 100_000]);
            }
        });
        assert_eq!(TOLD.load(Ordering::SeqCst), 0, "what was given back may be taken again");
        within(1 << 20, 8, &mut || {
            let mut text = "a".repeat(16);
            for _ in 0..20 {
                text = text.clone() + &text;
            }
            std::hint::black_box(text);
        });
        assert_eq!(TOLD.load(Ordering::SeqCst), 8);
        std::hint::black_box(vec![1_u8; 4 << 20]);
        assert_eq!(TOLD.load(Ordering::SeqCst), 8, "other work is not counted");
    }
}
