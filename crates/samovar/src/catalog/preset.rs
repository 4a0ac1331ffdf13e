//! What requests to a model begin with where they say nothing else: what a user created counts more than the settings, and those
//! more than what the model's author set.

use samovar_core::{Adapter, Failure};

use super::Catalog;
use super::adapted::PromptSettings;
use super::customs::chat_template;
use super::facts::{Facts, Purpose};
use super::target::Target;
use crate::preset::Preset;
use crate::request::Origin;

impl Catalog {
    /// How requests to a model under this name are read, once its adapters have passed the gate.
    pub(super) fn prompt_settings(
        &self,
        target: &Target,
        facts: &Facts,
        adapters: &[Adapter],
    ) -> Result<PromptSettings, Failure> {
        let settings = &target.settings;
        self.adapter_registry.check(facts, &self.name_of(target, facts), adapters)?;
        let of_author = Preset {
            system: facts.customs.system.clone(),
            stop: facts.customs.stop.clone(),
            sampling: facts.customs.sampling.clone(),
            ..Preset::default()
        };
        let of_owner = Preset {
            system: settings.system.clone(),
            stop: settings.stop.clone(),
            sampling: settings.sampling.clone(),
            max_tokens: settings.max_tokens,
            ..Preset::default()
        };
        let of_owner = of_owner.or(&of_author);
        let preset = match &target.created {
            Some(created) => created.model.preset.or(&of_owner),
            None => of_owner,
        };
        let template = chat_template(facts, settings);
        let template = || template.as_ref().map(|template| self.templates.get(template)).transpose();
        Ok(PromptSettings {
            special_tokens_in_content: settings.special_tokens_in_content,
            chat_template: preset.template.map_or_else(template, |template| Ok(Some(template)))?,
            system: preset.system,
            messages: preset.messages,
            stop: preset.stop,
            sampling: preset.sampling,
            max_tokens: preset.max_tokens,
            thinking: settings.thinking,
            query_prompt: settings.query_prompt.clone(),
            document_prompt: settings.document_prompt.clone(),
        })
    }

    /// What requests to this model begin with where they say nothing else.
    ///
    /// # Errors
    /// Whatever keeps the model from being found or read.
    pub(crate) fn preset(&self, reference: &str, origin: Origin) -> Result<Preset, Failure> {
        let target = self.target(&self.names_now(), reference, origin)?;
        let facts = self.facts_for(&target, Purpose::Use)?;
        let adapters = self.adapter_files(&facts, &target.settings.adapters)?;
        let settings = self.prompt_settings(&target, &facts, &adapters.ready)?;
        let own = target.created.as_ref().map(|created| created.model.preset.clone()).unwrap_or_default();
        Ok(Preset {
            system: settings.system,
            template: settings.chat_template,
            messages: settings.messages,
            stop: settings.stop,
            sampling: settings.sampling,
            max_tokens: settings.max_tokens,
            ..own
        })
    }
}
