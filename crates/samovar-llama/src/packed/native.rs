//! ggml's packing, reached through its own interfaces.
//!
//! ```text
//!   Packer   a buffer type that rearranges what is written into it (CPU_REPACK, AMX, …)
//!   Scratch  one tensor packed by it, in memory of its own
//!   Weight   a tensor of a loaded model: what it is, and where and how its bytes lie
//! ```
//!
//! llama.cpp picks a kernel by the buffer type of a weight's buffer and by what that type's `init_tensor` left in
//! the weight. Nothing here knows which formats are packed or how: that is asked of ggml. Everything unsafe about
//! packed weights is in this file, but for the mapping of files.
#![allow(unsafe_code, reason = "weights are described by ggml's own structures")]

use std::ffi::{CStr, c_char, c_void};
use std::marker::PhantomData;
use std::mem;
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::OnceLock;

use llama_cpp_2::model::LlamaModel;
use llama_cpp_sys_2 as sys;

use crate::native;

/// Bytes of the buffer that stands for a packer in tensors whose bytes lie elsewhere.
const SHELL_BYTES: usize = 64;

/// A number format of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Format(sys::ggml_type);

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
    raw: NonNull<sys::ggml_backend_buffer_type>,
    shell: NonNull<sys::ggml_backend_buffer>,
    name: &'static str,
}

// SAFETY: ggml's buffer types are constants after they were made, and so is the shell, which nobody writes into.
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
        // SAFETY: the context lives and has room for four tensors, of which nobody makes more; the shape has as
        // many numbers as is said.
        let raw = unsafe { sys::ggml_new_tensor(self.0.as_ptr(), kind, 4, shape.as_ptr()) };
        NonNull::new(raw).expect("invariant: ggml aborts rather than return null here")
    }
}

impl Drop for Sheet {
    fn drop(&mut self) {
        // SAFETY: nobody else has the context.
        unsafe { sys::ggml_free(self.0.as_ptr()) };
    }
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

    /// Packs a tensor with these bytes. `None` if memory is not to be had, or the packer does not want it so.
    pub(super) fn pack(&mut self, format: Format, shape: Shape, plain: &[u8]) -> Option<&[u8]> {
        let sheet = Sheet::new()?;
        let tensor = sheet.tensor(format.0, shape);
        // SAFETY: the tensor lives in the sheet; these read its description.
        let (plain_bytes, packed_bytes) = unsafe {
            let kind = self.packer.raw.as_ptr();
            (sys::ggml_nbytes(tensor.as_ptr()), sys::ggml_backend_buft_get_alloc_size(kind, tensor.as_ptr()))
        };
        if plain_bytes != plain.len() {
            return None;
        }
        let buffer = self.ensure(packed_bytes)?.as_ptr();
        // SAFETY: the buffer belongs to this scratch and has room for the packed tensor from its base on; CPU
        // buffers are ordinary memory. The tensor has neither buffer nor data yet, and `plain` is as long as it is.
        unsafe {
            let base = sys::ggml_backend_buffer_get_base(buffer);
            // So that bytes between rows are the same each time.
            ptr::write_bytes(base.cast::<u8>(), 0, packed_bytes);
            let status = sys::ggml_backend_tensor_alloc(buffer, tensor.as_ptr(), base);
            if status != sys::GGML_STATUS_SUCCESS || (*tensor.as_ptr()).extra.is_null() {
                return None;
            }
            sys::ggml_backend_tensor_set(tensor.as_ptr(), plain.as_ptr().cast(), 0, plain.len());
            Some(std::slice::from_raw_parts(base.cast::<u8>(), packed_bytes))
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

/// A tensor of a loaded model.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weight<'m> {
    raw: NonNull<sys::ggml_tensor>,
    model: PhantomData<&'m LlamaModel>,
}

/// All tensors of a model. One that serves two purposes may be there twice, under the same name.
pub(super) fn weights(model: &LlamaModel) -> Vec<Weight<'_>> {
    unsafe extern "C" {
        fn samovar_visit_tensors(
            model: *const sys::llama_model,
            visit: unsafe extern "C" fn(*mut c_void, *mut sys::ggml_tensor),
            visitor: *mut c_void,
        );
    }
    unsafe extern "C" fn collect(weights: *mut c_void, tensor: *mut sys::ggml_tensor) {
        // SAFETY: the visitor is the vector below, which nobody else uses meanwhile.
        let weights = unsafe { &mut *weights.cast::<Vec<NonNull<sys::ggml_tensor>>>() };
        weights.extend(NonNull::new(tensor));
    }
    let mut found = Vec::<NonNull<sys::ggml_tensor>>::new();
    // SAFETY: the function (tensors.cpp) reads the living model and calls `collect` with the visitor.
    unsafe { samovar_visit_tensors(native::model_ptr(model), collect, (&raw mut found).cast()) };
    found.into_iter().map(|raw| Weight { raw, model: PhantomData }).collect()
}

impl<'m> Weight<'m> {
    fn tensor(&self) -> &sys::ggml_tensor {
        // SAFETY: the tensor lives as long as its model, and is changed only through `dress` and `Dress::put_on`,
        // by whoever owns the model and while nothing computes.
        unsafe { self.raw.as_ref() }
    }

