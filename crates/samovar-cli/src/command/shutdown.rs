//! `samovar shutdown`: the daemon leaves, and this returns when it has.

use std::time::Duration;

use samovar_core::units::{TimeSpan, counted};
use samovar_core::{ErrorKind, Failure};
use samovar_server::admin::wire::ShutdownBody;
use serde_json::json;

use super::Context;
use crate::args::Shutdown;
use crate::daemon::lock;
use crate::ended::Ended;

/// Time to unload and end, after the requests have.
const LEAVING: Duration = Duration::from_secs(15);

pub(super) async fn execute(context: &Context, arguments: &Shutdown) -> Result<(), Ended> {
    let lock = lock::daemon_lock(&context.settings.socket);
    let asked = match context.client().connect().await? {
        Some(connection) => {
            let grace_ms = arguments.grace.map(TimeSpan::as_ms);
            match connection.shutdown(&ShutdownBody { grace_ms }).await {
                // It was leaving already.
                Err(failure) if failure.kind == ErrorKind::Unavailable => None,
                answer => Some(answer?),
            }
        }
        None => None,
    };
    // A daemon that drains answers no more, but is still there.
    let pid = asked
        .map(|answer| answer.pid)
        .or_else(|| lock::is_held(&lock).then(|| lock::holder(&lock).map_or(0, |holder| holder.pid)));
    let Some(pid) = pid else {
        context.report.note("no daemon is running");
        return if context.report.is_json() { context.report.json(&json!({ "pid": null })) } else { Ok(()) };
    };
    let progress = context.report.progress();
    progress.say(match asked.map_or(0, |answer| answer.requests_in_flight) {
        0 => "Waiting for the daemon to exit".to_owned(),
        many => format!("Waiting for {} to end", counted(many, "request")),
    });
    let limit = arguments.grace.map_or(context.settings.grace, TimeSpan::as_duration) + LEAVING;
    let is_gone = tokio::select! {
        is_gone = lock::released_by(&lock, pid, limit) => is_gone,
        _ = tokio::signal::ctrl_c() => return Err(Ended::Interrupted),
    };
    drop(progress);
    if !is_gone {
        return Err(Failure::new(
            ErrorKind::Unavailable,
            format!("the daemon (process {pid}) did not exit within {} s", limit.as_secs()),
        )
        .with_hint(format!("`kill {pid}` ends it at once"))
        .into());
    }
    if context.report.is_json() {
        return context.report.json(&json!({ "pid": pid }));
    }
    context.report.line(&format!("the daemon (process {pid}) has exited"))
}
