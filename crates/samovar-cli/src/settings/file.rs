//! `samovar.toml`: read, checked against the table of keys, every value with its line.
//!
//! An unknown key is an error with a suggestion: a limit that is silently ignored is worse than none.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use samovar_core::{ErrorKind, Failure, HubRef, ModelRef};
use toml::de::{DeTable, DeValue};

use super::Provenance;
use super::keys::{self, KEYS, Key};
use super::model_keys::{self, MODEL_KEYS, NAME_KEYS, SOURCE};
use super::value::{Raw, Value};
use crate::home;

/// A configuration file larger than this is something else.
pub(crate) const MAX_BYTES: u64 = 1 << 20;
const MAX_MODELS: usize = 1_000;

/// What a file says.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// By path, such as `pool.budget_bytes` or `defaults.slots`.
    pub(crate) values: BTreeMap<String, (Value, Provenance)>,
    /// `[models.NAME]`: the name's settings, `source` among them.
    pub(crate) models: BTreeMap<String, BTreeMap<String, (Value, Provenance)>>,
}

/// Reads a file; `None` when there is none and the user did not name it.
///
/// # Errors
/// `NotFound` when it was named and is not there; `InvalidRequest` with file and line for anything in it that is wrong.
pub(crate) fn read(path: &Path, is_named: bool) -> Result<Option<Contents>, Failure> {
    let facts = match fs_err::metadata(path) {
        Ok(facts) => facts,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !is_named => return Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Failure::new(
                ErrorKind::NotFound,
                format!("there is no configuration file {}", path.display()),
            )
            .with_hint("check --config and SAMOVAR_CONFIG"));
        }
        Err(error) => return Err(home::storage("read", path, &error)),
    };
    if facts.len() > MAX_BYTES {
        return Err(Failure::new(
            ErrorKind::InvalidRequest,
            format!("{} has {} bytes, more than any configuration", path.display(), facts.len()),
        )
        .with_hint("check --config and SAMOVAR_CONFIG"));
    }
    let text = fs_err::read_to_string(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::InvalidData => {
            Failure::new(ErrorKind::InvalidRequest, format!("{} is not UTF-8 text", path.display()))
                .with_hint("a configuration file is TOML")
        }
        _ => home::storage("read", path, &error),
    })?;
    Reader { path, text: &text }.contents().map(Some)
}

