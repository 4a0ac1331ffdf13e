//! Methods that bring models to the disk and into memory, clear both, and tell of them: what the admin API and the command line do,
//! by the same functions.

use std::pin::pin;

use samovar::store::CollectOptions;
use samovar::{Origin, WarmOptions};
use samovar_core::{ErrorKind, Failure};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;

use super::session::{Answered, CallContext, Notifier};
use super::wire::{Fault, parsed};
use crate::admin::wire::{ClearTier, WaitEvent, WarmBody, WarmEvent};
use crate::admin::{facts, warm};
use crate::field::{Field, field};
use crate::generation::running::{leaving, until_cut};

/// News that wait to be told; progress of a fetch for which there is no room is left out.
const NEWS: usize = 16;

const MODEL: Field =
    field("model", "The model: a name, a path, or a reference such as `org/name:Q4_K_M`.").text();
pub(super) const CACHE_MODEL: &[Field] = &[MODEL];
pub(super) const WARM_CACHE: &[Field] =
    &[MODEL, field("pin", "True: also keep it from being unloaded.").boolean()];
pub(super) const CLEAR_CACHE: &[Field] = &[
    field(
        "tier",
        "`memory` (default): models are unloaded as soon as nothing uses them. `disk`: what is beyond the quota or the age limit is removed, as `samovar gc` does.",
    )
    .one_of(&["memory", "disk"]),
    field("model", "In memory, this model alone; all when it is absent.").text(),
    field("dry_run", "True: only say what would be removed from the disk.").boolean(),
];

/// Takes no parameters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoParams {}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CacheBody {
    model: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClearBody {
    tier: Option<ClearTier>,
    model: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

/// `cache_model`: fetches a model, unless it is here.
pub(super) async fn cache_model(call: CallContext) -> Result<Answered, Fault> {
    let CallContext { app, params, notifier, .. } = &call;
    let CacheBody { model } = parsed(params.clone())?;
    let _in_flight = app.server.begin();
    let (waits, mut waiting) = mpsc::channel(NEWS);
    let options = WarmOptions::default().waits(waits);
    let mut fetched = pin!(until_cut(app, app.runtime.fetch(&model, options)));
    let fetch_ms = loop {
        tokio::select! {
            biased;
            fetched = &mut fetched => break fetched?,
            Some(wait) = waiting.recv() => tell(notifier, "cache_model.progress", WaitEvent::of(wait)).await,
        }
    };
    let info = app.runtime.model(&model, Origin::Owner).await?;
    Ok(Answered::of(
        &json!({ "was_here": fetch_ms.is_none(), "took_ms": fetch_ms.unwrap_or(0.0), "model": info }),
    ))
}

/// `warm_cache`: loads a model, and perhaps pins it. The load goes on when its call is cancelled, for the pool owns it.
pub(super) async fn warm_cache(call: CallContext) -> Result<Answered, Fault> {
    let order: WarmBody = parsed(call.params.clone())?;
    let (model, is_pinned) = (order.model.clone(), order.pin);
    let mut events = warm::begin(&call.app, order);
    let watched = async {
        while let Some(event) = events.recv().await {
            match event {
                WarmEvent::Waiting(wait) => tell(&call.notifier, "warm_cache.progress", Some(wait)).await,
                WarmEvent::Done { took_ms } => return Ok(took_ms),
                WarmEvent::Failed(failure) => return Err(failure),
            }
        }
        Err(leaving())
    };
    let took_ms = until_cut(&call.app, watched).await?;
    Ok(Answered::of(&json!({ "model": model, "took_ms": took_ms, "is_pinned": is_pinned })))
}

/// `clear_cache`: unloads models, or collects what the disk is not needed for.
pub(super) async fn clear_cache(call: CallContext) -> Result<Answered, Fault> {
    let ClearBody { tier, model, dry_run } = parsed(call.params.clone())?;
    let runtime = &call.app.runtime;
    match (tier.unwrap_or(ClearTier::Memory), model) {
        (ClearTier::Memory, _) if dry_run => {
            Err(wrong("dry_run", "`dry_run` is for the disk", "pool_status tells what is in memory"))
        }
        (ClearTier::Memory, model) => {
            let instances = match model {
                Some(model) => runtime.unload(&model).await?,
                None => runtime.unload_all().await?,
            };
            Ok(Answered::of(&json!({ "tier": "memory", "instances": instances })))
        }
        (ClearTier::Disk, Some(_)) => {
            let hint = "`samovar rm MODEL` removes one model from the disk";
            Err(wrong("model", "the disk is cleared by its quota and age limit, not by name", hint))
        }
        (ClearTier::Disk, None) => {
            let options = CollectOptions { is_dry_run: dry_run, ..CollectOptions::default() };
            let collected = runtime.collect(options).await?;
            Ok(Answered::of(&json!({ "tier": "disk", "collected": collected })))
        }
    }
}

/// `get_cache_stats`: every number that there is.
pub(super) async fn get_cache_stats(call: CallContext) -> Result<Answered, Fault> {
    let NoParams {} = parsed(call.params.clone())?;
    Ok(Answered::of(&facts::of_daemon(&call.app).await))
}

/// `pool_status`: what is in memory now.
pub(super) async fn pool_status(call: CallContext) -> Result<Answered, Fault> {
    let NoParams {} = parsed(call.params.clone())?;
    let stats = call.app.runtime.stats().await;
    Ok(Answered::of(&json!({
        "requests_in_flight": call.app.server.in_flight(),
        "uptime_ms": stats.uptime_ms,
        "pool": stats.pool,
        "workers": stats.workers,
        "models": stats.models,
    })))
}

/// Tells what a request waits for.
pub(super) async fn tell(notifier: &Notifier, method: &str, wait: Option<WaitEvent>) {
    if let Some(wait) = wait
        && notifier.tells()
    {
        notifier.tell(method, &json!({ "waiting": wait })).await;
    }
}

fn wrong(param: &str, message: &str, hint: &str) -> Fault {
    Failure::new(ErrorKind::InvalidRequest, message).with_param(param).with_hint(hint).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::{names, parsed as fields_of};

    #[test]
    fn the_described_parameters_are_those_that_are_parsed() {
        assert_eq!(names(CACHE_MODEL), fields_of::<CacheBody>());
        assert_eq!(names(WARM_CACHE), fields_of::<WarmBody>());
        assert_eq!(names(CLEAR_CACHE), fields_of::<ClearBody>());
    }
}
