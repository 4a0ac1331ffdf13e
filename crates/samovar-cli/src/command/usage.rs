//! `samovar usage`: requests and tokens by client, model and day, from the daemon or, where there is none, from its files.

use std::time::Duration;

use samovar_core::{ErrorKind, Failure};
use samovar_server::admin::wire::{GroupBy, UsageReport, UsageRow};
use samovar_server::read_usage;

use super::Context;
use crate::args::Usage;
use crate::ended::Ended;
use crate::report::{Align, Columns};

pub(super) async fn execute(context: &Context, arguments: Usage) -> Result<(), Ended> {
    let back = arguments.since.map(|span| Duration::from_millis(span.as_ms()));
    let by = if arguments.by.is_empty() { vec![GroupBy::Client, GroupBy::Model] } else { arguments.by };
    let report = match context.client().connect().await? {
        Some(connection) => connection.usage(&by, back).await?,
        None => match &context.settings.usage_dir {
            Some(folder) => read_usage(folder, back, &by)?,
            None => return Err(not_counted().into()),
        },
    };
    if context.report.is_json() {
        return context.report.json(&report);
    }
    if report.rows.is_empty() {
        let since = report.since.map(|day| format!(" since {day}")).unwrap_or_default();
        return context.report.line(&format!("no model was used{since}"));
    }
    context.report.table(table(&report, &by))
}

fn not_counted() -> Failure {
    Failure::new(ErrorKind::Unsupported, "what clients use is not counted")
        .with_hint("write `usage = true` under [server] in samovar.toml, and restart the daemon")
}

/// The columns that a report may have before its numbers, from left to right.
const NAMED: [(GroupBy, &str); 3] =
    [(GroupBy::Day, "DAY"), (GroupBy::Client, "CLIENT"), (GroupBy::Model, "MODEL")];

fn table(report: &UsageReport, by: &[GroupBy]) -> Columns {
    let named: Vec<_> = NAMED.into_iter().filter(|(group, _)| by.contains(group)).collect();
    let mut heads: Vec<_> = named.iter().map(|(_, head)| (*head, Align::Left)).collect();
    heads.extend(["REQUESTS", "PROMPT", "CACHED", "ANSWER"].map(|head| (head, Align::Right)));
    let mut columns = Columns::new(&heads);
    for row in &report.rows {
        let names = named.iter().map(|(group, _)| name(row, *group).to_owned());
        columns.row(names.chain(numbers(row).map(|number| number.to_string())));
    }
    columns
}

fn name(row: &UsageRow, group: GroupBy) -> &str {
    let name = match group {
        GroupBy::Day => row.day.as_deref(),
        GroupBy::Client => row.client.as_deref(),
        GroupBy::Model => row.model.as_deref(),
    };
    name.unwrap_or("-")
}

const fn numbers(row: &UsageRow) -> [u64; 4] {
    [row.requests, row.prompt_tokens, row.cached_tokens, row.answer_tokens]
}
