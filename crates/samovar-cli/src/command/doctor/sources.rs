//! Where models would come from: the hub and its token, and what other programs have already.

use super::Finding;
use crate::settings::Settings;

/// What is set up; asks nobody.
pub(super) fn settings(settings: &Settings) -> Finding {
    let sources = &settings.store.sources;
    let hub = sources.hub_endpoint.as_deref().unwrap_or("the public hub");
    let token = match &settings.foreign.token {
        Some((_, from)) => format!("with the token of {from}"),
        None => "without a token".to_owned(),
    };
    let text = if sources.is_offline {
        "offline: only models that are on disk can be used".to_owned()
    } else {
        format!("{hub}, {token}")
    };
    match settings.foreign.remarks.first() {
        Some(remark) => Finding::odd("sources", format!("{text}; {remark}"), "correct it, or unset it"),
        None => Finding::fine("sources", text),
    }
}

/// Models that need no download.
pub(super) fn others(settings: &Settings) -> Option<Finding> {
    let places = &settings.foreign.places;
    let found: Vec<String> = [
        ("the Hugging Face cache", &places.hub),
        ("Ollama", &places.ollama),
        ("LM Studio", &places.lm_studio),
    ]
    .into_iter()
    .filter_map(|(whose, path)| Some((whose, path.as_ref().filter(|path| path.is_dir())?)))
    .map(|(whose, path)| format!("{whose} at {}", path.display()))
    .collect();
    (!found.is_empty()).then(|| {
        Finding::fine(
            "other caches",
            format!("{}; `samovar adopt --dry-run` shows what can be shared", found.join(", ")),
        )
    })
}
