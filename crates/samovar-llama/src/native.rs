//! Native calls that the safe binding does not offer, but for contexts, which have a file of their own.
//!
//! `llama-cpp-2` cannot turn the extra buffer types (repacking) off, and its progress callback must be
//! `'static`. So the model is loaded through `llama-cpp-sys-2` and handed to the safe binding at once,
//! which frees it and reads its vocabulary.
#![allow(unsafe_code, reason = "the safe binding cannot choose how weights are loaded")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fs::File;
use std::mem;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;
use samovar_core::ModelFiles;

use crate::log;

/// The process-wide native backend, made on first use.
pub(crate) fn backend() -> &'static LlamaBackend {
    static BACKEND: OnceLock<LlamaBackend> = OnceLock::new();
    BACKEND.get_or_init(|| {
        log::install();
        LlamaBackend::init().expect("invariant: no other code in this process initializes llama.cpp")
    })
}

/// The right to make a context. llama.cpp may change the model while it makes one, and its one-time
/// initializations are not all guarded: one at a time in the whole process.
pub(crate) fn context_gate() -> MutexGuard<'static, ()> {
    static GATE: Mutex<()> = Mutex::new(());
    GATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How the weights are brought into memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WeightOptions {
    /// Copy weights into the layout that this CPU's kernels like best.
    pub is_repacked: bool,
    /// Keep the mapped weights from being paged out.
    pub is_locked: bool,
}

