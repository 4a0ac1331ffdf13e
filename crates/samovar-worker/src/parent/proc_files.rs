//! What the kernel says of a worker, by files that were opened before the worker was closed to inspection.
//!
//! A process whose number was given to another one is no danger: these files are of the process that they were opened for,
//! and are empty once it is gone.

use fs_err::File;
use fs_err::os::unix::fs::FileExt;

/// What the kernel tells fits into this many bytes.
const MOST_BYTES: usize = 64 << 10;
/// Of the kernel's account of processor time, on every processor that Linux runs on but one of long ago.
const TICKS_PER_SECOND: u64 = 100;

/// What the kernel counts about one process.
#[derive(Debug)]
pub(super) struct ProcFiles {
    status: File,
    times: File,
}

/// What a look at them found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Account {
    /// Memory that no file on disk backs, private or shared, in memory or swapped out.
    pub(super) own_bytes: u64,
    /// What the kernel itself needs to know where its memory lies. Pages that are only looked at take none, but this.
    pub(super) page_table_bytes: u64,
    /// Private memory that it could write to, touched or not.
    pub(super) writable_bytes: u64,
    /// Threads.
    pub(super) threads: u64,
}

impl ProcFiles {
    /// Those of a process that lives.
    pub(super) fn open(pid: u32) -> std::io::Result<Self> {
        Ok(Self {
            status: File::open(format!("/proc/{pid}/status"))?,
            times: File::open(format!("/proc/{pid}/stat"))?,
        })
    }

    /// What it holds; nothing when the process is gone.
    pub(super) fn account(&self) -> Option<Account> {
        account(&text(&self.status)?)
    }

    /// Processor time of all its threads, those that have ended among them; nothing when the process is gone.
    pub(super) fn processor_ms(&self) -> Option<u64> {
        processor_ticks(&text(&self.times)?).map(|ticks| ticks * 1000 / TICKS_PER_SECOND)
    }
}

/// The file from its beginning: the kernel writes it anew.
fn text(file: &File) -> Option<String> {
    let mut bytes = vec![0; MOST_BYTES];
    let read = file.read_at(&mut bytes, 0).ok()?;
    bytes.truncate(read);
    String::from_utf8(bytes).ok()
}

fn account(status: &str) -> Option<Account> {
    let number = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().trim_end_matches(" kB").parse().ok()
    };
    let bytes = |name: &str| number(name).map(|kilobytes| kilobytes << 10);
    let swapped = bytes("VmSwap:").unwrap_or(0);
    Some(Account {
        own_bytes: bytes("RssAnon:")? + bytes("RssShmem:").unwrap_or(0) + swapped,
        page_table_bytes: bytes("VmPTE:").unwrap_or(0),
        writable_bytes: bytes("VmData:").unwrap_or(0),
        threads: number("Threads:")?,
    })
}

