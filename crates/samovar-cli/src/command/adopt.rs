//! `samovar adopt`: shares models that other programs downloaded. Changes nothing of theirs.

use std::path::{Path, PathBuf};

use samovar::store::{AdoptKind, AdoptOptions, AdoptRoot, Adopted, AdoptedArtifact, Placement};
use samovar_core::units::ByteSize;
use samovar_core::{ErrorKind, Failure};

use super::{Context, follow, stored};
use crate::args::Adopt;
use crate::ended::Ended;
use crate::home;
use crate::report::{Align, Columns};
use crate::settings::foreign::Places;

pub(super) async fn execute(context: &Context, arguments: Adopt) -> Result<(), Ended> {
    let places = &context.settings.foreign.places;
    let roots = match arguments.from.as_slice() {
        [] => usual(places)?,
        named => named.iter().map(|whose| root(whose, places)).collect::<Result<_, _>>()?,
    };
    let (watch, steps) = follow::watch();
    let options =
        AdoptOptions { roots, dry_run: arguments.dry_run, copies: arguments.copy, watch: Some(watch) };
    let store = context.store().await?;
    let work = stored::blocking(move || store.adopt(&options));
    let Some(adopted) = follow::follow(context, "Looking", steps, work).await? else {
        context.report.note("stopped; what was adopted so far stays");
        return Err(Ended::Interrupted);
    };
    if context.report.is_json() {
        return context.report.json(&adopted);
    }
    show(context, &adopted)
}

/// The folders of other programs that are there.
fn usual(places: &Places) -> Result<Vec<AdoptRoot>, Failure> {
    let roots: Vec<AdoptRoot> = [
        (&places.hub, AdoptKind::HuggingFace),
        (&places.ollama, AdoptKind::Ollama),
        (&places.lm_studio, AdoptKind::LmStudio),
    ]
    .into_iter()
    .filter_map(|(path, kind)| {
        let path = path.clone().filter(|path| path.is_dir())?;
        Some(AdoptRoot { path, kind })
    })
    .collect();
    if roots.is_empty() {
        return Err(Failure::new(
            ErrorKind::NotFound,
            "no models of other programs were found in the usual places",
        )
        .with_hint(format!("looked at {}; name a folder with --from", looked_at(places))));
    }
    Ok(roots)
}

fn looked_at(places: &Places) -> String {
    let all: Vec<String> = [&places.hub, &places.ollama, &places.lm_studio]
        .into_iter()
        .flatten()
        .map(|path| path.display().to_string())
        .collect();
    all.join(", ")
}

/// What `--from` names.
fn root(whose: &str, places: &Places) -> Result<AdoptRoot, Failure> {
    let of = |kind, path: &Option<PathBuf>| {
        let path = path.clone().ok_or_else(|| {
            Failure::new(
                ErrorKind::InvalidRequest,
                format!("HOME is not set, so the place of {whose} is unknown"),
            )
            .with_hint("name the folder: --from /path")
        })?;
        Ok::<_, Failure>(AdoptRoot { path, kind })
    };
    let root = match whose {
        "hf" => of(AdoptKind::HuggingFace, &places.hub)?,
        "ollama" => of(AdoptKind::Ollama, &places.ollama)?,
        "lm-studio" => of(AdoptKind::LmStudio, &places.lm_studio)?,
        folder => AdoptRoot::guess(home::absolute(Path::new(folder))?),
    };
    if root.path.is_dir() {
        return Ok(root);
    }
    Err(Failure::new(ErrorKind::NotFound, format!("there is no folder {}", root.path.display())).with_hint(
        match whose {
            "hf" => "HF_HUB_CACHE or HF_HOME says where it is",
            "ollama" => "OLLAMA_MODELS says where it is",
            "lm-studio" => "name the folder itself: --from /path",
            _ => "--from takes hf, ollama, lm-studio or a folder",
        },
    ))
}

fn show(context: &Context, adopted: &Adopted) -> Result<(), Ended> {
    let mut columns = Columns::new(&[
        ("NAME", Align::Left),
        ("SIZE", Align::Right),
        ("HOW", Align::Left),
        ("FROM", Align::Left),
    ]);
    for artifact in &adopted.artifacts {
        columns.row([
            artifact.reference.clone(),
            ByteSize::from_bytes(artifact.bytes).to_string(),
            how(artifact, adopted.dry_run).to_owned(),
            artifact.from.display().to_string(),
        ]);
    }
    if !adopted.artifacts.is_empty() {
        context.report.table(columns)?;
    }
    for skipped in &adopted.skipped {
        context.report.note(&format!("skipped: {}: {}", skipped.path.display(), skipped.reason));
    }
    context.report.line(&total(adopted))
}

fn how(artifact: &AdoptedArtifact, is_dry_run: bool) -> &'static str {
    match artifact.how {
        None | Some(Placement::Here) => "is here already",
        Some(Placement::Reflink) if is_dry_run => "would be cloned",
        Some(Placement::HardLink) if is_dry_run => "would be linked",
        Some(Placement::Reference) if is_dry_run => "would be used in place",
        Some(Placement::Copy) if is_dry_run => "would be copied",
        Some(Placement::Reflink) => "cloned",
        Some(Placement::HardLink) => "linked",
        Some(Placement::Reference) => "used in place",
        Some(Placement::Copy) => "copied",
    }
}

fn total(adopted: &Adopted) -> String {
    let new: Vec<&AdoptedArtifact> = adopted
        .artifacts
        .iter()
        .filter(|artifact| !matches!(artifact.how, None | Some(Placement::Here)))
        .collect();
    let saved = ByteSize::from_bytes(new.iter().map(|artifact| artifact.saved_bytes).sum());
    let models = |count: usize| if count == 1 { "1 model".to_owned() } else { format!("{count} models") };
    match (adopted.dry_run, new.len()) {
        (_, 0) if adopted.artifacts.is_empty() => "found no models".to_owned(),
        (_, 0) => "nothing new".to_owned(),
        (true, count) => format!("{} would be adopted: {saved} need no download", models(count)),
        (false, count) => format!("{} adopted: {saved} need no download", models(count)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_goes_by_its_owner_or_by_its_path() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let places = Places { hub: Some(folder.path().to_owned()), ..Places::default() };
        let whose = |text: &str| root(text, &places);
        assert_eq!(whose("hf").expect("a root").kind, AdoptKind::HuggingFace);
        let path = folder.path().to_str().expect("path");
        assert_eq!(whose(path).expect("a root").kind, AdoptKind::Folder);
        assert_eq!(whose("ollama").expect_err("nowhere").kind, ErrorKind::InvalidRequest);
        assert!(whose("nowhere").expect_err("nothing").hint.expect("hint").contains("lm-studio"));
    }
}
