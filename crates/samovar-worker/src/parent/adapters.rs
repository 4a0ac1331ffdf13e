//! Adapters for workers: a worker's sandbox lets it open the model alone, so an adapter's bytes are handed to it in
//! memory, sealed, and shared by all workers that use it.

use std::collections::{HashMap, HashSet};
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use samovar_core::generation::Adapter;
use samovar_core::{ErrorKind, Failure};

use super::lock;
use super::pending_calls::PendingCalls;
use crate::protocol::Command;

/// Bytes of an adapter at most.
const MAX_ADAPTER_BYTES: u64 = 4 << 30;
/// Adapters that one worker has at a time: each takes it a descriptor, of which it has 256.
const MAX_SENT: usize = 128;

/// A file as it was at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Stamp {
    path: PathBuf,
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

/// An adapter's bytes, which cannot be changed any more.
#[derive(Debug)]
struct Sealed {
    number: u64,
    bytes: u64,
    memory: OwnedFd,
}

/// The adapters that any worker uses.
#[derive(Debug, Default)]
pub(super) struct Adapters {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    last_number: u64,
    sealed: HashMap<Stamp, Weak<Sealed>>,
}

/// The adapters that one worker has.
#[derive(Debug, Default)]
pub(super) struct Sent {
    inner: Mutex<SentInner>,
}

#[derive(Debug, Default)]
struct SentInner {
    /// The longest unused first.
    kept: Vec<Arc<Sealed>>,
}

impl Adapters {
    /// The adapter's bytes, read now if no worker uses it yet.
    fn open(&self, path: &Path) -> Result<Arc<Sealed>, Failure> {
        let unread = |error| unread(path, &error);
        // What is no file may keep the thread that opens it waiting for ever.
        if !path.metadata().map_err(unread)?.is_file() {
            return Err(unread(std::io::Error::other("it is no file")));
        }
        let mut file = File::options().read(true).open(path).map_err(unread)?;
        let stamp = file.metadata().map(|facts| Stamp::of(path, &facts)).map_err(unread)?;
        if stamp.bytes > MAX_ADAPTER_BYTES {
            return Err(Failure::new(
                ErrorKind::InvalidModel,
                format!("the adapter {} has more than {MAX_ADAPTER_BYTES} bytes", path.display()),
            )
            .with_hint("an adapter of so many bytes is most likely a whole model"));
        }
        if let Some(sealed) = self.known(&stamp) {
            return Ok(sealed);
        }
        let memory = seal(&mut file).map_err(unread)?;
        let mut inner = lock(&self.inner);
        inner.last_number += 1;
        let sealed = Arc::new(Sealed { number: inner.last_number, bytes: stamp.bytes, memory });
        inner.sealed.retain(|_, sealed| sealed.strong_count() > 0);
        inner.sealed.insert(stamp, Arc::downgrade(&sealed));
        Ok(sealed)
    }

    fn known(&self, stamp: &Stamp) -> Option<Arc<Sealed>> {
        lock(&self.inner).sealed.get(stamp)?.upgrade()
    }

    fn number_of(&self, path: &Path) -> Option<u64> {
        Some(self.known(&Stamp::of(path, &path.metadata().ok()?))?.number)
    }
}

impl Sent {
    /// Whether the worker has all of these, as they are now.
    pub(super) fn has_all(&self, adapters: &Adapters, wanted: &[Adapter]) -> bool {
        wanted.iter().all(|adapter| {
            let number = adapters.number_of(&adapter.path);
            number.is_some_and(|number| lock(&self.inner).place_of(number).is_some())
        })
    }

    /// Bytes of all that the worker has.
    pub(super) fn bytes(&self) -> u64 {
        lock(&self.inner).kept.iter().map(|sealed| sealed.bytes).sum()
    }

    /// Sends those that the worker does not have by `tell`, and returns the numbers of all, which the request `id` on the
    /// pending calls name from now on. Where that is more than the worker can have, it forgets those that were not used for the
    /// longest time.
    ///
    /// # Errors
    /// `Busy` when too many of them are being used; whatever keeps a file from being read.
    pub(super) fn send_missing(
        &self,
        adapters: &Adapters,
        wanted: &[Adapter],
        (pending_calls, id): (&PendingCalls, u64),
        tell: impl Fn(Command, Vec<OwnedFd>) -> Result<(), Failure>,
    ) -> Result<Vec<u64>, Failure> {
        let sealed = wanted.iter().map(|adapter| adapters.open(&adapter.path));
        let sealed: Vec<_> = sealed.collect::<Result<_, _>>()?;
        if sealed.len() > MAX_SENT {
            let message = format!("{} adapters in one request are more than {MAX_SENT}", sealed.len());
            return Err(Failure::new(ErrorKind::InvalidRequest, message).with_hint("name fewer"));
        }
        let numbers: Vec<u64> = sealed.iter().map(|sealed| sealed.number).collect();
        // Held while they are sent: a request that finds a number here may name it.
        let mut inner = lock(&self.inner);
        pending_calls.name_adapters(id, &numbers);
        let new: HashSet<u64> =
            numbers.iter().copied().filter(|number| inner.place_of(*number).is_none()).collect();
        let surplus = (inner.kept.len() + new.len()).saturating_sub(MAX_SENT);
        if surplus > 0 {
            inner.forget(surplus, &numbers, pending_calls, &tell)?;
        }
        for sealed in &sealed {
            inner.send(sealed, &tell)?;
        }
        Ok(numbers)
    }
}

