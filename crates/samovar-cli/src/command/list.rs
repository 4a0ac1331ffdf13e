//! `samovar list`: what requests may name: built in, configured, on disk. Works without a daemon, and reads
//! no model: what the store has is told by its index. Puts nothing into the store.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use samovar::store::{Artifact, Error, KeyDigest};
use samovar::{Builder, ModelInfo, Origin, Runtime};
use samovar_core::units::ByteSize;
use samovar_core::{Failure, ModelRef};
use serde::Serialize;
use serde_json::json;

use super::answer::roughly;
use super::{Context, stored};
use crate::ended::Ended;
use crate::report::{Align, Columns};

/// The built-in model, and the source of its artifact.
const DEMO: &str = "demo";
pub(super) const BUILT_IN: &str = "built-in";

pub(super) async fn execute(context: &Context) -> Result<(), Ended> {
    let listing = listing(context).await?;
    if context.report.is_json() {
        let broken: Vec<_> = listing
            .broken
            .iter()
            .map(|(name, failure)| json!({ "name": name, "error": failure.message, "hint": failure.hint }))
            .collect();
        return context.report.json(&json!({ "models": listing.models, "broken": broken }));
    }
    // Told only where there is something to tell.
    let has_packed = listing.models.iter().any(|model| model.packed_bytes > 0);
    let mut heads = vec![("NAME", Align::Left), ("FORMAT", Align::Left), ("SIZE", Align::Right)];
    let has_prepared = listing.models.iter().any(|model| model.prepared_bytes > 0);
    heads.extend(has_prepared.then_some(("PREPARED", Align::Right)));
    heads.extend(has_packed.then_some(("PACKED", Align::Right)));
    heads.extend([("USED", Align::Left), ("PINNED", Align::Left), ("FROM", Align::Left)]);
    let mut columns = Columns::new(&heads);
    for model in &listing.models {
        let besides = |bytes: u64| match bytes {
            0 => String::new(),
            bytes => ByteSize::from_bytes(bytes).to_string(),
        };
        let mut cells = vec![
            model.name.clone(),
            model.format.clone().unwrap_or_else(|| "-".to_owned()),
            model.size_bytes.map_or_else(|| "-".to_owned(), |bytes| ByteSize::from_bytes(bytes).to_string()),
        ];
        cells.extend(has_prepared.then(|| besides(model.prepared_bytes)));
        cells.extend(has_packed.then(|| besides(model.packed_bytes)));
        cells.extend([
            used(model.last_used_ms),
            if model.is_pinned { "yes".to_owned() } else { String::new() },
            if model.is_here { model.from.clone() } else { format!("{}, not fetched yet", model.from) },
        ]);
        columns.row(cells);
    }
    context.report.table(columns)?;
    for (name, failure) in &listing.broken {
        context.report.note(&format!("{name} cannot be used: {}", failure.message));
    }
    Ok(())
}

struct Listing {
    models: Vec<Row>,
    /// Configured names whose file is gone or wrong.
    broken: Vec<(String, Failure)>,
}

/// One model that requests may name.
#[derive(Clone, Debug, Serialize)]
struct Row {
    name: String,
    kind: Kind,
    format: Option<String>,
    /// `None` while it is not fetched.
    size_bytes: Option<u64>,
    /// What its weights take besides, as this machine computes with them.
    packed_bytes: u64,
    /// What was converted of it takes besides, in all number formats.
    prepared_bytes: u64,
    /// Last use, in milliseconds since 1970, over all processes; `None` where uses are not counted.
    last_used_ms: Option<u64>,
    is_pinned: bool,
    is_here: bool,
    from: String,
    /// The artifact that it is.
    #[serde(skip)]
    key: Option<KeyDigest>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    BuiltIn,
    Config,
    Stored,
    File,
    Created,
}