/// What a text says that is, or would be, such a file.
///
/// # Errors
/// As [`read`].
pub(crate) fn contents_of(path: &Path, text: &str) -> Result<Contents, Failure> {
    Reader { path, text }.contents()
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Reader<'_> {
    fn contents(&self) -> Result<Contents, Failure> {
        let table = DeTable::parse(self.text).map_err(|error| {
            let line = error.span().map_or(1, |span| self.line(span.start));
            let sentence = error.message().trim().replace('\n', "; ");
            let hint = self.text.lines().nth(line - 1).and_then(unquoted).map_or_else(
                || "the file is TOML: `name = value` lines below `[section]` lines".to_owned(),
                |name| needs_quotes(&name),
            );
            self.fault(line, &sentence).with_hint(hint)
        })?;
        let mut contents = Contents::default();
        for (name, value) in table.get_ref() {
            let (name, line) = (name.get_ref().as_ref(), self.line(name.span().start));
            match (name, value.get_ref()) {
                ("models", DeValue::Table(models)) => self.models(models, &mut contents)?,
                ("defaults", DeValue::Table(section)) => {
                    let values = self.section(
                        section,
                        &model_keys::find_of_model,
                        &MODEL_KEYS.iter().map(|key| key.path).collect::<Vec<_>>(),
                        "defaults.",
                    )?;
                    contents
                        .values
                        .extend(values.into_iter().map(|(name, value)| (format!("defaults.{name}"), value)));
                }
                (_, DeValue::Table(section)) if is_section(name) => {
                    let prefix = format!("{name}.");
                    let known: Vec<&str> =
                        KEYS.iter().filter_map(|key| key.path.strip_prefix(&prefix)).collect();
                    let values = self.section(
                        section,
                        &|key: &str| keys::find(&format!("{prefix}{key}")),
                        &known,
                        &prefix,
                    )?;
                    contents
                        .values
                        .extend(values.into_iter().map(|(key, value)| (format!("{prefix}{key}"), value)));
                }
                (_, DeValue::Table(_)) => return Err(self.unknown(line, name, "section", &sections(), "")),
                ("models" | "defaults", _) => {
                    return Err(self.fault(line, &format!("`{name}` is a section: write [{name}]")));
                }
                (_, _) if is_section(name) => {
                    return Err(self.fault(line, &format!("`{name}` is a section: write [{name}]")));
                }
                (_, other) => {
                    let key = keys::find(name).filter(|key| !key.path.contains('.')).ok_or_else(|| {
                        let top: Vec<&str> =
                            KEYS.iter().map(|key| key.path).filter(|path| !path.contains('.')).collect();
                        self.unknown(line, name, "key", &top, "")
                    })?;
                    contents.values.insert(name.to_owned(), self.value(key, other, line)?);
                }
            }
        }
        Ok(contents)
    }

    fn models(&self, models: &DeTable<'_>, contents: &mut Contents) -> Result<(), Failure> {
        if models.len() > MAX_MODELS {
            return Err(
                self.fault(1, &format!("there are {} models, {MAX_MODELS} is the limit", models.len()))
            );
        }
        let known: Vec<&str> = NAME_KEYS.iter().chain(MODEL_KEYS).map(|key| key.path).collect();
        for (name, value) in models {
            let line = self.line(name.span().start);
            let name = name.get_ref().as_ref();
            let DeValue::Table(section) = value.get_ref() else {
                return Err(self.fault(line, &format!("a model is a section: write [models.{name}]")));
            };
            if !is_name(name) {
                return Err(self.fault(line, &format!("{name:?} cannot be the name of a model")).with_hint(
                    "a name has letters, digits, . _ - : and at most one /, and does not end in .gguf",
                ));
            }
            if let Some(whole) = dotted(name, section) {
                let sentence = format!("[models.{whole}] is read as a section within a section");
                return Err(self.fault(line, &sentence).with_hint(needs_quotes(&whole)));
            }
            let values =
                self.section(section, &model_keys::find_of_name, &known, &format!("models.{name}."))?;
            if !values.contains_key(SOURCE.path) {
                return Err(self.fault(line, &format!("[models.{name}] has no `source`")).with_hint(
                    "source = \"./model.gguf\" says which file it is; settings for every model belong in [defaults]",
                ));
            }
            contents.models.insert(name.to_owned(), values);
        }
        Ok(())
    }

    fn section(
        &self,
        section: &DeTable<'_>,
        find: &dyn Fn(&str) -> Option<&'static Key>,
        known: &[&str],
        prefix: &str,
    ) -> Result<BTreeMap<String, (Value, Provenance)>, Failure> {
        let mut values = BTreeMap::new();
        for (name, value) in section {
            let line = self.line(name.span().start);
            let name = name.get_ref().as_ref();
            if let DeValue::Table(inner) = value.get_ref() {
                let below = format!("{name}.");
                let known: Vec<&str> = known.iter().filter_map(|key| key.strip_prefix(&below)).collect();
                if !known.is_empty() {
                    let find = |key: &str| find(&format!("{below}{key}"));
                    let inner = self.section(inner, &find, &known, &format!("{prefix}{below}"))?;
                    values.extend(inner.into_iter().map(|(key, value)| (format!("{below}{key}"), value)));
                    continue;
                }
            }
            let key = find(name).ok_or_else(|| self.unknown(line, name, "key", known, prefix))?;
            values.insert(name.to_owned(), self.value(key, value.get_ref(), line)?);
        }
        Ok(values)
    }

    fn value(&self, key: &Key, value: &DeValue<'_>, line: usize) -> Result<(Value, Provenance), Failure> {
        let base = self.path.parent().unwrap_or(Path::new("/"));
        let value = key.shape.read(&raw(value), base).map_err(|reason| {
            self.fault(line, &format!("{}: {reason}", key.path))
                .with_hint(format!("write {}", key.shape.expected()))
        })?;
        Ok((value, Provenance::File { path: self.path.to_owned(), line }))
    }

    fn unknown(&self, line: usize, name: &str, what: &str, known: &[&str], prefix: &str) -> Failure {
        let whole = format!("{prefix}{name}");
        let failure = self.fault(line, &format!("there is no {what} `{whole}`"));
        if let Some(instead) = keys::instead_of(&whole) {
            return failure.with_hint(instead);
        }
        match keys::nearest(name, known.iter().copied()) {
            Some(near) => failure.with_hint(format!("did you mean `{near}`?")),
            None => failure.with_hint(format!("known here: {}", known.join(", "))),
        }
    }

    fn fault(&self, line: usize, sentence: &str) -> Failure {
        Failure::new(ErrorKind::InvalidRequest, format!("{}:{line}: {sentence}", self.path.display()))
    }

    fn line(&self, offset: usize) -> usize {
        self.text.get(..offset).unwrap_or_default().matches('\n').count() + 1
    }
}

