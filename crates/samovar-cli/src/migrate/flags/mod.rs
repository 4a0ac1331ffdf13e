//! What llama-server is started with, as settings of a model: from a command line, a section of a preset, or variables.
//!
//! Nothing is run. A command line is split into words as a shell would split it, without expanding anything.

mod table;

use std::path::{Path, PathBuf};

use samovar_core::ModelRef;
use samovar_core::model::ArtifactRef;
use serde_json::Value;

use super::entry::ModelEntry;
use super::params;
use crate::settings::model_keys::DRAFT;
use crate::settings::value::Raw;
use table::{Means, find};

/// How a variable that stands for a flag begins.
const VARIABLE: &str = "LLAMA_ARG_";
const PROGRAM: &str = "llama-server";

/// A flag without its dashes, with its value if it has one. One without a name is a word that belongs to no flag.
pub(crate) type Flag = (String, Option<String>);

/// The flags of a command line that starts llama-server.
///
/// # Errors
/// A clause about the line.
pub(crate) fn of_line(line: &str) -> Result<Vec<Flag>, String> {
    let words = shlex::split(&on_one_line(line)).ok_or("its command has a quote that does not end")?;
    let at = words.iter().position(|word| is_llama_server(word)).ok_or_else(|| {
        let first = words.first().map_or("nothing", String::as_str);
        format!("its command starts {first:?}, and only those of {PROGRAM} are understood")
    })?;
    let before: Vec<&str> = words[..at].iter().map(String::as_str).collect();
    if let Some(other) = before.iter().find(|word| !word.contains('=') && **word != "env" && **word != "exec")
    {
        return Err(format!("its command starts {other:?} around {PROGRAM}, which is not understood"));
    }
    let mut flags: Vec<Flag> =
        before.iter().filter_map(|word| word.split_once('=')).filter_map(of_variable).collect();
    flags.extend(of_words(&words[at + 1..]));
    Ok(flags)
}

/// The line without comments and without backslashes before its ends.
fn on_one_line(line: &str) -> String {
    let lines = line.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    lines.map(|line| line.strip_suffix('\\').unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

fn is_llama_server(word: &str) -> bool {
    let name = word.rsplit(['/', '\\']).next().unwrap_or(word);
    name.strip_prefix(PROGRAM).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '.', '_']))
}

fn of_words(words: &[String]) -> Vec<Flag> {
    let mut flags = Vec::new();
    let mut words = words.iter().peekable();
    while let Some(word) = words.next() {
        let Some(name) = name_of(word) else {
            flags.push((String::new(), Some(word.clone())));
            continue;
        };
        if let Some((name, value)) = name.split_once('=') {
            flags.push((name.to_owned(), Some(value.to_owned())));
            continue;
        }
        // It takes no words but those of its flags.
        let value = words.next_if(|next| name_of(next).is_none());
        flags.push((name.to_owned(), value.cloned()));
    }
    flags
}

/// The name of a flag; a negative number is a value.
fn name_of(word: &str) -> Option<&str> {
    let name = word.strip_prefix("--").or_else(|| word.strip_prefix('-'))?;
    name.starts_with(|c: char| c.is_ascii_alphabetic()).then_some(name)
}

/// The flag that a variable stands for, if it is one of llama-server's.
pub(crate) fn of_variable((name, value): (&str, &str)) -> Option<Flag> {
    Some((flag_of_variable(name)?, Some(value.to_owned())))
}

/// A key of a preset: a flag, or the variable that stands for one.
pub(crate) fn of_key(key: &str) -> String {
    flag_of_variable(key).unwrap_or_else(|| key.trim_start_matches('-').to_owned())
}

fn flag_of_variable(name: &str) -> Option<String> {
    name.strip_prefix(VARIABLE).map(|name| name.to_ascii_lowercase().replace('_', "-"))
}

/// What the flags say about the source and the settings of a model; relative paths start at `base`. Returns its other names.
pub(crate) fn apply(entry: &mut ModelEntry, flags: &[Flag], base: &Path) -> Vec<String> {
    let mut reading = FlagReading::new(entry, base);
    for (name, value) in flags {
        reading.flag(name, value.as_deref());
    }
    reading.end()
}

/// What is put together of several flags.
struct FlagReading<'a> {
    entry: &'a mut ModelEntry,
    base: &'a Path,
    names: Vec<String>,
    path: Option<PathBuf>,
    repository: Option<String>,
    file: Option<String>,
    address: Option<String>,
    context_tokens: Option<i64>,
    slots: Option<i64>,
    shares_context: bool,
    /// Of keys and of values.
    kv_types: [Option<String>; 2],
    adapters: Vec<Raw>,
}

