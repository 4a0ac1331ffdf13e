//! `samovar warm`: loads models now, so that the next request need not wait.

use serde_json::json;

use super::Context;
use super::answer::ms;
use super::backend::{self, Backend};
use crate::args::Warm;
use crate::ended::Ended;

pub(super) async fn execute(context: &Context, arguments: Warm) -> Result<(), Ended> {
    let daemon = Backend::daemon(context);
    let mut ready = Vec::new();
    for name in &arguments.models {
        let model = backend::portable(name, &context.settings)?;
        let took_ms = tokio::select! {
            took = daemon.warm(&context.report, &model, arguments.pin) => took?,
            _ = tokio::signal::ctrl_c() => return Err(Ended::Interrupted),
        };
        if !context.report.is_json() {
            let pinned = if arguments.pin { ", pinned" } else { "" };
            context.report.line(&format!("{name} is ready ({}{pinned})", ms(took_ms)))?;
        }
        ready.push(json!({ "model": name, "took_ms": took_ms, "is_pinned": arguments.pin }));
    }
    if context.report.is_json() { context.report.json(&ready) } else { Ok(()) }
}
