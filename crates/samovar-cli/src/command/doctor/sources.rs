//! Where models would come from: the hub and its token, and what other programs have already.

use samovar_core::model::ArtifactRef;
use samovar_core::{ErrorKind, Failure};
use tokio::time::Instant;

use super::Finding;
use crate::command::Context;
use crate::command::answer::ms;
use crate::settings::Settings;

/// A repository that does not exist: a hub that says so answers.
const ABSENT: &str = "hf://samovar/doctor";

/// What is set up; asks no server.
pub(super) fn settings(settings: &Settings, is_asked: bool) -> Finding {
    let sources = &settings.runtime.store.sources;
    let hub = sources.hub_endpoint.as_deref().unwrap_or("the public hub");
    let token = match &settings.foreign.token {
        Some((_, from)) => format!("with the token of {from}"),
        None => "without a token".to_owned(),
    };
    let text = if sources.is_offline {
        "offline: only models that are on disk can be used".to_owned()
    } else {
        let how = if is_asked { "" } else { "; `samovar doctor --network` asks whether it answers" };
        format!("{hub}, {token}{how}")
    };
    match settings.foreign.remarks.first() {
        Some(remark) => Finding::odd("sources", format!("{text}; {remark}"), "correct it, or unset it"),
        None => Finding::fine("sources", text),
    }
}

/// Asks the hub for something that it does not have.
pub(super) async fn network(context: &Context) -> Finding {
    let settings = &context.settings;
    let hub = settings.runtime.store.sources.hub_endpoint.as_deref().unwrap_or("the public hub");
    let reference: ArtifactRef = ABSENT.parse().expect("invariant: a well-formed reference");
    let began = Instant::now();
    let asked = match context.store().await {
        Ok(store) => store.plan(&reference, None).await.map(|_| ()).map_err(Failure::from),
        Err(failure) => Err(failure),
    };
    let took = ms(began.elapsed().as_secs_f64() * 1e3);
    match asked {
        Ok(()) => Finding::fine("network", format!("{hub} answers in {took}")),
        Err(failure) if failure.kind == ErrorKind::NotFound => {
            Finding::fine("network", format!("{hub} answers in {took}"))
        }
        // Some hubs say so of what they do not have, to those whom they do not know.
        Err(failure) if failure.kind == ErrorKind::Forbidden && settings.foreign.token.is_none() => {
            Finding::fine("network", format!("{hub} answers in {took}"))
        }
        Err(failure) => {
            let message = format!("{hub}: {}", failure.message);
            Finding::broken("network", failure.with_message(message))
        }
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
