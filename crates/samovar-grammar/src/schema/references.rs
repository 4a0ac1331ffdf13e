//! `$ref`: to which part of the same document it leads. Nothing is ever fetched.

use std::collections::HashMap;

use serde_json::Value;

use super::reader::pointer;
use crate::error::Error;

/// The names that parts of a document have.
pub(super) struct References<'d> {
    document: &'d Value,
    /// Pointers by `$id`, without a `#` at its end.
    ids: HashMap<&'d str, String>,
    /// Pointers by `$anchor`, or by an `$id` that is only a fragment.
    anchors: HashMap<&'d str, String>,
}

impl<'d> References<'d> {
    pub(super) fn new(document: &'d Value) -> Self {
        let mut references = Self { document, ids: HashMap::new(), anchors: HashMap::new() };
        references.collect(document, "");
        references
    }

    fn collect(&mut self, value: &'d Value, place: &str) {
        match value {
            Value::Object(object) => {
                for keyword in ["$id", "id"] {
                    match object.get(keyword).and_then(Value::as_str) {
                        Some(id) if id.starts_with('#') => {
                            self.anchors.entry(&id[1..]).or_insert_with(|| place.to_owned());
                        }
                        Some(id) => {
                            self.ids.entry(id.trim_end_matches('#')).or_insert_with(|| place.to_owned());
                        }
                        None => {}
                    }
                }
                if let Some(anchor) = object.get("$anchor").and_then(Value::as_str) {
                    self.anchors.entry(anchor).or_insert_with(|| place.to_owned());
                }
                for (key, value) in object {
                    self.collect(value, &format!("{place}/{}", pointer(key)));
                }
            }
            Value::Array(values) => {
                for (index, value) in values.iter().enumerate() {
                    self.collect(value, &format!("{place}/{index}"));
                }
            }
            _ => {}
        }
    }

    /// The pointer to what a reference at `place` means.
    pub(super) fn resolve(&self, reference: &str, place: &str) -> Result<String, Error> {
        let refused = |why| {
            let (reference, place) = (reference.chars().take(200).collect(), format!("#{place}"));
            Err(Error::Reference { reference, place, why })
        };
        let (address, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let resource =
            if address.is_empty() { Some(self.resource_of(place)) } else { self.ids.get(address).cloned() };
        let Some(resource) = resource else {
            return refused("is not in this document, and nothing is fetched");
        };
        let found = if fragment.is_empty() {
            resource
        } else if fragment.starts_with('/') {
            let Some(fragment) = percent_decoded(fragment) else {
                return refused("has a percent sign without two hexadecimal digits");
            };
            format!("{resource}{fragment}")
        } else {
            let Some(found) = self.anchors.get(fragment) else {
                return refused("names no part of this document");
            };
            found.clone()
        };
        match self.document.pointer(&found) {
            Some(Value::Object(_) | Value::Bool(_)) => Ok(found),
            Some(_) => refused("leads to something that is no schema"),
            None => refused("leads nowhere in this document"),
        }
    }

    /// The pointer to the innermost schema around `place` that has an address of its own.
    fn resource_of(&self, place: &str) -> String {
        let has_id = |at: &str| {
            let id = self.document.pointer(at).and_then(|schema| schema.get("$id")).and_then(Value::as_str);
            id.is_some_and(|id| !id.starts_with('#'))
        };
        let mut at = place;
        while !at.is_empty() {
            if has_id(at) {
                return at.to_owned();
            }
            at = at.rsplit_once('/').map_or("", |(before, _)| before);
        }
        String::new()
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
            let (high, low) = (digit(rest.next())?, digit(rest.next())?);
            bytes.push((high * 16 + low) as u8);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}
