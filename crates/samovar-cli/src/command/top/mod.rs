//! `samovar top`: what the daemon does, as it does it.
//!
//! ```text
//!   /admin/events ─► Board ─┬─► view (pure) ─► lines ─► Screen: a terminal, until the person leaves
//!   keys ─► TopState ───────────┤        └──────────────► once: a table, in a pipe or with --once
//!             └─► TopOrder  └─► as_json
//! ```
//!
//! The loop in `live` is the only part that knows a clock, a terminal or a daemon.

mod bar;
mod board;
mod grid;
mod keys;
mod line;
mod live;
mod mode;
mod rows;
mod screen;
#[cfg(test)]
mod tests;
mod view;

use std::io::IsTerminal;
use std::time::{SystemTime, UNIX_EPOCH};

use samovar_core::Failure;
use serde_json::Value;

use super::Context;
use super::answer::roughly;
use crate::args::Top;
use crate::client::DecisionLine;
use crate::ended::Ended;
use board::Board;
use keys::TopState;
use view::TopView;

/// A pipe has no width; nothing is cut for it.
const PIPE_COLUMNS: usize = 1_000;

pub(super) async fn execute(context: &Context, arguments: &Top) -> Result<(), Ended> {
    let report = &context.report;
    let is_watched = report.stdout_is_terminal() && std::io::stdin().is_terminal();
    if is_watched && !arguments.once && !report.is_json() {
        return live::run(context).await;
    }
    let mut board = Board::default();
    let connection = context.client().connect().await?;
    let is_running = connection.is_some();
    if let Some(connection) = connection
        && let Some(snapshot) = connection.events(None).await?.next().await?
    {
        board.take(&snapshot, unix_ms());
    }
    if report.is_json() {
        return report.json(&board.as_json());
    }
    if !is_running {
        report.note("no daemon is running");
        return Ok(());
    }
    let state = TopState::default();
    let view = TopView { board: &board, now_unix_ms: unix_ms(), silence: None, state: &state, remark: "" };
    for line in view.page(report.columns().unwrap_or(PIPE_COLUMNS)) {
        report.line(line.painted(report.colours_stdout()).trim_end())?;
    }
    Ok(())
}

/// The decisions of a `why` answer, newest first, a text for each.
///
/// # Errors
/// `Internal` when the answer is of another shape altogether.
fn decision_lines(answer: &Value) -> Result<Vec<String>, Failure> {
    let decisions = DecisionLine::read(answer)?;
    if decisions.is_empty() {
        return Ok(vec!["nothing has been decided about it since the daemon started".to_owned()]);
    }
    let line = |decision: &DecisionLine| format!("{:>7} {}", roughly(decision.at_ms_ago), decision.text);
    Ok(decisions.iter().map(line).collect())
}

/// Now, in milliseconds since 1970.
fn unix_ms() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}
