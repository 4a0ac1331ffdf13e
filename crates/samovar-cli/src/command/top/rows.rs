//! Models, requests, downloads and decisions as rows of tables.

use samovar_core::units::counted;

use super::board::{Board, BoardFields};
use super::grid::{GridColumn, GridRow};
use super::line::{ScreenLine, Tone, cut};
use super::view::size;
use crate::command::answer::{ms, roughly};

/// A text of a failure takes so many columns of a table.
const FAILURE_COLUMNS: usize = 32;
/// Downloads that ended longer ago are not shown.
const ENDED_MS: u64 = 600_000;

pub(super) fn model_heads(title: String) -> [GridColumn; 10] {
    [
        GridColumn::words(title, 0),
        GridColumn::words("STATE", 9),
        GridColumn::numbers("HELD", 5),
        GridColumn::numbers("MAPPED", 4),
        GridColumn::numbers("INST", 2),
        GridColumn::numbers("BUSY", 8),
        GridColumn::numbers("QUEUED", 7),
        GridColumn::numbers("HITS", 3),
        GridColumn::numbers("LOAD", 1),
        GridColumn::words("UNTIL", 6),
    ]
}

/// A model with its sign in the bars.
pub(super) fn model(model: BoardFields<'_>, sign: char, is_selected: bool, now_unix_ms: u64) -> GridRow {
    let tone = match model.text("state") {
        _ if is_selected => Tone::Head,
        "failed" => Tone::Bad,
        "absent" => Tone::Dim,
        "busy" => Tone::Good,
        "ready" | "parked" => Tone::Plain,
        _ => Tone::Odd,
    };
    let state = match (model.text("state"), model.real("progress")) {
        ("loading", Some(part)) => format!("loading {}", percent(part)),
        (state, _) => state.to_owned(),
    };
    let [held, mapped] = ["held_bytes", "mapped_bytes"].map(|field| match model.number(field) {
        0 => "-".to_owned(),
        bytes => size(bytes),
    });
    let load =
        if model.number("loads") > 0 { ms(model.real("load_ms_p50").unwrap_or(0.0)) } else { "-".to_owned() };
    let mark = if is_selected { '>' } else { ' ' };
    let cells = vec![
        format!("{mark}{sign} {}", model.text("name")),
        state,
        held,
        mapped,
        format!("{}/{}", model.number("instances"), model.number("instances_max")),
        format!("{}/{}", model.number("busy_slots"), model.number("slots")),
        model.number("queued").to_string(),
        model.number("hits").to_string(),
        load,
        until(model, now_unix_ms),
    ];
    (tone, cells)
}

/// How long it stays, or why it is not there.
fn until(model: BoardFields<'_>, now_unix_ms: u64) -> String {
    let until = |field: &str| model.maybe(field).map(|at| roughly(at.saturating_sub(now_unix_ms)));
    if let Some(retry) = until("retry_at_unix_ms") {
        return cut(&format!("again in {retry}: {}", model.text("failure")), FAILURE_COLUMNS);
    }
    match (model.text("state"), model.is("is_pinned"), until("expires_at_unix_ms")) {
        ("failed", ..) => cut(model.text("failure"), FAILURE_COLUMNS),
        (_, true, _) => "pinned".to_owned(),
        ("absent", ..) => "-".to_owned(),
        (_, _, Some(left)) => left,
        _ if model.maybe("idle_since_unix_ms").is_some() => "needed".to_owned(),
        _ => "-".to_owned(),
    }
}

pub(super) fn request_heads() -> Vec<GridColumn> {
    vec![
        GridColumn::words("REQUEST", 0),
        GridColumn::words("CLIENT", 7),
        GridColumn::words("PROGRESS", 9),
        GridColumn::numbers("TOKENS/S", 8),
        GridColumn::numbers("AGE", 6),
    ]
}

/// The requests in flight, the oldest first.
pub(super) fn requests(board: &Board, now_unix_ms: u64) -> Vec<GridRow> {
    let row = |(number, request): (&str, BoardFields<'_>)| {
        let speed = board.speed(number).map_or_else(|| "-".to_owned(), |speed| format!("{speed:.1}"));
        let age = roughly(now_unix_ms.saturating_sub(request.number("began_unix_ms")));
        let client = Some(request.text("client")).filter(|client| !client.is_empty()).unwrap_or("-");
        let tone = if request.text("phase") == "queued" { Tone::Odd } else { Tone::Plain };
        let cells =
            vec![format!("   {}", request.text("model")), client.to_owned(), progress(request), speed, age];
        (tone, cells)
    };
    board.requests().into_iter().map(row).collect()
}

