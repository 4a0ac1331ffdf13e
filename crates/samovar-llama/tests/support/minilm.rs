//! A real embedder, where the test tools have brought it.
#![allow(clippy::disallowed_methods, reason = "where the model lies is known to whoever runs the tests")]

use std::path::PathBuf;
use std::sync::Arc;

use samovar_core::format::gguf;
use samovar_core::port::Instance;
use samovar_core::{Descriptor, LoadOptions};
use serde_json::Value;

/// The model. `None` where it is not, which is said.
pub(crate) fn find() -> Option<MiniLm> {
    let Some(folder) = std::env::var_os("SAMOVAR_TEST_MINILM").map(PathBuf::from) else {
        super::skipped("no model; write it by tools/minilm_gguf.py and set SAMOVAR_TEST_MINILM");
        return None;
    };
    let reference = fs_err::read_to_string(folder.join("reference.json")).expect("the folder is whole");
    Some(MiniLm { folder, reference: serde_json::from_str(&reference).expect("it is JSON") })
}

/// The model's files, and what it must compute.
pub(crate) struct MiniLm {
    folder: PathBuf,
    reference: Value,
}

impl MiniLm {
    pub(crate) fn path(&self, kind: &str) -> PathBuf {
        self.folder.join(format!("minilm-{kind}.gguf"))
    }

    pub(crate) fn descriptor(&self, kind: &str) -> Descriptor {
        gguf::inspect(&self.path(kind)).expect("the gate lets it through")
    }

    pub(crate) fn load(&self, kind: &str) -> Arc<dyn Instance> {
        let descriptor = self.descriptor(kind);
        super::load_file(&self.path(kind), &descriptor, &options(&descriptor)).expect("it loads")
    }

    pub(crate) fn entries(&self, kind: &str) -> &[Value] {
        self.reference[kind].as_array().expect("a list")
    }
}

/// As its file says.
pub(crate) fn options(descriptor: &Descriptor) -> LoadOptions {
    LoadOptions {
        context_tokens: descriptor.context_tokens,
        slots: 8,
        pooling: descriptor.pooling,
        ..super::options()
    }
}
