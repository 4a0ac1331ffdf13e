//! How one vector is made of all tokens', as a sentence-transformers folder says it.

use samovar_core::Pooling;
use serde_json::{Map, Value};

use crate::error::Fault;
use crate::gguf::Metadata;
use crate::source::{Folder, is_plain};

const MODULES: &str = "modules.json";
const BYTES: u64 = 256 << 10;

/// Writes the pooling, if the folder says one.
pub(super) fn write(folder: &Folder, metadata: &mut Metadata, architecture: &str) -> Result<(), Fault> {
    if let Some(pooling) = read(folder)? {
        set(metadata, architecture, pooling);
    }
    Ok(())
}

/// Writes this pooling.
pub(super) fn set(metadata: &mut Metadata, architecture: &str, pooling: Pooling) {
    // *Source:* `enum llama_pooling_type` of llama.cpp.
    let number = match pooling {
        Pooling::Mean => 1,
        Pooling::Cls => 2,
        Pooling::Last => 3,
        Pooling::Rank => 4,
    };
    metadata.whole(format!("{architecture}.pooling_type"), number);
}

/// The pooling that the folder says, if it says one.
pub(crate) fn read(folder: &Folder) -> Result<Option<Pooling>, Fault> {
    let Some(modules) = folder.json::<Vec<Map<String, Value>>>(MODULES, BYTES)? else { return Ok(None) };
    let text = |module: &Map<String, Value>, key: &str| {
        module.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let Some(module) = modules.iter().find(|module| text(module, "type").ends_with("Pooling")) else {
        return Ok(None);
    };
    let path = text(module, "path");
    if !is_plain(&path) {
        return Err(Fault::unsound(MODULES, format!("{path:?} is no name of a folder in this one")));
    }
    let file = format!("{path}/config.json");
    let said: Map<String, Value> =
        folder.json(&file, BYTES)?.ok_or_else(|| Fault::Missing { file: file.clone() })?;
    let on = |key: &str| said.get(key).and_then(Value::as_bool) == Some(true);
    let named = said.get("pooling_mode").and_then(Value::as_str).unwrap_or_default();
    let kinds = [
        (Pooling::Mean, "pooling_mode_mean_tokens", "mean"),
        (Pooling::Cls, "pooling_mode_cls_token", "cls"),
        (Pooling::Last, "pooling_mode_lasttoken", "lasttoken"),
    ];
    let found = kinds.into_iter().find(|(_, flag, name)| on(flag) || named == *name);
    match found {
        Some((pooling, ..)) => Ok(Some(pooling)),
        None => {
            Err(Fault::Unsupported { what: format!("a pooling other than mean, cls and lasttoken ({file})") })
        }
    }
}
