//! `samovar prepare`: converts published models now, and tells what came of it.

use samovar::{PreparedInfo, Quantization};
use samovar_core::Failure;
use samovar_core::units::ByteSize;
use samovar_server::admin::wire::{PrepareBody, PrepareEvent};
use serde_json::json;

use super::answer::roughly;
use super::{Context, backend, stored};
use crate::args::Prepare;
use crate::client::Connection;
use crate::daemon::start;
use crate::ended::Ended;

pub(super) async fn execute(context: &Context, arguments: Prepare) -> Result<(), Ended> {
    let mut prepared = Vec::new();
    for name in &arguments.models {
        let model = backend::portable(name, &context.settings)?;
        let info = prepare(context, &model, arguments.quantize).await?;
        if context.report.is_json() {
            prepared.push(json!({ "model": name, "prepared": info }));
        } else {
            context.report.line(&sentence(name, &info))?;
        }
    }
    if context.report.is_json() { context.report.json(&prepared) } else { Ok(()) }
}

/// Has the daemon prepare a model in this number format, or in its own.
pub(super) async fn prepare(
    context: &Context,
    model: &str,
    quantization: Option<Quantization>,
) -> Result<PreparedInfo, Ended> {
    tokio::select! {
        info = ask(context, model, quantization) => Ok(info?),
        _ = tokio::signal::ctrl_c() => Err(Ended::Interrupted),
    }
}

async fn ask(
    context: &Context,
    model: &str,
    quantization: Option<Quantization>,
) -> Result<PreparedInfo, Failure> {
    stored::keep_offline(context, model).await?;
    let body = PrepareBody { model: model.to_owned(), quantization };
    let connection = context.daemon().await?;
    let send = async |connection: Connection| connection.prepare(&body).await;
    let mut events = start::ask(&context.settings, connection, send).await?;
    let progress = context.report.progress();
    progress.say(format!("Preparing {model}"));
    loop {
        match backend::event(context, events.next().await).await? {
            PrepareEvent::Waiting(wait) => context.report.waiting(&progress, model, &wait.into()),
            PrepareEvent::Done(prepared) => return Ok(prepared),
            PrepareEvent::Failed(failure) => return Err(stored::of_daemon(context, model, failure)),
        }
    }
}

/// What came of it.
pub(super) fn sentence(name: &str, info: &PreparedInfo) -> String {
    let PreparedInfo { quantization, bytes, took_ms, .. } = info;
    let size = ByteSize::from_bytes(*bytes);
    match took_ms {
        Some(ms) => format!("{name} is prepared as {quantization}, {size}, in {}", roughly(*ms as u64)),
        None => format!("{name} was prepared before as {quantization}, {size}"),
    }
}
