//! Chat templates, which stand in one of three files. They are carried over as texts and never rendered here.

use samovar_core::format::gguf::limits;
use serde_json::Value;

use super::Settings;
use crate::error::Fault;
use crate::gguf::{self, Metadata};
use crate::source::Folder;

const KEY: &str = "tokenizer.chat_template";
/// Templates of one model.
const TEMPLATES: usize = 64;
/// A file of one template in JSON has some bytes more than the template.
const FILE_BYTES: u64 = 4 * limits::TEMPLATE_BYTES;

/// Writes the templates of a model, if it has any.
pub(super) fn write(
    folder: &Folder,
    settings: Option<&Settings>,
    metadata: &mut Metadata,
) -> Result<(), Fault> {
    let said = settings.and_then(|settings| settings.get("chat_template")).filter(|said| !said.is_null());
    let said = match said {
        Some(said) => Some(said.clone()),
        None => alone(folder)?,
    };
    match said {
        None => Ok(()),
        Some(Value::String(template)) => set(metadata, KEY.to_owned(), template),
        Some(Value::Array(named)) => all(metadata, named),
        Some(_) => Err(Fault::Tokenizer("chat_template is neither a text nor a list".to_owned())),
    }
}

/// The template that a model's conversations go through, if it has one.
pub(crate) fn read(folder: &Folder, settings: Option<&Settings>) -> Result<Option<String>, Fault> {
    let mut metadata = Metadata::default();
    write(folder, settings, &mut metadata)?;
    Ok(match metadata.get(KEY) {
        Some(gguf::Value::Text(template)) => Some(template.clone()),
        _ => None,
    })
}

/// The template that stands in a file of its own.
fn alone(folder: &Folder) -> Result<Option<Value>, Fault> {
    if let Some(template) = folder.text("chat_template.jinja", limits::TEMPLATE_BYTES)? {
        return Ok(Some(Value::String(template)));
    }
    let file: Option<Settings> = folder.json("chat_template.json", FILE_BYTES)?;
    Ok(file.and_then(|mut file| file.remove("chat_template")).filter(|template| !template.is_null()))
}

/// Templates with names, of which one is called `default`.
fn all(metadata: &mut Metadata, named: Vec<Value>) -> Result<(), Fault> {
    if named.len() > TEMPLATES {
        return Err(Fault::Tokenizer(format!("it has more than {TEMPLATES} chat templates")));
    }
    let mut names = Vec::new();
    for entry in named {
        let text = |key: &str| entry.get(key).and_then(Value::as_str);
        let (Some(name), Some(template)) = (text("name"), text("template")) else { continue };
        let plain = |character: char| if character.is_ascii_alphanumeric() { character } else { '_' };
        let name: String = name.chars().take(64).map(plain).collect();
        if name == "default" {
            set(metadata, KEY.to_owned(), template.to_owned())?;
        } else if !name.is_empty() {
            set(metadata, format!("{KEY}.{name}"), template.to_owned())?;
            names.push(name);
        }
    }
    names.sort_unstable();
    names.dedup();
    if !names.is_empty() {
        metadata.set("tokenizer.chat_templates", gguf::Value::Texts(names));
    }
    Ok(())
}

fn set(metadata: &mut Metadata, key: String, template: String) -> Result<(), Fault> {
    if template.len() as u64 > limits::TEMPLATE_BYTES {
        let what = format!(
            "a chat template has {} bytes, and the limit is {}",
            template.len(),
            limits::TEMPLATE_BYTES
        );
        return Err(Fault::Tokenizer(what));
    }
    metadata.text(key, template);
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn written(settings: Value, jinja: Option<&str>) -> Metadata {
        let place = tempfile::tempdir().unwrap();
        if let Some(jinja) = jinja {
            fs_err::write(place.path().join("chat_template.jinja"), jinja).unwrap();
        }
        let (settings, mut metadata) = (serde_json::from_value(settings).unwrap(), Metadata::default());
        write(&Folder::open(place.path()).unwrap(), Some(&settings), &mut metadata).unwrap();
        metadata
    }

    #[test]
    fn a_template_is_found_wherever_it_stands() {
        let text = |words: &str| Some(gguf::Value::Text(words.to_owned()));
        assert_eq!(written(json!({"chat_template": "a"}), Some("b")).get(KEY).cloned(), text("a"));
        assert_eq!(written(json!({}), Some("b")).get(KEY).cloned(), text("b"));
        let named = json!([{"name": "tool use", "template": "t"}, {"name": "default", "template": "d"}]);
        let metadata = written(json!({"chat_template": named}), None);
        assert_eq!(metadata.get(KEY).cloned(), text("d"));
        assert_eq!(metadata.get("tokenizer.chat_template.tool_use").cloned(), text("t"));
    }
}
