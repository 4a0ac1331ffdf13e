//! `samovar stats`: counters and gauges since the daemon started.

use samovar_core::units::ByteSize;

use super::answer::{ms, roughly};
use super::{Context, ps};
use crate::client::Figures;
use crate::ended::Ended;
use crate::report::{Align, Columns};

pub(super) async fn execute(context: &Context) -> Result<(), Ended> {
    let stats = context.running_daemon().await?.stats().await?;
    if context.report.is_json() {
        return context.report.json(&stats);
    }
    let figures = Figures::read(&stats)?;
    context.report.table(summary(&figures))?;
    if figures.models.iter().any(|model| model.state != "absent") {
        context.report.line("")?;
        context.report.table(ps::table(&figures))?;
    }
    Ok(())
}

/// The pool in words and numbers.
pub(super) fn summary(figures: &Figures) -> Columns {
    let pool = &figures.pool;
    let size = |bytes| ByteSize::from_bytes(bytes).to_string();
    let mut columns = Columns::new(&[("", Align::Left), ("", Align::Left)]);
    let mut row = |name: &str, text: String| columns.row([name.to_owned(), text]);
    if figures.pid > 0 {
        let doors = figures.listen.as_ref().map(|address| format!(", http://{address}")).unwrap_or_default();
        row("daemon", format!("process {}, up {}{doors}", figures.pid, roughly(figures.uptime_ms)));
    }
    row("samovar", format!("{} on {}", figures.version, figures.engine));
    row(
        "requests",
        format!("{} ({} now, {} queued)", pool.requests, figures.requests_in_flight, pool.queued),
    );
    row("hits", format!("{}{}", pool.hits, rate(pool.hits, pool.hits + pool.misses + pool.coalesced)));
    row("misses", format!("{}, and {} that joined a load", pool.misses, pool.coalesced));
    let median = if pool.loads > 0 { format!(", median {}", ms(pool.load_ms_p50)) } else { String::new() };
    let failed =
        if pool.load_failures > 0 { format!(", {} failed", pool.load_failures) } else { String::new() };
    row("loads", format!("{}{median}{failed}", pool.loads));
    row(
        "left memory",
        format!("{} evicted, {} parked, {} resumed", pool.evictions, pool.parked, pool.resumed),
    );
    row("not served", format!("{} refused, {} cancelled", pool.refused, pool.cancelled));
    let reserved = if pool.reserved_bytes > 0 {
        format!(", {} promised", size(pool.reserved_bytes))
    } else {
        String::new()
    };
    row("memory", format!("{} of {}{reserved}", size(pool.resident_bytes), size(pool.budget_bytes)));
    row("budget", pool.budget_source.clone());
    columns
}

fn rate(part: u64, of: u64) -> String {
    if of == 0 { String::new() } else { format!(" ({:.0} %)", part as f64 * 100.0 / of as f64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_needs_something_to_be_a_part_of() {
        assert_eq!(rate(0, 0), "");
        assert_eq!(rate(9, 10), " (90 %)");
    }
}
