//! `samovar stop`: unloads models, or all; the daemon stays.

use samovar_core::Failure;
use samovar_core::units::counted;
use samovar_server::admin::wire::UnloadBody;
use serde_json::json;

use super::{Context, backend};
use crate::args::StopModel;
use crate::ended::Ended;

pub(super) async fn execute(context: &Context, arguments: StopModel) -> Result<(), Ended> {
    // All names are read before anything goes.
    let portable = arguments.models.iter().map(|name| backend::portable(name, &context.settings));
    let models = portable.collect::<Result<Vec<_>, _>>()?;
    let orders: Vec<(Option<&str>, UnloadBody)> = if arguments.all {
        vec![(None, UnloadBody { model: None, all: true })]
    } else {
        let names = arguments.models.iter().map(|name| Some(name.as_str()));
        names.zip(models.into_iter().map(|model| UnloadBody { model: Some(model), all: false })).collect()
    };
    let (mut instances, mut failed) = (0, None::<Failure>);
    for (name, order) in orders {
        let Some(connection) = context.client().connect().await? else {
            context.report.note("no daemon is running, so nothing is loaded");
            break;
        };
        match connection.unload(&order).await {
            Ok(unloaded) => {
                instances += unloaded.instances;
                if !context.report.is_json() {
                    context.report.line(&sentence(name, unloaded.instances))?;
                }
            }
            Err(failure) if arguments.models.len() > 1 => {
                context.report.failure(&failure);
                failed = Some(failed.unwrap_or(failure));
            }
            Err(failure) => return Err(failure.into()),
        }
    }
    if context.report.is_json() {
        context.report.json(&json!({ "instances": instances }))?;
    }
    failed.map_or(Ok(()), |failure| Err(Ended::Shown(failure.kind)))
}

fn sentence(name: Option<&str>, instances: u32) -> String {
    match (name, instances) {
        (Some(name), 0) => format!("{name} was not loaded"),
        (Some(name), _) => format!("{name} leaves memory as soon as nothing uses it"),
        (None, 0) => "nothing was loaded".to_owned(),
        (None, 1) => "1 instance leaves memory as soon as nothing uses it".to_owned(),
        (None, many) => format!("{} leave memory as soon as nothing uses them", counted(many, "instance")),
    }
}
