//! `${name}` in llama-swap's configuration: variables of the environment in the whole text, macros in each value.
//!
//! As there: a model's macros stand for those of the file, later ones may contain earlier ones, and what is left over is an error.

use serde_json::{Map, Value};

use crate::settings::foreign::Variables;

const MACROS_MAX: usize = 1_000;
/// Bytes of one value, once macros stand for what they mean.
const EXPANDED_MAX_BYTES: usize = 64 << 10;
/// What llama-swap fills in itself, and what no setting depends on.
const OF_SERVER: [&str; 2] = ["PORT", "PID"];

/// Macros in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Macros(Vec<(String, String)>);

impl Macros {
    /// Those of the file.
    ///
    /// # Errors
    /// A clause about them.
    pub(super) fn of(value: Option<&Value>) -> Result<Self, String> {
        let mut macros = Vec::new();
        match value {
            None | Some(Value::Null) => {}
            Some(Value::Object(values)) if values.len() <= MACROS_MAX => {
                for (name, value) in values {
                    let text = text_of(value)
                        .ok_or_else(|| format!("has a macro {name:?} that is no plain value"))?;
                    macros.push((name.clone(), text));
                }
            }
            Some(Value::Object(_)) => return Err(format!("has more than {MACROS_MAX} macros")),
            Some(_) => return Err("has `macros` that are no mapping".to_owned()),
        }
        Ok(Self(macros))
    }

    /// The same with those of a model.
    ///
    /// # Errors
    /// As [`Macros::of`].
    pub(super) fn with(&self, model: &str, value: Option<&Value>) -> Result<Self, String> {
        let mut macros = vec![("MODEL_ID".to_owned(), model.to_owned())];
        macros.extend(self.0.iter().cloned());
        for (name, text) in Self::of(value)?.0 {
            match macros.iter_mut().find(|(known, _)| *known == name) {
                Some(known) => known.1 = text,
                None => macros.push((name, text)),
            }
        }
        Ok(Self(macros))
    }

    /// A model's values, with what the macros mean. Its own macros and what is only shown are left out.
    ///
    /// # Errors
    /// A clause about a value.
    pub(super) fn expand_all(&self, model: &Map<String, Value>) -> Result<Map<String, Value>, String> {
        let mut expanded = Map::new();
        for (key, value) in model {
            let value = match (key.as_str(), value) {
                ("macros" | "metadata" | "cmdStop", _) => continue,
                // Comments may name what is none.
                ("cmd", Value::String(line)) => Value::String(self.expand_text(&without_comments(line))?),
                _ => self.expand(value)?,
            };
            expanded.insert(key.clone(), value);
        }
        Ok(expanded)
    }

    fn expand(&self, value: &Value) -> Result<Value, String> {
        Ok(match value {
            Value::String(text) => typed(text, self.expand_text(text)?),
            Value::Array(items) => {
                let mut expanded = Vec::with_capacity(items.len());
                for item in items {
                    expanded.push(self.expand(item)?);
                }
                Value::Array(expanded)
            }
            Value::Object(entries) => {
                let mut expanded = Map::new();
                for (key, value) in entries {
                    // Names of models may be made of macros.
                    expanded.insert(self.expand_text(key)?, self.expand(value)?);
                }
                Value::Object(expanded)
            }
            other => other.clone(),
        })
    }

    /// A text with what its macros mean.
    fn expand_text(&self, text: &str) -> Result<String, String> {
        let mut expanded = text.to_owned();
        // The last first: it may contain those before it.
        for (name, meaning) in self.0.iter().rev() {
            let slug = format!("${{{name}}}");
            let count = expanded.matches(&slug).count();
            if count == 0 {
                continue;
            }
            if expanded.len().saturating_add(count.saturating_mul(meaning.len())) > EXPANDED_MAX_BYTES {
                return Err(format!("a value becomes longer than {EXPANDED_MAX_BYTES} bytes"));
            }
            expanded = expanded.replace(&slug, meaning);
        }
        for name in OF_SERVER {
            expanded = expanded.replace(&format!("${{{name}}}"), "0");
        }
        match macro_in(&expanded) {
            Some(left) => Err(format!("the macro {left:?} is not defined")),
            None => Ok(expanded),
        }
    }
}

/// A value that was nothing but a macro has the macro's type.
fn typed(before: &str, expanded: String) -> Value {
    let is_alone = before.starts_with("${") && before.find('}') == Some(before.len() - 1);
    let value: Option<Value> = if is_alone { serde_json::from_str(&expanded).ok() } else { None };
    value.filter(|value| value.is_number() || value.is_boolean()).unwrap_or(Value::String(expanded))
}

fn without_comments(line: &str) -> String {
    let lines = line.lines().filter(|line| !line.trim_start().starts_with('#'));
    lines.collect::<Vec<_>>().join("\n")
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// The name in the first `${name}` of a text.
fn macro_in(text: &str) -> Option<&str> {
    text.split("${").skip(1).find_map(|rest| {
        let name = rest.split('}').next().filter(|name| name.len() < rest.len())?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
        (!name.is_empty() && name.chars().all(is_name)).then_some(name)
    })
}

/// The text of a file, with the variables that it names. Comments may name others.
///
/// # Errors
/// A clause about a variable that is not set, or that would change the file's structure.
pub(super) fn with_variables(text: &str, variables: &Variables) -> Result<String, String> {
    const BEGINS: &str = "${env.";
    let mut whole = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        if line.trim_start().starts_with('#') {
            whole.push_str(line);
            continue;
        }
        let mut parts = line.split(BEGINS);
        whole.push_str(parts.next().unwrap_or_default());
        for part in parts {
            let (name, rest) = part.split_once('}').ok_or("names a variable without an end: ${env.")?;
            let value =
                variables.text(name).ok_or_else(|| format!("needs the variable {name}, which is not set"))?;
            if value.contains(['\n', '\r', '"', '\'']) {
                return Err(format!("needs the variable {name}, which has a line's end or a quote in it"));
            }
            whole.push_str(&value);
            whole.push_str(rest);
            if whole.len() > 4 << 20 {
                return Err("becomes too long by its variables".to_owned());
            }
        }
    }
    Ok(whole)
}
