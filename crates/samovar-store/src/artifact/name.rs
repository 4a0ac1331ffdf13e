//! Names from outside, checked once: nothing that is a mere string becomes a path or a key.
//!
//! Each type has a private field and one way in, [`FromStr`]. What a hub, a manifest or a command line
//! says goes through here before anything else happens with it.

use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes of one component of a path, as common file systems allow.
const COMPONENT_BYTES: usize = 255;
/// Bytes of a whole relative path.
const PATH_BYTES: usize = 1_024;
const TOKEN_BYTES: usize = 128;
const MODEL_BYTES: usize = 2_048;

/// Why a name from outside was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {text:?} {fault}")]
pub struct NameError {
    /// What it should have been.
    pub what: &'static str,
    /// What was said, cut to a readable length.
    pub text: String,
    /// What is wrong with it.
    pub fault: &'static str,
}

impl NameError {
    fn new(what: &'static str, text: &str, fault: &'static str) -> Self {
        Self { what, text: text.chars().take(80).collect(), fault }
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $fault:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                match $fault(text) {
                    None => Ok(Self(text.to_owned())),
                    Some(fault) => Err(NameError::new($what, text, fault)),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name!(
    /// A file's place inside its artifact: relative, with `/` between components, safe as a path here
    /// and on other systems.
    FilePath, "the file name", file_path_fault
);
name!(
    /// What fixes an artifact's content at its source: a commit, an etag's hash, a digest.
    Commit, "the commit", token_fault
);
name!(
    /// What a source calls a model: `org/name`, a URL without its secrets, a folder. Hashed, never a path.
    ModelId, "the model's name", model_fault
);
name!(
    /// Which kind of place an artifact came from: `hub`, `http`, `folder`, `object`, `ollama`, `built-in`, `adopted`.
    SourceId, "the source", token_fault
);

impl FilePath {
    /// The last component.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// The last component's extension in lower case, without its dot.
    pub fn extension(&self) -> Option<String> {
        let (stem, extension) = self.file_name().rsplit_once('.')?;
        (!stem.is_empty()).then(|| extension.to_ascii_lowercase())
    }
}

fn token_fault(text: &str) -> Option<&'static str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if text.is_empty() {
        Some("is empty")
    } else if text.len() > TOKEN_BYTES {
        Some("is too long")
    } else if !text.chars().all(is_plain) || text.contains("..") {
        Some("holds characters that such a name never has")
    } else {
        None
    }
}

fn model_fault(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        Some("is empty")
    } else if text.len() > MODEL_BYTES {
        Some("is too long")
    } else if text.chars().any(char::is_control) {
        Some("holds control characters")
    } else {
        None
    }
}

fn file_path_fault(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        return Some("is empty");
    }
    if text.len() > PATH_BYTES {
        return Some("is too long");
    }
    text.split('/').find_map(component_fault)
}

/// What is wrong with one component. Stricter than Linux: a cache may lie on any file system, and a name
/// that merely looks like `..` has no business in a model repository.
fn component_fault(component: &str) -> Option<&'static str> {
    if component.is_empty() {
        Some("has an empty component or is absolute")
    } else if component == "." || component == ".." {
        Some("leads out of its folder")
    } else if component.len() > COMPONENT_BYTES {
        Some("has a component of more than 255 bytes")
    } else if component.chars().any(char::is_control) {
        Some("holds control characters")
    } else if component.contains(['\\', ':', '*', '?', '"', '<', '>', '|']) {
        Some("holds characters that are no file name on other systems")
    } else if component.chars().any(is_misleading) {
        Some("holds characters that look like others")
    } else if component.ends_with(['.', ' ']) || component.starts_with(' ') || is_device(component) {
        Some("is no file name on other systems")
    } else {
        None
    }
}

/// Dots, slashes and invisible marks that are not the ones they look like.
fn is_misleading(c: char) -> bool {
    matches!(c,
        '\u{2024}'..='\u{2026}' | '\u{3002}' | '\u{ff0e}' | '\u{ff61}' | '\u{fe52}'
        | '\u{2044}' | '\u{2215}' | '\u{2216}' | '\u{29f9}' | '\u{29f8}' | '\u{ff0f}' | '\u{ff3c}' | '\u{29f5}' | '\u{fe68}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Names that Windows gives to devices.
fn is_device(component: &str) -> bool {
    let stem = component.split('.').next().unwrap_or(component).to_ascii_uppercase();
    let numbered = |name: &str| {
        stem.strip_prefix(name)
            .is_some_and(|rest| rest.len() == 1 && rest.chars().all(|c| c.is_ascii_digit()))
    };
    matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL") || numbered("COM") || numbered("LPT")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn takes_the_names_that_repositories_have() {
        for text in
            ["config.json", "Q4_K_M/model-00001-of-00003.gguf", ".gitattributes", "a b.txt", "模型.gguf"]
        {
            assert!(text.parse::<FilePath>().is_ok(), "{text:?}");
        }
    }

    #[test]
    fn refuses_names_that_escape_or_mislead() {
        let long = "x".repeat(300);
        for text in [
            "",
            "/",
            "/etc/passwd",
            "../x",
            "a/../b",
            "a//b",
            "a/",
            ".",
            "..",
            "a\0b",
            "a\nb",
            "C:\\x",
            "a\\b",
            "c:x",
            "\u{2025}/x",
            "\u{ff0e}\u{ff0e}/x",
            "a\u{2215}b",
            "\u{2216}..\u{2216}b",
            "x\u{202e}fugg",
            "con",
            "NUL.gguf",
            "com1.txt",
            "x.",
            "x ",
            " x",
            &long,
            &format!("a/{long}"),
            &"a/".repeat(600),
        ] {
            assert!(text.parse::<FilePath>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn refuses_commits_that_are_no_tokens() {
        for text in ["", "../../x", "a b", "a\n", "é", &"f".repeat(200)] {
            assert!(text.parse::<Commit>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_taken_stays_below_its_folder(text: String) {
            if let Ok(path) = text.parse::<FilePath>() {
                let joined = std::path::Path::new("root").join(path.as_str());
                prop_assert!(joined.components().all(|part| matches!(part, std::path::Component::Normal(_))));
                prop_assert!(joined.starts_with("root"));
            }
        }
    }
}
