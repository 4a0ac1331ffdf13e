//! Models in other number formats, by llama.cpp's own quantizer.
#![allow(unsafe_code, reason = "the safe binding does not quantize")]

use std::ffi::CString;
use std::path::Path;

use llama_cpp_sys_2 as sys;

/// Writes a model with all of its matrices in the format of `ftype` (a number of llama.cpp's), but for embedding and
/// output, which become 32-bit floats: what is packed of an output that is the embedding, too, differs between layouts.
pub(crate) fn quantize(source: &Path, target: &Path, ftype: sys::llama_ftype) {
    write(source, target, ftype, true);
}

/// Writes a model in llama.cpp's usual mixture of formats.
pub(crate) fn quantize_as_usual(source: &Path, target: &Path, ftype: sys::llama_ftype) {
    write(source, target, ftype, false);
}

fn write(source: &Path, target: &Path, ftype: sys::llama_ftype, is_pure: bool) {
    // Initializes the native library.
    let _ = samovar_llama_build_info();
    let [source, target] =
        [source, target].map(|path| CString::new(path.as_os_str().as_encoded_bytes()).expect("no NUL"));
    // SAFETY: a pure function.
    let mut params = unsafe { sys::llama_model_quantize_default_params() };
    params.ftype = ftype;
    params.nthread = 2;
    params.pure_ = is_pure;
    if is_pure {
        params.token_embedding_type = sys::GGML_TYPE_F32;
        params.output_tensor_type = sys::GGML_TYPE_F32;
    }
    // SAFETY: the paths are NUL-terminated and live until the call returns, and so do the parameters.
    let code = unsafe { sys::llama_model_quantize(source.as_ptr(), target.as_ptr(), &raw const params) };
    assert_eq!(code, 0, "llama.cpp could not quantize");
}
