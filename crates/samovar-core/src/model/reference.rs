//! What the user writes to name a model.
//!
//! ```text
//!   demo                              the built-in model
//!   ./x.gguf  ../x.gguf  /models/x    a file
//!   writer  llama3.2:1b               an alias from the configuration
//!   org/name:Q4_K_M                   a hub model, here with its quantization
//!   hf://org/name@main:Q4_K_M         the same, in full
//! ```
//!
//! Parsing looks at the text alone: it never touches a file, a network or the configuration.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{ErrorKind, Failure};

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

/// A repository on a hub.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HubRef {
    org: String,
    name: String,
    revision: Option<String>,
    quant: Option<String>,
}

impl HubRef {
    /// The user or organisation.
    pub fn org(&self) -> &str {
        &self.org
    }

    /// The repository's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Branch, tag or commit, if one is asked for.
    pub fn revision(&self) -> Option<&str> {
        self.revision.as_deref()
    }

    /// The quantization, if one is asked for, as it was written.
    pub fn quant(&self) -> Option<&str> {
        self.quant.as_deref()
    }
}

/// Text that names no model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseReferenceError {
    /// Nothing but white space.
    #[error("the model reference is empty")]
    Empty,
    /// Too long to be one.
    #[error("the model reference has {0} bytes, {MAX_BYTES} is the limit")]
    TooLong(usize),
    /// A control character, NUL among them.
    #[error("the model reference holds the control character {0:?}")]
    ControlCharacter(char),
    /// White space around it.
    #[error("the model reference {0:?} begins or ends with white space")]
    Padded(String),
    /// A scheme that no source here serves.
    #[error("model references of the scheme {scheme:?} are not known")]
    Scheme {
        /// What stands before `://`.
        scheme: String,
        /// What to write instead.
        instead: String,
    },
    /// A path from `~`, which only a shell expands.
    #[error("the path {0:?} begins with ~, which only a shell expands")]
    Tilde(String),
    /// A part of a hub reference or an alias that cannot be one.
    #[error("{text:?} is not {what}: {reason}")]
    Part {
        /// Which part.
        what: &'static str,
        /// Its text.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Several separators, but neither a path nor a hub reference.
    #[error("{0:?} is neither a path nor organisation/name")]
    Shape(String),
}

impl ParseReferenceError {
    /// What to write instead.
    pub fn hint(&self) -> String {
        match self {
            Self::Scheme { instead, .. } => instead.clone(),
            Self::Tilde(_) => "write the whole path".to_owned(),
            Self::Shape(text) => format!("for a file write ./{text}; a hub model is organisation/name"),
            _ => {
                "write demo, ./file.gguf, an alias from the configuration, or organisation/name:quantization"
                    .to_owned()
            }
        }
    }
}

impl From<ParseReferenceError> for Failure {
    fn from(error: ParseReferenceError) -> Self {
        let hint = error.hint();
        Self::new(ErrorKind::InvalidRequest, error.to_string()).with_hint(hint).with_param("model")
    }
}

impl ModelRef {
    /// A file, whatever it is called.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::File(path.into())
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
            return parse_hub(rest, text).map(Self::Hub);
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            return Err(unknown_scheme(scheme, rest));
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
            parse_hub(text, text).map(Self::Hub)
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
        return Err(ParseReferenceError::Padded(text.to_owned()));
    }
    Ok(())
}

fn is_explicit_path(text: &str) -> bool {
    ["/", "./", "../"].iter().any(|start| text.starts_with(start)) || text == "." || text == ".."
}

fn has_file_suffix(text: &str) -> bool {
    text.to_ascii_lowercase().ends_with(FILE_SUFFIX)
}

fn unknown_scheme(scheme: &str, rest: &str) -> ParseReferenceError {
    let host_and_path = rest.strip_prefix("www.").unwrap_or(rest);
    let instead = match scheme.to_ascii_lowercase().as_str() {
        "file" => format!("write the path itself: {rest}"),
        "http" | "https" => match host_and_path.strip_prefix("huggingface.co/") {
            Some(repository) => format!("write {HUB_SCHEME}{repository}"),
            None => "download the file and give its path".to_owned(),
        },
        _ => format!("hub models are written {HUB_SCHEME}organisation/name, files by their path"),
    };
    ParseReferenceError::Scheme { scheme: scheme.to_owned(), instead }
}

fn parse_alias(text: &str) -> Result<Alias, ParseReferenceError> {
    let part = Part { what: "an alias", text, max_bytes: MAX_LONG_NAME_BYTES, also: "._-:" };
    part.check()?;
    Ok(Alias(text.to_owned()))
}

