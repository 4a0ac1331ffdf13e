//! Models of Ollama's registry: `ollama://[namespace/]name[:tag]`.

use super::super::part::Part;
use super::super::{MAX_LONG_NAME_BYTES, MAX_NAME_BYTES, ParseReferenceError};
use super::refused;

/// Where the models of Ollama's registry are that have no namespace in their names.
const OLLAMA_NAMESPACE: &str = "library";
const OLLAMA_TAG: &str = "latest";

/// A model's name in Ollama's registry, with what was left out filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OllamaName<'a> {
    /// Whose it is; `library` where the name says nothing.
    pub namespace: &'a str,
    /// The model.
    pub name: &'a str,
    /// Its tag; `latest` where the name says nothing.
    pub tag: &'a str,
}

impl<'a> OllamaName<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        let (path, tag) = text.split_once(':').unwrap_or((text, OLLAMA_TAG));
        let (namespace, name) = path.split_once('/').unwrap_or((OLLAMA_NAMESPACE, path));
        Self { namespace, name, tag }
    }
}

/// `[namespace/]name[:tag]`, without what is said anyway.
pub(super) fn parse(text: &str) -> Result<String, ParseReferenceError> {
    if text.matches('/').count() > 1 {
        return Err(refused("a model of Ollama's registry", text, "it is [namespace/]name[:tag]"));
    }
    let OllamaName { namespace, name, tag } = OllamaName::of(text);
    Part { what: "a namespace", text: namespace, max_bytes: MAX_NAME_BYTES, also: "._-" }.check()?;
    Part { what: "a model's name", text: name, max_bytes: MAX_NAME_BYTES, also: "._-" }.check()?;
    Part { what: "a tag", text: tag, max_bytes: MAX_LONG_NAME_BYTES, also: "._-" }.check()?;
    let mut location = String::with_capacity(text.len());
    if namespace != OLLAMA_NAMESPACE {
        location.push_str(namespace);
        location.push('/');
    }
    location.push_str(name);
    if tag != OLLAMA_TAG {
        location.push(':');
        location.push_str(tag);
    }
    Ok(location)
}
