//! Settings of programs that ask this one: what to write where, and whether the daemon answers in each one's manner.
//!
//! ```text
//!   daemon's address and models ─► LinkTarget ─► programs: edits of one file ─► its text, shown or written
//!                                     └────► check: the requests that the program sends
//! ```
//!
//! Holds no keys: where a program can, it reads one from the variable `SAMOVAR_API_KEY`. A key that a file holds already stays.

pub(crate) mod check;
mod env_file;
mod jsonc;
mod own_certificate;
mod programs;
mod toml_file;
mod yaml_file;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use clap::ValueEnum;
use samovar::{Kind, ModelInfo};
use serde::Serialize;
use serde_json::Value;

/// The variable that holds a key for the daemon.
pub(crate) const KEY_VARIABLE: &str = "SAMOVAR_API_KEY";
/// What programs send that must send something, where the daemon asks for no key.
const NO_KEY: &str = "samovar";
/// What stands for a key that a person must put there.
const YOUR_KEY: &str = "YOUR_KEY";

/// A program that can ask this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ClientProgram {
    /// A chat page for browsers
    OpenWebui,
    /// An assistant in code editors
    Continue,
    /// An editor
    Zed,
    /// OpenAI's coding agent
    Codex,
    /// Anthropic's coding agent
    ClaudeCode,
    /// A coding agent
    Opencode,
    /// A coding agent
    Aider,
    /// A Python library
    Langchain,
    /// A proxy and a Python library
    Litellm,
}

impl ClientProgram {
    /// As people write it.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::OpenWebui => "Open WebUI",
            Self::Continue => "Continue",
            Self::Zed => "Zed",
            Self::Codex => "Codex",
            Self::ClaudeCode => "Claude Code",
            Self::Opencode => "opencode",
            Self::Aider => "aider",
            Self::Langchain => "LangChain",
            Self::Litellm => "LiteLLM",
        }
    }

    /// As it is typed.
    pub(crate) fn word(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// What programs are to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LinkTarget {
    /// Where the daemon serves HTTP, or would.
    pub(crate) address: SocketAddr,
    /// A name of the daemon's machine, if programs are to use one instead of the address.
    pub(crate) host: Option<String>,
    /// That address is served over TLS.
    pub(crate) is_tls: bool,
    /// The file with the certificate of the settings, if there is one.
    pub(crate) certificate: Option<PathBuf>,
    /// The model that answers.
    pub(crate) chat: String,
    /// Tokens of its context.
    pub(crate) context_tokens: u32,
    /// Whether its template knows tools.
    pub(crate) has_tools: bool,
    /// The model that makes vectors, if there is one.
    pub(crate) embedder: Option<String>,
    /// The daemon asks for a key.
    pub(crate) needs_key: bool,
}

impl LinkTarget {
    /// The daemon's address for clients of its own machine.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        format!("{scheme}://{}", self.authority())
    }

    /// Host and port of that address.
    fn authority(&self) -> String {
        match &self.host {
            Some(host) => format!("{host}:{}", self.address.port()),
            None => SocketAddr::new(self.ip(), self.address.port()).to_string(),
        }
    }

    /// The host of that address, as certificates name it.
    fn server_name(&self) -> String {
        self.host.clone().unwrap_or_else(|| self.ip().to_string())
    }

    fn ip(&self) -> IpAddr {
        match self.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        }
    }

    /// The same with the path of OpenAI's API.
    pub(crate) fn openai(&self) -> String {
        format!("{}/v1", self.url())
    }

    /// What stands for a key: how the program refers to the variable, or a word that means nothing.
    fn key(&self, reference: &str) -> String {
        if self.needs_key { reference.to_owned() } else { NO_KEY.to_owned() }
    }
}

/// The model of these that a program should ask for answers: the default one, else a configured one, else the largest.
pub(crate) fn chat_model<'a>(models: &'a [ModelInfo], default_model: &str) -> Option<&'a ModelInfo> {
    let writes = |model: &&ModelInfo| model.capabilities.iter().any(|what| what == "generate");
    let is_built_in = |model: &ModelInfo| model.kind == Kind::BuiltIn;
    let default =
        models.iter().filter(writes).find(|model| model.name == default_model && !is_built_in(model));
    let best = models.iter().filter(writes).max_by_key(|model| {
        (!is_built_in(model), model.kind == Kind::Config, model.tools.is_some(), model.parameters)
    });
    default.or(best)
}

/// The model of these that a program should ask for vectors: one that does nothing else.
pub(crate) fn embedder(models: &[ModelInfo]) -> Option<&ModelInfo> {
    let can = |model: &ModelInfo, what: &str| model.capabilities.iter().any(|known| known == what);
    let makes_vectors = |model: &&ModelInfo| can(model, "embed") && !can(model, "generate");
    models.iter().filter(makes_vectors).max_by_key(|model| (model.kind == Kind::Config, model.parameters))
}

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileForm {
    /// JSON, perhaps with comments.
    Json,
    /// TOML.
    Toml,
    /// YAML.
    Yaml,
    /// Lines of `NAME=value`.
    Env,
    /// A program, which only a person can change.
    Python,
}

/// One setting in a file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Edit {
    /// A value at a path of keys.
    Set(Vec<&'static str>, Value),
    /// The same, for a secret: where the file holds one already, it stays.
    Secret(Vec<&'static str>, &'static str),
    /// A value of a key that the file must have, whatever it is.
    Needed(&'static str, Value),
    /// An item of a list of mappings, by the key that tells it from others; what follows are its keys and values.
    Item(&'static str, &'static str, Vec<(&'static str, Value)>),
}

/// Whether a text stands where a secret belongs, and is none.
fn is_stand_in(text: &str) -> bool {
    ["", NO_KEY, YOUR_KEY].contains(&text)
}

/// What a program needs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wanted {
    /// Its file below the user's home; `None` when it has no usual place.
    pub(crate) file: Option<PathBuf>,
    /// How the file is written.
    pub(crate) form: FileForm,
    /// What stands in it.
    pub(crate) edits: Vec<Edit>,
    /// The whole text where it is no file of settings.
    pub(crate) text: String,
    /// What a person should know, a sentence each.
    pub(crate) notes: Vec<String>,
}

/// What a program needs to ask this daemon.
pub(crate) fn wanted(program: ClientProgram, target: &LinkTarget) -> Wanted {
    programs::wanted(program, target)
}

impl Wanted {
    /// A file's text with these settings; that of a new file for an empty one.
    ///
    /// # Errors
    /// A clause about a text that they cannot be put into.
    pub(crate) fn applied(&self, before: &str) -> Result<String, String> {
        match self.form {
            FileForm::Json => jsonc::apply(before, &self.edits),
            FileForm::Toml => toml_file::apply(before, &self.edits),
            FileForm::Yaml => yaml_file::apply(before, &self.edits),
            FileForm::Env => Ok(env_file::apply(before, &self.edits)),
            FileForm::Python => Ok(self.text.clone()),
        }
    }
}

#[cfg(test)]
mod tests;
