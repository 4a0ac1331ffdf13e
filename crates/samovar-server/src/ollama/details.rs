//! What Ollama's clients read of a model in every list: digest, family, size.

use samovar::ModelInfo;
use samovar_core::Digest;
use serde_json::{Value, json};

use crate::redact::redact;

/// `details`; none of them is ever null.
pub(super) fn details(model: &ModelInfo) -> Value {
    json!({
        "parent_model": redact(&model.parent),
        "format": "gguf",
        "family": model.architecture,
        "families": [model.architecture],
        "parameter_size": parameter_size(model.parameters),
        "quantization_level": model.quantization,
    })
}

/// 64 hexadecimal digits that change with what a name means: the digest of a created name's document, or of the key of a model of the
/// store. Those of a file change with it, and are no digest of its bytes: a large file would take minutes. Nor are they made of its
/// path, which guesses could be tried against.
pub(super) fn digest(model: &ModelInfo) -> String {
    if let Some(digest) = model.digest {
        return digest.to_string();
    }
    let ModelInfo { size_bytes, modified_unix_s, .. } = model;
    let identity = format!("{}\n{size_bytes}\n{modified_unix_s}", redact(&model.name));
    Digest::of_bytes(identity.as_bytes()).to_string()
}

/// What it can be asked for, in Ollama's words.
pub(super) fn capabilities(model: &ModelInfo) -> Vec<&'static str> {
    let can = |work: &str| model.capabilities.iter().any(|own| own == work);
    let all = [
        ("completion", can("generate")),
        ("insert", can("infill")),
        ("embedding", can("embed")),
        ("tools", model.tools == Some(samovar::ToolSupport::ByTemplate)),
        ("thinking", model.thinks),
    ];
    all.into_iter().filter(|(_, has)| *has).map(|(word, _)| word).collect()
}

/// Such as `4.3B`.
fn parameter_size(count: u64) -> String {
    let of = |unit: f64| count as f64 / unit;
    if count >= 1_000_000_000 {
        format!("{:.1}B", of(1e9))
    } else if count >= 1_000_000 {
        format!("{:.2}M", of(1e6))
    } else if count >= 1_000 {
        format!("{:.0}K", of(1e3))
    } else {
        count.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_as_short_as_ollamas() {
        let sizes = [7, 14_123, 361_821_120, 4_300_000_000, 8_030_261_312].map(parameter_size);
        assert_eq!(sizes, ["7", "14K", "361.82M", "4.3B", "8.0B"]);
    }
}
