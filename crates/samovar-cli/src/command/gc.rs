//! `samovar gc`: collects what the disk is not needed for. What is pinned or in use stays.

use samovar::store::{CollectOptions, Collected, LeftoverKind, Removed, Why};
use samovar_core::units::ByteSize;

use super::answer::roughly;
use super::{Context, stored};
use crate::args::Gc;
use crate::ended::Ended;
use crate::report::{Align, Columns};

pub(super) async fn execute(context: &Context, arguments: &Gc) -> Result<(), Ended> {
    let options = CollectOptions { is_dry_run: arguments.dry_run, ..CollectOptions::default() };
    let store = context.store().await?;
    let collected = stored::blocking(move || store.collect(&options)).await?;
    if context.report.is_json() {
        return context.report.json(&collected);
    }
    if !collected.removed.is_empty() {
        context.report.table(table(&collected))?;
    }
    for line in leftovers(&collected) {
        context.report.line(&line)?;
    }
    context.report.line(&total(&collected))
}

fn table(collected: &Collected) -> Columns {
    let freed = if collected.is_dry_run { "WOULD FREE" } else { "FREED" };
    let mut columns = Columns::new(&[
        ("MODEL", Align::Left),
        (freed, Align::Right),
        ("UNUSED FOR", Align::Left),
        ("WHY", Align::Left),
    ]);
    for removed in &collected.removed {
        columns.row([
            removed.reference.clone(),
            ByteSize::from_bytes(removed.freed_bytes).to_string(),
            roughly(removed.idle_ms),
            why(removed).to_owned(),
        ]);
    }
    columns
}

fn why(removed: &Removed) -> &'static str {
    match removed.why {
        Why::Age => "unused for longer than the age limit",
        Why::Room => "over the quota, and least worth keeping",
        Why::Asked => "asked for",
    }
}

fn leftovers(collected: &Collected) -> Vec<String> {
    collected
        .leftovers
        .iter()
        .filter(|(_, swept)| swept.count > 0)
        .map(|(kind, swept)| {
            let (one, many) = match kind {
                LeftoverKind::Partial => ("unfinished download", "unfinished downloads"),
                LeftoverKind::Orphan => ("file that no model needs", "files that no model needs"),
                LeftoverKind::Tmp => ("unfinished file", "unfinished files"),
                LeftoverKind::Trash => {
                    ("file whose removal was not finished", "files whose removal was not finished")
                }
                LeftoverKind::Quarantine => ("damaged file", "damaged files"),
                LeftoverKind::Prefix => ("saved prompt", "saved prompts"),
                LeftoverKind::Packed => ("packed copy of a model", "packed copies of models"),
                LeftoverKind::Prepared => ("prepared model", "prepared models"),
            };
            let what = if swept.count == 1 { one } else { many };
            format!("{} {what}: {}", swept.count, ByteSize::from_bytes(swept.bytes))
        })
        .collect()
}

fn total(collected: &Collected) -> String {
    let size = |bytes: u64| ByteSize::from_bytes(bytes).to_string();
    let done = match (collected.is_dry_run, collected.freed_bytes) {
        (_, 0) if collected.removed.is_empty() => "nothing to collect".to_owned(),
        (true, bytes) => format!("{} would be freed", size(bytes)),
        (false, bytes) => format!("{} freed", size(bytes)),
    };
    let stays: Vec<String> = [(collected.pinned, "pinned"), (collected.in_use, "in use")]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!(", {count} {what}"))
        .collect();
    format!(
        "{done}; models take {} of {}{}",
        size(collected.used_bytes),
        size(collected.quota_bytes),
        stays.concat()
    )
}

#[cfg(test)]
mod tests {
    use samovar::store::Swept;

    use super::*;

    #[test]
    fn the_last_line_tells_what_came_of_it() {
        let nothing =
            Collected { used_bytes: 5_000_000, quota_bytes: 100_000_000, pinned: 1, ..Collected::default() };
        assert_eq!(total(&nothing), "nothing to collect; models take 5.0 MB of 100 MB, 1 pinned");
        let dry = Collected { is_dry_run: true, freed_bytes: 1_000_000, ..nothing };
        assert!(total(&dry).starts_with("1.0 MB would be freed;"), "{}", total(&dry));
    }

    #[test]
    fn leftovers_are_told_by_kind() {
        let swept = Swept { count: 2, bytes: 1_000_000 };
        let collected = Collected {
            leftovers: [(LeftoverKind::Partial, swept), (LeftoverKind::Tmp, Swept::default())].into(),
            ..Collected::default()
        };
        assert_eq!(leftovers(&collected), ["2 unfinished downloads: 1.0 MB"]);
    }
}