    /// Its name in the file.
    pub(super) fn name(&self) -> &'m str {
        // SAFETY: ggml keeps names NUL-terminated; the tensor lives for 'm.
        unsafe { CStr::from_ptr((&raw const (*self.raw.as_ptr()).name).cast::<c_char>()) }
            .to_str()
            .unwrap_or("")
    }

    pub(super) fn format(self) -> Format {
        Format(self.tensor().type_)
    }

    pub(super) fn shape(self) -> Shape {
        self.tensor().ne
    }

    /// Bytes of it in the model's file.
    pub(super) fn bytes(&self) -> u64 {
        // SAFETY: reads the tensor's description.
        unsafe { sys::ggml_nbytes(self.raw.as_ptr()) as u64 }
    }

    /// The packer that its buffer belongs to.
    pub(super) fn packer(&self) -> Option<&'static Packer> {
        let buffer = self.tensor().buffer;
        if buffer.is_null() {
            return None;
        }
        // SAFETY: the buffer lives as long as the model or the program.
        let kind = unsafe { sys::ggml_backend_buffer_get_type(buffer) };
        Packer::all().iter().find(|packer| packer.raw.as_ptr() == kind)
    }

    /// Where its bytes begin, counted from the first byte of its buffer. `None` if they lie elsewhere.
    pub(super) fn offset(&self) -> Option<u64> {
        let tensor = self.tensor();
        if tensor.buffer.is_null() || tensor.data.is_null() {
            return None;
        }
        // SAFETY: the buffer lives as long as the model.
        let base = unsafe { sys::ggml_backend_buffer_get_base(tensor.buffer) };
        (tensor.data as u64).checked_sub(base as u64)
    }

    /// What it wears now.
    pub(super) fn dress(&self) -> Dress {
        let tensor = self.tensor();
        Dress { buffer: tensor.buffer, data: tensor.data, extra: tensor.extra }
    }

    /// Bytes of it once this packer has packed it.
    pub(super) fn packed_bytes(&self, packer: &Packer) -> u64 {
        // SAFETY: reads the tensor's description.
        unsafe { sys::ggml_backend_buft_get_alloc_size(packer.raw.as_ptr(), self.raw.as_ptr()) as u64 }
    }

    /// What it would wear with its bytes packed by `packer` and lying at `data`; `None` = where they lie now.
    /// It wears what it did before afterwards. `None` if the packer does not want it.
    pub(super) fn fitting(&self, packer: &'static Packer, data: Option<NonNull<u8>>) -> Option<Dress> {
        let before = self.dress();
        let data = data.map_or(before.data, |data| data.as_ptr().cast());
        // SAFETY: nothing computes with the model before the caller has fitted its weights; the shell lives as long
        // as the program, and `init_tensor` looks at the description alone and sets `extra`.
        unsafe {
            self.put_on(Dress { buffer: packer.shell.as_ptr(), data, extra: ptr::null_mut() });
            let status = sys::ggml_backend_buffer_init_tensor(packer.shell.as_ptr(), self.raw.as_ptr());
            let dress = self.dress();
            self.put_on(before);
            (status == sys::GGML_STATUS_SUCCESS && !dress.extra.is_null()).then_some(dress)
        }
    }

    /// Changes where and how its bytes lie.
    ///
    /// # Safety
    /// The dress is of this weight, its bytes are there and packed as it says, and stay so for as long as the
    /// weight wears it; nothing computes with the model meanwhile.
    pub(super) unsafe fn put_on(&self, dress: Dress) {
        // SAFETY: the tensor lives; promised by the caller.
        unsafe {
            (*self.raw.as_ptr()).buffer = dress.buffer;
            (*self.raw.as_ptr()).data = dress.data;
            (*self.raw.as_ptr()).extra = dress.extra;
        }
    }
}

/// Where and how a weight's bytes lie: what a kernel is chosen by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dress {
    buffer: *mut sys::ggml_backend_buffer,
    data: *mut c_void,
    extra: *mut c_void,
}

/// The model as llama.cpp would load and pack it, without any bytes of weights. The log says why not.
pub(super) fn sketch(path: &Path) -> Option<LlamaModel> {
    native::load_without_weights(path)
}

/// Where the tensors of a file are.
pub(super) fn places(path: &Path) -> Option<Vec<Place>> {
    let path = native::c_path(path)?;
    let params = sys::gguf_init_params { no_alloc: true, ctx: ptr::null_mut() };
    // SAFETY: the path is NUL-terminated; nothing but the header is read.
    let header = NonNull::new(unsafe { sys::gguf_init_from_file(path.as_ptr(), params) })?.as_ptr();
    // SAFETY: the header lives until it is freed below, ids are below the number of tensors, names are
    // NUL-terminated and copied.
    unsafe {
        let start = sys::gguf_get_data_offset(header) as u64;
        let place = |id| Place {
            name: CStr::from_ptr(sys::gguf_get_tensor_name(header, id)).to_string_lossy().into_owned(),
            offset: start + sys::gguf_get_tensor_offset(header, id) as u64,
            bytes: sys::gguf_get_tensor_size(header, id) as u64,
        };
        let places = (0..sys::gguf_get_n_tensors(header)).map(place).collect();
        sys::gguf_free(header);
        Some(places)
    }
}

/// Where a tensor is in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) name: String,
    pub(super) offset: u64,
    pub(super) bytes: u64,
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
