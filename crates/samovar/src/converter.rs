//! The converter of published models, as engines are given it. It knows nothing of models itself.

use std::ops::ControlFlow;
use std::path::Path;

use samovar_convert::{FloatFormat, Options, Progress};
use samovar_core::port::{Conversion, ConvertedWeights, Converter};
use samovar_core::{Descriptor, Failure};

/// Converts safetensors to GGUF.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SafetensorsConverter;

impl Converter for SafetensorsConverter {
    fn version(&self) -> &'static str {
        samovar_convert::VERSION
    }

    fn judge(&self, folder: &Path) -> Result<Conversion, Failure> {
        let plan = samovar_convert::judge(folder)?;
        Ok(Conversion {
            architecture: plan.architecture().to_owned(),
            source_bytes: plan.source_bytes(),
            converted_bytes: plan.output_bytes(),
            held_bytes: plan.peak_memory_bytes(),
        })
    }

    fn convert(
        &self,
        folder: &Path,
        target: &Path,
        weights: ConvertedWeights,
        progress: &mut dyn FnMut(f32) -> ControlFlow<()>,
    ) -> Result<u64, Failure> {
        let plan = samovar_convert::judge(folder)?;
        let float = match weights {
            ConvertedWeights::AsPublished => FloatFormat::AsPublished,
            ConvertedWeights::F16 => FloatFormat::F16,
        };
        let options = Options { float, name: None };
        let converted = samovar_convert::convert(&plan, target, &options, &mut |now: Progress| {
            progress(now.done_bytes as f32 / now.total_bytes.max(1) as f32)
        })?;
        Ok(converted.bytes)
    }

    fn convert_adapter(
        &self,
        folder: &Path,
        base: &Descriptor,
        target: &Path,
        progress: &mut dyn FnMut(f32) -> ControlFlow<()>,
    ) -> Result<u64, Failure> {
        let plan = samovar_convert::judge_adapter(folder, base)?;
        samovar_convert::convert_adapter(&plan, base, target, &mut |now: Progress| {
            progress(now.done_bytes as f32 / now.total_bytes.max(1) as f32)
        })
    }
}