/// For programs and for the kernel. The name before may hold anything, also brackets.
fn processor_ticks(stat: &str) -> Option<u64> {
    const FIRST: usize = 11;
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(FIRST).map(str::parse::<u64>);
    Some(fields.next()?.ok()? + fields.next()?.ok()?)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    fn own() -> Account {
        ProcFiles::open(std::process::id()).unwrap().account().unwrap()
    }

    #[test]
    fn private_memory_is_counted_and_so_is_memory_that_others_could_share() {
        let before = own();
        // Else the compiler sees that it is not looked at, and there is none.
        let more = std::hint::black_box(vec![1_u8; 64 << 20]);
        let between = own();
        assert!(between.own_bytes >= before.own_bytes + (32 << 20), "{before:?} {between:?} {}", more.len());
        assert!(between.writable_bytes >= between.own_bytes);
        let file = rustix::fs::memfd_create("shared", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&file, 64 << 20).unwrap();
        // In memory of others, as a process does that wants to hide it.
        let shared = Shared::of(&file, 64 << 20);
        let after = own();
        assert!(after.own_bytes >= between.own_bytes + (48 << 20), "{between:?} {after:?}");
        drop((more, shared));
    }

    /// A file in memory, mapped and written to.
    struct Shared {
        address: *mut u8,
        length: usize,
    }

    #[allow(unsafe_code, reason = "memory is mapped as a worker might")]
    impl Shared {
        fn of(file: &impl std::os::fd::AsFd, length: usize) -> Self {
            use rustix::mm::{MapFlags, ProtFlags, mmap};
            // SAFETY: a new mapping where the kernel finds room, as long as the file.
            unsafe {
                let at = mmap(
                    std::ptr::null_mut(),
                    length,
                    ProtFlags::READ | ProtFlags::WRITE,
                    MapFlags::SHARED,
                    file,
                    0,
                );
                let address = at.unwrap().cast::<u8>();
                std::ptr::write_bytes(address, 1, length);
                Self { address, length }
            }
        }
    }

    #[allow(unsafe_code, reason = "what was mapped above")]
    impl Drop for Shared {
        fn drop(&mut self) {
            // SAFETY: this mapping and nothing else, and there is no reference into it.
            unsafe { rustix::mm::munmap(self.address.cast(), self.length) }.ok();
        }
    }

    #[test]
    fn each_figure_is_read_from_its_own_line() {
        let status = "Name:\tRssAnon: 9 kB\nVmData:\t 5000 kB\nVmStk:\t 132 kB\nRssAnon:\t 300 kB\nRssFile:\t 7 kB\n\
                      RssShmem:\t 20 kB\nVmPTE:\t 84 kB\nVmSwap:\t 4 kB\nThreads:\t17\n";
        let read = Account {
            own_bytes: 324 << 10,
            page_table_bytes: 84 << 10,
            writable_bytes: 5000 << 10,
            threads: 17,
        };
        assert_eq!(account(status), Some(read));
        // Older kernels and those without swap leave lines out; what a decision rests on may not be missing.
        assert_eq!(
            account("RssAnon:\t 300 kB\nThreads:\t1\n"),
            Some(Account { own_bytes: 300 << 10, threads: 1, ..Account::default() })
        );
        for lacking in ["", "Threads:\t1\n", "RssAnon:\t 300 kB\n", "RssAnon:\tmany\nThreads:\t1\n"] {
            assert_eq!(account(lacking), None, "{lacking:?}");
        }
    }

    #[test]
    fn of_a_process_that_has_gone_nothing_is_told() {
        let mut child =
            std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let proc_files = ProcFiles::open(child.id()).unwrap();
        assert!(proc_files.account().is_some() && proc_files.processor_ms().is_some());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!((proc_files.account(), proc_files.processor_ms()), (None, None));
    }

    #[test]
    fn threads_and_processor_time_are_counted() {
        let proc_files = ProcFiles::open(std::process::id()).unwrap();
        let (leave, stay) = std::sync::mpsc::sync_channel::<()>(0);
        let stay = Arc::new(Mutex::new(stay));
        let threads: Vec<_> = (0..64)
            .map(|_| {
                let stay = Arc::clone(&stay);
                std::thread::spawn(move || stay.lock().unwrap().recv().is_err())
            })
            .collect();
        assert!(own().threads > 64, "{:?}", own());
        drop(leave);
        assert!(threads.into_iter().all(|thread| thread.join().unwrap()));
        let start = proc_files.processor_ms().unwrap();
        let mut sum = 0_u64;
        while proc_files.processor_ms().unwrap() < start + 30 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
    }

    #[test]
    fn a_name_with_brackets_confuses_nobody() {
        let stat = "7 (a) R (b) S 1 2 3 4 5 6 7 8 9 10 200 34 0 0";
        assert_eq!(processor_ticks(stat), Some(234));
        for lacking in ["", "7 (a)", "7 (a) R 1 2 3 4 5 6 7 8 9 10 200", "7 (a) R 1 2 3 4 5 6 7 8 9 10 x y"] {
            assert_eq!(processor_ticks(lacking), None, "{lacking:?}");
        }
    }
}