/// What a request waits for, or how much of it is done.
fn progress(request: BoardFields<'_>) -> String {
    let phase = request.text("phase");
    match phase {
        "queued" => {
            let about = request.maybe("estimate_ms").map(|ms| format!(", about {}", roughly(ms)));
            format!("queued, place {}{}", request.number("position"), about.unwrap_or_default())
        }
        "loading" | "preparing" => format!("{phase} {}", percent(request.real("fraction").unwrap_or(0.0))),
        "fetching" if request.number("total_bytes") > 0 => {
            let (done, total) = (request.number("done_bytes"), request.number("total_bytes"));
            format!("fetching {}", percent(done as f64 / total as f64))
        }
        "prefill" if request.number("prompt_tokens") > 0 => {
            format!("prompt {}/{}", request.number("computed_tokens"), request.number("prompt_tokens"))
        }
        "prefill" => "prompt".to_owned(),
        "decode" => counted(request.inner("usage").number("completion_tokens"), "token"),
        phase => phase.to_owned(),
    }
}

pub(super) fn download_heads() -> Vec<GridColumn> {
    vec![GridColumn::words("DOWNLOAD", 0), GridColumn::words("PROGRESS", 9)]
}

/// Downloads under way, and those that ended a short time ago.
pub(super) fn downloads(board: &Board, now_unix_ms: u64) -> Vec<GridRow> {
    let row = |(reference, download): (&str, BoardFields<'_>)| {
        let ended = now_unix_ms.saturating_sub(download.number("ended_unix_ms"));
        let (tone, text) = match download.text("state") {
            "fetching" => (Tone::Plain, transfer(download.inner("progress"))),
            _ if ended > ENDED_MS => return None,
            "failed" => {
                let message = download.inner("failure").text("message");
                (Tone::Bad, format!("failed {} ago: {message}", roughly(ended)))
            }
            state => (Tone::Dim, format!("{state} {} ago", roughly(ended))),
        };
        Some((tone, vec![format!("   {reference}"), text]))
    };
    board.section("downloads").fields().filter_map(row).collect()
}

/// How far a download is, how fast it is, and when it ends.
fn transfer(progress: BoardFields<'_>) -> String {
    let verifying = progress.inner("verifying");
    let (verb, of) =
        if verifying.0.is_null() { ("", progress.inner("fetching")) } else { ("checking ", verifying) };
    let (done, total) = (of.number("done_bytes"), of.number("total_bytes"));
    if total == 0 {
        let reason = progress.inner("unanswered").text("reason");
        return if reason.is_empty() {
            "asking the source".to_owned()
        } else {
            format!("no answer: {reason}")
        };
    }
    let rate = of.real("bytes_per_s").unwrap_or(0.0);
    let about = if rate > 0.0 {
        let left_ms = total.saturating_sub(done) as f64 / rate * 1e3;
        format!(", {}/s, {} left", size(rate as u64), roughly(left_ms as u64))
    } else {
        String::new()
    };
    format!("{verb}{} of {}{about}", percent(done as f64 / total as f64), size(total))
}

/// A decision of the pool with its reason.
pub(super) fn decision(decision: BoardFields<'_>, now_unix_ms: u64) -> ScreenLine {
    let ago = roughly(now_unix_ms.saturating_sub(decision.number("at_unix_ms")));
    let mut line = ScreenLine::of(Tone::Dim, &format!("{ago:>7}  "));
    let tone = match decision.text("what") {
        "load_failed" | "growth_failed" | "died" | "refused" => Tone::Bad,
        "evicted" => Tone::Odd,
        _ => Tone::Plain,
    };
    line.push(tone, &format!("{}: {}", decision.text("model"), decision.text("text")));
    line
}

fn percent(part: f64) -> String {
    format!("{:.0} %", part.clamp(0.0, 1.0) * 100.0)
}
