//! `samovar df`: what models take on disk, and what else lies there.

use samovar::store::DiskUse;
use samovar_core::units::ByteSize;
use serde_json::json;

use super::{Context, stored};
use crate::ended::Ended;
use crate::report::{Align, Columns};

pub(super) async fn execute(context: &Context) -> Result<(), Ended> {
    let store = context.store().await?;
    let dir = store.dir().to_owned();
    let usage = stored::blocking(move || store.disk_use()).await?;
    if context.report.is_json() {
        let mut object = json!(usage);
        object["cache_dir"] = json!(dir);
        return context.report.json(&object);
    }
    let mut columns = Columns::new(&[("", Align::Left), ("", Align::Right), ("", Align::Left)]);
    for (name, bytes, about) in rows(&usage) {
        columns.row([name.to_owned(), ByteSize::from_bytes(bytes).to_string(), about]);
    }
    context.report.table(columns)?;
    context.report.note(&format!("in {}", dir.display()));
    Ok(())
}

/// The numbers that say something: those that are always there, and the others that are not 0.
fn rows(usage: &DiskUse) -> Vec<(&'static str, u64, String)> {
    let models = match usage.artifacts {
        1 => "1 model".to_owned(),
        count => format!("{count} models"),
    };
    let mut rows = vec![("models", usage.artifact_bytes, models)];
    let prompts = match usage.prefixes {
        1 => "state of 1 prompt".to_owned(),
        count => format!("state of {count} prompts"),
    };
    let prompts = format!(
        "{prompts}, which is not computed again; at most {}",
        ByteSize::from_bytes(usage.prefix_quota_bytes)
    );
    let packed = match usage.packed {
        1 => "1 model's weights as this machine computes with them".to_owned(),
        count => format!("{count} files of weights as this machine computes with them"),
    };
    let packed = format!("{packed}, so that loading is quick; made again when they go");
    let some = [
        ("shared", usage.shared_bytes, "models that another program has, too; removing them frees nothing"),
        ("elsewhere", usage.referenced_bytes, "models that are used where another program keeps them"),
        ("saved", usage.deduplicated_bytes, "not stored twice, because models have files in common"),
        ("pinned", usage.pinned_bytes, "of these; never collected"),
        (
            "unfinished",
            usage.partial_bytes,
            "downloads that broke off or are on their way; `samovar pull` goes on with them",
        ),
        ("promised", usage.promised_bytes, "what downloads on their way will still take"),
        ("prompts", usage.prefix_bytes, &prompts),
        ("packed", usage.packed_bytes, &packed),
        ("orphans", usage.orphan_bytes, "files that no model needs; `samovar gc` collects them"),
        ("damaged", usage.quarantine_bytes, "set aside; `samovar gc` collects them"),
        ("temporary", usage.tmp_bytes + usage.trash_bytes, "under construction or on the way out"),
    ];
    rows.extend(
        some.into_iter()
            .filter(|(_, bytes, _)| *bytes > 0)
            .map(|(name, bytes, about)| (name, bytes, about.to_owned())),
    );
    rows.push(("index", usage.index_bytes, "what is known of all this".to_owned()));
    rows.push((
        "used",
        usage.used_bytes,
        format!("of a quota of {}", ByteSize::from_bytes(usage.quota_bytes)),
    ));
    rows.push((
        "free",
        usage.free_disk_bytes,
        format!("on the disk, of which {} stay free", ByteSize::from_bytes(usage.min_free_bytes)),
    ));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nothing_is_not_told() {
        let usage = DiskUse { artifacts: 1, artifact_bytes: 5, pinned_bytes: 5, ..DiskUse::default() };
        let names: Vec<&str> = rows(&usage).into_iter().map(|(name, ..)| name).collect();
        assert_eq!(names, ["models", "pinned", "index", "used", "free"]);
        let usage = DiskUse { packed: 1, packed_bytes: 700_000_000, ..usage };
        let packed = rows(&usage).into_iter().find(|(name, ..)| *name == "packed").unwrap();
        assert!(packed.1 == 700_000_000 && packed.2.starts_with("1 model's weights"), "{packed:?}");
    }
}
