//! ggml's packing, reached through its own interfaces.
//!
//! ```text
//!   Packer   a buffer type that rearranges what is written into it (CPU_REPACK, AMX, …)
//!   Scratch  one tensor packed by it, in memory of its own
//! ```
//!
//! Nothing here knows which formats are packed or how: that is asked of ggml.
#![allow(unsafe_code, reason = "packing is asked of ggml's own interfaces")]

use std::ffi::{CStr, c_char, c_void};
use std::mem;
use std::ptr::{self, NonNull};
use std::sync::OnceLock;

use llama_cpp_sys_2 as sys;

use crate::native;

/// Bytes of the buffer that stands for a packer in tensors whose bytes lie elsewhere.
const SHELL_BYTES: usize = 64;

/// A number format of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Format(pub(super) sys::ggml_type);

impl Format {
    /// Those that weights may have.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        // SAFETY: pure functions of a number below the count of types.
        let is_real = |kind| unsafe { sys::ggml_blck_size(kind) > 0 && sys::ggml_type_size(kind) > 0 };
        (0..sys::GGML_TYPE_COUNT).filter(move |kind| is_real(*kind)).map(Self)
    }

    /// Its name in ggml, such as `q4_K`.
    pub(super) fn name(self) -> &'static str {
        // SAFETY: a pure function of a valid type; it returns a string constant.
        unsafe { constant(sys::ggml_type_name(self.0)) }
    }
}

impl Format {
    /// Bytes of a tensor of this shape.
    pub(super) fn bytes(self, shape: Shape) -> usize {
        // SAFETY: a pure function of a valid type and a number.
        let row = unsafe { sys::ggml_row_size(self.0, shape[0]) };
        shape[1..].iter().fold(row, |bytes, count| bytes * *count as usize)
    }
}

/// Dimensions, the innermost first.
pub(super) type Shape = [i64; 4];

/// A buffer type that rearranges what is written into it. Lives as long as the program.
#[derive(Debug)]
pub(super) struct Packer {
    pub(super) raw: NonNull<sys::ggml_backend_buffer_type>,
    /// Stands for it in tensors whose bytes lie elsewhere.
    pub(super) shell: NonNull<sys::ggml_backend_buffer>,
    name: &'static str,
}

// SAFETY: ggml's buffer types are constants after they were made, and so is the shell, which is never written to.
unsafe impl Send for Packer {}
// SAFETY: as above.
unsafe impl Sync for Packer {}

impl Packer {
    /// All of this build on this CPU, in llama.cpp's order of preference.
    pub(super) fn all() -> &'static [Self] {
        static ALL: OnceLock<Vec<Packer>> = OnceLock::new();
        ALL.get_or_init(find)
    }

    /// The one of this name.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        Self::all().iter().find(|packer| packer.name == name)
    }

    /// ggml's name for it.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// Whether a matrix of this format and shape can be multiplied once it is packed.
    pub(super) fn takes(&self, format: Format, shape: Shape) -> bool {
        // SAFETY: a pure function of a valid type.
        let block = unsafe { sys::ggml_blck_size(format.0) };
        let Some(sheet) = Sheet::new().filter(|_| shape[0] % block == 0) else { return false };
        let (weight, input) = (
            sheet.tensor(format.0, shape),
            sheet.tensor(sys::GGML_TYPE_F32, [shape[0], 512, shape[2], shape[3]]),
        );
        // SAFETY: both tensors live in the sheet and can be multiplied; the weight gets a buffer as llama.cpp
        // gives one to a weight whose place it looks for.
        unsafe {
            let product = sys::ggml_mul_mat(sheet.0.as_ptr(), weight.as_ptr(), input.as_ptr());
            (*weight.as_ptr()).buffer = self.shell.as_ptr();
            let device = sys::ggml_backend_buft_get_device(self.raw.as_ptr());
            !device.is_null() && sys::ggml_backend_dev_supports_op(device, product)
        }
    }
}

