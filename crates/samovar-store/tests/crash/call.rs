//! Which system calls change what is on disk, and what they change.
//!
//! Numbers and registers are those of x86-64.

use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use fs_err::File;
use nix::libc::{self, user_regs_struct as Registers};

/// The longest path that the kernel takes.
const PATH_BYTES: u64 = 4096;
const PAGE_BYTES: u64 = 4096;

/// A system call that changes what lies below the watched directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) name: &'static str,
    /// What it changes, below the watched directory.
    pub(crate) path: PathBuf,
    /// Bytes of a plain write, which may also be cut in half.
    pub(crate) bytes: Option<u64>,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.path.display())
    }
}

/// What a call works on.
enum Target {
    /// An open file.
    Descriptor(u64),
    /// A path at this address, from the working directory.
    Path(u64),
    /// A path at this address, from an open directory.
    At(u64, u64),
}

/// The call that a stopped thread is about to make, when it changes something below `watched`.
pub(crate) fn of(thread: i32, registers: &Registers, watched: &Path) -> Option<Call> {
    let (name, target) = changing(thread, registers)?;
    let path = match target {
        Target::Descriptor(number) => descriptor(thread, number)?,
        Target::Path(address) => from(&working_directory(thread)?, text(thread, address)?),
        Target::At(number, address) if number as i32 == libc::AT_FDCWD => {
            from(&working_directory(thread)?, text(thread, address)?)
        }
        Target::At(number, address) => from(&descriptor(thread, number)?, text(thread, address)?),
    };
    let path = path.strip_prefix(watched).ok()?.to_path_buf();
    let is_plain_write = matches!(name, "write" | "pwrite64");
    Some(Call { name, path, bytes: is_plain_write.then_some(registers.rdx) })
}

fn changing(thread: i32, registers: &Registers) -> Option<(&'static str, Target)> {
    use Target::{At, Descriptor, Path};
    let (a, b, c, d) = (registers.rdi, registers.rsi, registers.rdx, registers.r10);
    Some(match registers.orig_rax.cast_signed() {
        libc::SYS_write => ("write", Descriptor(a)),
        libc::SYS_pwrite64 => ("pwrite64", Descriptor(a)),
        libc::SYS_writev => ("writev", Descriptor(a)),
        libc::SYS_pwritev => ("pwritev", Descriptor(a)),
        libc::SYS_pwritev2 => ("pwritev2", Descriptor(a)),
        libc::SYS_copy_file_range => ("copy_file_range", Descriptor(c)),
        libc::SYS_sendfile => ("sendfile", Descriptor(a)),
        libc::SYS_fallocate => ("fallocate", Descriptor(a)),
        libc::SYS_ftruncate => ("ftruncate", Descriptor(a)),
        libc::SYS_truncate => ("truncate", Path(a)),
        libc::SYS_fsync => ("fsync", Descriptor(a)),
        libc::SYS_fdatasync => ("fdatasync", Descriptor(a)),
        libc::SYS_sync_file_range => ("sync_file_range", Descriptor(a)),
        libc::SYS_flock => ("flock", Descriptor(a)),
        libc::SYS_open if makes(b) => ("open", Path(a)),
        libc::SYS_openat if makes(c) => ("openat", At(a, b)),
        libc::SYS_openat2 if makes(number(thread, c)?) => ("openat2", At(a, b)),
        libc::SYS_creat => ("creat", Path(a)),
        libc::SYS_rename => ("rename", Path(b)),
        libc::SYS_renameat => ("renameat", At(c, d)),
        libc::SYS_renameat2 => ("renameat2", At(c, d)),
        libc::SYS_link => ("link", Path(b)),
        libc::SYS_linkat => ("linkat", At(c, d)),
        libc::SYS_symlink => ("symlink", Path(b)),
        libc::SYS_symlinkat => ("symlinkat", At(b, c)),
        libc::SYS_unlink => ("unlink", Path(a)),
        libc::SYS_unlinkat => ("unlinkat", At(a, b)),
        libc::SYS_mkdir => ("mkdir", Path(a)),
        libc::SYS_mkdirat => ("mkdirat", At(a, b)),
        libc::SYS_rmdir => ("rmdir", Path(a)),
        libc::SYS_chmod => ("chmod", Path(a)),
        libc::SYS_fchmod => ("fchmod", Descriptor(a)),
        libc::SYS_fchmodat | libc::SYS_fchmodat2 => ("fchmodat", At(a, b)),
        libc::SYS_utimensat => ("utimensat", At(a, b)),
        _ => return None,
    })
}

/// Whether an open with these flags may make or empty a file.
fn makes(flags: u64) -> bool {
    flags & (libc::O_CREAT | libc::O_TRUNC) as u64 != 0
}

fn descriptor(thread: i32, number: u64) -> Option<PathBuf> {
    fs_err::read_link(format!("/proc/{thread}/fd/{}", number as i32)).ok()
}

fn working_directory(thread: i32) -> Option<PathBuf> {
    fs_err::read_link(format!("/proc/{thread}/cwd")).ok()
}

fn from(directory: &Path, path: PathBuf) -> PathBuf {
    // An absolute path replaces the directory.
    directory.join(path)
}

fn memory(thread: i32) -> Option<File> {
    File::open(format!("/proc/{thread}/mem")).ok()
}

/// The text that ends with NUL at an address.
fn text(thread: i32, address: u64) -> Option<PathBuf> {
    let memory = memory(thread)?;
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < PATH_BYTES {
        let at = address + bytes.len() as u64;
        // Never across a page: the next one may not be there.
        let mut piece = vec![0; (PAGE_BYTES - at % PAGE_BYTES) as usize];
        memory.file().read_exact_at(&mut piece, at).ok()?;
        if let Some(end) = piece.iter().position(|byte| *byte == 0) {
            bytes.extend(&piece[..end]);
            return Some(PathBuf::from(std::ffi::OsStr::from_bytes(&bytes)));
        }
        bytes.extend(piece);
    }
    None
}

fn number(thread: i32, address: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    memory(thread)?.file().read_exact_at(&mut bytes, address).ok()?;
    Some(u64::from_ne_bytes(bytes))
}
