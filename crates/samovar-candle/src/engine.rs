//! candle as an engine of Samovar.

use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device};
use samovar_core::port::{Capabilities, Engine, EngineId, EngineInfo, Instance, LoadRequest, PublishedFacts};
use samovar_core::{Bytes, Cost, Descriptor, ErrorKind, Failure, Footprint, Format, LoadOptions, Pooling};

use crate::describe;
use crate::error::Error;
use crate::footprint;
use crate::instance::CandleInstance;

/// The version of candle: it is part of what the engine is known by.
const CANDLE: &str = "0.11.1";

/// Runs published models as they are. Cheap to make.
#[derive(Debug)]
pub struct CandleEngine {
    info: EngineInfo,
}

impl CandleEngine {
    /// An engine.
    #[allow(clippy::new_without_default, reason = "as the other engines")]
    pub fn new() -> Self {
        let info = EngineInfo {
            id: EngineId::new("candle"),
            name: format!("candle {CANDLE}"),
            formats: vec![Format::Safetensors],
        };
        Self { info }
    }
}

/// Where this build computes, and with which numbers.
fn device() -> Result<(Device, DType), Error> {
    if cfg!(feature = "cuda") {
        return Ok((Device::new_cuda(0)?, DType::BF16));
    }
    if cfg!(feature = "metal") {
        return Ok((Device::new_metal(0)?, DType::BF16));
    }
    Ok((Device::Cpu, DType::F32))
}

impl Engine for CandleEngine {
    fn engines(&self) -> Vec<EngineInfo> {
        vec![self.info.clone()]
    }

    fn capabilities(&self, descriptor: &Descriptor) -> Capabilities {
        let writes = !descriptor.is_encoder();
        let makes_scores = descriptor.pooling == Some(Pooling::Rank);
        Capabilities {
            reuses_prefixes: writes,
            // An encoder has nothing but its weights.
            can_park: writes,
            can_adapt: false,
            saves_prefixes: false,
            can_generate: writes,
            can_embed: !writes && !makes_scores,
            can_rerank: !writes && makes_scores && descriptor.has_classifier,
            can_infill: false,
        }
    }

    fn footprint(&self, descriptor: &Descriptor, options: &LoadOptions) -> Result<Footprint, Failure> {
        if descriptor.format != Format::Safetensors {
            let message = format!("candle runs no {} models here", descriptor.format);
            return Err(Failure::new(ErrorKind::Unsupported, message).with_param("model"));
        }
        Ok(footprint::predict(descriptor, options))
    }

    /// Parking leaves the weights, which are private.
    fn cost(&self, descriptor: &Descriptor, options: &LoadOptions, memory: Footprint) -> Cost {
        Cost {
            per_cell: Bytes::host(footprint::cell_bytes(descriptor)),
            keeps_the_rest: true,
            ..Cost::on_host(descriptor, options, memory)
        }
    }

    fn describe(&self, folder: &Path) -> Result<PublishedFacts, Failure> {
        describe::describe(folder)
    }

    fn load(&self, request: LoadRequest<'_>) -> Result<Arc<dyn Instance>, Failure> {
        let (device, dtype) = device()?;
        Ok(Arc::new(CandleInstance::load(request, &device, dtype)?))
    }
}
