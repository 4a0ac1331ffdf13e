//! `samovar plan`: replays a log of requests under several budgets and policies.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use samovar::replay::{Report, Subject, Trace, bound, log, offline, replay};
use samovar::{Budget, Builder, EvictionPolicy, PoolConfig, Runtime};
use samovar_core::units::{ByteSize, counted};
use samovar_core::{ErrorKind, Failure};
use serde::Serialize;
use serde_json::json;

use super::answer::roughly;
use super::{Context, stored};
use crate::args::Plan;
use crate::ended::Ended;
use crate::home;
use crate::report::{Align, Columns};

/// Bytes of a line of a log at most.
const LINE_MAX: u64 = 64 << 10;

pub(super) async fn execute(context: &Context, plan: Plan) -> Result<(), Ended> {
    let runtime = Builder::settings(context.settings.runtime.clone()).build()?;
    let files = plan.trace.clone();
    let (trace, torn_lines) = stored::blocking(move || read(&files)).await?;
    let (prepared, subjects) = prepare(&runtime, trace, &plan).await?;
    let prepared = PreparedTrace { torn_lines, ..prepared };
    let budgets = budgets(&plan, context.settings.runtime.pool.budget.bytes);
    let pool = context.settings.runtime.pool.clone();
    let (trace, results) = stored::blocking(move || {
        let results = compare(&prepared.trace, &subjects, &pool, &budgets, &plan, prepared.can_park);
        Ok::<_, Failure>((prepared, results))
    })
    .await?;
    runtime.shutdown(std::time::Duration::ZERO).await;
    show(context, &trace, &results)
}

/// A trace that can be replayed, and what had to be assumed for it.
struct PreparedTrace {
    trace: Trace,
    /// Models of which nothing is known, with the number of their requests.
    left_out: Vec<(String, usize)>,
    /// Lines that were passed over, since they end in their midst.
    torn_lines: usize,
    /// Requests that did not say for how long they had their slot.
    assumed_holds: usize,
    hold_ms: u64,
    /// What all models need together.
    all_bytes: u64,
    can_park: bool,
}

/// What came of one budget.
#[derive(Debug, Serialize)]
struct Results {
    budget_bytes: u64,
    /// Load time below which no policy gets that serves requests in their order.
    bound_ms: u64,
    policies: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    policy: &'static str,
    /// Of the load time of LRU, what this one needs more, as a part of it; less is negative.
    #[serde(skip_serializing_if = "Option::is_none")]
    against_lru: Option<f64>,
    #[serde(flatten)]
    report: Report,
}

/// The requests of all files, and how many lines end in their midst.
fn read(files: &[std::path::PathBuf]) -> Result<(Trace, usize), Failure> {
    let mut reader = log::Reader::default();
    for file in files {
        reader.begin_file();
        if file == Path::new("-") {
            read_one(&mut reader, file, std::io::stdin().lock())?;
        } else {
            let open = fs_err::File::open(file).map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => {
                    Failure::new(ErrorKind::NotFound, format!("there is no file {}", file.display()))
                        .with_hint("the daemon writes a log if `server.request_log` names a file")
                }
                _ => home::storage("read", file, &error),
            })?;
            read_one(&mut reader, file, BufReader::new(open))?;
        }
    }
    let torn_lines = reader.torn();
    Ok((reader.finish(), torn_lines))
}

fn read_one(reader: &mut log::Reader, file: &Path, mut from: impl BufRead) -> Result<(), Failure> {
    let mut line = Vec::new();
    loop {
        line.clear();
        let taken = from.by_ref().take(LINE_MAX).read_until(b'\n', &mut line);
        if taken.map_err(|error| home::storage("read", file, &error))? == 0 {
            return Ok(());
        }
        reader.take(&String::from_utf8_lossy(&line)).map_err(|error| {
            let name = if file == Path::new("-") { "standard input".into() } else { file.display() .to_string() };
            Failure::new(ErrorKind::InvalidRequest, format!("{name}, {error}"))
                .with_hint("a line is {\"time_ms\":…,\"model\":…}, or TIME_MS MODEL [HOLD_MS]; `samovar plan --help` shows more")
        })?;
    }
}