impl<'a> FlagReading<'a> {
    fn new(entry: &'a mut ModelEntry, base: &'a Path) -> Self {
        Self {
            entry,
            base,
            names: Vec::new(),
            path: None,
            repository: None,
            file: None,
            address: None,
            context_tokens: None,
            slots: None,
            shares_context: false,
            kv_types: [None, None],
            adapters: Vec::new(),
        }
    }

    fn flag(&mut self, name: &str, value: Option<&str>) {
        let what = match value {
            Some(value) if name.is_empty() => value.to_owned(),
            Some(value) => format!("--{name} {value}"),
            None => format!("--{name}"),
        };
        let Some(means) = find(name) else {
            return self.entry.cannot(what, "is no flag of llama-server that is known here");
        };
        // A flag without a value is on; one of a preset says whether it is.
        let is_on = !value.is_some_and(|value| matches!(value, "false" | "off" | "0" | "disabled"));
        let text = value.unwrap_or_default();
        match means {
            Means::Path => self.path = Some(self.base.join(text)),
            Means::Repository => self.repository = Some(text.to_owned()),
            Means::File => self.file = Some(text.to_owned()),
            Means::Address => self.address = Some(text.to_owned()),
            Means::Names => {
                let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
                self.names.extend(names.map(str::to_owned));
            }
            Means::Context => self.context_tokens = self.whole(&what, text),
            Means::Slots => self.slots = self.whole(&what, text).filter(|slots| *slots > 0),
            Means::SharesContext => self.shares_context = is_on,
            Means::KvType(of) => self.kv_types[of] = Some(text.to_owned()),
            Means::Whole(key) => {
                if let Some(number) = self.whole(&what, text) {
                    self.entry.set(key, &what, Raw::Integer(number));
                }
            }
            // -1 stands for what holds without the flag.
            Means::WholeOrNone(key) => {
                if let Some(number) = self.whole(&what, text).filter(|number| *number >= 0) {
                    self.entry.set(key, &what, Raw::Integer(number));
                }
            }
            Means::Number(key) => match text.parse() {
                Ok(number) => self.entry.set(key, &what, Raw::Float(number)),
                Err(_) => self.entry.cannot(what, "is no number"),
            },
            Means::LockMemory => {
                if is_on {
                    self.entry.set("lock_memory", &what, Raw::Flag(true));
                }
            }
            Means::LoadMode => {
                if text.contains("mlock") {
                    self.entry.set("lock_memory", &what, Raw::Flag(true));
                }
            }
            Means::Pooling => self.entry.set("pooling", &what, Raw::Text(text.to_owned())),
            Means::Rerank => {
                if is_on {
                    self.entry.set("pooling", &what, Raw::Text("rank".to_owned()));
                }
            }
            Means::Template => self.template(&what, text),
            Means::TemplateFile => {
                let path = self.base.join(text);
                if path.is_file() {
                    let path = path.to_string_lossy().into_owned();
                    self.entry.set("chat_template", &what, Raw::Text(path));
                } else {
                    self.entry.cannot(what, format!("there is no file {}", path.display()));
                }
            }
            Means::TemplateArguments => self.template_arguments(&what, text),
            Means::ThinkingBudget => match text.parse::<i64>() {
                Ok(0) => self.entry.set("thinking", &what, Raw::Text("off".to_owned())),
                Ok(-1) => {}
                _ => self
                    .entry
                    .cannot(what, "the length of thoughts is set by requests: thinking_budget_tokens"),
            },
            Means::Thinking => {
                if text == "off" {
                    self.entry.set("thinking", &what, Raw::Text("off".to_owned()));
                }
            }
            Means::Effort => {
                if text != "default" {
                    self.entry.set("thinking", &what, Raw::Text(text.to_owned()));
                }
            }
            Means::KeepAlive => match text.parse::<u32>() {
                Ok(seconds) => self.entry.set("keep_alive", &what, Raw::Text(format!("{seconds}s"))),
                // -1 stands for never.
                Err(_) => self.entry.set("keep_alive", &what, Raw::Integer(-1)),
            },
            Means::Adapters => {
                let paths = text.split(',').filter(|path| !path.is_empty());
                let paths: Vec<String> = paths.map(|path| self.absolute(path)).collect();
                self.adapters.extend(paths.into_iter().map(Raw::Text));
            }
            Means::DraftPath => {
                let path = self.base.join(text);
                if path.is_file() {
                    self.draft_model(&what, path.to_string_lossy().into_owned());
                } else {
                    self.entry.cannot(what, format!("there is no file {}", path.display()));
                }
            }
            Means::DraftRepository => self.draft_model(&what, of_hub(text, None)),
            Means::Nothing => {}
            Means::Secret(why) => self.entry.cannot(format!("--{name}"), why),
            Means::Cannot(why) => {
                if is_on {
                    self.entry.cannot(what, why);
                }
            }
        }
    }

