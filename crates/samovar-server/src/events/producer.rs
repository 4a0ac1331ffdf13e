//! Looks at the daemon a few times per second while programs listen, and hands what it finds to the feed.

use std::collections::BTreeMap;
use std::sync::Weak;
use std::time::Duration;

use samovar::ModelStats;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::state::{State, moment};
use crate::app::Shared;
use crate::moment::unix_ms;

/// Between two looks.
const EVERY: Duration = Duration::from_millis(500);
/// Between two looks at the disk, which read directories.
const DISK_EVERY: Duration = Duration::from_secs(10);

/// Runs until no program listens, or the server has gone.
pub(super) async fn produce(shared: Weak<Shared>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut disk_looked: Option<Instant> = None;
    loop {
        ticks.tick().await;
        let Some(shared) = shared.upgrade() else { return };
        if shared.events.is_unheard() {
            return;
        }
        let before = shared.events.state();
        let is_disk_due = disk_looked.is_none_or(|looked| looked.elapsed() >= DISK_EVERY);
        let state = look(&shared, &before, is_disk_due).await;
        if is_disk_due {
            disk_looked = Some(Instant::now());
        }
        shared.events.take_in(state);
    }
}

/// The daemon as it is now.
async fn look(shared: &Shared, before: &State, is_disk_due: bool) -> State {
    let now_unix_ms = unix_ms();
    let runtime = &shared.runtime;
    let snapshot = runtime.snapshot().await;
    let decisions = runtime.decisions(before.last_decision).await;
    let disk = if is_disk_due {
        runtime.disk_use().await.ok().map_or(Value::Null, |disk| plain(&disk))
    } else {
        before.values.get("disk").cloned().unwrap_or_default()
    };
    let models = snapshot.models.iter().map(|model| {
        let key = model.key.as_str().to_owned();
        let row = model_row(model, now_unix_ms, before.row("models", &key));
        (key, row)
    });
    let mut downloads = shared.pulls.ended();
    downloads.extend(runtime.fetches().into_iter().map(|fetch| {
        let row = json!({ "state": "fetching", "progress": fetch.progress });
        (fetch.reference, row)
    }));
    let mut state = State {
        values: BTreeMap::from([
            ("daemon", daemon(shared)),
            ("pool", plain(&snapshot.pool)),
            ("workers", runtime.workers().map_or(Value::Null, |workers| plain(&workers))),
            ("disk", disk),
        ]),
        rows: BTreeMap::from([
            ("models", models.collect()),
            ("requests", shared.requests.rows()),
            ("downloads", downloads),
        ]),
        decisions: before.decisions.clone(),
        last_decision: before.last_decision,
    };
    state.decided(decisions.into_iter().map(|numbered| {
        let at_unix_ms = now_unix_ms.saturating_sub(numbered.decision.at_ms_ago);
        let mut decision = plain(&numbered);
        if let Some(object) = decision.as_object_mut() {
            object.remove("at_ms_ago");
            object.insert("at_unix_ms".to_owned(), at_unix_ms.into());
        }
        (numbered.number, decision)
    }));
    state
}

fn daemon(shared: &Shared) -> Value {
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "started_unix_ms": shared.started_unix_ms,
        "listen": shared.listen,
        "socket": shared.socket,
        "requests_in_flight": shared.server.in_flight(),
        "first_token_ms_p50": shared.requests.first_token_ms_p50(),
    })
}

/// A model with moments instead of ages, so that it is the same while nothing happens to it.
fn model_row(model: &ModelStats, now_unix_ms: u64, before: Option<&Value>) -> Value {
    let mut value = plain(model);
    if let Some(row) = value.as_object_mut() {
        moment(row, ["age_ms", "ready_since_unix_ms"], false, now_unix_ms, before);
        moment(row, ["idle_ms", "idle_since_unix_ms"], false, now_unix_ms, before);
        moment(row, ["expires_in_ms", "expires_at_unix_ms"], true, now_unix_ms, before);
        moment(row, ["retry_in_ms", "retry_at_unix_ms"], true, now_unix_ms, before);
    }
    value
}

fn plain(data: &impl Serialize) -> Value {
    serde_json::to_value(data).expect("invariant: statistics are plain data")
}
