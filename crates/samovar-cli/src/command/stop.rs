//! `samovar stop`: unloads a model, or all; the daemon stays.

use samovar_server::admin::wire::UnloadBody;
use serde_json::json;

use super::{Context, backend};
use crate::args::StopModel;
use crate::ended::Ended;

pub(super) async fn execute(context: &Context, arguments: StopModel) -> Result<(), Ended> {
    let model =
        arguments.model.as_deref().map(|name| backend::portable(name, &context.settings)).transpose()?;
    let instances = if let Some(connection) = context.client().connect().await? {
        connection.unload(&UnloadBody { model, all: arguments.all }).await?.instances
    } else {
        context.report.note("no daemon is running, so nothing is loaded");
        0
    };
    if context.report.is_json() {
        return context.report.json(&json!({ "instances": instances }));
    }
    context.report.line(&match (arguments.model.as_deref(), instances) {
        (Some(name), 0) => format!("{name} was not loaded"),
        (Some(name), _) => format!("{name} leaves memory as soon as nothing uses it"),
        (None, 0) => "nothing was loaded".to_owned(),
        (None, 1) => "1 model leaves memory as soon as nothing uses it".to_owned(),
        (None, many) => format!("{many} models leave memory as soon as nothing uses them"),
    })
}
