//! Tokens with a role, and what is put around texts, as the files of a tokenizer say it in several places.
//!
//! *Source:* the order in which llama.cpp's converter believes them: `tokenizer_config.json` with what `tokenizer.json` adds
//! to texts, then `config.json`.

use serde_json::Value;

use super::Settings;
use super::file::{TokenizerFile, kind_of};
use crate::config::Config;
use crate::gguf::Metadata;

/// Roles, as files call them and as GGUF does. The misspelling is GGUF's own.
const ROLES: [(&str, &str); 8] = [
    ("bos", "bos"),
    ("eos", "eos"),
    ("unk", "unknown"),
    ("sep", "seperator"),
    ("pad", "padding"),
    ("mask", "mask"),
    ("eot", "eot"),
    ("eom", "eom"),
];

/// What is known of a vocabulary's special tokens.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Special {
    /// Keys of GGUF with ids.
    ids: Vec<(&'static str, u32)>,
    pub(super) adds_begin: Option<bool>,
    pub(super) adds_end: Option<bool>,
    pub(super) adds_separator: Option<bool>,
}

/// The texts of tokens by their roles.
#[derive(Default)]
struct Names {
    begin: Option<String>,
    end: Option<String>,
    separator: Option<String>,
    class: Option<String>,
    /// What ends a turn, where something else ends texts.
    turn: Option<String>,
}

impl Special {
    /// What the files say of a vocabulary of so many tokens.
    pub(super) fn read(
        file: Option<&TokenizerFile>,
        settings: Option<&Settings>,
        config: &Config,
        vocabulary: usize,
    ) -> Self {
        let mut special = Self::default();
        let said = |role: &str| text_of(settings?.get(&format!("{role}_token"))?);
        let mut names = Names {
            begin: said("bos").or_else(|| said("cls")),
            end: said("eos").or_else(|| said("sep")),
            separator: said("sep"),
            class: said("cls"),
            turn: None,
        };
        for step in
            file.map(|file| TokenizerFile::steps(&file.post_processor, "processors")).unwrap_or_default()
        {
            special.follow(step, &mut names);
        }
        if let Some(settings) = settings {
            let flag = |key: &str| settings.get(key).and_then(Value::as_bool);
            special.adds_begin = special.adds_begin.or(flag("add_bos_token"));
            special.adds_end = special.adds_end.or(flag("add_eos_token"));
            special.adds_separator = special.adds_separator.or(flag("add_sep_token"));
        }
        for (role, key) in ROLES {
            let name = match role {
                "bos" => names.begin.clone(),
                "eos" => names.end.clone(),
                "sep" => names.separator.clone(),
                "eot" => names.turn.clone().or_else(|| said("eot")),
                role => said(role),
            };
            let by_name = name.and_then(|name| file?.id_of(&name));
            let by_number = || config.value(&format!("{role}_token_id"))?.as_u64()?.try_into().ok();
            let id: Option<u32> = by_name.or_else(by_number);
            if let Some(id) = id.filter(|id| (*id as usize) < vocabulary) {
                special.ids.push((key, id));
            }
        }
        special
    }

    /// One step of what is done with tokens at the end.
    fn follow(&mut self, step: &Value, names: &mut Names) {
        match kind_of(step) {
            "ByteLevel" => {
                self.adds_begin.get_or_insert(false);
                self.adds_end.get_or_insert(false);
            }
            kind @ ("RobertaProcessing" | "BertProcessing") => {
                let word = |key: &str| Some(step.get(key)?.get(0)?.as_str()?.to_owned());
                let (class, separator) = (word("cls"), word("sep"));
                names.begin = names.begin.take().or_else(|| class.clone());
                names.end = names.end.take().or_else(|| separator.clone());
                names.class = names.class.take().or(class);
                names.separator = names.separator.take().or(separator);
                (self.adds_begin, self.adds_end) = (Some(true), Some(true));
                if kind == "RobertaProcessing" {
                    self.adds_separator = Some(true);
                }
            }
            "TemplateProcessing" => self.template(step, names),
            _ => (),
        }
    }

