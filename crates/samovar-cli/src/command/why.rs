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
    let figures = match decisions.first() {
        Some(_) => Figures::read(&context.running_daemon().await?.stats().await?)?,
        None => Figures::default(),
    };
    let heading = heading(name, &decisions, &figures, layout);
    for line in &heading {
        context.report.line(line)?;
    }
    if decisions.is_empty() {
        return Ok(());
    }
    if !heading.is_empty() {
        context.report.line("")?;
    }
    let mut columns = Columns::new(&[("AGO", Align::Right), ("DECISION", Align::Left)]);
    for decision in decisions {
        columns.row([roughly(decision.at_ms_ago), decision.text]);
    }
    context.report.table(columns)
}

/// What is said before the decisions: where the model is, if the pool knows it, and how its weights lie, if it is here.
fn heading(name: &str, decisions: &[DecisionLine], figures: &Figures, layout: Option<String>) -> Vec<String> {
    let is_now = match decisions.first() {
        None => Some(format!("nothing has been decided about {name} since the daemon started")),
        Some(latest) => figures.models.iter().find(|model| model.name == latest.model).map(now),
    };
    is_now.into_iter().chain(layout).collect()
}

/// Where it is, and for how long.
fn now(model: &ModelFigures) -> String {
    let name = &model.name;
    let bytes = model.held_bytes + model.mapped_bytes;
    // What works again has its failure in the list below, with its age.
    let is_kept_from_memory =
        model.retry_in_ms.is_some() || model.state == "failed" || model.state == "absent";
    let failure = model.failure.as_deref().filter(|_| is_kept_from_memory);
    let failure = failure.map(|failure| format!("; it failed: {failure}")).unwrap_or_default();
    let size = if bytes > 0 { format!(", {}", ByteSize::from_bytes(bytes)) } else { String::new() };
    let stay = match (model.retry_in_ms, model.is_pinned, model.expires_in_ms, model.idle_ms) {
        (Some(retry), ..) => format!("; tried again in {}", roughly(retry)),
        (_, true, ..) => "; pinned".to_owned(),
        (_, _, Some(left), _) => format!("; stays for {} if no request comes", roughly(left)),
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
    fn the_layout_is_told_of_a_model_that_the_pool_has_forgotten_too() {
        let layout = || Some("its layout is packed".to_owned());
        let decisions = [DecisionLine { model: "m".into(), ..DecisionLine::default() }];
        let figures = Figures::default();
        assert_eq!(heading("m", &decisions, &figures, layout()), ["its layout is packed"]);
        assert_eq!(heading("m", &[], &figures, layout()).len(), 2);
    }

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
        assert_eq!(idle, "m is ready, 4.1 GB; stays for 1m30s if no request comes");
        let recovered = model(|model| model.failure = Some("the worker was killed by SIGKILL".into()));
        assert_eq!(recovered, "m is ready");
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
