//! Whether models' weights can be packed here, and what became of those that were.

use samovar::{Builder, PackedInfo};

use super::Finding;
use crate::command::Context;

const NAME: &str = "packing";

/// By the built-in model, and by what the daemon counted.
pub(super) async fn finding(context: &Context) -> Finding {
    let Ok(here) = Builder::settings(context.settings.runtime.clone()).build() else {
        return Finding::fine(NAME, "not looked at: the engine does not start");
    };
    let refused = refused(context).await;
    match here.packed("demo").await {
        Err(failure) => Finding::broken(NAME, failure),
        Ok(PackedInfo { key: None, .. }) => Finding::fine(
            NAME,
            "this build packs no weights on this CPU: models are mapped as they lie on the disk",
        ),
        Ok(PackedInfo { key: Some(key), .. }) => {
            let key: String = key.chars().take(16).collect();
            let text = format!("weights can be packed for this CPU ({key})");
            match refused {
                0 => Finding::fine(NAME, text),
                count => Finding::odd(
                    NAME,
                    format!("{text}; {count} packed files were refused since the daemon started"),
                    "`samovar why MODEL` tells why; they are made again in the background",
                ),
            }
        }
    }
}

/// Files that the engine did not take in the life of the daemon.
async fn refused(context: &Context) -> u64 {
    let Ok(Some(daemon)) = context.client().connect().await else { return 0 };
    let stats = daemon.stats().await.unwrap_or_default();
    stats.get("packed").and_then(|packed| packed["refused"]["refused"].as_u64()).unwrap_or_default()
}
