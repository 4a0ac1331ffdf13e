//! What a process could have changed that is not its own: files, other processes, and what the system keeps for users.

#![allow(unsafe_code, reason = "a class of input and output has no safe interface")]

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::sweep::{PROGRAM, Targets};

/// Facts by name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outside(BTreeMap<String, String>);

impl Outside {
    /// As it is now.
    pub(crate) fn look(targets: &Targets) -> Self {
        let mut facts = BTreeMap::new();
        let folder = targets.free.parent().expect("a name in a folder");
        for entry in fs_err::read_dir(folder).expect("it is there") {
            let path = entry.expect("an entry").path();
            facts.insert(format!("file {}", path.display()), file(&path));
        }
        facts.insert(format!("folder {}", folder.display()), folder_facts(folder));
        for pid in [targets.victim, targets.mortal, std::process::id().cast_signed()] {
            facts.insert(format!("process {pid}"), process(pid));
        }
        for kind in ["shm", "msg", "sem"] {
            facts.insert(format!("shared {kind}"), shared(kind, targets.key));
        }
        facts.insert("queues".to_owned(), queues(targets.key));
        facts.insert("mounts".to_owned(), mounts(folder));
        facts.insert("name of the machine".to_owned(), text("/proc/sys/kernel/hostname"));
        Self(facts)
    }

    /// What is different, in words.
    pub(crate) fn changes(&self, after: &Self) -> Vec<String> {
        let names: std::collections::BTreeSet<_> = self.0.keys().chain(after.0.keys()).collect();
        let changed = names.into_iter().filter(|name| self.0.get(*name) != after.0.get(*name));
        changed.map(|name| format!("{name}: {:?} -> {:?}", self.0.get(name), after.0.get(name))).collect()
    }
}

fn text(path: &str) -> String {
    fs_err::read_to_string(path).unwrap_or_default()
}

/// Of the places that the attempts name: others may mount what they like meanwhile.
fn mounts(folder: &Path) -> String {
    let places = [folder, Path::new(PROGRAM)].map(|path| fs_err::canonicalize(path).expect("it is there"));
    let is_named = |line: &&str| {
        let point = line.split(' ').nth(4).map(Path::new);
        point.is_some_and(|point| places.iter().any(|place| point.starts_with(place)))
    };
    text("/proc/self/mountinfo").lines().filter(is_named).collect::<Vec<_>>().join("\n")
}

fn folder_facts(path: &Path) -> String {
    let facts = fs_err::metadata(path).expect("it is there");
    format!("{:o} {}:{}", facts.mode(), facts.uid(), facts.gid())
}

fn file(path: &Path) -> String {
    let facts = fs_err::symlink_metadata(path).expect("it is there");
    let content = if facts.is_file() { fs_err::read(path).unwrap_or_default() } else { Vec::new() };
    format!(
        "{:o} {}:{} {} links, changed {}.{}, {:?} {:?}",
        facts.mode(),
        facts.uid(),
        facts.gid(),
        facts.nlink(),
        // Whatever is changed about a file changes this: attributes and flags as well.
        facts.ctime(),
        facts.ctime_nsec(),
        String::from_utf8_lossy(&content),
        attributes(path),
    )
}

fn attributes(path: &Path) -> String {
    let mut names = [0_u8; 1024];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap_or(0);
    String::from_utf8_lossy(&names[..length]).into_owned()
}

/// What others may have done to it; nothing that changes by itself.
fn process(pid: i32) -> String {
    const IOPRIO_WHO_PROCESS: libc::c_long = 1;
    let Ok(stat) = fs_err::read_to_string(format!("/proc/{pid}/stat")) else { return "gone".to_owned() };
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    // Fields 3, 19, 40 and 41 of proc(5). A process that was killed is a zombie until it is waited for.
    let (state, nice, realtime, policy) = (fields[0], fields[16], fields[37], fields[38]);
    let is_dead = matches!(state, "Z" | "X");
    let status = text(&format!("/proc/{pid}/status"));
    let line = |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    // SAFETY: asks about a process.
    let class = unsafe { libc::syscall(libc::SYS_ioprio_get, IOPRIO_WHO_PROCESS, pid) };
    format!(
        "dead {is_dead}, nice {nice}, policy {policy} {realtime}, class {class}, {} {} {} {} oom {} limits {}",
        line("Cpus_allowed:"),
        line("Mems_allowed:"),
        line("SigPnd:"),
        line("TracerPid:"),
        text(&format!("/proc/{pid}/oom_score_adj")).trim(),
        text(&format!("/proc/{pid}/limits")),
    )
}

/// Of those with this key: other tests have others.
fn shared(kind: &str, key: i32) -> String {
    let table = text(&format!("/proc/sysvipc/{kind}"));
    let own = table.lines().filter(|line| line.split_whitespace().next() == Some(&key.to_string()));
    own.collect::<Vec<_>>().join("\n")
}

fn queues(key: i32) -> String {
    let name = format!("samovar-test-{key}");
    Path::new("/dev/mqueue").join(name).exists().to_string()
}

/// Removes what would outlive the test.
pub(crate) fn clear(key: i32) {
    // SAFETY: removes what has this key, which is of the test that calls this.
    unsafe {
        let segment = libc::shmget(key, 0, 0);
        if segment >= 0 {
            libc::shmctl(segment, libc::IPC_RMID, std::ptr::null_mut());
        }
        let queue = libc::msgget(key, 0);
        if queue >= 0 {
            libc::msgctl(queue, libc::IPC_RMID, std::ptr::null_mut());
        }
        let semaphores = libc::semget(key, 0, 0);
        if semaphores >= 0 {
            libc::semctl(semaphores, 0, libc::IPC_RMID);
        }
        let name = std::ffi::CString::new(format!("/samovar-test-{key}")).expect("no zero in it");
        libc::mq_unlink(name.as_ptr());
    }
}
