//! Small published models, and how they are loaded.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod published;

use std::path::Path;
use std::sync::Arc;

use samovar_candle::CandleEngine;
use samovar_core::footprint::KvType;
use samovar_core::port::{Engine, Instance, LoadControl, LoadRequest, PublishedFacts};
use samovar_core::{Layout, LoadOptions};

pub(crate) fn describe(folder: &Path) -> PublishedFacts {
    CandleEngine::new().describe(folder).expect("the model is one that candle runs")
}

pub(crate) fn load(folder: &Path, options: &LoadOptions) -> Arc<dyn Instance> {
    let PublishedFacts { descriptor, files } = describe(folder);
    let control = LoadControl::silent();
    let request = LoadRequest::new(&files, &descriptor, options, &control);
    CandleEngine::new().load(request).expect("the model is loaded")
}

pub(crate) fn options() -> LoadOptions {
    LoadOptions {
        context_tokens: 512,
        slots: 4,
        layout: Layout::Mapped,
        kv_type: KvType::F16,
        threads: 2,
        lock_memory: false,
        pooling: None,
        draft: None,
    }
}