    /// A reference that cannot be read would keep the daemon from starting.
    fn draft_model(&mut self, what: &str, reference: String) {
        match reference.parse() {
            Ok(ModelRef::File(_) | ModelRef::Hub(_) | ModelRef::Remote(_)) => {
                self.entry.set(DRAFT.path, what, Raw::Text(reference));
            }
            Ok(_) => self.entry.cannot(what, format!("{reference:?} is neither a file nor of the hub")),
            Err(error) => self.entry.cannot(what, error.to_string()),
        }
    }

    fn absolute(&self, path: &str) -> String {
        self.base.join(path).to_string_lossy().into_owned()
    }

    fn whole(&mut self, what: &str, text: &str) -> Option<i64> {
        let number = text.parse().ok();
        if number.is_none() {
            self.entry.cannot(what, "is no whole number");
        }
        number
    }

    fn template(&mut self, what: &str, text: &str) {
        if text.contains("{{") || text.contains("{%") {
            self.entry.template = Some(text.to_owned());
        } else {
            self.entry.set("chat_template", what, Raw::Text(text.to_owned()));
        }
    }

    /// Of the variables of a template, those that say how much a model thinks.
    fn template_arguments(&mut self, what: &str, text: &str) {
        let Ok(Value::Object(arguments)) = serde_json::from_str(text) else {
            return self.entry.cannot(what, "is no JSON object");
        };
        params::template_arguments(self.entry, what, &arguments);
    }

    /// What needs several flags to be understood.
    fn end(mut self) -> Vec<String> {
        self.source();
        self.context();
        self.kv_type();
        if !self.adapters.is_empty() {
            let adapters = std::mem::take(&mut self.adapters);
            self.entry.set("adapters", "--lora", Raw::List(adapters));
        }
        self.names
    }

    fn source(&mut self) {
        let set = if let Some(path) = &self.path {
            self.entry.set_file(path)
        } else if let Some(repository) = &self.repository {
            self.entry.set_reference(&of_hub(repository, self.file.as_deref()))
        } else if let Some(address) = &self.address {
            self.entry.set_reference(address)
        } else {
            Ok(())
        };
        if let Err(why) = set {
            self.entry.cannot("its model", why);
        }
    }

    /// The tokens of each request: the slots divide a context that they do not share.
    fn context(&mut self) {
        let slots = self.slots.unwrap_or(1);
        if let Some(slots) = self.slots {
            self.entry.set("slots", "--parallel", Raw::Integer(slots));
        }
        match self.context_tokens {
            None => {}
            Some(0) => self.entry.cannot(
                "--ctx-size 0",
                "no setting stands for the whole trained context: set context_tokens to a number",
            ),
            Some(tokens) => {
                let each = if self.shares_context { tokens } else { tokens / slots };
                self.entry.set("context_tokens", "--ctx-size", Raw::Integer(each));
            }
        }
    }

    fn kv_type(&mut self) {
        let types = std::mem::take(&mut self.kv_types);
        self.entry.set_kv_type(["--cache-type-k", "--cache-type-v"], types);
    }
}

/// The reference of a repository as llama-server writes it: `user/model[:quant]`, with a file of it or without.
fn of_hub(repository: &str, file: Option<&str>) -> String {
    let (name, quant) = match repository.rsplit_once(':') {
        Some((name, quant)) => (name, Some(quant)),
        None => (repository, None),
    };
    let reference = match (file, quant) {
        (Some(file), _) => format!("hf://{name}/{file}"),
        (None, Some(quant)) if quant != "latest" => format!("hf://{name}:{quant}"),
        _ => format!("hf://{name}"),
    };
    // As it is written here, where it can be read at all.
    reference.parse::<ArtifactRef>().map_or(reference, |reference| reference.to_string())
}

#[cfg(test)]
mod tests;
