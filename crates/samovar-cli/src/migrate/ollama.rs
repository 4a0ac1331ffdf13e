//! Ollama's store: manifests by names, and blobs by digests.
//!
//! ```text
//!   manifests/<host>/<namespace>/<name>/<tag>     JSON: layers with media types, sizes, digests
//!   blobs/sha256-<64 hex>                         weights, system text, parameters, adapters
//! ```
//!
//! Its files are adopted by the store. A model that a reference of ours cannot name, or that has an adapter, is used by the
//! path of its blob.

use std::path::{Path, PathBuf};

use samovar::store::{AdoptKind, AdoptRoot};
use samovar_core::Digest;
use samovar_core::model::ArtifactRef;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::entry::{FoundModels, ModelEntry};
use super::params;
use crate::place::ForeignFolder;
use crate::settings::foreign::Variables;
use crate::settings::value::Raw;

/// Whose entries these are, for people.
pub(super) const WHOSE: &str = "Ollama";
const MANIFEST_MAX_BYTES: u64 = 1 << 20;
/// A system text, parameters, example messages.
const SMALL_MAX_BYTES: u64 = 256 << 10;
const LAYERS_MAX: usize = 256;
/// The registry that names without a host belong to, and the namespace of those without one.
const REGISTRY: &str = "registry.ollama.ai";
const LIBRARY: &str = "library";
/// The hub's hosts; its models keep their names here.
const HUBS: [&str; 2] = ["hf.co", "huggingface.co"];
const LATEST: &str = "latest";

#[derive(Deserialize)]
struct OllamaManifest {
    #[serde(default)]
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
struct Layer {
    #[serde(rename = "mediaType", default)]
    media_type: String,
    digest: Digest,
}

impl Layer {
    /// Its place in the store.
    fn place(&self) -> PathBuf {
        Path::new("blobs").join(format!("sha256-{}", self.digest))
    }
}

/// Looks through a store, or the home with one in it.
///
/// # Errors
/// A clause about the folder.
pub(super) fn look(from: &Path, variables: &Variables) -> Result<FoundModels, String> {
    let inner = from.join("models");
    let root = if inner.join("manifests").is_dir() { inner } else { from.to_owned() };
    let place = ForeignFolder::of(&root)?;
    if !place.root().join("manifests").is_dir() {
        return Err("is no store of Ollama's: it has no folder `manifests`".to_owned());
    }
    let mut found = FoundModels { from: place.root().to_owned(), ..FoundModels::default() };
    found.roots.push(AdoptRoot::new(place.root(), AdoptKind::Ollama));
    for (name, at) in place.files(Path::new("manifests"), 4)? {
        let [host, namespace, model, tag] = name.split('/').collect::<Vec<_>>()[..] else {
            found.cannot(&name, "its manifest", "does not lie at host/namespace/name/tag");
            continue;
        };
        let named = ManifestName { host, namespace, model, tag };
        if let Err(why) = read(&mut found, &place, &named, &at, variables) {
            found.cannot(&named.shown(), "its manifest", why);
            found.told.push(at);
        }
    }
    Ok(found)
}

/// The name of a model, by the place of its manifest.
struct ManifestName<'a> {
    host: &'a str,
    namespace: &'a str,
    model: &'a str,
    tag: &'a str,
}

impl ManifestName<'_> {
    fn is_of_hub(&self) -> bool {
        HUBS.contains(&self.host)
    }

    /// As Ollama's users write it.
    fn shown(&self) -> String {
        let Self { host, namespace, model, tag } = self;
        match (*host, *namespace) {
            (REGISTRY, LIBRARY) => format!("{model}:{tag}"),
            (REGISTRY, _) => format!("{namespace}/{model}:{tag}"),
            _ => format!("{host}/{namespace}/{model}:{tag}"),
        }
    }

    /// The names that clients use: the tag of those without one may be left out.
    fn all(&self) -> Vec<String> {
        let whole = self.shown();
        let short = (self.tag == LATEST).then(|| whole.trim_end_matches(":latest").to_owned());
        std::iter::once(whole).chain(short).collect()
    }

    /// The reference that means it here, if there is one.
    fn reference(&self) -> Option<String> {
        let Self { namespace, model, tag, .. } = self;
        let text = format!("ollama://{namespace}/{model}:{tag}");
        let reference: Option<ArtifactRef> = text.parse().ok();
        reference.filter(|_| self.host == REGISTRY).map(|reference| reference.to_string())
    }
}

