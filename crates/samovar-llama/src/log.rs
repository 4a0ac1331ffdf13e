//! What the native code says: its log lines become `tracing` events, and the last complaints of a thread
//! are kept for error messages.
//!
//! ```text
//!   llama.cpp ──line──► callback ──┬─► tracing, target "llama.cpp", one level below llama.cpp's own
//!                                  └─► this thread's recorder: complaints, sizes of buffers
//! ```
//!
//! llama.cpp reports failures as a null pointer and a log line, and sizes of its buffers as a log line
//! alone. It logs on the thread that called it, so a recorder per thread never mixes two instances.
#![allow(unsafe_code, reason = "the native log takes a C function")]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ffi::{CStr, c_char, c_void};

/// Complaints kept per thread.
const KEPT_COMPLAINTS: usize = 4;
/// llama.cpp's progress dots and array dumps are no reason to keep more.
const KEPT_CHARS: usize = 300;

/// A buffer that the native code allocated, as it logged it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NativeBuffer {
    /// The backend's name for it: `CPU`, `CPU_Mapped`, `CPU_REPACK`, `AMX`.
    pub place: String,
    /// `model`, `KV`, `compute`, `output`, `RS`.
    pub purpose: String,
    /// Its size, rounded by the log to a hundredth of a MiB.
    pub bytes: u64,
}

#[derive(Default)]
struct Recorder {
    complaints: VecDeque<String>,
    buffers: Vec<NativeBuffer>,
}

thread_local! {
    static RECORDER: RefCell<Recorder> = RefCell::default();
}

/// Directs the native log here. Called once, before anything else of the native code.
pub(crate) fn install() {
    // SAFETY: `receive` has the signature that llama.cpp asks for, lives as long as the program, touches
    // only thread-local state and takes no user data.
    unsafe { llama_cpp_sys_2::llama_log_set(Some(receive), std::ptr::null_mut()) };
}

/// What this thread's native calls complained about since the last call of this; a fixed sentence if
/// they said nothing.
pub(crate) fn take_complaints() -> String {
    let complaints = RECORDER.with_borrow_mut(|recorder| std::mem::take(&mut recorder.complaints));
    if complaints.is_empty() {
        return "it gave no reason".to_owned();
    }
    complaints.into_iter().collect::<Vec<_>>().join("; ")
}

/// Buffers that this thread's native calls allocated since the last call of this.
pub(crate) fn take_buffers() -> Vec<NativeBuffer> {
    RECORDER.with_borrow_mut(|recorder| std::mem::take(&mut recorder.buffers))
}

unsafe extern "C" fn receive(level: llama_cpp_sys_2::ggml_log_level, text: *const c_char, _: *mut c_void) {
    if text.is_null() {
        return;
    }
    // SAFETY: llama.cpp passes a NUL-terminated string that outlives this call.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    let line = text.trim();
    if line.is_empty() || line.chars().all(|c| c == '.') {
        return;
    }
    match level {
        llama_cpp_sys_2::GGML_LOG_LEVEL_ERROR if tells_of_a_stop(line) => {
            // The last of three lines about the same.
            if line.ends_with(STOPPED) {
                tracing::debug!(target: "llama.cpp", "a step was stopped: its requests were cancelled");
            }
        }
        llama_cpp_sys_2::GGML_LOG_LEVEL_ERROR => {
            complain(line);
            tracing::warn!(target: "llama.cpp", "{line}");
        }
        llama_cpp_sys_2::GGML_LOG_LEVEL_WARN => tracing::info!(target: "llama.cpp", "{line}"),
        llama_cpp_sys_2::GGML_LOG_LEVEL_INFO => {
            if let Some(buffer) = read_buffer(line) {
                // A thread that is ending has no recorder any more; its lines would have no reader.
                let _ = RECORDER.try_with(|recorder| recorder.borrow_mut().buffers.push(buffer));
            }
            tracing::debug!(target: "llama.cpp", "{line}");
        }
        _ => tracing::trace!(target: "llama.cpp", "{line}"),
    }
}

/// The outcome of a step that was told to stop.
const STOPPED: &str = "failed to decode, ret = 2";

/// Whether the line complains of a step that stopped because it was told to, which is no fault.
fn tells_of_a_stop(line: &str) -> bool {
    // The status of a computation that was aborted is 1.
    [STOPPED, "compute status: 1", "failed with error 1"].iter().any(|end| line.ends_with(end))
}

fn complain(line: &str) {
    let line: String = line.chars().take(KEPT_CHARS).collect();
    let _ = RECORDER.try_with(|recorder| {
        let complaints = &mut recorder.borrow_mut().complaints;
        if complaints.len() == KEPT_COMPLAINTS {
            complaints.pop_front();
        }
        complaints.push_back(line);
    });
}

/// Reads `load_tensors:   CPU_Mapped model buffer size =   123.45 MiB`.
fn read_buffer(line: &str) -> Option<NativeBuffer> {
    let (left, right) = line.split_once("buffer size =")?;
    let mib: f64 = right.trim().strip_suffix("MiB")?.trim().parse().ok()?;
    let mut words = left.rsplit(": ").next()?.split_whitespace();
    let (place, purpose) = (words.next()?, words.next()?);
    Some(NativeBuffer {
        place: place.to_owned(),
        purpose: purpose.to_owned(),
        bytes: (mib * f64::from(1 << 20)) as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_sizes_of_buffers() {
        let line = "load_tensors:   CPU_Mapped model buffer size =   636.18 MiB";
        let buffer = read_buffer(line).unwrap();
        assert_eq!((buffer.place.as_str(), buffer.purpose.as_str()), ("CPU_Mapped", "model"));
        assert_eq!(buffer.bytes / 1024, 651_448);
        let line = "llama_context:        CPU  output buffer size =     0.49 MiB";
        assert_eq!(read_buffer(line).unwrap().purpose, "output");
        assert_eq!(read_buffer("llama_context: n_ctx = 4096"), None);
        assert_eq!(read_buffer("x: CPU compute buffer size = many MiB"), None);
    }

    #[test]
    fn a_step_that_was_told_to_stop_is_no_fault() {
        for line in [
            "graph_compute: ggml_backend_sched_graph_compute_async failed with error 1",
            "process_ubatch: failed to compute graph, compute status: 1",
            "llama_decode: failed to decode, ret = 2",
        ] {
            assert!(tells_of_a_stop(line), "{line}");
        }
        for line in [
            "process_ubatch: failed to compute graph, compute status: -1",
            "llama_decode: failed to decode, ret = -3",
            "graph_compute: ggml_backend_sched_graph_compute_async failed with error -1",
        ] {
            assert!(!tells_of_a_stop(line), "{line}");
        }
    }

    #[test]
    fn keeps_the_last_complaints_only() {
        for number in 0..10 {
            complain(&format!("complaint {number}"));
        }
        let complaints = take_complaints();
        assert!(
            complaints.starts_with("complaint 6;") && complaints.ends_with("complaint 9"),
            "{complaints}"
        );
        assert_eq!(take_complaints(), "it gave no reason");
    }
}
