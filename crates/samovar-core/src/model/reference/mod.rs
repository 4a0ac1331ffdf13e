//! What the user writes to name a model.
//!
//! ```text
//!   demo                              the built-in model
//!   ./x.gguf  ../x.gguf  /models/x    a file, used where it lies
//!   writer  llama3.2:1b               an alias from the configuration
//!   org/name:Q4_K_M                   a hub model, here with its quantization
//!   hf://org/name@main:Q4_K_M         the same, in full
//!   hf://org/name/x-Q4_K_M.gguf       one file of it
//!   hf.co/org/name                    the hub's own addresses, with and without https://
//!   https://host/x.gguf#sha256=…      another place: http, s3, gs, az, file, ollama
//! ```
//!
//! The last four are what a store fetches: an [`ArtifactRef`]. Parsing looks at the text alone: it
//! never touches a file, a network or the configuration.

mod error;
mod hub;
mod part;
mod percent;
mod remote;

use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use error::ParseReferenceError;
pub use hub::HubRef;
use part::Part;
pub use remote::{OllamaName, RemoteRef, Scheme};

/// The reference of the built-in model.
const DEMO: &str = "demo";
const HUB_SCHEME: &str = "hf://";
const FILE_SUFFIX: &str = ".gguf";
/// Bytes of a whole reference.
const MAX_BYTES: usize = 1024;
/// Bytes of a hub's organisation, repository or quantization name.
const MAX_NAME_BYTES: usize = 96;
/// Bytes of an alias or a revision.
const MAX_LONG_NAME_BYTES: usize = 128;

/// What the user writes to name a model. Made by parsing, or by [`ModelRef::file`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ModelRef {
    /// The built-in demo model.
    Demo,
    /// A file.
    File(PathBuf),
    /// A name that the configuration gives meaning to.
    Alias(Alias),
    /// A repository on a hub.
    Hub(HubRef),
    /// Another place that the store copies from.
    Remote(RemoteRef),
}

/// A name that the configuration gives meaning to: letters, digits, `.`, `_`, `-` and `:`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Alias(String);

impl Alias {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a store can fetch: a model of a hub or of another place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ArtifactRef {
    /// A repository on a hub.
    Hub(HubRef),
    /// Another place.
    Remote(RemoteRef),
}

impl ModelRef {
    /// A file, whatever it is called.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::File(path.into())
    }

    /// The same as what a store can fetch; `None` for what is here already and for aliases.
    pub fn artifact(&self) -> Option<ArtifactRef> {
        match self {
            Self::Hub(hub) => Some(ArtifactRef::Hub(hub.clone())),
            Self::Remote(remote) => Some(ArtifactRef::Remote(remote.clone())),
            Self::Demo | Self::File(_) | Self::Alias(_) => None,
        }
    }
}

impl From<ArtifactRef> for ModelRef {
    fn from(artifact: ArtifactRef) -> Self {
        match artifact {
            ArtifactRef::Hub(hub) => Self::Hub(hub),
            ArtifactRef::Remote(remote) => Self::Remote(remote),
        }
    }
}

impl FromStr for ArtifactRef {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let reference: ModelRef = text.parse()?;
        reference.artifact().ok_or_else(|| ParseReferenceError::NotFetched(text.to_owned()))
    }
}

impl FromStr for ModelRef {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        check_characters(text)?;
        if is_explicit_path(text) {
            return Ok(Self::File(PathBuf::from(text)));
        }
        if let Some(rest) = text.strip_prefix(HUB_SCHEME) {
            return HubRef::parse(rest, text).map(Self::Hub);
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            return parse_remote(scheme, rest);
        }
        if let Some(hub) = HubRef::of_page(text) {
            return hub.map(Self::Hub);
        }
        if text.starts_with('~') {
            return Err(ParseReferenceError::Tilde(text.to_owned()));
        }
        if has_file_suffix(text) {
            return Ok(Self::File(PathBuf::from(text)));
        }
        if text == DEMO {
            return Ok(Self::Demo);
        }
        if text.contains('/') {
            HubRef::parse(text, text).map(Self::Hub)
        } else {
            parse_alias(text).map(Self::Alias)
        }
    }
}

