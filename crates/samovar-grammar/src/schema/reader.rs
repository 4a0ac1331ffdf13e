//! Each schema in its place: which keywords it has, and what of them is kept. Notes for people are left out.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::can_be_written;
use super::closing::{combines_objects, is_left_open};
use super::disjoint::are_disjoint;
use super::keywords::{
    check_count, check_pattern, check_property_counts, keeps_format, refuse, under, unsupported, wrong,
};
use super::references::References;
use crate::error::Error;
use crate::limits;

/// Characters of a definition's name that come from the document.
const NAME_CHARS: usize = 40;

/// Reads a whole document: its schema, with what it refers to under `$defs`.
pub(super) fn read(document: &Value) -> Result<Map<String, Value>, Error> {
    let mut reader = Reader {
        document,
        references: References::new(document),
        closes: !combines_objects(document),
        definitions: Vec::new(),
        by_pointer: HashMap::new(),
        in_place: Vec::new(),
        schemas: 0,
        properties: 0,
    };
    let mut root = match reader.schema(document, "", 0, Some(""))? {
        Value::Object(root) => root,
        Value::Bool(true) => Map::new(),
        _ => return Err(wrong("false", "", "it allows no answer")),
    };
    let mut definitions = Map::new();
    while let Some((pointer, name)) = reader.definitions.get(definitions.len()).cloned() {
        let target = document.pointer(&pointer).unwrap_or(&Value::Null);
        let read = reader.schema(target, &pointer, 0, Some(&pointer))?;
        definitions.insert(name, read);
    }
    reader.refuse_circles()?;
    if !definitions.is_empty() {
        root.insert("$defs".to_owned(), Value::Object(definitions));
    }
    Ok(root)
}

struct Reader<'d> {
    document: &'d Value,
    references: References<'d>,
    /// Whether objects that declare properties get no others, where their schema leaves it open.
    closes: bool,
    /// The pointer to each target of a reference, and its name in what is written.
    definitions: Vec<(String, String)>,
    by_pointer: HashMap<String, usize>,
    /// From which definition which other is referred to for the same value. A circle of these has no meaning.
    in_place: Vec<(String, String)>,
    schemas: usize,
    properties: usize,
}

