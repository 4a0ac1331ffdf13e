//! Memory for a preparation: whether there can be enough, what is free of it, and what idle models give back.

use std::time::Duration;

use samovar_core::port::PreparePlan;
use samovar_core::units::ByteSize;
use samovar_core::{ErrorKind, Failure, ModelKey};
use samovar_pool::{BackgroundReservation, ModelStats, Snapshot};

use super::Order;
use crate::catalog::Published;
use crate::runtime::Inner;

/// How often is looked whether a model has left.
const LOOK: Duration = Duration::from_millis(20);
/// How long is waited for that.
const LEAVES_WITHIN: Duration = Duration::from_secs(10);

/// Refuses what a request could never load here, which may take the whole budget, and what can not be prepared below the soft
/// limit. An owner may prepare a model for another machine.
///
/// # Errors
/// `TooLarge`.
pub(super) async fn check_fits(
    inner: &Inner,
    published: &Published,
    plan: &PreparePlan,
    order: Order,
) -> Result<(), Failure> {
    let pool = inner.pool.snapshot().await.pool;
    let is_too_large = order == Order::Request && plan.prepared_bytes > pool.budget_bytes;
    let (needed_bytes, most_bytes) = if is_too_large {
        (plan.prepared_bytes, pool.budget_bytes)
    } else {
        (plan.held_bytes, pool.soft_bytes)
    };
    if needed_bytes <= most_bytes {
        return Ok(());
    }
    let Published { name, quantization, .. } = published;
    let [needed, most] = [needed_bytes, most_bytes].map(ByteSize::from_bytes);
    let message = if is_too_large {
        format!("`{name}` as {quantization} needs {needed} of memory, and the budget is {most}")
    } else {
        format!(
            "preparing `{name}` needs {needed} of memory, and at most {most} of the budget are used for that"
        )
    };
    Err(Failure::new(ErrorKind::TooLarge, message)
        .with_param("model")
        .with_hint("set a smaller `quantization`, such as Q4_K_M, or raise pool.budget_bytes"))
}

/// Sets memory aside. Where too little is free, idle models leave, the one that was unused longest first, because the model cannot
/// be used before it is prepared. `None` when all of them are not enough.
pub(super) async fn reserve(inner: &Inner, bytes: u64) -> Option<BackgroundReservation> {
    // Each leaves once at most: one that comes back meanwhile is wanted.
    let mut gone: Vec<ModelKey> = Vec::new();
    loop {
        if let Some(memory) = inner.pool.reserve_background(bytes).await {
            return Some(memory);
        }
        let Snapshot { pool, models, .. } = inner.pool.snapshot().await;
        let is_idle = |model: &&ModelStats| {
            model.idle_ms.is_some() && model.busy_slots == 0 && model.queued == 0 && !model.must_stay
        };
        let idle: Vec<&ModelStats> =
            models.iter().filter(is_idle).filter(|model| !gone.contains(&model.key)).collect();
        let used_bytes = pool.resident_bytes + pool.reserved_bytes + pool.owed_bytes;
        let idle_bytes: u64 = idle.iter().map(|model| model.held_bytes + model.mapped_bytes).sum();
        // None leaves in vain.
        if pool.soft_bytes.saturating_sub(used_bytes.saturating_sub(idle_bytes)) < bytes {
            return None;
        }
        let key = idle.iter().max_by_key(|model| model.idle_ms)?.key.clone();
        inner.pool.unload(key.as_str()).await.ok()?;
        tokio::time::timeout(LEAVES_WITHIN, has_left(inner, &key)).await.ok();
        gone.push(key);
    }
}

/// Returns when the model takes no memory.
async fn has_left(inner: &Inner, key: &ModelKey) {
    loop {
        let models = inner.pool.snapshot().await.models;
        if !models.iter().any(|model| model.key == *key && model.held_bytes + model.mapped_bytes > 0) {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}