fn check_characters(text: &str) -> Result<(), ParseReferenceError> {
    if text.trim().is_empty() {
        return Err(ParseReferenceError::Empty);
    }
    if text.len() > MAX_BYTES {
        return Err(ParseReferenceError::TooLong(text.len()));
    }
    if let Some(control) = text.chars().find(|c| c.is_control()) {
        return Err(ParseReferenceError::ControlCharacter(control));
    }
    if text.trim() != text {
        return Err(ParseReferenceError::Padded);
    }
    Ok(())
}

fn is_explicit_path(text: &str) -> bool {
    ["/", "./", "../"].iter().any(|start| text.starts_with(start)) || text == "." || text == ".."
}

fn has_file_suffix(text: &str) -> bool {
    text.to_ascii_lowercase().ends_with(FILE_SUFFIX)
}

fn parse_remote(scheme: &str, rest: &str) -> Result<ModelRef, ParseReferenceError> {
    let Some(known) = Scheme::named(scheme) else {
        let names: Vec<_> = Scheme::ALL.iter().map(|scheme| scheme.name()).collect();
        return Err(ParseReferenceError::Scheme {
            scheme: scheme.to_owned(),
            instead: format!(
                "hub models are written {HUB_SCHEME}organisation/name, files by their path; there are {}, too",
                names.join(", ")
            ),
        });
    };
    let page = match known {
        Scheme::Http | Scheme::Https => HubRef::of_page(rest),
        _ => None,
    };
    match page {
        Some(hub) => hub.map(ModelRef::Hub),
        None => RemoteRef::parse(known, rest).map(ModelRef::Remote),
    }
}

fn parse_alias(text: &str) -> Result<Alias, ParseReferenceError> {
    let part = Part { what: "an alias", text, max_bytes: MAX_LONG_NAME_BYTES, also: "._-:" };
    part.check()?;
    Ok(Alias(text.to_owned()))
}

impl std::fmt::Display for ModelRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Demo => f.write_str(DEMO),
            Self::File(path) => write_path(path, f),
            Self::Alias(alias) => f.write_str(&alias.0),
            Self::Hub(hub) => write!(f, "{hub}"),
            Self::Remote(remote) => write!(f, "{remote}"),
        }
    }
}

/// A path in a spelling that reads back as a path.
fn write_path(path: &Path, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
    let text = path.to_string_lossy();
    let reads_otherwise = text.starts_with('~') || text.contains("://") || HubRef::is_page(&text);
    let reads_as_path = has_file_suffix(&text) && !reads_otherwise || is_explicit_path(&text);
    if reads_as_path { f.write_str(&text) } else { write!(f, "./{text}") }
}

impl std::fmt::Display for ArtifactRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Hub(hub) => write!(f, "{hub}"),
            Self::Remote(remote) => write!(f, "{remote}"),
        }
    }
}

