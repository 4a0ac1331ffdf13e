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
        "{prompts}, which need not be computed again; at most {}",
        ByteSize::from_bytes(usage.prefix_quota_bytes)
    );
    let packed = match usage.packed {
        1 => "packed weights of 1 model".to_owned(),
        count => format!("{count} files of packed weights"),
    };
    let packed = format!("{packed}, for faster loads; made again if removed");
    let prepared = match usage.prepared {
        1 => "1 model converted from safetensors".to_owned(),
        count => format!("{count} models converted from safetensors"),
    };
    let prepared = format!("{prepared}; converted again if removed");
    let some = [
        ("shared", usage.shared_bytes, "models shared with another program; removing them frees nothing"),
        ("elsewhere", usage.referenced_bytes, "models used in place, in another program's folder"),
        ("saved", usage.deduplicated_bytes, "not stored twice, because models have files in common"),
        ("pinned", usage.pinned_bytes, "of these; never collected"),
        ("unfinished", usage.partial_bytes, "unfinished downloads; `samovar pull` resumes them"),
        ("promised", usage.promised_bytes, "space that running downloads still need"),
        ("prompts", usage.prefix_bytes, &prompts),
        ("prepared", usage.prepared_bytes, &prepared),
        ("packed", usage.packed_bytes, &packed),
        ("orphans", usage.orphan_bytes, "files that no model needs; `samovar gc` collects them"),
        ("damaged", usage.quarantine_bytes, "set aside; `samovar gc` collects them"),
        ("temporary", usage.tmp_bytes + usage.trash_bytes, "being written or removed"),
    ];
    rows.extend(
        some.into_iter()
            .filter(|(_, bytes, _)| *bytes > 0)
            .map(|(name, bytes, about)| (name, bytes, about.to_owned())),
    );
    rows.push(("index", usage.index_bytes, "the index of the store".to_owned()));
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
        assert!(packed.1 == 700_000_000 && packed.2.starts_with("packed weights of 1 model"), "{packed:?}");
    }
}
