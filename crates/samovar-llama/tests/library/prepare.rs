//! Models that are prepared: what a converter wrote, quantized by llama.cpp, passes the gate and answers.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use samovar_core::port::{Conversion, ConvertedWeights, Converter, Engine, LoadControl, PrepareRequest};
use samovar_core::testing::gguf::{LlamaShape, llama, with_specials};
use samovar_core::{ErrorKind, Failure, ModelFiles, Quantization, format};
use samovar_llama::LlamaEngine;

/// Writes these bytes whatever the folder has, and stops when it is told to.
#[derive(Debug)]
struct Writing(Vec<u8>);

impl Converter for Writing {
    fn version(&self) -> &'static str {
        "test"
    }

    fn judge(&self, _: &Path) -> Result<Conversion, Failure> {
        let converted_bytes = self.0.len() as u64;
        let architecture = "llama".to_owned();
        Ok(Conversion { architecture, source_bytes: converted_bytes, converted_bytes, held_bytes: 1 })
    }

    fn convert(
        &self,
        _: &Path,
        target: &Path,
        _: ConvertedWeights,
        progress: &mut dyn FnMut(f32) -> ControlFlow<()>,
    ) -> Result<u64, Failure> {
        if progress(0.5).is_break() {
            return Err(Failure::new(ErrorKind::Cancelled, "it was told to stop"));
        }
        fs_err::write(target, &self.0).expect("written");
        Ok(self.0.len() as u64)
    }
}

fn engine() -> LlamaEngine {
    writing(llama(LlamaShape::TINY).build())
}

fn writing(bytes: Vec<u8>) -> LlamaEngine {
    LlamaEngine::new().converting(Arc::new(Writing(bytes)))
}

fn prepared(quantization: Quantization) -> (tempfile::TempDir, u64) {
    let home = tempfile::tempdir().expect("a folder");
    let (target, control) = (home.path().join("data"), LoadControl::silent());
    let request =
        PrepareRequest { folder: home.path(), quantization, target: &target, base: None, control: &control };
    let bytes = engine().prepare(request).expect("is prepared");
    (home, bytes)
}

#[test]
fn what_is_quantized_is_smaller_and_named_so() {
    let (plain, f16_bytes) = prepared(Quantization::AsPublished);
    let (quantized, bytes) = prepared(Quantization::Q8_0);
    assert!(bytes < f16_bytes, "{bytes} of {f16_bytes}");
    let descriptor = |home: &tempfile::TempDir| {
        format::inspect(&ModelFiles::of(home.path().join("data"))).expect("passes the gate")
    };
    assert_eq!(descriptor(&quantized).quantization, "Q8_0");
    assert_eq!(descriptor(&plain).parameters, descriptor(&quantized).parameters);
    for home in [&plain, &quantized] {
        assert_eq!(fs_err::read_dir(home.path()).expect("a folder").count(), 1, "nothing else is left");
    }
}

#[test]
fn a_cancelled_preparation_writes_no_target() {
    let home = tempfile::tempdir().expect("a folder");
    let (target, control) = (home.path().join("data"), LoadControl::silent());
    control.cancel_flag().store(true, std::sync::atomic::Ordering::Relaxed);
    let quantization = Quantization::Q4KM;
    let request =
        PrepareRequest { folder: home.path(), quantization, target: &target, base: None, control: &control };
    assert_eq!(engine().prepare(request).expect_err("is stopped").kind, ErrorKind::Cancelled);
    assert!(!target.exists());
}

#[test]
fn what_cannot_be_loaded_or_loses_text_is_refused() {
    let deep = llama(LlamaShape::TINY).without("llama.block_count").u32("llama.block_count", 3).build();
    // A pair of letters that is for control vanishes from every answer.
    let losing = with_specials(LlamaShape::TINY, &[("He", true)]).build();
    for (bytes, word) in [(deep, "refused"), (losing, "Hello")] {
        let home = tempfile::tempdir().expect("a folder");
        let (target, control) = (home.path().join("data"), LoadControl::silent());
        let quantization = Quantization::AsPublished;
        let request = PrepareRequest {
            folder: home.path(),
            quantization,
            base: None,
            target: &target,
            control: &control,
        };
        let failure = writing(bytes).prepare(request).expect_err("is refused");
        assert_eq!(failure.kind, ErrorKind::EngineFailed);
        assert!(failure.message.contains(word) && failure.hint.is_some(), "{failure:?}");
    }
}

#[test]
fn an_engine_without_a_converter_prepares_nothing() {
    let engine = LlamaEngine::new();
    assert_eq!(engine.preparer(), None);
    let refused = engine.plan_preparation(Path::new("/nowhere"), Quantization::F16).expect_err("is refused");
    assert!(refused.kind == ErrorKind::Unsupported && refused.hint.is_some(), "{refused:?}");
}
