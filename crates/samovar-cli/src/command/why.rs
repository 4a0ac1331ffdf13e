//! `samovar why`: where a model is now, and the pool's latest decisions about it, newest first.

use samovar::PackedInfo;
use samovar_core::units::ByteSize;

use super::answer::roughly;
use super::{Context, backend, pack};
use crate::client::{DecisionLine, Figures, ModelFigures};
use crate::ended::Ended;
use crate::report::{Align, Columns};

pub(super) async fn execute(context: &Context, name: &str) -> Result<(), Ended> {
    let model = backend::portable(name, &context.settings)?;
    let answer = context.running_daemon().await?.why(&model).await?;
    if context.report.is_json() {
        return context.report.json(&answer);
    }
    let decisions = DecisionLine::read(&answer)?;
    let packed = serde_json::from_value::<PackedInfo>(answer["packed"].clone()).ok();
    let layout = packed.map(|packed| format!("its layout is {}", pack::layout(&packed)));
    let Some(latest) = decisions.first() else {
        context.report.line(&format!("nothing has been decided about {name} since the daemon started"))?;
        return layout.map_or(Ok(()), |layout| context.report.line(&layout));
    };
    let figures = Figures::read(&context.running_daemon().await?.stats().await?)?;
    if let Some(model) = figures.models.iter().find(|model| model.name == latest.model) {
        context.report.line(&now(model))?;
        if let Some(layout) = &layout {
            context.report.line(layout)?;
        }
        context.report.line("")?;
    }
    let mut columns = Columns::new(&[("AGO", Align::Right), ("DECISION", Align::Left)]);
    for decision in decisions {
        columns.row([roughly(decision.at_ms_ago), decision.text]);
    }
    context.report.table(columns)
}

/// Where it is, and for how long.
fn now(model: &ModelFigures) -> String {
    let name = &model.name;
    let bytes = model.held_bytes + model.mapped_bytes;
    let failure =
        model.failure.as_deref().map(|failure| format!("; it failed: {failure}")).unwrap_or_default();
    let size = if bytes > 0 { format!(", {}", ByteSize::from_bytes(bytes)) } else { String::new() };
    let stay = match (model.retry_in_ms, model.is_pinned, model.expires_in_ms, model.idle_ms) {
        (Some(retry), ..) => format!("; tried again in {}", roughly(retry)),
        (_, true, ..) => "; pinned".to_owned(),
        (_, _, Some(left), _) => format!("; stays for {} unless somebody asks for it", roughly(left)),
        (.., Some(_)) => "; stays until memory is needed".to_owned(),
        _ => String::new(),
    };
    let state = match model.state.as_str() {
        "absent" | "failed" => "not in memory",
        state => state,
    };
    format!("{name} is {state}{size}{failure}{stay}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_says_where_the_model_is_and_for_how_long() {
        let model = |change: fn(&mut ModelFigures)| {
            let mut model =
                ModelFigures { name: "m".into(), state: "ready".into(), ..ModelFigures::default() };
            change(&mut model);
            now(&model)
        };
        assert_eq!(model(|model| model.state = "absent".into()), "m is not in memory");
        let idle = model(|model| (model.held_bytes, model.expires_in_ms) = (4_100_000_000, Some(90_000)));
        assert_eq!(idle, "m is ready, 4.1 GB; stays for 1m30s unless somebody asks for it");
        let failed = model(|model| {
            model.state = "failed".into();
            model.failure = Some("the worker was killed by SIGKILL".into());
            model.retry_in_ms = Some(4_000);
        });
        assert_eq!(
            failed,
            "m is not in memory; it failed: the worker was killed by SIGKILL; tried again in 4s"
        );
    }
}
