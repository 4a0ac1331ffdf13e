//! Values in a TOML file that keeps its comments and order.

use serde_json::Value;
use toml_edit::{DocumentMut, Item, Table, TableLike};

use super::Edit;

pub(super) fn apply(before: &str, edits: &[Edit]) -> Result<String, String> {
    let mut document: DocumentMut =
        before.parse().map_err(|error: toml_edit::TomlError| format!("is no TOML: {}", error.message()))?;
    for edit in edits {
        let Edit::Set(path, value) = edit else { continue };
        let Some((last, parents)) = path.split_last() else { continue };
        let mut table: &mut dyn TableLike = document.as_table_mut();
        for parent in parents {
            let inner = table.entry(parent).or_insert_with(|| {
                let mut inner = Table::new();
                // A table of tables needs no line of its own.
                inner.set_implicit(true);
                Item::Table(inner)
            });
            table = inner.as_table_like_mut().ok_or_else(|| format!("has a {parent} that is no table"))?;
        }
        let value = item(value)?;
        match table.get_mut(last).and_then(Item::as_value_mut) {
            Some(known) if known.to_string().trim() == value.to_string().trim() => {}
            Some(known) => {
                let decor = known.decor().clone();
                *known = value;
                *known.decor_mut() = decor;
            }
            None => {
                table.insert(last, Item::Value(value));
            }
        }
    }
    Ok(document.to_string())
}

fn item(value: &Value) -> Result<toml_edit::Value, String> {
    match value {
        Value::String(text) => Ok(text.as_str().into()),
        Value::Bool(flag) => Ok((*flag).into()),
        Value::Number(number) => {
            let whole = number.as_i64().map(toml_edit::Value::from);
            whole
                .or_else(|| number.as_f64().map(toml_edit::Value::from))
                .ok_or_else(|| "needs a number".to_owned())
        }
        _ => Err("needs a plain value".to_owned()),
    }
}