impl Reader<'_> {
    /// Reads one schema. `owner` is the definition whose value this schema describes too, if it is one.
    fn schema(
        &mut self,
        schema: &Value,
        place: &str,
        depth: usize,
        owner: Option<&str>,
    ) -> Result<Value, Error> {
        self.schemas += 1;
        if self.schemas > limits::SCHEMAS {
            return Err(too_many("schemas", place, limits::SCHEMAS));
        }
        if depth > limits::DEPTH {
            return Err(too_many("schemas within each other", place, limits::DEPTH));
        }
        let keywords = match schema {
            Value::Bool(_) => return Ok(schema.clone()),
            Value::Object(keywords) => keywords,
            _ => return Err(wrong("schema", place, "it must be an object or a boolean")),
        };
        refuse(keywords, place)?;
        check_property_counts(keywords, place)?;
        let mut read = Map::new();
        for (keyword, value) in keywords {
            let at = || under(place, keyword);
            match keyword.as_str() {
                "type" | "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf" => {
                    read.insert(keyword.clone(), value.clone());
                }
                "minItems" | "maxItems" | "minLength" | "maxLength" | "minProperties" | "maxProperties" => {
                    check_count(keyword, value, place)?;
                    read.insert(keyword.clone(), value.clone());
                }
                "required" => {
                    let names = value.as_array().ok_or_else(|| wrong(keyword, place, "it must be a list"))?;
                    self.count_properties(names.len(), place)?;
                    read.insert(keyword.clone(), value.clone());
                }
                "const" => {
                    check_value(value, keyword, place)?;
                    read.insert(keyword.clone(), value.clone());
                }
                "enum" => {
                    let values =
                        value.as_array().ok_or_else(|| wrong(keyword, place, "it must be a list"))?;
                    if values.len() > limits::ENUM_VALUES {
                        let (value, most) = (values.len() as u64, limits::ENUM_VALUES as u64);
                        let (keyword, place) = (keyword.clone(), format!("#{place}"));
                        return Err(Error::TooLarge { keyword, place, value, most });
                    }
                    check_value(value, keyword, place)?;
                    read.insert(keyword.clone(), value.clone());
                }
                "pattern" => {
                    let text = value.as_str().ok_or_else(|| wrong(keyword, place, "it must be a text"))?;
                    check_pattern(text, keyword, place)?;
                    read.insert(keyword.clone(), value.clone());
                }
                "format" if keeps_format(value, place)? => {
                    read.insert(keyword.clone(), value.clone());
                }
                "properties" | "patternProperties" => {
                    let schemas =
                        value.as_object().ok_or_else(|| wrong(keyword, place, "it must be an object"))?;
                    self.count_properties(schemas.len(), place)?;
                    let mut map = Map::new();
                    for (name, schema) in schemas {
                        if keyword == "patternProperties" {
                            check_pattern(name, keyword, place)?;
                        }
                        map.insert(name.clone(), self.schema(schema, &under(&at(), name), depth + 1, None)?);
                    }
                    read.insert(keyword.clone(), Value::Object(map));
                }
                // The list of older specifications is `prefixItems`, and what follows it is in `additionalItems`.
                "items" if value.is_array() => {
                    read.insert("prefixItems".to_owned(), self.list(value, keyword, place, depth, None)?);
                }
                "items" | "additionalProperties" => {
                    read.insert(keyword.clone(), self.schema(value, &at(), depth + 1, None)?);
                }
                "additionalItems" if keywords.get("items").is_some_and(Value::is_array) => {
                    read.insert("items".to_owned(), self.schema(value, &at(), depth + 1, None)?);
                }
                "prefixItems" => {
                    read.insert(keyword.clone(), self.list(value, keyword, place, depth, None)?);
                }
                "anyOf" | "allOf" => {
                    read.insert(keyword.clone(), self.list(value, keyword, place, depth, owner)?);
                }
                "oneOf" => {
                    let choices = self.list(value, keyword, place, depth, owner)?;
                    self.check_one_of(value, place)?;
                    if keywords.contains_key("anyOf") {
                        return Err(unsupported(keyword, place, "`anyOf` stands next to it"));
                    }
                    read.insert("anyOf".to_owned(), choices);
                }
                "$ref" => {
                    let name = self.reference(value, place, owner)?;
                    read.insert(keyword.clone(), Value::String(format!("#/$defs/{name}")));
                }
                _ => {}
            }
        }
        if self.closes && is_left_open(keywords) {
            read.insert("additionalProperties".to_owned(), Value::Bool(false));
        }
        Ok(Value::Object(read))
    }

    fn list(
        &mut self,
        value: &Value,
        keyword: &str,
        place: &str,
        depth: usize,
        owner: Option<&str>,
    ) -> Result<Value, Error> {
        let schemas = value.as_array().ok_or_else(|| wrong(keyword, place, "it must be a list"))?;
        if schemas.len() > limits::CHOICES {
            let (value, most) = (schemas.len() as u64, limits::CHOICES as u64);
            return Err(Error::TooLarge {
                keyword: keyword.to_owned(),
                place: format!("#{place}"),
                value,
                most,
            });
        }
        let mut read = Vec::with_capacity(schemas.len());
        for (index, schema) in schemas.iter().enumerate() {
            let at = format!("{}/{index}", under(place, keyword));
            read.push(self.schema(schema, &at, depth + 1, owner)?);
        }
        Ok(Value::Array(read))
    }

    /// A value must fit one choice only. With choices that have no value in common, `anyOf` says the same.
    fn check_one_of(&self, choices: &Value, place: &str) -> Result<(), Error> {
        let choices = choices.as_array().map(Vec::as_slice).unwrap_or_default();
        let at = |index: usize| format!("{}/{index}", under(place, "oneOf"));
        for (index, choice) in choices.iter().enumerate() {
            for (other_index, other) in choices.iter().enumerate().skip(index + 1) {
                let (here, there) = (at(index), at(other_index));
                let (first, second) = ((choice, here.as_str()), (other, there.as_str()));
                if !are_disjoint(self.document, &self.references, first, second) {
                    return Err(unsupported("oneOf", place, "a value could fit two of its choices"));
                }
            }
        }
        Ok(())
    }

    /// The name of the definition that a reference means.
    fn reference(&mut self, value: &Value, place: &str, owner: Option<&str>) -> Result<String, Error> {
        let reference = value.as_str().ok_or_else(|| wrong("$ref", place, "it must be a text"))?;
        let pointer = self.references.resolve(reference, place)?;
        if let Some(owner) = owner {
            self.in_place.push((owner.to_owned(), pointer.clone()));
        }
        if let Some(index) = self.by_pointer.get(&pointer) {
            return Ok(self.definitions[*index].1.clone());
        }
        let index = self.definitions.len();
        let name = definition_name(&pointer, index);
        self.by_pointer.insert(pointer.clone(), index);
        self.definitions.push((pointer, name.clone()));
        Ok(name)
    }

    fn count_properties(&mut self, more: usize, place: &str) -> Result<(), Error> {
        self.properties += more;
        if self.properties > limits::PROPERTIES {
            return Err(too_many("properties", place, limits::PROPERTIES));
        }
        Ok(())
    }

    /// Refuses definitions that are the same as themselves: nothing lies between them and what they refer to.
    fn refuse_circles(&self) -> Result<(), Error> {
        let mut leads_to: HashMap<&str, usize> = HashMap::new();
        let mut comes_from: HashMap<&str, Vec<&str>> = HashMap::new();
        for (from, to) in &self.in_place {
            *leads_to.entry(from).or_default() += 1;
            leads_to.entry(to).or_default();
            comes_from.entry(to).or_default().push(from);
        }
        let mut ends: Vec<&str> =
            leads_to.iter().filter(|(_, count)| **count == 0).map(|(pointer, _)| *pointer).collect();
        while let Some(end) = ends.pop() {
            for from in comes_from.remove(end).unwrap_or_default() {
                if let Some(count) = leads_to.get_mut(from) {
                    *count -= 1;
                    if *count == 0 {
                        ends.push(from);
                    }
                }
            }
        }
        let is_left = |pointer: &str| leads_to.get(pointer).is_some_and(|count| *count > 0);
        match self.in_place.iter().find(|(from, to)| is_left(from) && is_left(to)) {
            Some((from, to)) => {
                let (reference, place) = (format!("#{to}"), format!("#{from}"));
                Err(Error::Reference { reference, place, why: "leads back to itself" })
            }
            None => Ok(()),
        }
    }
}

/// A name without signs, different for each definition.
fn definition_name(pointer: &str, index: usize) -> String {
    let last = pointer.rsplit('/').next().unwrap_or_default();
    let name: String = last.chars().filter(char::is_ascii_alphanumeric).take(NAME_CHARS).collect();
    format!("{name}_{index}")
}

/// Refuses texts that no string can hold.
fn check_value(value: &Value, keyword: &str, place: &str) -> Result<(), Error> {
    match value {
        Value::String(text) if !text.chars().all(can_be_written) => {
            Err(unsupported(keyword, place, "it has a control character in a text"))
        }
        Value::Array(values) => values.iter().try_for_each(|value| check_value(value, keyword, place)),
        Value::Object(values) => values.values().try_for_each(|value| check_value(value, keyword, place)),
        _ => Ok(()),
    }
}

fn too_many(what: &'static str, place: &str, most: usize) -> Error {
    Error::TooMany { what, place: format!("#{place}"), most }
}

/// A part of a JSON pointer.
pub(super) fn pointer(part: &str) -> String {
    part.replace('~', "~0").replace('/', "~1")
}