impl SentInner {
    fn place_of(&self, number: u64) -> Option<usize> {
        self.kept.iter().position(|sealed| sealed.number == number)
    }

    /// Has so many forgotten that no request names.
    fn forget(
        &mut self,
        surplus: usize,
        wanted: &[u64],
        pending_calls: &PendingCalls,
        tell: &impl Fn(Command, Vec<OwnedFd>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut named = pending_calls.named_adapters();
        named.extend(wanted);
        let idle = self.kept.iter().map(|sealed| sealed.number).filter(|number| !named.contains(number));
        let numbers: Vec<u64> = idle.take(surplus).collect();
        if numbers.len() < surplus {
            return Err(full());
        }
        self.kept.retain(|sealed| !numbers.contains(&sealed.number));
        tell(Command::ForgetAdapters { numbers }, Vec::new())
    }

    fn send(
        &mut self,
        sealed: &Arc<Sealed>,
        tell: &impl Fn(Command, Vec<OwnedFd>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if let Some(place) = self.place_of(sealed.number) {
            self.kept[place..].rotate_left(1);
            return Ok(());
        }
        let memory = sealed.memory.try_clone().map_err(|error| {
            Failure::new(ErrorKind::Storage, format!("an adapter could not be handed on: {error}"))
                .with_hint("the daemon may be out of descriptors (ulimit -n)")
        })?;
        tell(Command::Adapter { number: sealed.number }, vec![memory])?;
        self.kept.push(Arc::clone(sealed));
        Ok(())
    }
}

fn full() -> Failure {
    Failure::new(
        ErrorKind::Busy,
        format!("requests are using {MAX_SENT} adapters of this instance, and it can have no more"),
    )
    .with_hint("it takes another one as soon as one of those requests has ended: ask again in a moment")
}

impl Stamp {
    fn of(path: &Path, facts: &Metadata) -> Self {
        Self {
            path: path.to_owned(),
            device: facts.dev(),
            inode: facts.ino(),
            bytes: facts.len(),
            modified: (facts.mtime(), facts.mtime_nsec()),
        }
    }
}

fn unread(path: &Path, error: &std::io::Error) -> Failure {
    let (kind, hint) = match error.kind() {
        std::io::ErrorKind::NotFound => {
            (ErrorKind::NotFound, "check the path: it is of the machine that the daemon runs on")
        }
        _ => (
            ErrorKind::Storage,
            "the daemon's user must be able to read the file, and memory must have room for a copy",
        ),
    };
    Failure::new(kind, format!("the adapter {}: {error}", path.display())).with_hint(hint)
}

/// Copies a file into memory that cannot change.
fn seal(file: &mut File) -> std::io::Result<OwnedFd> {
    let memory = memfd_create("samovar-adapter", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut copy = File::from(memory);
    std::io::copy(&mut file.take(MAX_ADAPTER_BYTES), &mut copy)?;
    let memory = OwnedFd::from(copy);
    fcntl_add_seals(&memory, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(memory)
}

#[cfg(test)]
mod tests {
    use samovar_core::generation::Generation;

    use super::*;

    fn adapter(path: &Path) -> Adapter {
        Adapter { path: path.to_owned(), scale: 1.0 }
    }

    #[test]
    fn an_adapter_is_sent_once_and_again_when_its_file_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.gguf");
        fs_err::write(&path, b"first").unwrap();
        let (adapters, sent) = (Adapters::default(), Sent::default());
        let (wanted, pending_calls) = ([adapter(&path)], PendingCalls::new());
        let seen = Mutex::new(Vec::new());
        let send = |command, mut files: Vec<OwnedFd>| {
            let Command::Adapter { number } = command else { panic!("{command:?}") };
            let memory = files.pop().unwrap();
            let mut text = Vec::new();
            let memory = File::from(memory);
            std::os::unix::fs::FileExt::read_at(&memory, &mut [0; 1], 0).unwrap();
            let length = memory.metadata().unwrap().len();
            text.resize(length as usize, 0);
            std::os::unix::fs::FileExt::read_exact_at(&memory, &mut text, 0).unwrap();
            assert!(std::os::unix::fs::FileExt::write_at(&memory, b"x", 0).is_err(), "it is sealed");
            lock(&seen).push((number, text));
            Ok(())
        };
        assert!(!sent.has_all(&adapters, &wanted));
        assert_eq!(sent.send_missing(&adapters, &wanted, (&pending_calls, 0), send).unwrap(), [1]);
        assert!(sent.has_all(&adapters, &wanted));
        assert_eq!(sent.bytes(), 5);
        assert_eq!(sent.send_missing(&adapters, &wanted, (&pending_calls, 0), send).unwrap(), [1]);
        fs_err::write(&path, b"second").unwrap();
        assert!(!sent.has_all(&adapters, &wanted));
        assert_eq!(sent.send_missing(&adapters, &wanted, (&pending_calls, 0), send).unwrap(), [2]);
        assert_eq!(*lock(&seen), [(1, b"first".to_vec()), (2, b"second".to_vec())]);
    }

    #[test]
    fn what_is_no_file_keeps_nobody_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let (adapters, sent) = (Adapters::default(), Sent::default());
        let wanted = [adapter(&path)];
        assert!(!sent.has_all(&adapters, &wanted));
        let failure =
            sent.send_missing(&adapters, &wanted, (&PendingCalls::new(), 0), |_, _| Ok(())).unwrap_err();
        assert!(failure.message.contains("no file") && failure.hint.is_some(), "{failure:?}");
    }

    #[test]
    fn an_adapter_that_is_not_there_is_named() {
        let (adapters, sent) = (Adapters::default(), Sent::default());
        let refused = sent.send_missing(
            &adapters,
            &[adapter(Path::new("/none.gguf"))],
            (&PendingCalls::new(), 0),
            |_, _| Ok(()),
        );
        let failure = refused.unwrap_err();
        assert_eq!(failure.kind, ErrorKind::NotFound);
        assert!(failure.message.contains("/none.gguf") && failure.hint.is_some(), "{failure:?}");
    }

    /// A request that names adapters, as long as its answer is not dropped.
    fn request(pending_calls: &PendingCalls) -> (u64, Generation) {
        let (events, generation) = Generation::channel(1);
        (pending_calls.enter_generation(events).unwrap(), generation)
    }

    #[test]
    fn who_runs_with_one_adapter_keeps_nobody_from_any_number_of_others() {
        let folder = tempfile::tempdir().unwrap();
        let file = |number: usize| {
            let path = folder.path().join(number.to_string());
            fs_err::write(&path, number.to_string()).unwrap();
            [adapter(&path)]
        };
        let (adapters, sent, pending_calls) = (Adapters::default(), Sent::default(), PendingCalls::new());
        let worker = Mutex::new(HashSet::new());
        let tell = |command, _: Vec<OwnedFd>| {
            match command {
                Command::Adapter { number } => assert!(lock(&worker).insert(number)),
                Command::ForgetAdapters { numbers } => {
                    for number in numbers {
                        assert!(lock(&worker).remove(&number));
                    }
                }
                other => panic!("{other:?}"),
            }
            Ok(())
        };
        let (busy, _running) = request(&pending_calls);
        let [first] = sent.send_missing(&adapters, &file(0), (&pending_calls, busy), tell).unwrap()[..]
        else {
            panic!("one adapter has one number");
        };
        for number in 1..3 * MAX_SENT {
            let (id, _answer) = request(&pending_calls);
            let numbers = sent.send_missing(&adapters, &file(number), (&pending_calls, id), tell).unwrap();
            let worker = lock(&worker);
            assert!(worker.contains(&first) && worker.contains(&numbers[0]), "{number}");
            assert!(worker.len() <= MAX_SENT);
            drop(worker);
            pending_calls.remove(id);
        }
    }

    #[test]
    fn only_when_every_adapter_is_being_used_is_another_one_told_to_wait() {
        let folder = tempfile::tempdir().unwrap();
        let path = |number: usize| folder.path().join(number.to_string());
        for number in 0..=MAX_SENT {
            fs_err::write(path(number), number.to_string()).unwrap();
        }
        let (adapters, sent, pending_calls) = (Adapters::default(), Sent::default(), PendingCalls::new());
        let all: Vec<_> = (0..MAX_SENT).map(|number| adapter(&path(number))).collect();
        let (busy, _running) = request(&pending_calls);
        sent.send_missing(&adapters, &all, (&pending_calls, busy), |_, _| Ok(())).unwrap();
        let (other, _waiting) = request(&pending_calls);
        let wanted = [adapter(&path(MAX_SENT))];
        let send = || sent.send_missing(&adapters, &wanted, (&pending_calls, other), |_, _| Ok(()));
        assert_eq!(send().unwrap_err().kind, ErrorKind::Busy);
        pending_calls.remove(busy);
        send().unwrap();
    }
}