    /// What stands around one text, and between two.
    fn template(&mut self, step: &Value, names: &mut Names) {
        let list = |key: &str| step.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let (single, pair) = (list("single"), list("pair"));
        let (mut first, mut last) = (None, None);
        if single.len() > 1 {
            first = single.first().and_then(special_of);
            last = single.last().and_then(special_of);
        }
        if let Some(first) = first {
            let is_known =
                [&names.begin, &names.class].into_iter().any(|name| name.as_deref() == Some(first));
            if !is_known {
                names.begin.get_or_insert_with(|| first.to_owned());
                names.class.get_or_insert_with(|| first.to_owned());
            }
            let is_begin =
                [&names.begin, &names.class].into_iter().any(|name| name.as_deref() == Some(first));
            self.adds_begin = Some(is_begin);
        }
        if let Some(last) = last {
            if names.end.as_deref() != Some(last) {
                names.turn = names.end.replace(last.to_owned());
            }
            self.adds_end = Some(true);
        }
        // `A` and what ends it, then what separates, then `B`.
        let begins = usize::from(first.is_some() && pair.first().and_then(special_of) == first);
        let ends = usize::from(last.is_some() && pair.last().and_then(special_of) == last);
        let Some(inner) = pair.get(begins..pair.len().saturating_sub(ends)) else { return };
        let [a, between @ .., b] = inner else { return };
        if (sequence_of(a), sequence_of(b)) != (Some("A"), Some("B")) || between.is_empty() {
            return;
        }
        let separates = |entry: Option<&Value>| {
            let found = entry.and_then(special_of);
            found.is_some() && [&names.separator, &names.end].into_iter().any(|name| name.as_deref() == found)
        };
        let is_second = between.len() == 2 && separates(between.get(1));
        self.adds_separator = Some(is_second || (last.is_none() && separates(between.first())));
        if self.adds_separator == Some(true) && names.separator.is_none() {
            names.separator.clone_from(&names.end);
        }
    }

    /// Writes what is known.
    pub(super) fn write(&self, metadata: &mut Metadata) {
        for (key, id) in &self.ids {
            metadata.whole(format!("tokenizer.ggml.{key}_token_id"), u64::from(*id));
        }
        for (key, flag) in [("bos", self.adds_begin), ("eos", self.adds_end), ("sep", self.adds_separator)] {
            if let Some(flag) = flag {
                metadata.flag(format!("tokenizer.ggml.add_{key}_token"), flag);
            }
        }
    }

    #[cfg(test)]
    fn id(&self, key: &str) -> Option<u32> {
        self.ids.iter().find(|(known, _)| *known == key).map(|(_, id)| *id)
    }
}

/// The texts that a tokenizer's settings give a role.
pub(super) fn named(settings: Option<&Settings>) -> Vec<String> {
    let Some(settings) = settings else { return Vec::new() };
    let roles = ["bos", "eos", "unk", "sep", "pad", "cls", "mask"];
    let roles = roles.iter().filter_map(|role| settings.get(&format!("{role}_token")));
    let more = settings.get("additional_special_tokens").and_then(Value::as_array);
    roles.chain(more.into_iter().flatten()).filter_map(text_of).collect()
}

/// The text of a token, which stands alone or among its properties.
fn text_of(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_owned)
}

fn special_of(entry: &Value) -> Option<&str> {
    entry.get("SpecialToken")?.get("id")?.as_str()
}

fn sequence_of(entry: &Value) -> Option<&str> {
    entry.get("Sequence")?.get("id")?.as_str()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn special(id: &str) -> Value {
        json!({"SpecialToken": {"id": id, "type_id": 0}})
    }

    fn sequence(id: &str) -> Value {
        json!({"Sequence": {"id": id, "type_id": 0}})
    }

    fn read(single: &Value, pair: &Value, settings: Value) -> Special {
        let file = json!({"post_processor": {"type": "TemplateProcessing", "single": single, "pair": pair},
            "added_tokens": [{"id": 0, "content": "<s>", "special": true}, {"id": 2, "content": "</s>", "special": true}],
            "model": {"type": "BPE", "vocab": {"<s>": 0, "</s>": 2}}});
        let settings: Settings = serde_json::from_value(settings).unwrap();
        Special::read(
            Some(&serde_json::from_value(file).unwrap()),
            Some(&settings),
            &Config::of(json!({})),
            10,
        )
    }

    #[test]
    fn what_stands_around_texts_is_found_in_the_template() {
        let single = json!([special("<s>"), sequence("A"), special("</s>")]);
        let pair = json!([
            special("<s>"),
            sequence("A"),
            special("</s>"),
            special("</s>"),
            sequence("B"),
            special("</s>")
        ]);
        let found = read(&single, &pair, json!({"bos_token": "<s>", "eos_token": {"content": "</s>"}}));
        assert_eq!(
            (found.adds_begin, found.adds_end, found.adds_separator),
            (Some(true), Some(true), Some(true))
        );
        assert_eq!((found.id("bos"), found.id("eos"), found.id("seperator")), (Some(0), Some(2), Some(2)));
    }

    #[test]
    fn a_text_without_an_end_has_none_added() {
        let single = json!([special("<s>"), sequence("A")]);
        let pair = json!([special("<s>"), sequence("A"), special("<s>"), sequence("B")]);
        let found =
            read(&single, &pair, json!({"bos_token": "<s>", "eos_token": "</s>", "add_eos_token": false}));
        assert_eq!((found.adds_begin, found.adds_end), (Some(true), Some(false)));
    }

    #[test]
    fn ids_of_the_configuration_are_believed_last_and_only_within_the_vocabulary() {
        let config = Config::of(json!({"bos_token_id": 5, "eos_token_id": [1, 2], "pad_token_id": 99}));
        let found = Special::read(None, None, &config, 10);
        assert_eq!((found.id("bos"), found.id("eos"), found.id("padding")), (Some(5), None, None));
    }
}
