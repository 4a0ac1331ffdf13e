//! Models in other number formats, by llama.cpp's own quantizer. The native library is initialized by then.
#![allow(unsafe_code, reason = "the safe binding does not quantize")]

use std::ffi::CString;
use std::path::Path;

use llama_cpp_sys_2 as sys;

/// Writes a model with all of its matrices in the format of `ftype` (a number of llama.cpp's), but for embedding and
/// output, which become 32-bit floats: an output that is the embedding, too, is packed by repacking alone.
pub(crate) fn quantize(source: &Path, target: &Path, ftype: sys::llama_ftype) {
    write(source, target, ftype, |params| {
        params.pure_ = true;
        params.token_embedding_type = sys::GGML_TYPE_F32;
        params.output_tensor_type = sys::GGML_TYPE_F32;
    });
}

/// Writes a model with all of its matrices in one format.
pub(crate) fn quantize_tied(source: &Path, target: &Path, ftype: sys::llama_ftype) {
    write(source, target, ftype, |params| params.pure_ = true);
}

/// Writes a model in llama.cpp's usual mixture of formats.
pub(crate) fn quantize_as_usual(source: &Path, target: &Path, ftype: sys::llama_ftype) {
    write(source, target, ftype, |_| ());
}

fn write(
    source: &Path,
    target: &Path,
    ftype: sys::llama_ftype,
    adjust: impl FnOnce(&mut sys::llama_model_quantize_params),
) {
    let [source, target] =
        [source, target].map(|path| CString::new(path.as_os_str().as_encoded_bytes()).expect("no NUL"));
    // SAFETY: a pure function.
    let mut params = unsafe { sys::llama_model_quantize_default_params() };
    params.ftype = ftype;
    params.nthread = 2;
    adjust(&mut params);
    // SAFETY: the paths are NUL-terminated and live until the call returns, and so do the parameters.
    let code = unsafe { sys::llama_model_quantize(source.as_ptr(), target.as_ptr(), &raw const params) };
    assert_eq!(code, 0, "llama.cpp could not quantize");
}