/// Where a model is read from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ModelInput<'a> {
    /// The model's files with weights, in their order.
    Files(&'a ModelFiles),
    /// A model in the one file of this name.
    Path(&'a Path),
    /// This very file.
    File(&'a File),
}

/// Loads a model. `progress` is told the part done (0..=1) and answers whether to go on. `None` when
/// llama.cpp refused or was told to stop; the log says why.
pub(crate) fn load_model<F: FnMut(f32) -> bool>(
    origin: ModelInput<'_>,
    options: WeightOptions,
    mut progress: F,
) -> Option<LlamaModel> {
    unsafe extern "C" fn report<F: FnMut(f32) -> bool>(fraction: f32, progress: *mut c_void) -> bool {
        // SAFETY: `progress` is the closure below, which outlives the load and has no other user.
        let progress = unsafe { &mut *progress.cast::<F>() };
        progress(fraction)
    }

    let mut params = model_params();
    params.load_mode = if options.is_locked {
        llama_cpp_sys_2::LLAMA_LOAD_MODE_MMAP_MLOCK
    } else {
        llama_cpp_sys_2::LLAMA_LOAD_MODE_MMAP
    };
    params.use_extra_bufts = options.is_repacked;
    params.progress_callback = Some(report::<F>);
    params.progress_callback_user_data = (&raw mut progress).cast::<c_void>();
    match origin {
        ModelInput::Files(files) if files.weights().count() > 1 => {
            let paths = files.weights().map(c_path).collect::<Option<Vec<_>>>()?;
            let mut pointers: Vec<_> = paths.iter().map(|path| path.as_ptr()).collect();
            // SAFETY: the paths are NUL-terminated and live until the call returns, as does the list of them; the
            // parameters are as below.
            unsafe {
                adopt(llama_cpp_sys_2::llama_model_load_from_splits(
                    pointers.as_mut_ptr(),
                    pointers.len(),
                    params,
                ))
            }
        }
        ModelInput::Files(files) => {
            // SAFETY: the parameters are the library's defaults but for plain values and a callback whose closure lives
            // until the call returns.
            unsafe { load_file(files.main(), params) }
        }
        ModelInput::Path(path) => {
            // SAFETY: as above.
            unsafe { load_file(path, params) }
        }
        ModelInput::File(file) => {
            let stream = Stream::of(file)?;
            // SAFETY: as above; the stream lives until the call returns, and what is mapped outlives it.
            unsafe { adopt(llama_cpp_sys_2::llama_model_load_from_file_ptr(stream.0.as_ptr(), params)) }
        }
    }
}

/// # Safety
/// The parameters are the library's defaults but for plain values, and a callback, if there is one, that may be called
/// until this returns.
unsafe fn load_file(path: &Path, params: llama_cpp_sys_2::llama_model_params) -> Option<LlamaModel> {
    let path = c_path(path)?;
    // SAFETY: the path is NUL-terminated; the rest is promised by the caller.
    unsafe { adopt(llama_cpp_sys_2::llama_model_load_from_file(path.as_ptr(), params)) }
}

/// A file as C's standard library reads it.
struct Stream(NonNull<c_void>);

impl Stream {
    /// A stream of its own for an open file, from its beginning.
    fn of(file: &File) -> Option<Self> {
        unsafe extern "C" {
            fn fdopen(descriptor: c_int, mode: *const c_char) -> *mut c_void;
        }
        rustix::fs::seek(file, rustix::fs::SeekFrom::Start(0)).ok()?;
        let descriptor = file.try_clone().ok()?.into_raw_fd();
        // SAFETY: the descriptor is open and ours; the mode is NUL-terminated.
        let stream = NonNull::new(unsafe { fdopen(descriptor, c"rb".as_ptr()) });
        if stream.is_none() {
            // SAFETY: no stream has taken the descriptor over.
            drop(unsafe { OwnedFd::from_raw_fd(descriptor) });
        }
        stream.map(Self)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        unsafe extern "C" {
            fn fclose(stream: *mut c_void) -> c_int;
        }
        // SAFETY: the stream is ours and has no user any more. It was read only: closing cannot lose anything.
        unsafe { fclose(self.0.as_ptr()) };
    }
}

/// The model that a load with packing would make, but without memory for weights: its tensors say where each would
/// lie. It can do nothing else. `None` when llama.cpp refused; the log says why.
pub(crate) fn load_without_weights(path: &Path) -> Option<LlamaModel> {
    let mut params = model_params();
    params.load_mode = llama_cpp_sys_2::LLAMA_LOAD_MODE_NONE;
    params.use_extra_bufts = true;
    params.no_alloc = true;
    // SAFETY: the parameters are the library's defaults but for plain values.
    unsafe { load_file(path, params) }
}

/// A path as llama.cpp takes it. `None` if it has a NUL in it.
pub(crate) fn c_path(path: &Path) -> Option<CString> {
    CString::new(path.as_os_str().as_encoded_bytes()).ok()
}

/// The library's defaults, for the CPU alone.
fn model_params() -> llama_cpp_sys_2::llama_model_params {
    let _ = backend();
    // SAFETY: a pure function.
    let mut params = unsafe { llama_cpp_sys_2::llama_model_default_params() };
    params.n_gpu_layers = 0;
    params
}

/// Hands a model to the safe binding.
///
/// # Safety
/// `model` is null or a model without another owner.
unsafe fn adopt(model: *mut llama_cpp_sys_2::llama_model) -> Option<LlamaModel> {
    // SAFETY: `LlamaModel` is declared `repr(transparent)` over a `repr(transparent)` wrapper of
    // `NonNull<llama_model>` (llama-cpp-2 is pinned exactly; the sizes are compared below), and the
    // pointer is a model without another owner, so the safe binding may free it.
    NonNull::new(model).map(|model| unsafe { mem::transmute::<NonNull<_>, LlamaModel>(model) })
}

/// The native model behind the safe binding.
pub(crate) fn model_ptr(model: &LlamaModel) -> *mut llama_cpp_sys_2::llama_model {
    // SAFETY: as in `load_model`: the binding's type is transparent over this pointer.
    unsafe { mem::transmute_copy::<LlamaModel, NonNull<_>>(model) }.as_ptr()
}

const _: () = assert!(
    size_of::<LlamaModel>() == size_of::<NonNull<llama_cpp_sys_2::llama_model>>()
        && align_of::<LlamaModel>() == align_of::<NonNull<llama_cpp_sys_2::llama_model>>()
);

/// How a model's vocabulary makes tokens of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tokenizer {
    /// Pieces with a byte for whatever has none, as of Llama 2.
    SentencePiece,
    /// Merges of pairs of bytes, as of GPT-2.
    BytePair,
    /// Whole words and their parts, as of BERT.
    WordPiece,
    /// Another.
    Other,
}

/// How a model's vocabulary makes tokens. The safe binding panics on all but two kinds.
pub(crate) fn tokenizer(model: &LlamaModel) -> Tokenizer {
    // SAFETY: the model lives, and its vocabulary with it; the calls read a pointer and a number.
    let kind = unsafe {
        llama_cpp_sys_2::llama_vocab_type(llama_cpp_sys_2::llama_model_get_vocab(model_ptr(model)))
    };
    match kind {
        llama_cpp_sys_2::LLAMA_VOCAB_TYPE_SPM => Tokenizer::SentencePiece,
        llama_cpp_sys_2::LLAMA_VOCAB_TYPE_BPE => Tokenizer::BytePair,
        llama_cpp_sys_2::LLAMA_VOCAB_TYPE_WPM => Tokenizer::WordPiece,
        _ => Tokenizer::Other,
    }
}

/// Tokens that the sliding window of a model's attention holds; 0 = it has none.
pub(crate) fn window_tokens(model: &LlamaModel) -> u32 {
    // SAFETY: the model lives; the call reads a number.
    unsafe { llama_cpp_sys_2::llama_model_n_swa(model_ptr(model)) }.max(0) as u32
}

/// The CPU features that the native code was built with, as it tells them.
pub(crate) fn system_info() -> String {
    let _ = backend();
    let _gate = context_gate();
    // SAFETY: returns a NUL-terminated string that lives as long as the program; it is written anew by
    // each call, which the gate keeps apart.
    unsafe { text(llama_cpp_sys_2::llama_print_system_info()) }
}

/// ggml's version.
pub(crate) fn ggml_version() -> String {
    // SAFETY: returns a string constant.
    unsafe { text(llama_cpp_sys_2::ggml_version()) }
}

/// llama.cpp's version.
pub(crate) fn llama_version() -> String {
    // SAFETY: returns a string constant.
    unsafe { text(llama_cpp_sys_2::llama_version()) }
}

/// Gives whole pages of memory back to the system whose content is not needed any more. What is read there later is zero.
///
/// # Safety
/// The memory is there, private to this process, and it is not used meanwhile.
pub(crate) unsafe fn discard(begin: *mut u8, bytes: usize) {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: a pure function.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(0);
        if page == 0 {
            return;
        }
        let before = begin.align_offset(page);
        let whole = bytes.saturating_sub(before) / page * page;
        if whole > 0 {
            // SAFETY: whole pages of the memory that the caller has promised. If the system refuses, they stay.
            unsafe { libc::madvise(begin.add(before).cast(), whole, libc::MADV_DONTNEED) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (begin, bytes);
}

/// Gives freed memory of this process back to the system: glibc keeps freed blocks of up to 32 MiB for itself once it
/// has seen such blocks freed. Takes some milliseconds where there is much of it.
pub fn give_back_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            fn malloc_trim(pad: usize) -> c_int;
        }
        // SAFETY: a glibc function that any thread may call at any time.
        unsafe { malloc_trim(0) };
    }
}

/// Freed memory that each of glibc's heaps keeps for itself, and from which size on a block has pages of its own.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT_BYTES: c_int = 256 << 10;

/// Has memory given back to the system when it is freed, from now on in this process. For a process that lives long and
/// holds much for moments only: after one large block was freed, glibc keeps up to 64 MiB in each of its heaps, and
/// [`give_back_memory`] does not reach the end of a heap.
pub fn keep_little_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for option in [libc::M_TRIM_THRESHOLD, libc::M_MMAP_THRESHOLD] {
        // SAFETY: a glibc function that takes two numbers. Where it refuses, all stays as it is.
        unsafe { libc::mallopt(option, KEPT_BYTES) };
    }
}

/// # Safety
/// `text` is null or a NUL-terminated string.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: promised by the caller.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
