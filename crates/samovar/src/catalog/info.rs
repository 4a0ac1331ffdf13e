//! What people see of a model.

use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use samovar_core::chat::BUILT_IN_TEMPLATES;
use samovar_core::{Digest, WeightsId};
use samovar_pool::{Instances, ModelSpec};
use serde::{Deserialize, Serialize};

use super::template_words;
use crate::preset::CreatedModel;
use crate::settings::{ChatTemplate, ModelSettings};

/// How a model came to have a name.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It is part of the binary.
    BuiltIn,
    /// `[models.NAME]` names it.
    Config,
    /// Its owner used the file.
    File,
    /// It lies in the store.
    Stored,
    /// A user created it over another model.
    Created,
}

/// Where the template of a model's conversations comes from.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TemplateOrigin {
    /// The model's own file.
    #[default]
    Own,
    /// The model's file has none: `ChatML` is a guess.
    Missing,
    /// The settings name a built-in one.
    BuiltIn(String),
    /// The settings name a file; never shown over the network.
    File(PathBuf),
    /// The user who created the name gave one.
    Created,
}

impl TemplateOrigin {
    fn of(template: Option<&str>, settings: &ModelSettings) -> Self {
        match &settings.chat_template {
            Some(ChatTemplate::BuiltIn(name)) => Self::BuiltIn(name.clone()),
            Some(ChatTemplate::File(path)) => Self::File(path.clone()),
            None if template.is_some_and(|template| !template.trim().is_empty()) => Self::Own,
            None => Self::Missing,
        }
    }
}

/// How a model is told of the tools of a request.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolSupport {
    /// By its chat template, as it was trained.
    ByTemplate,
    /// By a text before the conversation, because its chat template knows none: any model may be asked, and few do it well.
    Generic,
}

/// A model that requests may name.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// The name that requests use.
    pub name: String,
    /// How it came to have that name.
    pub kind: Kind,
    /// The file, or the folder of a published model; never shown over the network.
    pub path: PathBuf,
    /// Architecture, such as `llama`.
    pub architecture: String,
    /// What it can be asked for: `generate`, `infill`, `embed`, `rerank`.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// Number of weights.
    pub parameters: u64,
    /// Short name of the quantization, such as `Q4_K_M`.
    pub quantization: String,
    /// Size of the file.
    pub size_bytes: u64,
    /// Tokens of context for each slot, as it would be loaded.
    pub context_tokens: u32,
    /// Context that the model was trained for, in tokens.
    pub trained_context_tokens: u32,
    /// Requests that one instance serves at the same time.
    pub slots: u32,
    /// Predicted memory when loaded: private and shared bytes together.
    pub predicted_bytes: u64,
    /// Adapters that its requests are computed with, as `path:scale`; never shown over the network.
    #[serde(default)]
    pub adapters: Vec<String>,
    /// Names of models that are in memory wherever this one is.
    #[serde(default)]
    pub needs: Vec<String>,
    /// The draft model that is loaded with it, as its owner named it; never shown over the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draft: Option<String>,
    /// Where the template of its conversations comes from.
    #[serde(default)]
    pub chat_template: TemplateOrigin,
    /// How it is told of tools; `None` where it writes no text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<ToolSupport>,
    /// Whether it thinks before it answers, as far as its chat template tells.
    #[serde(default)]
    pub thinks: bool,
    /// How many instances of it there may be.
    #[serde(default)]
    pub instances: Instances,
    /// When the file was last changed, or the name created, in seconds since 1970.
    pub modified_unix_s: u64,
    /// Changes with what the name means: that of the document of a created name, or of the key of an artifact; `None` for a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// What the user called the model that a created name was made from; never a path. Empty for all others.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub parent: String,
}

impl ModelInfo {
    /// `template` writes its conversations: Jinja, or the name of a built-in one.
    pub(super) fn new(
        spec: &ModelSpec,
        kind: Kind,
        settings: &ModelSettings,
        template: Option<&str>,
    ) -> Self {
        let template = template.unwrap_or_default();
        let tools = || {
            let is_known = template_words::knows_tools(template);
            if is_known { ToolSupport::ByTemplate } else { ToolSupport::Generic }
        };
        let modified = fs_err::metadata(spec.path()).and_then(|facts| facts.modified());
        let modified_unix_s = modified
            .ok()
            .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
            .map_or(0, |age| age.as_secs());
        Self {
            name: spec.name.clone(),
            kind,
            path: spec.path().to_owned(),
            architecture: spec.descriptor.architecture.clone(),
            capabilities: spec.capabilities.kinds_of_work().into_iter().map(str::to_owned).collect(),
            parameters: spec.descriptor.parameters,
            quantization: spec.descriptor.quantization.clone(),
            size_bytes: spec.descriptor.file_bytes,
            context_tokens: spec.options.context_tokens,
            trained_context_tokens: spec.descriptor.context_tokens,
            slots: spec.options.slots,
            predicted_bytes: spec.footprint().total_bytes(),
            adapters: settings.adapters.iter().map(ToString::to_string).collect(),
            needs: settings.needs.clone(),
            draft: settings.wanted_draft().map(str::to_owned),
            chat_template: TemplateOrigin::of(spec.descriptor.chat_template.as_deref(), settings),
            tools: spec.capabilities.can_generate.then(tools),
            thinks: spec.capabilities.can_generate && template_words::thinks(template),
            instances: spec.instances,
            modified_unix_s,
            digest: None,
            parent: String::new(),
        }
    }

    /// The same for bytes that lie in the store, or in a file.
    pub(super) fn of_bytes(self, weights: &WeightsId) -> Self {
        let digest = match weights {
            WeightsId::Artifact(digest) | WeightsId::Prepared(digest) => Some(*digest),
            WeightsId::File(_) => None,
        };
        Self { digest, ..self }
    }

    /// The same for a created name, whose document has this digest.
    pub(super) fn of_created(self, created: &CreatedModel, digest: Digest) -> Self {
        let chat_template = match &created.preset.template {
            Some(name) if BUILT_IN_TEMPLATES.contains(&name.as_str()) => {
                TemplateOrigin::BuiltIn(name.clone())
            }
            Some(_) => TemplateOrigin::Created,
            None => self.chat_template,
        };
        let (modified_unix_s, parent) = (created.created_unix_s, created.parent.clone());
        Self { chat_template, modified_unix_s, digest: Some(digest), parent, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_template_is_told() {
        let none = ModelSettings::default();
        assert_eq!(TemplateOrigin::of(Some("{{ messages }}"), &none), TemplateOrigin::Own);
        assert_eq!(TemplateOrigin::of(Some(" "), &none), TemplateOrigin::Missing);
        assert_eq!(TemplateOrigin::of(None, &none), TemplateOrigin::Missing);
        let chosen = ModelSettings { chat_template: Some(ChatTemplate::BuiltIn("gemma".into())), ..none };
        assert_eq!(TemplateOrigin::of(None, &chosen), TemplateOrigin::BuiltIn("gemma".into()));
    }
}