/// Reads `org/name[@revision][:quant]`; `whole` is what the user wrote.
fn parse_hub(text: &str, whole: &str) -> Result<HubRef, ParseReferenceError> {
    let (rest, quant) = match text.split_once(':') {
        Some((rest, quant)) => (rest, Some(quant)),
        None => (text, None),
    };
    let (path, revision) = match rest.split_once('@') {
        Some((path, revision)) => (path, Some(revision)),
        None => (rest, None),
    };
    let (org, name) = path
        .split_once('/')
        .filter(|(_, name)| !name.contains('/'))
        .ok_or_else(|| ParseReferenceError::Shape(whole.to_owned()))?;
    Part { what: "an organisation", text: org, max_bytes: MAX_NAME_BYTES, also: "._-" }.check()?;
    Part { what: "a repository name", text: name, max_bytes: MAX_NAME_BYTES, also: "._-" }.check()?;
    if let Some(revision) = revision {
        Part { what: "a revision", text: revision, max_bytes: MAX_LONG_NAME_BYTES, also: "._-/" }.check()?;
    }
    if let Some(quant) = quant {
        Part { what: "a quantization", text: quant, max_bytes: MAX_NAME_BYTES, also: "._-" }.check()?;
    }
    Ok(HubRef {
        org: org.to_owned(),
        name: name.to_owned(),
        revision: revision.map(str::to_owned),
        quant: quant.map(str::to_owned),
    })
}

/// A part of a reference with the rules that make it safe as a file name and in a URL.
struct Part<'a> {
    what: &'static str,
    text: &'a str,
    max_bytes: usize,
    /// Characters allowed besides ASCII letters and digits.
    also: &'static str,
}

impl Part<'_> {
    fn check(&self) -> Result<(), ParseReferenceError> {
        match self.fault() {
            None => Ok(()),
            Some(reason) => {
                Err(ParseReferenceError::Part { what: self.what, text: self.text.to_owned(), reason })
            }
        }
    }

    fn fault(&self) -> Option<&'static str> {
        let is_alphanumeric = |c: char| c.is_ascii_alphanumeric();
        if self.text.is_empty() {
            Some("it is empty")
        } else if self.text.len() > self.max_bytes {
            Some("it is too long")
        } else if !self.text.chars().all(|c| is_alphanumeric(c) || self.also.contains(c)) {
            Some("it may hold ASCII letters, digits and a few of . _ - : / only")
        } else if self.text.contains("..") || self.text.contains("//") {
            Some("it may not hold .. or //")
        } else if !self.text.starts_with(is_alphanumeric)
            || !self.text.ends_with(|c| is_alphanumeric(c) || c == '_')
        {
            Some("it begins and ends with a letter or a digit")
        } else {
            None
        }
    }
}

impl std::fmt::Display for ModelRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Demo => f.write_str(DEMO),
            Self::File(path) => write_path(path, f),
            Self::Alias(alias) => f.write_str(&alias.0),
            Self::Hub(hub) => write!(f, "{hub}"),
        }
    }
}

/// A path in a spelling that reads back as a path.
fn write_path(path: &Path, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
    let text = path.to_string_lossy();
    let reads_as_path =
        has_file_suffix(&text) && !text.starts_with('~') && !text.contains("://") || is_explicit_path(&text);
    if reads_as_path { f.write_str(&text) } else { write!(f, "./{text}") }
}

impl std::fmt::Display for HubRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // In full, so that a repository called `x.gguf` does not read back as a file.
        write!(f, "{HUB_SCHEME}{}/{}", self.org, self.name)?;
        if let Some(revision) = &self.revision {
            write!(f, "@{revision}")?;
        }
        if let Some(quant) = &self.quant {
            write!(f, ":{quant}")?;
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<ModelRef, ParseReferenceError> {
        text.parse()
    }

    fn hub(text: &str) -> (String, String, Option<String>, Option<String>) {
        match read(text) {
            Ok(ModelRef::Hub(hub)) => (hub.org, hub.name, hub.revision, hub.quant),
            other => panic!("{text:?} read as {other:?}"),
        }
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
    fn hub_references_have_optional_revision_and_quantization() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(hub("org/name"), ("org".into(), "name".into(), None, None));
        assert_eq!(hub("org/name:Q4_K_M"), ("org".into(), "name".into(), None, some("Q4_K_M")));
        assert_eq!(hub("hf://org/name.gguf"), ("org".into(), "name.gguf".into(), None, None));
        assert_eq!(hub("hf://o/n@refs/pr/3:Q8_0"), ("o".into(), "n".into(), some("refs/pr/3"), some("Q8_0")));
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
            "http://example.com/x.gguf",
            "file:///x.gguf",
            "ollama://x",
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
        assert_eq!(hint("https://huggingface.co/org/name"), "write hf://org/name");
        assert_eq!(hint("file:///models/x.gguf"), "write the path itself: /models/x.gguf");
        assert!(hint("models/big/x").contains("./models/big/x"));
        assert!(hint("").contains("demo"));
        assert_eq!(Failure::from(read("").unwrap_err()).param.as_deref(), Some("model"));
    }

    #[test]
    fn a_file_is_shown_so_that_it_reads_back_as_a_file() {
        for path in ["demo", "org/name", "~/x.gguf", "http://x.gguf", "/x", "x.gguf"] {
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
