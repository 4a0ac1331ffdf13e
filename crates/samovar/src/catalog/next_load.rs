//! How the next load of a model is to be, and what it costs: its layout, options, footprint and adapters. Nothing is loaded here.

use std::sync::{Arc, PoisonError};

use samovar_core::footprint::{Footprint, Layout, LoadOptions};
use samovar_core::{Failure, ModelKey};
use samovar_pool::ModelSpec;

use super::Catalog;
use super::draft::Draft;
use super::embedder::reading;
use super::facts::Facts;
use super::specify::{self, Planned, key, specify, without_packed_file};
use super::target::{ModelLocation, Target};
use crate::packed::Subject;

impl Catalog {
    pub(super) fn specify(
        &self,
        target: &Target,
        facts: &Facts,
        planned: Planned,
        needs: Vec<Arc<ModelSpec>>,
    ) -> ModelSpec {
        let load_ms = match &target.place {
            ModelLocation::Stored(artifact) if artifact.usage.loads > 0 => {
                Some(artifact.usage.load_ms as u64)
            }
            _ => None,
        };
        let adapter_bytes = self.adapter_bytes(target, facts);
        specify(facts, &target.settings, self.name_of(target, facts), planned, adapter_bytes, needs, load_ms)
    }

    /// How the next load is to be, and what that costs: as it was measured, or else predicted.
    pub(super) fn planned(
        &self,
        target: &Target,
        facts: &Facts,
        draft: Option<&Draft>,
        larger_context: Option<u32>,
    ) -> Result<Planned, Failure> {
        let settings = &target.settings;
        let usual = self.plan(target, facts, draft, None, without_packed_file(settings))?;
        let key = key(facts, settings, usual.0.pooling, draft);
        let layout = self.layout(target, facts, &key, &usual.0);
        let is_usual = layout == usual.0.layout && larger_context.is_none();
        let (options, predicted) =
            if is_usual { usual } else { self.plan(target, facts, draft, larger_context, layout)? };
        let measured = self.experience.recall(&facts.weights, &facts.engine.name, &options);
        let cost = self.engine.cost(&facts.descriptor, &options, measured.unwrap_or(predicted));
        let capabilities = reading(&*self.engine, &facts.descriptor, settings).capabilities;
        let files =
            draft.map_or_else(|| facts.files.clone(), |draft| facts.files.with_draft(&draft.facts.files));
        Ok(Planned { key, files, options, cost, capabilities })
    }

    fn plan(
        &self,
        target: &Target,
        facts: &Facts,
        draft: Option<&Draft>,
        larger_context: Option<u32>,
        layout: Layout,
    ) -> Result<(LoadOptions, Footprint), Failure> {
        let (engine, descriptor, settings) = (&*self.engine, &facts.descriptor, &target.settings);
        let draft = draft.map(|draft| &*draft.model);
        specify::plan(engine, self.machine(), descriptor, settings, draft, larger_context, layout)
    }

    /// The layout of the next load. Which that is does not depend on the context that a request asks for.
    fn layout(&self, target: &Target, facts: &Facts, key: &ModelKey, options: &LoadOptions) -> Layout {
        let wish = target.settings.layout.unwrap_or_default();
        // What is packed and measured is the model without its draft model.
        let alone = LoadOptions { draft: None, ..options.clone() };
        let known = self
            .layout_registry
            .subject(key)
            .filter(|known| known.weights == facts.weights && known.wish == wish && known.options == alone);
        if let Some(known) = known {
            return self.layout_registry.choose(&known).layout;
        }
        if let Some(asked) = target.settings.context_tokens.filter(|asked| *asked > options.context_tokens) {
            self.warn_of_context(facts, asked, options.context_tokens);
        }
        let as_hybrid = LoadOptions { layout: Layout::Hybrid, ..options.clone() };
        let hybrid = self.engine.footprint(&facts.descriptor, &as_hybrid);
        let subject = Subject {
            weights: facts.weights,
            files: facts.files.clone(),
            descriptor: Arc::clone(&facts.descriptor),
            options: alone,
            wish,
            hybrid_bytes: hybrid.map_or(u64::MAX, Footprint::total_bytes),
        };
        self.layout_registry.insert(key, subject).layout
    }

    /// Says once that an owner's setting is cut to what the model can have.
    fn warn_of_context(&self, facts: &Facts, asked: u32, trained: u32) {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.get(&(facts.weights, asked)).is_none() {
            warned.insert((facts.weights, asked), ());
            let model = facts.files.main().display();
            tracing::warn!(%model, asked, trained, "the context is no larger than the model was trained with");
        }
    }

    /// Memory for the adapters of all names over these bytes; they are looked at when bytes or names are new.
    fn adapter_bytes(&self, target: &Target, facts: &Facts) -> u64 {
        if facts.capabilities.can_adapt
            && !self.adapter_registry.were_looked_at(&facts.weights, &target.names)
        {
            for alias in target.names.aliases.values() {
                let adapters = alias.settings.or(&target.names.defaults).adapters;
                let is_over_it = || {
                    let place = self.place_of(&alias.source, &alias.name).ok();
                    place.and_then(|place| place.identity()) == target.place.identity()
                };
                if !adapters.is_empty() && is_over_it() {
                    // What is wrong with them is said when their name is used.
                    if let Ok(files) = self.adapter_files(facts, &adapters) {
                        self.adapter_registry.check(facts, &alias.name, &files.ready).ok();
                    }
                }
            }
            self.adapter_registry.looked_at(&facts.weights, &target.names);
        }
        self.adapter_registry.bytes_on(&facts.weights)
    }
}