/// Whether requests can name a model so: by a plain name, or by one in the form `organisation/name`, as other programs
/// name theirs.
pub(crate) fn is_name(name: &str) -> bool {
    match name.parse() {
        Ok(ModelRef::Alias(_) | ModelRef::Demo) => true,
        Ok(ModelRef::Hub(_)) => {
            !name.contains("://") && !HubRef::is_page(name) && name.matches('/').count() == 1
        }
        _ => false,
    }
}

/// The name that was meant by one with dots and no quotes, which TOML reads as sections.
fn dotted(name: &str, section: &DeTable<'_>) -> Option<String> {
    let inner = section.iter().find_map(|(key, value)| match value.get_ref() {
        DeValue::Table(inner) => Some((key.get_ref().as_ref(), inner)),
        _ => None,
    });
    let (key, inner) = inner?;
    let whole = format!("{name}.{key}");
    Some(dotted(&whole, inner).unwrap_or(whole))
}

/// The name in a line `[models.NAME]` that TOML cannot read without quotes.
fn unquoted(line: &str) -> Option<String> {
    let name = line.trim().strip_prefix("[models.")?.split(']').next()?.trim();
    let is_bare = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    let is_meant = !name.is_empty() && !name.contains(['"', '\'']) && !name.chars().all(is_bare);
    is_meant.then(|| name.to_owned())
}

fn needs_quotes(name: &str) -> String {
    format!("a name with anything but letters, digits, - and _ needs quotes: [models.\"{name}\"]")
}

fn sections() -> Vec<&'static str> {
    let mut names: Vec<&str> =
        KEYS.iter().filter_map(|key| key.path.split_once('.')).map(|(section, _)| section).collect();
    names.extend(["defaults", "models"]);
    names.dedup();
    names
}

fn is_section(name: &str) -> bool {
    sections().contains(&name)
}

fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.as_ref().to_owned()),
        DeValue::Integer(number) => {
            let digits = number.as_str();
            i64::from_str_radix(digits, number.radix())
                .map_or(Raw::Other("a number beyond 64 bits"), Raw::Integer)
        }
        DeValue::Float(number) => {
            number.as_str().parse().map_or(Raw::Other("an unreadable number"), Raw::Float)
        }
        DeValue::Boolean(flag) => Raw::Flag(*flag),
        DeValue::Datetime(_) => Raw::Other("a date"),
        DeValue::Array(items) => Raw::List(items.iter().map(|item| raw(item.get_ref())).collect()),
        DeValue::Table(_) => Raw::Other("a table"),
    }
}