async fn listing(context: &Context) -> Result<Listing, Failure> {
    let store = context.store().await?;
    let artifacts = stored::list(&store).await?;
    let here = Builder::settings(context.settings.runtime.clone()).build()?;
    let mut listing = Listing { models: Vec::new(), broken: Vec::new() };
    let demo = artifacts.iter().find(|artifact| artifact.reference == DEMO);
    listing.models.push(built_in_row(DEMO, Kind::BuiltIn).with(demo));
    for alias in &context.settings.runtime.aliases {
        match alias_row(&here, &artifacts, &alias.name, &alias.source).await {
            Ok(row) => listing.models.push(row),
            Err(failure) => listing.broken.push((alias.name.clone(), failure)),
        }
    }
    for created in here.created().await {
        match here.model(&created.name, Origin::Owner).await {
            Ok(info) if created.parent.is_empty() => {
                listing.models.push(file_row(&info, Kind::Created, "created from a file that was sent"));
            }
            Ok(info) => {
                let from = format!("created from {}", created.parent);
                listing.models.push(file_row(&info, Kind::Created, &from));
            }
            Err(failure) => listing.broken.push((created.name, failure)),
        }
    }
    let is_fetched = |artifact: &&Artifact| artifact.key.source.as_str() != BUILT_IN;
    listing.models.extend(artifacts.iter().filter(is_fetched).map(stored_row));
    listing.models.extend(files_of_daemon(context, &listing.models).await?);
    let (packed, prepared) =
        stored::blocking(move || Ok::<_, Error>((store.packed().list()?, store.prepared().list()?))).await?;
    for row in &mut listing.models {
        let of_it = packed.iter().filter(|file| file.parent.is_some() && file.parent == row.key);
        row.packed_bytes = of_it.map(|file| file.bytes).sum();
        let of_it = prepared.iter().filter(|file| file.parent.is_some() && file.parent == row.key);
        row.prepared_bytes = of_it.map(|file| file.bytes).sum();
    }
    Ok(listing)
}

async fn alias_row(
    here: &Runtime,
    artifacts: &[Artifact],
    name: &str,
    source: &ModelRef,
) -> Result<Row, Failure> {
    if matches!(source, ModelRef::Hub(_) | ModelRef::Remote(_)) {
        let from = source.to_string();
        let row = Row {
            name: name.to_owned(),
            kind: Kind::Config,
            format: None,
            size_bytes: None,
            packed_bytes: 0,
            prepared_bytes: 0,
            last_used_ms: None,
            is_pinned: false,
            is_here: false,
            from,
            key: None,
        };
        return Ok(match stored::best(artifacts, source) {
            Some(artifact) => Row {
                format: Some(format(artifact)),
                size_bytes: Some(artifact.bytes()),
                is_here: true,
                ..row
            }
            .with(Some(artifact)),
            None => row,
        });
    }
    // To look at it closely would put it there.
    if *source == ModelRef::Demo && artifacts.iter().all(|artifact| artifact.reference != DEMO) {
        return Ok(built_in_row(name, Kind::Config));
    }
    let info = match here.model(name, Origin::Owner).await {
        Ok(info) => info,
        Err(failure) => match source {
            ModelRef::File(folder) if folder.is_dir() => return Ok(unprepared_row(name, folder)),
            _ => return Err(failure),
        },
    };
    let from =
        if *source == ModelRef::Demo { BUILT_IN.replace('-', " ") } else { info.path.display().to_string() };
    Ok(file_row(&info, Kind::Config, &from))
}

/// A folder with a published model, which its first use prepares.
fn unprepared_row(name: &str, folder: &Path) -> Row {
    Row {
        name: name.to_owned(),
        kind: Kind::Config,
        format: Some("safetensors".to_owned()),
        size_bytes: None,
        packed_bytes: 0,
        prepared_bytes: 0,
        last_used_ms: None,
        is_pinned: false,
        is_here: true,
        from: format!("{}, not prepared yet", folder.display()),
        key: None,
    }
}

