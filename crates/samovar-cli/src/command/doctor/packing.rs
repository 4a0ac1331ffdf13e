//! Whether weights can be packed here, and what became of those that were.

use std::collections::BTreeSet;

use samovar_core::model::TensorFormat;
use samovar_core::{Descriptor, Failure};

use super::Finding;
use crate::command::Context;

const NAME: &str = "packing";

/// Every format that llama.cpp packs on some CPU; the engine's probe says which of them are packed on this one.
const FORMATS: [&str; 11] =
    ["Q4_0", "Q4_1", "Q8_0", "Q2_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "MXFP4", "Q1_0"];

/// By what this process's engine says of them, and by what the daemon counted.
pub(super) async fn finding(context: &Context) -> Finding {
    match formats() {
        Err(failure) => Finding::broken(NAME, failure),
        Ok(packed) if packed.is_empty() => Finding::fine(
            NAME,
            "this build packs no weights on this CPU: models are mapped as they lie on the disk",
        ),
        Ok(packed) => {
            let names: Vec<&str> = packed.iter().map(|(format, _)| *format).collect();
            let text = format!("weights in {} can be packed for this CPU", names.join(", "));
            let keys: BTreeSet<&str> = packed.iter().map(|(_, key)| key.as_str()).collect();
            let keys: Vec<&str> = keys.into_iter().collect();
            let text = format!("{text} ({})", keys.join(", "));
            match refused(context).await {
                0 => Finding::fine(NAME, text),
                count => Finding::odd(
                    NAME,
                    format!("{text}; {count} packed files were refused since the daemon started"),
                    "`samovar why MODEL` shows why; they are made again in the background",
                ),
            }
        }
    }
}

/// Which formats are packed here, each with the key of what is.
fn formats() -> Result<Vec<(&'static str, String)>, Failure> {
    let demo = samovar::built_in();
    let engine = samovar::default_engine()?;
    let key = |format: &'static str| {
        let bytes = demo.tensor_bytes;
        let formats = vec![TensorFormat { name: format.to_owned(), tensors: 1, bytes, matrix_bytes: bytes }];
        let key = engine.packing(&Descriptor { formats, ..demo.clone() })?;
        Some((format, key))
    };
    Ok(FORMATS.into_iter().filter_map(key).collect())
}

/// Files that the engine did not take in the life of the daemon.
async fn refused(context: &Context) -> u64 {
    let Ok(Some(daemon)) = context.client().connect().await else { return 0 };
    let stats = daemon.stats().await.unwrap_or_default();
    stats.get("packed").and_then(|packed| packed["refused"]["refused"].as_u64()).unwrap_or_default()
}