/// Adds the entries of one model: one for each name.
fn read(
    found: &mut FoundModels,
    place: &ForeignFolder,
    named: &ManifestName<'_>,
    at: &Path,
    variables: &Variables,
) -> Result<(), String> {
    let manifest: OllamaManifest = serde_json::from_str(&place.text(at, MANIFEST_MAX_BYTES)?)
        .map_err(|error| format!("is no manifest of Ollama's: {error}"))?;
    if manifest.layers.len() > LAYERS_MAX {
        return Err(format!("has {} layers; {LAYERS_MAX} is the limit", manifest.layers.len()));
    }
    let mut entry = ModelEntry::new(named.shown());
    let weights = layers(place, &mut entry, &manifest)?;
    let has_adapter = entry.get("adapters").is_some();
    if named.is_of_hub() && !has_adapter {
        // Such a name means the adopted model here as well. Settings cannot be tied to it.
        let lost = entry.settings.iter().map(|(key, _)| *key).filter(|key| !is_of_author(key));
        let lost: Vec<&str> = lost.collect();
        if !lost.is_empty() {
            let why = "a name of the hub has no settings here: give it another one in [models.NAME]";
            entry.cannot(lost.join(", "), why);
        }
        found.remarks.append(&mut entry.remarks);
        return Ok(());
    }
    if let Some(reference) = named.reference().filter(|_| !has_adapter) {
        entry.set_reference(&reference)?;
        entry.files = vec![at.to_owned(), weights];
    } else {
        // Nothing is adopted: the blob is used where it lies.
        entry.set_file(&weights)?;
        found.told.push(at.to_owned());
    }
    of_server(&mut entry, variables);
    for (at, name) in named.all().into_iter().enumerate() {
        // What cannot be taken over is said once.
        let remarks = if at == 0 { entry.remarks.clone() } else { Vec::new() };
        found.add(ModelEntry { name, remarks, ..entry.clone() });
    }
    Ok(())
}

/// Whether the store keeps this setting with the adopted model.
fn is_of_author(key: &str) -> bool {
    !["context_tokens", "max_tokens", "seed", "threads"].contains(&key)
}

/// What the layers say; returns where the weights lie.
fn layers(
    place: &ForeignFolder,
    entry: &mut ModelEntry,
    manifest: &OllamaManifest,
) -> Result<PathBuf, String> {
    let mut weights = Vec::new();
    let mut adapters = Vec::new();
    for layer in &manifest.layers {
        let kind = layer.media_type.strip_prefix("application/vnd.ollama.image.");
        let small = || place.text(&layer.place(), SMALL_MAX_BYTES);
        match kind {
            Some("model") => weights.push(place.file(&layer.place())?),
            Some("adapter") => {
                let path = place.file(&layer.place())?;
                adapters.push(Raw::Text(path.to_string_lossy().into_owned()));
            }
            Some("system") => match small() {
                Ok(text) if text.trim().is_empty() => {}
                Ok(text) => entry.set("system", "SYSTEM", Raw::Text(text)),
                Err(why) => entry.cannot("SYSTEM", why),
            },
            Some("params") => match small().map(|text| serde_json::from_str::<Map<String, Value>>(&text)) {
                Ok(Ok(parameters)) => params::apply(entry, "", &parameters),
                Ok(Err(_)) => entry.cannot("PARAMETER", "its parameters are no JSON object"),
                Err(why) => entry.cannot("PARAMETER", why),
            },
            // Of the model's own template and the one that stands for this, the first that there is counts.
            Some("template" | "prompt" | "license") => {}
            Some("messages") => {
                entry.cannot(
                    "MESSAGE",
                    "example messages are not put before conversations by a name's settings",
                );
            }
            Some("projector") => entry.cannot("its projector", "this version reads no images"),
            other => {
                let kind: String = other.unwrap_or(&layer.media_type).chars().take(80).collect();
                entry.cannot(format!("a layer of the kind {kind:?}"), "is not known here");
            }
        }
    }
    if !adapters.is_empty() {
        entry.set("adapters", "ADAPTER", Raw::List(adapters));
    }
    match <[PathBuf; 1]>::try_from(weights) {
        Ok([weights]) => Ok(weights),
        Err(weights) => Err(format!("has {} layers with weights, and one is needed", weights.len())),
    }
}

/// What Ollama's server is told by variables, for all models.
fn of_server(entry: &mut ModelEntry, variables: &Variables) {
    if let Some(text) = variables.text("OLLAMA_KEEP_ALIVE") {
        // Any negative length stands for ever.
        let value = if text.trim().starts_with('-') { Raw::Integer(-1) } else { Raw::Text(text) };
        entry.set("keep_alive", "OLLAMA_KEEP_ALIVE", value);
    }
    let whole = [("OLLAMA_CONTEXT_LENGTH", "context_tokens"), ("OLLAMA_NUM_PARALLEL", "slots")];
    for (variable, key) in whole {
        let number: Option<i64> = variables.text(variable).and_then(|text| text.trim().parse().ok());
        // 0 stands for what the server chooses.
        if let Some(number) = number.filter(|number| *number != 0)
            && entry.get(key).is_none()
        {
            entry.set(key, variable, Raw::Integer(number));
        }
    }
}