fn stored_row(artifact: &Artifact) -> Row {
    Row {
        name: artifact.reference.clone(),
        kind: Kind::Stored,
        format: Some(format(artifact)),
        size_bytes: Some(artifact.bytes()),
        packed_bytes: 0,
        prepared_bytes: 0,
        last_used_ms: None,
        is_pinned: false,
        is_here: true,
        from: artifact.key.source.to_string(),
        key: None,
    }
    .with(Some(artifact))
}

/// The built-in model, under one of its names. It is here, whether the store has it now or not.
fn built_in_row(name: &str, kind: Kind) -> Row {
    let model = samovar::built_in();
    Row {
        name: name.to_owned(),
        kind,
        format: Some(model.quantization.clone()),
        size_bytes: Some(model.file_bytes),
        packed_bytes: 0,
        prepared_bytes: 0,
        last_used_ms: None,
        is_pinned: false,
        is_here: true,
        from: BUILT_IN.replace('-', " "),
        key: None,
    }
}

fn file_row(info: &ModelInfo, kind: Kind, from: &str) -> Row {
    Row {
        name: info.name.clone(),
        kind,
        format: Some(info.quantization.clone()),
        size_bytes: Some(info.size_bytes),
        packed_bytes: 0,
        prepared_bytes: 0,
        last_used_ms: None,
        is_pinned: false,
        is_here: true,
        from: from.to_owned(),
        key: None,
    }
}

impl Row {
    /// What the store knows besides.
    fn with(self, artifact: Option<&Artifact>) -> Self {
        match artifact {
            Some(artifact) => Self {
                last_used_ms: Some(artifact.usage.last_ms),
                is_pinned: artifact.is_pinned,
                key: Some(artifact.key_digest),
                ..self
            },
            None => self,
        }
    }
}

/// The quantization, or else the kind of file.
pub(super) fn format(artifact: &Artifact) -> String {
    if !artifact.key.quant.is_empty() {
        return artifact.key.quant.clone();
    }
    let extension = artifact.files.iter().find_map(|file| file.path.extension());
    extension.unwrap_or_else(|| "-".to_owned())
}

/// Files that were used have names as well, while the daemon lives.
async fn files_of_daemon(context: &Context, known: &[Row]) -> Result<Vec<Row>, Failure> {
    let Some(daemon) = context.client().connect().await? else { return Ok(Vec::new()) };
    let models = daemon.models().await?.models;
    let is_file = |info: &&ModelInfo| serde_json::to_value(info.kind).is_ok_and(|kind| kind == "file");
    Ok(models
        .iter()
        .filter(is_file)
        .filter(|info| known.iter().all(|row| row.name != info.name))
        .map(|info| file_row(info, Kind::File, &info.path.display().to_string()))
        .collect())
}

/// How long ago.
pub(super) fn used(last_ms: Option<u64>) -> String {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as u64);
    match last_ms {
        None => "-".to_owned(),
        Some(0) => "never".to_owned(),
        Some(last) => match now_ms.saturating_sub(last) {
            0..1000 => "just now".to_owned(),
            ago => format!("{} ago", roughly(ago)),
        },
    }
}

/// A number of weights as model names have it.
pub(super) fn parameters(count: u64) -> String {
    let count = count as f64;
    match count {
        1e9.. => format!("{:.1}B", count / 1e9),
        1e6.. => format!("{:.1}M", count / 1e6),
        1e3.. => format!("{:.0}K", count / 1e3),
        _ => format!("{count}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_written_as_in_model_names() {
        let shown: Vec<String> = [7_240_000_000, 15_200_000, 12_000, 7].into_iter().map(parameters).collect();
        assert_eq!(shown, ["7.2B", "15.2M", "12K", "7"]);
    }

    #[test]
    fn a_use_is_told_by_its_age() {
        assert_eq!(
            (used(None), used(Some(0)), used(Some(u64::MAX))),
            ("-".into(), "never".into(), "just now".into())
        );
        assert!(used(Some(1)).ends_with(" ago"));
    }
}