/// Where a model's `source` in this file points: `demo`, or a path from the file's directory.
pub(crate) fn source_path(source: &str, provenance: &Provenance) -> PathBuf {
    match provenance {
        Provenance::File { path, .. } => path.parent().unwrap_or(Path::new("/")).join(source),
        _ => PathBuf::from(source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Contents, Failure> {
        Reader { path: Path::new("/c/samovar.toml"), text }.contents()
    }

    fn refusal(text: &str) -> (String, String) {
        let failure = parse(text).expect_err("refused");
        assert_eq!(failure.kind, ErrorKind::InvalidRequest);
        (failure.message, failure.hint.unwrap_or_default())
    }

    #[test]
    fn every_value_remembers_its_line() {
        let contents = parse("default_model = 'tiny'\n\n[pool]\nbudget_bytes = '2GB'\n").expect("valid");
        let (value, provenance) = &contents.values["pool.budget_bytes"];
        assert_eq!(value.to_string(), "2.0 GB");
        assert_eq!(provenance.to_string(), "/c/samovar.toml:4");
        assert!(contents.values.contains_key("default_model"));
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_one_that_was_meant() {
        let (message, hint) = refusal("[pool]\nbudget_byte = 1\n");
        assert_eq!(message, "/c/samovar.toml:2: there is no key `pool.budget_byte`");
        assert_eq!(hint, "did you mean `budget_bytes`?");
        assert!(refusal("[pol]\nx = 1").1.contains("`pool`"));
        assert!(refusal("default_modle = 'x'").1.contains("`default_model`"));
        assert!(refusal("[models.a]\nsorce = 'demo'").1.contains("`source`"));
        assert!(refusal("[defaults]\nslot = 1").1.contains("`slots`"));
        assert!(refusal("[log]\nzzz = 1").1.contains("known here: level"));
    }

    #[test]
    fn keys_that_people_look_for_say_what_to_do_instead() {
        assert!(refusal("[fleet]\nredis = 1").1.contains("comes with the fleet"));
        assert!(refusal("[sources]\nhub_token = 'x'").1.contains("HF_TOKEN"));
    }

    #[test]
    fn models_need_a_name_and_a_source() {
        let contents = parse("[models.tiny]\nsource = './t.gguf'\nslots = 2\n").expect("valid");
        let (source, provenance) = &contents.models["tiny"]["source"];
        assert_eq!(source_path(&source.to_string(), provenance), Path::new("/c/./t.gguf"));
        assert!(refusal("[models.tiny]\nslots = 2").0.contains("has no `source`"));
        assert!(parse("[models.'a/b:c']\nsource = 'demo'").is_ok(), "as other programs name theirs");
        for name in ["a/b/c", "a b", "./x", "hf://a/b", "hf.co/a/b", "x.gguf"] {
            let (message, _) = refusal(&format!("[models.'{name}']\nsource = 'demo'"));
            assert!(message.contains("cannot be the name"), "{name}: {message}");
        }
        assert!(refusal("models = 1").0.contains("is a section"));
        assert!(refusal("[models]\ntiny = 'x'").0.contains("[models.tiny]"));
    }

    #[test]
    fn a_name_that_needs_quotes_is_shown_with_them() {
        let (message, hint) = refusal("[models.qwen2.5-7b]\nsource = 'demo'\n");
        assert!(message.starts_with("/c/samovar.toml:1: [models.qwen2.5-7b]"), "{message}");
        assert!(hint.ends_with("needs quotes: [models.\"qwen2.5-7b\"]"), "{hint}");
        assert!(refusal("[models.a.b.c]\nslots = 1").1.ends_with("[models.\"a.b.c\"]"));
        assert!(refusal("\n[models.qwen:7b]\nsource = 'demo'").1.ends_with("[models.\"qwen:7b\"]"));
        assert!(parse("[models.'qwen2.5-7b']\nsource = 'demo'\n").is_ok());
    }

    #[test]
    fn wrong_values_and_broken_toml_name_the_line() {
        let (message, hint) = refusal("[pool]\nqueue_total = -1");
        assert!(message.starts_with("/c/samovar.toml:2: pool.queue_total: -1 is not"), "{message}");
        assert!(hint.contains("whole number"));
        assert!(refusal("\n\n[pool\n").0.starts_with("/c/samovar.toml:3"), "{}", refusal("\n\n[pool\n").0);
        assert!(refusal("[pool]\nbudget_bytes = 99999999999999999999").0.contains("64 bits"));
    }
}
