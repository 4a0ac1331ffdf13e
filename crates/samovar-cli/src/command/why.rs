//! `samovar why`: the pool's latest decisions about a model, newest first.

use super::answer::roughly;
use super::{Context, backend};
use crate::client::DecisionLine;
use crate::ended::Ended;
use crate::report::{Align, Columns};

pub(super) async fn execute(context: &Context, name: &str) -> Result<(), Ended> {
    let model = backend::portable(name, &context.settings)?;
    let answer = context.running_daemon().await?.why(&model).await?;
    if context.report.is_json() {
        return context.report.json(&answer);
    }
    let decisions = DecisionLine::read(&answer)?;
    if decisions.is_empty() {
        return context
            .report
            .line(&format!("nothing has been decided about {name} since the daemon started"));
    }
    let mut columns = Columns::new(&[("AGO", Align::Right), ("WHAT", Align::Left), ("WHY", Align::Left)]);
    for decision in decisions {
        columns.row([roughly(decision.at_ms_ago), decision.what.replace('_', " "), decision.text]);
    }
    context.report.table(columns)
}
