//! Prepares published models: a converter writes them as GGUF, and llama.cpp quantizes that.
//!
//! ```text
//!   folder ─► Converter ─► converted.gguf, 16-bit floats ─► the gate ─► llama_model_quantize ─► target ─► the gate ─► check
//!                             └ that is what was asked for: it becomes the target
//! ```
//!
//! An adapter is converted, and that is all.
//!
//! llama.cpp neither tells how far it is nor stops when it is told to: progress is the length of what it has written, and a
//! caller that cancels ends the process.
#![allow(unsafe_code, reason = "the safe binding does not quantize")]

mod check;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use llama_cpp_sys_2 as sys;
use samovar_core::port::{Conversion, ConvertedWeights, Converter, LoadControl, PreparePlan, PrepareRequest};
use samovar_core::{ErrorKind, Failure, ModelFiles, Quantization, format, system_words};

use crate::{log, native};

/// What was converted and is to be quantized, next to the target.
const CONVERTED: &str = "converted.gguf";
/// Rows of tensors that llama.cpp holds at the same time, at most …
const BUFFER_BYTES: usize = 256 << 20;
/// … and what it holds besides.
const BESIDES_BYTES: u64 = 128 << 20;
/// What llama.cpp holds of a large vocabulary while what was written is checked.
const CHECKING_BYTES: u64 = 192 << 20;
/// The part of the work that converting is, where the model is quantized afterwards.
const CONVERTING: f32 = 0.4;
/// How often is looked how much has been written.
const LOOK: Duration = Duration::from_millis(200);

/// What preparing the model in this folder takes.
///
/// # Errors
/// Those of the converter.
pub(crate) fn plan(
    converter: &dyn Converter,
    folder: &Path,
    quantization: Quantization,
) -> Result<PreparePlan, Failure> {
    let Conversion { architecture, source_bytes, converted_bytes, held_bytes } = converter.judge(folder)?;
    let prepared_bytes = quantization.bytes_of(converted_bytes);
    let (disk_bytes, held_bytes) = match file_type(quantization) {
        Some(_) => {
            let quantizing_bytes = BUFFER_BYTES as u64 + BESIDES_BYTES;
            (converted_bytes.saturating_add(prepared_bytes), held_bytes.max(quantizing_bytes))
        }
        None => (prepared_bytes, held_bytes.max(CHECKING_BYTES)),
    };
    Ok(PreparePlan { architecture, source_bytes, prepared_bytes, disk_bytes, held_bytes })
}

/// Writes the prepared file, and returns its bytes.
///
/// # Errors
/// Those of the converter; `EngineFailed` when llama.cpp does not quantize what was converted, or what was written fails its check;
/// `Storage`, `Cancelled`.
pub(crate) fn prepare(converter: &dyn Converter, request: PrepareRequest<'_>) -> Result<u64, Failure> {
    let PrepareRequest { folder, quantization, target, base, control } = request;
    let converted = target.with_file_name(CONVERTED);
    if let Some(base) = base {
        let bytes = converter.convert_adapter(folder, base, &converted, &mut |fraction: f32| {
            control.report(fraction.clamp(0.0, 1.0));
            if control.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        fs_err::rename(&converted, target).map_err(|error| refuse("name", &error))?;
        return Ok(bytes);
    }
    let file_type = file_type(quantization);
    let weights = match quantization {
        Quantization::F16 => ConvertedWeights::F16,
        // What is rounded twice is further from what was published.
        _ => ConvertedWeights::AsPublished,
    };
    let part = if file_type.is_some() { CONVERTING } else { 1.0 };
    let converting = converter.convert(folder, &converted, weights, &mut |fraction: f32| {
        control.report(fraction.clamp(0.0, 1.0) * part);
        control.give_way();
        if control.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    format::inspect(&ModelFiles::of(&converted)).map_err(|failure| wrong("converted", &failure))?;
    match file_type {
        Some(file_type) => {
            let expected_bytes = quantization.bytes_of(converting);
            quantize(&converted, target, file_type, expected_bytes, control)?;
            fs_err::remove_file(&converted).map_err(|error| refuse("tidy up", &error))?;
            format::inspect(&ModelFiles::of(target)).map_err(|failure| wrong("quantized", &failure))?;
        }
        None => fs_err::rename(&converted, target).map_err(|error| refuse("name", &error))?,
    }
    if control.is_cancelled() {
        return Err(Failure::new(ErrorKind::Cancelled, "the preparation was stopped"));
    }
    check::check(target)?;
    control.report(1.0);
    Ok(fs_err::metadata(target).map_err(|error| refuse("look at", &error))?.len())
}

fn refuse(action: &str, error: &std::io::Error) -> Failure {
    Failure::new(ErrorKind::Storage, format!("cannot {action} a prepared model: {}", system_words(error)))
}

/// llama.cpp's number of the format that it quantizes to; `None` where a converted model is what was asked for.
const fn file_type(quantization: Quantization) -> Option<sys::llama_ftype> {
    match quantization {
        Quantization::AsPublished | Quantization::F16 => None,
        Quantization::Q8_0 => Some(sys::LLAMA_FTYPE_MOSTLY_Q8_0),
        Quantization::Q6K => Some(sys::LLAMA_FTYPE_MOSTLY_Q6_K),
        Quantization::Q5KM => Some(sys::LLAMA_FTYPE_MOSTLY_Q5_K_M),
        Quantization::Q4KM => Some(sys::LLAMA_FTYPE_MOSTLY_Q4_K_M),
    }
}

/// Has llama.cpp write a model in another number format, in its usual mixture, and reports how much it has written.
fn quantize(
    source: &Path,
    target: &Path,
    file_type: sys::llama_ftype,
    expected_bytes: u64,
    control: &LoadControl,
) -> Result<(), Failure> {
    let _ = native::backend();
    let [Some(from), Some(to)] = [source, target].map(native::c_path) else {
        return Err(Failure::new(ErrorKind::Storage, "the path of a prepared model has a NUL"));
    };
    // SAFETY: a pure function.
    let mut params = unsafe { sys::llama_model_quantize_default_params() };
    params.ftype = file_type;
    params.nthread = std::thread::available_parallelism().map_or(1, |count| count.get() as i32);
    params.max_buf_size = BUFFER_BYTES;
    let _ = log::take_complaints();
    let (ends, end) = sync_channel::<()>(0);
    let code = std::thread::scope(|scope| {
        scope.spawn(move || {
            while let Err(RecvTimeoutError::Timeout) = end.recv_timeout(LOOK) {
                let written = fs_err::metadata(target).map_or(0, |facts| facts.len());
                let fraction = (written as f32 / expected_bytes.max(1) as f32).min(1.0);
                control.report(CONVERTING + (1.0 - CONVERTING) * fraction);
            }
        });
        // SAFETY: the paths are NUL-terminated and live until the call returns, and so do the parameters, in which no pointer
        // is set.
        let code = unsafe { sys::llama_model_quantize(from.as_ptr(), to.as_ptr(), &raw const params) };
        drop(ends);
        code
    });
    if code == 0 {
        return Ok(());
    }
    let message = format!("llama.cpp could not quantize the model: {}", log::take_complaints());
    Err(Failure::new(ErrorKind::EngineFailed, message)
        .with_hint("the disk may be full; try again, or another quantization"))
}

/// What was written is no model that the gate lets pass: a fault of this program, or of the disk.
fn wrong(what: &str, failure: &Failure) -> Failure {
    Failure::new(ErrorKind::EngineFailed, format!("the {what} model is refused: {}", failure.message))
        .with_hint("take a repository with GGUF files, and report this with the name of the model")
}