/// Finds out what the models of the trace cost, and leaves out unknown ones.
async fn prepare(
    runtime: &Runtime,
    mut trace: Trace,
    plan: &Plan,
) -> Result<(PreparedTrace, Vec<Subject>), Failure> {
    let mut subjects = Vec::with_capacity(trace.models.len());
    for model in &trace.models {
        let spec = runtime.spec(&model.name).await.ok();
        subjects.push(Subject::new(model, spec.as_deref()));
    }
    let left_out = trace.retain(|number| subjects[number].is_some());
    let keep = |subject: Subject| match plan.keep_alive {
        Some(keep_alive) => subject.kept(keep_alive),
        None => subject,
    };
    let subjects: Vec<Subject> = subjects.into_iter().flatten().map(keep).collect();
    if trace.requests.is_empty() {
        return Err(nothing_left(&left_out));
    }
    let hold_ms = plan.hold.as_ms();
    let assumed_holds = trace.assume_holds(hold_ms);
    let all_bytes = subjects.iter().map(|subject| subject.costs.footprint.total_bytes()).sum();
    let can_park = !plan.no_parking && subjects.iter().any(Subject::can_park);
    Ok((
        PreparedTrace { trace, left_out, torn_lines: 0, assumed_holds, hold_ms, all_bytes, can_park },
        subjects,
    ))
}

fn nothing_left(left_out: &[(String, usize)]) -> Failure {
    match left_out.first() {
        None => Failure::new(ErrorKind::InvalidRequest, "the log holds no request")
            .with_hint("the daemon writes one line per request if `server.request_log` names a file"),
        Some((model, _)) => {
            Failure::new(ErrorKind::NotFound, "the costs of all models in the log are unknown")
                .with_hint(format!("state their costs: {}", facts_line(model)))
        }
    }
}

fn facts_line(model: &str) -> String {
    format!("{{\"model\":{model:?},\"bytes\":5100000000,\"load_ms\":3200}}")
}

fn budgets(plan: &Plan, configured: u64) -> Vec<u64> {
    let mut budgets = match plan.budget.as_slice() {
        [] => vec![configured / 2, configured, configured.saturating_mul(2)],
        asked => asked.iter().map(|size| size.bytes()).collect(),
    };
    budgets.sort_unstable();
    budgets.dedup();
    budgets
}

fn compare(
    trace: &Trace,
    subjects: &[Subject],
    pool: &PoolConfig,
    budgets: &[u64],
    plan: &Plan,
    can_park: bool,
) -> Vec<Results> {
    let asked = if plan.policy.is_empty() { &EvictionPolicy::ALL[..] } else { &plan.policy };
    let under = |budget_bytes: u64| {
        let lived = |policy| {
            let budget = Budget { bytes: budget_bytes, source: "plan".to_owned() };
            replay(trace, subjects, &PoolConfig { budget, eviction: policy, ..pool.clone() }, can_park)
        };
        let lru = lived(EvictionPolicy::Lru);
        let row = |policy: &'static str, report: Report| {
            let against_lru = (lru.load_ms > 0).then(|| report.load_ms as f64 / lru.load_ms as f64 - 1.0);
            Row { policy, against_lru, report }
        };
        let mut policies: Vec<Row> = asked
            .iter()
            .map(|policy| match policy {
                EvictionPolicy::Lru => row(policy.name(), lru.clone()),
                _ => row(policy.name(), lived(*policy)),
            })
            .collect();
        policies.push(row("offline", offline(trace, subjects, budget_bytes, can_park)));
        let bound_ms = bound(trace, subjects, budget_bytes, can_park);
        Results { budget_bytes, bound_ms, policies }
    };
    budgets.iter().copied().map(under).collect()
}

