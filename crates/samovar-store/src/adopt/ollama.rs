//! Ollama's own store.
//!
//! ```text
//!   manifests/<host>/<namespace>/<name>/<tag>     JSON: layers with media types, sizes, digests
//!   blobs/sha256-<64 hex>                         their bytes
//! ```
//!
//! The manifests are those of its registry; `source/ollama` reads both. Never writes to the store.

use std::path::Path;

use samovar_core::ArtifactRef;
use samovar_core::model::reference::{OllamaName, ParseReferenceError};

use super::{Found, FoundFile};
use crate::index::Stamp;
use crate::source::folder::{Bounds, Entry, Skipped};
use crate::source::ollama::{self, CONFIG_BYTES, Layer, OllamaManifest, Part, quant_of};

/// Bytes of a manifest.
const MANIFEST_BYTES: u64 = 1 << 20;
/// The registry that names without a host belong to.
const REGISTRY: &str = "registry.ollama.ai";
/// The hosts of the hub, whose models Ollama pulls as well.
const HUBS: [&str; 2] = ["hf.co", "huggingface.co"];
/// The tag of what was pulled without one.
const NO_TAG: &str = "latest";

/// All artifacts in the store.
pub(super) fn scan(bounds: &Bounds, skipped: &mut Vec<Skipped>) -> Vec<Found> {
    let mut found = Vec::new();
    for entry in bounds.files(&bounds.root().join("manifests"), skipped) {
        match artifact(bounds, &entry) {
            Ok(artifact) => found.push(artifact),
            Err(reason) => skipped.push(Skipped::new(&entry.at, reason)),
        }
    }
    found
}

/// Whether a folder looks like such a store.
pub(super) fn is_one(root: &Path) -> bool {
    root.join("manifests").is_dir() && root.join("blobs").is_dir()
}

fn artifact(bounds: &Bounds, entry: &Entry) -> Result<Found, String> {
    let (host, name) = name(&entry.name)?;
    let manifest = OllamaManifest::parse(&bounds.text(&entry.at, MANIFEST_BYTES)?)?;
    let parts = manifest.parts()?;
    let quant = manifest.config.as_ref().and_then(|config| description(bounds, config)).unwrap_or_default();
    let reference = reference(host, name, &quant)?;
    let key = ollama::key(name, &manifest, quant).map_err(|error| error.to_string())?;
    let files = parts.into_iter().map(|part| file(bounds, part)).collect::<Result<_, _>>()?;
    Ok(Found {
        key,
        revision: (host == REGISTRY).then(|| name.tag.to_owned()),
        reference: reference.to_string(),
        also: Vec::new(),
        folder: entry.at.clone(),
        bounds: None,
        files,
    })
}

/// The host and the name of the model of a manifest's place.
fn name(place: &str) -> Result<(&str, OllamaName<'_>), String> {
    let [host, namespace, name, tag] = place.split('/').collect::<Vec<_>>()[..] else {
        return Err("does not lie at host/namespace/name/tag".to_owned());
    };
    Ok((host, OllamaName { namespace, name, tag }))
}

/// The reference that means the model: by the name in Ollama's registry, or that at the hub. `quant` is what the model says
/// of itself, for when its tag says nothing.
fn reference(host: &str, name: OllamaName<'_>, quant: &str) -> Result<ArtifactRef, String> {
    let OllamaName { namespace, name, tag } = name;
    let text = match host {
        REGISTRY => format!("ollama://{namespace}/{name}:{tag}"),
        host if HUBS.contains(&host) => match (tag, quant) {
            (NO_TAG, "") => format!("hf://{namespace}/{name}"),
            (NO_TAG, quant) | (quant, _) => format!("hf://{namespace}/{name}:{quant}"),
        },
        _ => return Err(format!("comes from {host}, which no reference here can name")),
    };
    text.parse().map_err(|error: ParseReferenceError| error.to_string())
}

fn blob(bounds: &Bounds, layer: &Layer) -> Result<Entry, String> {
    let name = format!("sha256-{}", layer.digest);
    let (at, metadata) = bounds.file(&bounds.root().join("blobs").join(&name))?;
    if metadata.len() != layer.size {
        return Err(format!("needs {} bytes of {name}, which has {}", layer.size, metadata.len()));
    }
    Ok(Entry { name, at, metadata })
}

fn description(bounds: &Bounds, config: &Layer) -> Option<String> {
    let blob = blob(bounds, config).ok()?;
    Some(quant_of(&bounds.text(&blob.at, CONFIG_BYTES).ok()?))
}

fn file(bounds: &Bounds, part: Part) -> Result<FoundFile, String> {
    let layer = Layer::of(part.digest, part.size);
    let blob = blob(bounds, &layer)?;
    Ok(FoundFile {
        path: part.path,
        role: part.role,
        stamp: Stamp::of(&blob.metadata),
        at: blob.at,
        claim: Some(part.digest),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifests_place_is_its_name() {
        let text = |place: &str| {
            let (host, name) = name(place)?;
            Ok::<_, String>(reference(host, name, "Q8_0")?.to_string())
        };
        assert_eq!(text("registry.ollama.ai/library/llama3.2/1b").unwrap(), "ollama://llama3.2:1b");
        assert_eq!(text("registry.ollama.ai/library/llama3.2/latest").unwrap(), "ollama://llama3.2");
        assert_eq!(text("registry.ollama.ai/me/x/1b").unwrap(), "ollama://me/x:1b");
        assert_eq!(text("hf.co/org/name/Q4_K_M").unwrap(), "hf://org/name:Q4_K_M");
        assert_eq!(text("huggingface.co/org/name/latest").unwrap(), "hf://org/name:Q8_0");
        for place in ["x/1b", "evil.example/library/x/1b", "registry.ollama.ai/library/x y/1b", "a/b/c/d/e"] {
            assert!(text(place).is_err(), "{place}");
        }
    }
}
