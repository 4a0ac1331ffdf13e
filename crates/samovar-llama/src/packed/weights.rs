//! Tensors of models: what each is, and where and how its bytes lie.
//!
//! ```text
//!   sketch   a model without bytes ─┐
//!   a loaded model ─────────────────┴─► Weight ─► WeightView: buffer, bytes, extra
//!   a file ────────────────────────────► Place
//! ```
//!
//! llama.cpp picks a kernel by the buffer type of a weight's buffer and by what that type's `init_tensor` left in
//! the weight. What they are told is the business of `WeightViews`.
#![allow(unsafe_code, reason = "weights are described by ggml's own structures")]

use std::ffi::{CStr, c_char, c_void};
use std::marker::PhantomData;
use std::path::Path;
use std::ptr::{self, NonNull};

use llama_cpp_2::model::LlamaModel;
use llama_cpp_sys_2 as sys;

use super::packer::{Format, Packer, Shape};
use crate::native;

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
        // SAFETY: the visitor is the vector below, which has no other user meanwhile.
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
        // SAFETY: the tensor lives as long as its model, and is changed only through `weight_view` and `WeightView::bind`,
        // by the model's owner and while nothing computes.
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
    pub(super) fn weight_view(&self) -> WeightView {
        let tensor = self.tensor();
        WeightView { buffer: tensor.buffer, data: tensor.data, extra: tensor.extra }
    }

    /// Bytes of it once this packer has packed it.
    pub(super) fn packed_bytes(&self, packer: &Packer) -> u64 {
        // SAFETY: reads the tensor's description.
        unsafe { sys::ggml_backend_buft_get_alloc_size(packer.raw.as_ptr(), self.raw.as_ptr()) as u64 }
    }

    /// What it would wear with its bytes packed by `packer` and lying at `data`; `None` = where they lie now.
    /// It wears what it did before afterwards. `None` if the packer does not want it.
    pub(super) fn fitting(&self, packer: &'static Packer, data: Option<NonNull<u8>>) -> Option<WeightView> {
        let before = self.weight_view();
        let data = data.map_or(before.data, |data| data.as_ptr().cast());
        // SAFETY: nothing computes with the model before the caller has fitted its weights; the shell lives as long
        // as the program, and `init_tensor` looks at the description alone and sets `extra`.
        unsafe {
            self.bind(WeightView { buffer: packer.shell.as_ptr(), data, extra: ptr::null_mut() });
            let status = sys::ggml_backend_buffer_init_tensor(packer.shell.as_ptr(), self.raw.as_ptr());
            let weight_view = self.weight_view();
            self.bind(before);
            (status == sys::GGML_STATUS_SUCCESS && !weight_view.extra.is_null()).then_some(weight_view)
        }
    }

    /// Changes where and how its bytes lie.
    ///
    /// # Safety
    /// The view is of this weight, its bytes are there and packed as it says, and stay so for as long as the
    /// weight wears it; nothing computes with the model meanwhile.
    pub(super) unsafe fn bind(&self, weight_view: WeightView) {
        // SAFETY: the tensor lives; promised by the caller.
        unsafe {
            (*self.raw.as_ptr()).buffer = weight_view.buffer;
            (*self.raw.as_ptr()).data = weight_view.data;
            (*self.raw.as_ptr()).extra = weight_view.extra;
        }
    }
}

/// Where and how a weight's bytes lie: what a kernel is chosen by.
#[derive(Clone, Copy, Debug)]
pub(super) struct WeightView {
    buffer: *mut sys::ggml_backend_buffer,
    data: *mut c_void,
    extra: *mut c_void,
}

/// The model as llama.cpp would load and pack it, without any bytes of weights. The log says why not.
pub(super) fn sketch(path: &Path) -> Option<LlamaModel> {
    native::load_without_weights(path)
}

/// Where the tensors of a file are.
pub(super) fn places(path: &Path) -> Option<Vec<TensorLocation>> {
    let path = native::c_path(path)?;
    let params = sys::gguf_init_params { no_alloc: true, ctx: ptr::null_mut() };
    // SAFETY: the path is NUL-terminated; nothing but the header is read.
    let header = NonNull::new(unsafe { sys::gguf_init_from_file(path.as_ptr(), params) })?.as_ptr();
    // SAFETY: the header lives until it is freed below, ids are below the number of tensors, names are
    // NUL-terminated and copied.
    unsafe {
        let start = sys::gguf_get_data_offset(header) as u64;
        let place = |id| TensorLocation {
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
pub(super) struct TensorLocation {
    pub(super) name: String,
    pub(super) offset: u64,
    pub(super) bytes: u64,
}