fn find() -> Vec<Packer> {
    type List = unsafe extern "C" fn(sys::ggml_backend_dev_t) -> *mut sys::ggml_backend_buffer_type_t;
    let _ = native::backend();
    let mut packers = Vec::new();
    // SAFETY: the CPU's registration and device live as long as the program. The function by that name has this
    // signature (`ggml_backend_dev_get_extra_bufts_t` in ggml-backend.h) and returns a list that ends with null.
    unsafe {
        let cpu = sys::ggml_backend_cpu_reg();
        let list = sys::ggml_backend_reg_get_proc_address(cpu, c"ggml_backend_dev_get_extra_bufts".as_ptr());
        if list.is_null() {
            return packers;
        }
        let list = mem::transmute::<*mut c_void, List>(list);
        let mut next = list(sys::ggml_backend_reg_dev_get(cpu, 0));
        while let Some(raw) = next.as_ref().copied().and_then(NonNull::new) {
            next = next.add(1);
            let shell = NonNull::new(sys::ggml_backend_buft_alloc_buffer(raw.as_ptr(), SHELL_BYTES));
            let Some(shell) = shell else { continue };
            sys::ggml_backend_buffer_set_usage(shell.as_ptr(), sys::GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
            packers.push(Packer { raw, shell, name: constant(sys::ggml_backend_buft_name(raw.as_ptr())) });
        }
    }
    packers
}

/// Room for the descriptions of a few tensors without bytes.
struct Sheet(NonNull<sys::ggml_context>);

impl Sheet {
    fn new() -> Option<Self> {
        // SAFETY: pure, and an allocation that is checked.
        let raw = unsafe {
            sys::ggml_init(sys::ggml_init_params {
                mem_size: 4 * sys::ggml_tensor_overhead(),
                mem_buffer: ptr::null_mut(),
                no_alloc: true,
            })
        };
        NonNull::new(raw).map(Self)
    }

    fn tensor(&self, kind: sys::ggml_type, shape: Shape) -> NonNull<sys::ggml_tensor> {
        // SAFETY: the context lives and has room for four tensors, and no more are made; the shape has as
        // many numbers as is said.
        let raw = unsafe { sys::ggml_new_tensor(self.0.as_ptr(), kind, 4, shape.as_ptr()) };
        NonNull::new(raw).expect("invariant: ggml aborts rather than return null here")
    }
}

impl Drop for Sheet {
    fn drop(&mut self) {
        // SAFETY: no other code has the context.
        unsafe { sys::ggml_free(self.0.as_ptr()) };
    }
}

/// Why a tensor was not packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unpacked {
    /// The packer does not want it so.
    NotTaken,
    /// Memory is not to be had at the moment.
    NoMemory,
}

/// Memory for one packed tensor at a time.
#[derive(Debug)]
pub(super) struct Scratch {
    packer: &'static Packer,
    buffer: Option<NonNull<sys::ggml_backend_buffer>>,
    room: usize,
}

impl Scratch {
    pub(super) fn new(packer: &'static Packer) -> Self {
        Self { packer, buffer: None, room: 0 }
    }

    /// Packs a tensor with these bytes.
    pub(super) fn pack(&mut self, format: Format, shape: Shape, plain: &[u8]) -> Result<&[u8], Unpacked> {
        let sheet = Sheet::new().ok_or(Unpacked::NoMemory)?;
        let tensor = sheet.tensor(format.0, shape);
        // SAFETY: the tensor lives in the sheet; these read its description.
        let (plain_bytes, packed_bytes) = unsafe {
            let kind = self.packer.raw.as_ptr();
            (sys::ggml_nbytes(tensor.as_ptr()), sys::ggml_backend_buft_get_alloc_size(kind, tensor.as_ptr()))
        };
        if plain_bytes != plain.len() {
            return Err(Unpacked::NotTaken);
        }
        let buffer = self.ensure(packed_bytes).ok_or(Unpacked::NoMemory)?.as_ptr();
        // SAFETY: the buffer belongs to this scratch and has room for the packed tensor from its base on; CPU
        // buffers are ordinary memory. The tensor has neither buffer nor data yet, and `plain` is as long as it is.
        unsafe {
            let base = sys::ggml_backend_buffer_get_base(buffer);
            // So that bytes between rows are the same each time.
            ptr::write_bytes(base.cast::<u8>(), 0, packed_bytes);
            let status = sys::ggml_backend_tensor_alloc(buffer, tensor.as_ptr(), base);
            if status != sys::GGML_STATUS_SUCCESS || (*tensor.as_ptr()).extra.is_null() {
                return Err(Unpacked::NotTaken);
            }
            sys::ggml_backend_tensor_set(tensor.as_ptr(), plain.as_ptr().cast(), 0, plain.len());
            Ok(std::slice::from_raw_parts(base.cast::<u8>(), packed_bytes))
        }
    }

    fn ensure(&mut self, bytes: usize) -> Option<NonNull<sys::ggml_backend_buffer>> {
        if self.room < bytes {
            self.free();
            // SAFETY: the type lives as long as the program; the answer is checked.
            let raw = unsafe { sys::ggml_backend_buft_alloc_buffer(self.packer.raw.as_ptr(), bytes) };
            self.buffer = NonNull::new(raw);
            self.room = if raw.is_null() { 0 } else { bytes };
        }
        self.buffer
    }

    fn free(&mut self) {
        self.room = 0;
        if let Some(buffer) = self.buffer.take() {
            // SAFETY: the buffer is ours alone, and no tensor that is in it is used any more.
            unsafe { sys::ggml_backend_buffer_free(buffer.as_ptr()) };
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.free();
    }
}

/// # Safety
/// `text` is a NUL-terminated constant or null.
unsafe fn constant(text: *const c_char) -> &'static str {
    if text.is_null() {
        return "";
    }
    // SAFETY: promised by the caller.
    unsafe { CStr::from_ptr(text) }.to_str().unwrap_or("")
}