fn show(context: &Context, prepared: &PreparedTrace, results: &[Results]) -> Result<(), Ended> {
    let trace = &prepared.trace;
    let left_out: Vec<_> = prepared
        .left_out
        .iter()
        .map(|(model, requests)| json!({ "model": model, "requests": requests }))
        .collect();
    if context.report.is_json() {
        return context.report.json(&json!({
            "requests": trace.requests.len(),
            "models": trace.models.len(),
            "span_ms": trace.span_ms(),
            "models_bytes": prepared.all_bytes,
            "can_park": prepared.can_park,
            "assumed_holds": prepared.assumed_holds,
            "torn_lines": prepared.torn_lines,
            "left_out": left_out,
            "budgets": results,
        }));
    }
    context.report.line(&format!(
        "{} for {} within {}; together the models need {}{}",
        counted(trace.requests.len(), "request"),
        counted(trace.models.len(), "model"),
        roughly(trace.span_ms()),
        ByteSize::from_bytes(prepared.all_bytes),
        if prepared.can_park { "" } else { "; nothing is parked" },
    ))?;
    context.report.line("")?;
    context.report.table(table(results))?;
    context.report.note("\noffline knows all future requests; no policy that serves requests in their order gets below the bound");
    if prepared.assumed_holds > 0 {
        context.report.note(&format!(
            "no hold time in {}: assumed 50 ms per token, or {} (--hold)",
            counted(prepared.assumed_holds, "request"),
            roughly(prepared.hold_ms)
        ));
    }
    if prepared.torn_lines > 0 {
        context.report.note(&format!(
            "skipped {} that a crash or a full disk cut off",
            counted(prepared.torn_lines, "line")
        ));
    }
    for (model, requests) in &prepared.left_out {
        let line = facts_line(model);
        context.report.note(&format!(
            "left out {} for {model}, whose cost is unknown; a line like {line} states it",
            counted(*requests, "request")
        ));
    }
    Ok(())
}

fn table(results: &[Results]) -> Columns {
    let mut columns = Columns::new(&[
        ("BUDGET", Align::Left),
        ("POLICY", Align::Left),
        ("READY", Align::Right),
        ("PARKED", Align::Right),
        ("LOADED", Align::Right),
        ("LOAD TIME", Align::Right),
        ("AGAINST LRU", Align::Right),
        ("WAIT P50", Align::Right),
        ("P99", Align::Right),
        ("REFUSED", Align::Right),
        ("EVICTED", Align::Right),
    ]);
    for result in results {
        let mut budget = ByteSize::from_bytes(result.budget_bytes).to_string();
        for row in &result.policies {
            columns.row(std::iter::once(std::mem::take(&mut budget)).chain(cells(row)));
        }
        let mut bound = ["", "(bound)", "", "", "", "", "", "", "", "", ""].map(str::to_owned);
        bound[5] = seconds(result.bound_ms);
        columns.row(bound);
    }
    columns
}

fn cells(row: &Row) -> [String; 10] {
    let report = &row.report;
    let share = |part: u64| format!("{:.1} %", part as f64 * 100.0 / report.requests.max(1) as f64);
    [
        row.policy.to_owned(),
        share(report.ready),
        share(report.parked),
        share(report.loaded + report.joined),
        seconds(report.load_ms),
        row.against_lru.map_or_else(|| "-".to_owned(), |part| format!("{:+.1} %", part * 100.0)),
        wait(report.wait_ms_p50),
        wait(report.wait_ms_p99),
        report.refused.to_string(),
        report.evictions.to_string(),
    ]
}

fn wait(ms: u64) -> String {
    if ms < 1_000 { format!("{ms} ms") } else { seconds(ms) }
}

fn seconds(ms: u64) -> String {
    format!("{:.1} s", ms as f64 / 1e3)
}
