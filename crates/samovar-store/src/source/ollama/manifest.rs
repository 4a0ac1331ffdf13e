//! What a model of Ollama consists of, as its registry and its store on disk both write it.

use std::collections::BTreeMap;

use samovar_core::Digest;
use serde::Deserialize;

use crate::artifact::manifest::Role;
use crate::artifact::name::{Commit, FilePath};
use crate::source::commit_of;

/// Bytes of a manifest.
pub(crate) const MANIFEST_BYTES: usize = 1 << 20;
/// Bytes of the description that a manifest points to.
pub(crate) const CONFIG_BYTES: u64 = 1 << 20;
/// Layers of one model.
const LAYERS: usize = 256;

/// The parts of one model.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct OllamaManifest {
    /// A small description.
    pub(crate) config: Option<Layer>,
    /// The parts.
    layers: Vec<Layer>,
}

/// A part, by its digest.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Layer {
    #[serde(rename = "mediaType", default)]
    media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

impl Layer {
    /// A part of which only the bytes matter.
    pub(crate) fn of(digest: Digest, size: u64) -> Self {
        Self { media_type: String::new(), digest, size }
    }
}

/// A part as a file of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) path: FilePath,
    pub(crate) role: Role,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// What of the description matters here.
#[derive(Deserialize)]
struct Config {
    file_type: Option<String>,
}

impl OllamaManifest {
    /// Reads a manifest. An error is a clause about it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let manifest: Self =
            serde_json::from_str(text).map_err(|error| format!("is no manifest of Ollama's: {error}"))?;
        if manifest.layers.len() > LAYERS {
            return Err(format!("has {} layers; {LAYERS} is the limit", manifest.layers.len()));
        }
        Ok(manifest)
    }

    /// What fixes the content: the layers themselves. The text of the manifest does not count, since
    /// programs write it anew.
    pub(crate) fn commit(&self) -> Commit {
        let line = |Layer { media_type, digest, size }: &Layer| {
            format!("{}:{media_type} {digest} {size}\n", media_type.len())
        };
        let lines: String = self.layers.iter().map(line).collect();
        commit_of(Digest::of_bytes(format!("samovar ollama 1\n{lines}").as_bytes()))
    }

    /// The layers as files. An error is a clause about what cannot be run.
    pub(crate) fn parts(&self) -> Result<Vec<Part>, String> {
        let mut seen = BTreeMap::new();
        let mut parts = Vec::new();
        for layer in &self.layers {
            let (stem, extension, role) = place(&layer.media_type)?;
            let count = seen.entry(stem).or_insert(0);
            *count += 1;
            let name =
                if *count == 1 { format!("{stem}{extension}") } else { format!("{stem}-{count}{extension}") };
            let path = name.parse().expect("invariant: a plain word is a file's name");
            parts.push(Part { path, role, digest: layer.digest, size: layer.size });
        }
        match parts.iter().filter(|part| part.role == Role::Weights).count() {
            1 => Ok(parts),
            0 => Err("has no model layer".to_owned()),
            _ => Err("has several model layers, which cannot be put together here".to_owned()),
        }
    }
}

/// The name, extension and role of a layer. Templates are in Go's template language, which is not the
/// models' own: they are kept, but not as the chat template.
fn place(media_type: &str) -> Result<(&'static str, &'static str, Role), String> {
    Ok(match media_type.strip_prefix("application/vnd.ollama.image.") {
        Some("model") => ("model", ".gguf", Role::Weights),
        Some("projector") => ("mmproj", ".gguf", Role::Projector),
        Some("template" | "prompt") => ("template", ".go.txt", Role::Other),
        Some("system") => ("system", ".txt", Role::Other),
        Some("params") => ("params", ".json", Role::Other),
        Some("messages") => ("messages", ".json", Role::Other),
        Some("license") => ("license", ".txt", Role::Other),
        Some("adapter") => return Err("has an adapter, which is not supported".to_owned()),
        _ => {
            let kind: String = media_type.chars().filter(|c| !c.is_control()).take(80).collect();
            return Err(format!("has a layer of the kind {kind:?}, which is not supported"));
        }
    })
}

/// The quantization that a description names; empty when it names none.
pub(crate) fn quant_of(config: &str) -> String {
    let config: Option<Config> = serde_json::from_str(config).ok();
    let quant = config.and_then(|config| config.file_type).unwrap_or_default();
    let is_plain = quant.len() <= 32 && quant.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if is_plain { quant } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(kinds: &[&str]) -> Result<OllamaManifest, String> {
        let layers: Vec<String> = kinds
            .iter()
            .map(|kind| {
                let digest = Digest::of_bytes(kind.as_bytes());
                format!(
                    r#"{{"mediaType":"application/vnd.ollama.image.{kind}","digest":"sha256:{digest}","size":3}}"#
                )
            })
            .collect();
        OllamaManifest::parse(&format!(r#"{{"schemaVersion":2,"layers":[{}]}}"#, layers.join(",")))
    }

    #[test]
    fn layers_become_files_with_roles() {
        let parts = manifest(&["model", "projector", "template", "params", "license", "license"]).unwrap();
        let parts: Vec<_> =
            parts.parts().unwrap().into_iter().map(|part| (part.path.to_string(), part.role)).collect();
        let expected = [
            ("model.gguf", Role::Weights),
            ("mmproj.gguf", Role::Projector),
            ("template.go.txt", Role::Other),
            ("params.json", Role::Other),
            ("license.txt", Role::Other),
            ("license-2.txt", Role::Other),
        ];
        assert_eq!(parts, expected.map(|(name, role)| (name.to_owned(), role)));
    }

    #[test]
    fn what_cannot_be_run_is_told_apart() {
        let reason = |kinds: &[&str]| manifest(kinds).unwrap().parts().unwrap_err();
        assert!(reason(&["template"]).contains("no model layer"));
        assert!(reason(&["model", "adapter"]).contains("adapter"));
        assert!(reason(&["model", "tensor"]).contains("tensor"));
        assert!(reason(&["model", "model"]).contains("several"));
    }

    #[test]
    fn other_digests_than_sha256_are_refused() {
        for digest in ["md5:abc", "sha512:00", "../../etc/passwd", "sha256:xyz", ""] {
            let text = format!(
                r#"{{"layers":[{{"mediaType":"application/vnd.ollama.image.model","digest":"{digest}","size":1}}]}}"#
            );
            assert!(OllamaManifest::parse(&text).is_err(), "{digest:?}");
        }
        assert!(OllamaManifest::parse("[]").is_err());
        assert!(OllamaManifest::parse("").is_err());
    }

    #[test]
    fn the_layers_alone_make_the_commit() {
        let one = OllamaManifest::parse(&format!(
            r#"{{"layers":[{{"digest":"{}","size":1}}],"x":1}}"#,
            "0".repeat(64)
        ));
        let two = OllamaManifest::parse(&format!(
            r#"{{ "layers": [{{"size":1,"digest":"sha256:{}"}}]}}"#,
            "0".repeat(64)
        ));
        assert_eq!(one.unwrap().commit(), two.unwrap().commit());
        assert_ne!(manifest(&["model"]).unwrap().commit(), manifest(&["model", "system"]).unwrap().commit());
    }

    #[test]
    fn a_description_names_the_quantization_or_nothing() {
        assert_eq!(quant_of(r#"{"file_type":"Q4_K_M"}"#), "Q4_K_M");
        for text in ["", "{}", "[]", r#"{"file_type":"../x"}"#, r#"{"file_type":7}"#] {
            assert_eq!(quant_of(text), "", "{text:?}");
        }
    }
}