impl Serialize for ModelRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ModelRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for ArtifactRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ArtifactRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::Failure;

    pub(super) fn read(text: &str) -> Result<ModelRef, ParseReferenceError> {
        text.parse()
    }

    #[test]
    fn demo_is_the_built_in_model() {
        assert_eq!(read("demo"), Ok(ModelRef::Demo));
    }

    #[test]
    fn paths_are_files() {
        for text in [
            "./x.gguf",
            "../x.gguf",
            "/models/x.gguf",
            "/models/x",
            "models/x.gguf",
            "x.gguf",
            "X.GGUF",
            "./a b",
            "./a://b",
            ".",
        ] {
            assert_eq!(read(text), Ok(ModelRef::File(PathBuf::from(text))), "{text:?}");
        }
    }

    #[test]
    fn plain_names_are_aliases() {
        for text in ["writer", "llama3.2:1b", "my-model_2", "Demo"] {
            assert!(matches!(read(text), Ok(ModelRef::Alias(alias)) if alias.as_str() == text), "{text:?}");
        }
    }

    #[test]
    fn ollamas_names_of_the_hubs_models_are_the_hubs() {
        for (text, same) in
            [("hf.co/org/name:Q4_K_M", "hf://org/name:Q4_K_M"), ("huggingface.co/org/name", "hf://org/name")]
        {
            assert_eq!(read(text).unwrap(), read(same).unwrap());
        }
        assert!(read("hf.co/org").is_err());
    }

    #[test]
    fn what_comes_from_elsewhere_is_an_artifact_and_the_rest_is_not() {
        for text in ["org/name:Q8_0", "hf://o/n@main/x.gguf", "https://h/x.gguf", "ollama://x"] {
            let artifact: ArtifactRef = text.parse().unwrap();
            let reference = read(text).unwrap();
            assert_eq!(reference.artifact().as_ref(), Some(&artifact));
            assert_eq!(artifact.to_string(), reference.to_string());
            assert_eq!(ModelRef::from(artifact.clone()), reference);
            let json = serde_json::to_string(&artifact).unwrap();
            assert_eq!(serde_json::from_str::<ArtifactRef>(&json).unwrap(), artifact);
        }
        for text in ["demo", "./x.gguf", "writer"] {
            assert_eq!(read(text).unwrap().artifact(), None);
            assert!(matches!(text.parse::<ArtifactRef>(), Err(ParseReferenceError::NotFetched(_))));
        }
    }

    #[test]
    fn refuses_traversal_control_characters_and_nonsense() {
        let long = "x".repeat(MAX_BYTES + 1);
        for text in [
            "",
            "  ",
            "a\0b",
            "a\nb",
            " demo",
            "demo ",
            &long,
            "../",
            "org/..",
            "../name/x",
            "hf://../..",
            "hf://org",
            "hf://org/name@",
            "hf://org/name@../x",
            "org/name:",
            "org/na me",
            "org//name",
            "a/b/c",
            "-name",
            "naïve",
            "~/x.gguf",
            "ftp://example.com/x.gguf",
            "C:/models/x",
            "C:\\models",
            "://",
            "hf://",
            "org/-name",
            "org/.name",
        ] {
            match text {
                "../" | "../name/x" => assert!(matches!(read(text), Ok(ModelRef::File(_)))),
                _ => assert!(read(text).is_err(), "{text:?} read as {:?}", read(text)),
            }
        }
    }

    #[test]
    fn hints_say_what_to_write_instead() {
        let hint = |text: &str| read(text).unwrap_err().hint();
        assert!(hint("https://huggingface.co/models").contains("hf://organisation/name"));
        assert!(hint("ftp://h/x.gguf").contains("hf://organisation/name"));
        assert!(hint("models/big/x").contains("./models/big/x"));
        assert!(hint("").contains("demo"));
        assert_eq!(Failure::from(read("").unwrap_err()).param.as_deref(), Some("model"));
    }

    #[test]
    fn a_file_is_shown_so_that_it_reads_back_as_a_file() {
        for path in ["demo", "org/name", "~/x.gguf", "http://x.gguf", "hf.co/o/n.gguf", "/x", "x.gguf"] {
            let text = ModelRef::file(path).to_string();
            assert!(matches!(read(&text), Ok(ModelRef::File(_))), "{path:?} shown as {text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_was_read_is_shown_and_read_again_as_the_same(text in "(hf://)?[a-z./@:_-]{1,12}(/[a-zA-Z0-9._-]{1,8})?(@[a-z/]{1,5})?(:[A-Z0-9_]{1,6})?") {
            if let Ok(reference) = read(&text) {
                prop_assert_eq!(read(&reference.to_string()), Ok(reference));
            }
        }

        #[test]
        fn no_text_panics_and_anything_read_survives_a_round_trip(text: String) {
            if let Ok(reference) = read(&text) {
                prop_assert_eq!(read(&reference.to_string()), Ok(reference));
            }
        }
    }
}
