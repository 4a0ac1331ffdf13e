//! `samovar stats`: counters of each tier: memory since the daemon started, disk and sources since the store was
//! made; and the models of memory and disk. Without a daemon there is no memory to tell of.

use samovar::StoredModel;
use samovar::store::StoreStats;
use samovar_core::Failure;
use samovar_core::units::{ByteSize, counted};
use serde_json::{Value, json};

use super::answer::{ms, roughly};
use super::{Context, list, ps, stored};
use crate::client::{Figures, LifetimeFigures, StoreFigures, StoredFigures, TierFigures, Tiers};
use crate::ended::Ended;
use crate::report::{Align, Columns};

pub(super) async fn execute(context: &Context) -> Result<(), Ended> {
    let Some(connection) = context.client().connect().await? else { return on_disk(context).await };
    let mut stats = connection.stats().await?;
    let mut figures = Figures::read(&stats)?;
    if stats.get("store").is_none_or(Value::is_null) {
        // A daemon that took nothing from the store yet does not know it.
        let (store, models) = of_store(context).await?;
        figures.tiers = with_store(figures.tiers, &store);
        figures.stored = figures_of(&models)?;
        stats["tiers"] = json!(figures.tiers);
        stats["store"] = json!(store);
        stats["stored"] = json!(models);
        figures.store = Some(StoreFigures {
            prefixes: store.prefixes,
            prefix_bytes: store.prefix_bytes,
            prefixes_restored: store.prefixes_restored,
            prefix_tokens_restored: store.prefix_tokens_restored,
        });
    }
    if context.report.is_json() {
        return context.report.json(&stats);
    }
    context.report.table(tiers(&figures.tiers))?;
    context.report.line("")?;
    context.report.table(summary(&figures))?;
    if figures.models.iter().any(|model| model.state != "absent") {
        context.report.line("")?;
        context.report.table(ps::table(&figures))?;
    }
    show_stored(context, &figures.stored)
}

/// What the store tells by itself.
async fn on_disk(context: &Context) -> Result<(), Ended> {
    let (stats, models) = of_store(context).await?;
    let known = with_store(Tiers::default(), &stats);
    if context.report.is_json() {
        return context.report.json(&json!({ "tiers": known, "store": stats, "stored": models }));
    }
    context.report.table(tiers(&known))?;
    show_stored(context, &figures_of(&models)?)?;
    context.report.note("no daemon is running, so nothing is in memory");
    Ok(())
}

async fn of_store(context: &Context) -> Result<(StoreStats, Vec<StoredModel>), Failure> {
    let store = context.store().await?;
    let models = stored::list(&store).await?.iter().map(StoredModel::from).collect();
    Ok((stored::blocking(move || store.stats()).await?, models))
}

/// As a daemon would have told them.
fn figures_of(models: &[StoredModel]) -> Result<Vec<StoredFigures>, Failure> {
    Ok(Figures::read(&json!({ "stored": models }))?.stored)
}

/// The models on disk, where there are any.
fn show_stored(context: &Context, models: &[StoredFigures]) -> Result<(), Ended> {
    if models.is_empty() {
        return Ok(());
    }
    context.report.line("")?;
    context.report.table(on_disk_table(models))
}

/// Size, age and uses of each model on disk.
fn on_disk_table(models: &[StoredFigures]) -> Columns {
    let mut columns = Columns::new(&[
        ("ON DISK", Align::Left),
        ("SIZE", Align::Right),
        ("FETCHED", Align::Left),
        ("USES", Align::Right),
        ("USED", Align::Left),
    ]);
    for model in models {
        columns.row([
            model.reference.clone(),
            ByteSize::from_bytes(model.bytes).to_string(),
            list::used(Some(model.created_ms)),
            (model.hits + model.misses).to_string(),
            list::used(Some(model.last_used_ms)),
        ]);
    }
    columns
}

/// Disk and sources, as the store counts them over all processes.
fn with_store(tiers: Tiers, stats: &StoreStats) -> Tiers {
    let tier = |hits, misses, bytes| Some(TierFigures { hits, misses, bytes });
    Tiers {
        l2: tier(stats.hits, stats.misses, stats.bytes),
        l3: tier(stats.fetched_artifacts, stats.fetch_failures, stats.fetched_bytes),
        ..tiers
    }
}

/// Each level of the cache in a row.
fn tiers(tiers: &Tiers) -> Columns {
    let mut columns = Columns::new(&[
        ("TIER", Align::Left),
        ("HITS", Align::Right),
        ("MISSES", Align::Right),
        ("RATE", Align::Right),
        ("BYTES", Align::Left),
    ]);
    let rows = [
        ("L1 memory", tiers.l1, "loaded"),
        ("L2 disk", tiers.l2, "kept"),
        ("L3 sources", tiers.l3, "fetched"),
    ];
    for (name, tier, what) in rows {
        let cells = match tier {
            Some(tier) => [
                tier.hits.to_string(),
                tier.misses.to_string(),
                share(tier.hits, tier.hits + tier.misses),
                format!("{} {what}", ByteSize::from_bytes(tier.bytes)),
            ],
            None => ["-", "-", "-", "-"].map(str::to_owned),
        };
        columns.row(std::iter::once(name.to_owned()).chain(cells));
    }
    columns
}

/// The pool in words and numbers.
pub(super) fn summary(figures: &Figures) -> Columns {
    let pool = &figures.pool;
    let size = |bytes| ByteSize::from_bytes(bytes).to_string();
    let mut columns = Columns::new(&[("", Align::Left), ("", Align::Left)]);
    let mut row = |name: &str, text: String| columns.row([name.to_owned(), text]);
    if figures.pid > 0 {
        let scheme = if figures.tls { "https" } else { "http" };
        let listening =
            figures.listen.as_ref().map(|address| format!(", {scheme}://{address}")).unwrap_or_default();
        row("daemon", format!("process {}, up {}{listening}", figures.pid, roughly(figures.uptime_ms)));
    }
    row("samovar", format!("{} on {}", figures.version, figures.engine));
    row(
        "requests",
        format!("{} ({} now, {} queued)", pool.requests, figures.requests_in_flight, pool.queued),
    );
    row("hits", format!("{}{}", pool.hits, rate(pool.hits, pool.hits + pool.misses + pool.coalesced)));
    row("misses", format!("{}, and {} that joined a load", pool.misses, pool.coalesced));
    let times = || format!(", median {}, average {}", ms(pool.load_ms_p50), ms(pool.load_ms_mean));
    let median = if pool.loads > 0 { times() } else { String::new() };
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
    let used = rate(pool.resident_bytes, pool.budget_bytes);
    row("memory", format!("{} of {}{used}{reserved}", size(pool.resident_bytes), size(pool.budget_bytes)));
    row("budget", pool.budget_source.clone());
    let in_memory = figures.models.iter().filter(|model| model.held_bytes + model.mapped_bytes > 0).count();
    row("models", format!("{} asked for, {in_memory} in memory", counted(figures.models.len(), "model")));
    if let Some(text) = fs_err::read_to_string("/proc/meminfo").ok().as_deref().and_then(machine) {
        row("machine", text);
    }
    if let Some(text) = figures.store.and_then(prompts) {
        row("prompts", text);
    }
    if let Some(lifetime) = &figures.lifetime {
        row("all lives", all_lives(lifetime));
    }
    columns
}

/// The memory of the whole machine, by the kernel's own list of it.
fn machine(meminfo: &str) -> Option<String> {
    let kilobytes = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim_end().parse::<u64>().ok()
    };
    let (total, available) = (kilobytes("MemTotal:")?, kilobytes("MemAvailable:")?);
    let used = total.saturating_sub(available);
    Some(format!("{} of {} of memory in use", share(used, total), ByteSize::from_bytes(total * 1024)))
}

/// What was counted since counting began, over restarts.
fn all_lives(lifetime: &LifetimeFigures) -> String {
    let pool = &lifetime.pool;
    let starts = if lifetime.starts == 1 { String::new() } else { format!(" in {} starts", lifetime.starts) };
    let median = if pool.loads > 0 { format!(", median {}", ms(pool.load_ms_p50)) } else { String::new() };
    format!(
        "since {}, up {}{starts}: requests {}, hits {}{}, loads {}{median}, evicted {}, refused {}",
        day(lifetime.since_unix_ms),
        roughly(lifetime.uptime_ms),
        pool.requests,
        pool.hits,
        rate(pool.hits, pool.hits + pool.misses + pool.coalesced),
        pool.loads,
        pool.evictions,
        pool.refused,
    )
}

/// The day of a time, by Greenwich.
fn day(unix_ms: u64) -> String {
    let mut days = unix_ms / 86_400_000;
    let mut year = 1970;
    let is_leap = |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let days_of = |year| if is_leap(year) { 366 } else { 365 };
    while days >= days_of(year) {
        days -= days_of(year);
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", days + 1)
}

/// The state of prompts on the disk, once there was any.
fn prompts(store: StoreFigures) -> Option<String> {
    let StoreFigures { prefixes, prefix_bytes, prefixes_restored, prefix_tokens_restored } = store;
    (prefixes + prefixes_restored > 0).then(|| {
        format!(
            "{prefixes} kept on disk ({}), {prefixes_restored} reused: {prefix_tokens_restored} tokens not computed",
            ByteSize::from_bytes(prefix_bytes)
        )
    })
}

fn rate(part: u64, of: u64) -> String {
    if of == 0 { String::new() } else { format!(" ({})", share(part, of)) }
}

fn share(part: u64, of: u64) -> String {
    if of == 0 { "-".to_owned() } else { format!("{:.0} %", part as f64 * 100.0 / of as f64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        let day_of = |days: u64| day(days * 86_400_000 + 86_399_999);
        let expected = [
            (0, "1970-01-01"),
            (58, "1970-02-28"),
            (59, "1970-03-01"),
            (364, "1970-12-31"),
            (365, "1971-01-01"),
            (789, "1972-02-29"),
            (790, "1972-03-01"),
            (11_016, "2000-02-29"),
            (20_778, "2026-11-21"),
        ];
        for (days, shown) in expected {
            assert_eq!(day_of(days), shown);
        }
    }

    #[test]
    fn the_machines_memory_is_told_in_percent() {
        let meminfo = "MemTotal: 20000000 kB\nMemFree: 1 kB\nMemAvailable: 15000000 kB\n";
        assert_eq!(machine(meminfo).as_deref(), Some("25 % of 20.5 GB of memory in use"));
        assert_eq!(machine("MemTotal: 5 kB\n"), None);
    }

    #[test]
    fn a_rate_needs_something_to_be_a_part_of() {
        assert_eq!(rate(0, 0), "");
        assert_eq!(rate(9, 10), " (90 %)");
    }
}
