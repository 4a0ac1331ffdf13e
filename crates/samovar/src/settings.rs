//! What an owner may set for a model, and for the runtime as a whole.

use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

use samovar_core::footprint::{KvType, LayoutWish};
use samovar_core::units::KeepAlive;
use samovar_core::{Adapter, ErrorKind, Failure, ModelRef, Pooling, Quantization, system_words};
use samovar_pool::{Instances, PoolConfig};
use samovar_store::StoreConfig;

use crate::engine_choice::EngineChoice;
use crate::sampling::SamplingOptions;
use crate::thinking::Effort;

/// Settings of one model; whatever is `None` is chosen from the model and the machine.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelSettings {
    /// Tokens of context for each slot; default: the model's own, at most 4,096. Of a model that makes vectors alone, tokens of
    /// one input; default: the model's own, at most 2,048.
    pub context_tokens: Option<u32>,
    /// Requests served at the same time; default from memory, at most 4; 64 for a model that makes vectors alone.
    pub slots: Option<u32>,
    /// How the weights are to lie in memory; default `auto`.
    pub layout: Option<LayoutWish>,
    /// Number format of the KV cache; default `f16`.
    pub kv_type: Option<KvType>,
    /// The most threads of one step; default: the cores this process has, fewer for a small model.
    pub threads: Option<u32>,
    /// How long the model stays ready when idle; default 5 minutes.
    pub keep_alive: Option<KeepAlive>,
    /// Keep the weights from being paged out.
    pub lock_memory: bool,
    /// Read control tokens in what people wrote as control tokens, as other servers do. Off, only the chat template can
    /// write one.
    pub special_tokens_in_content: bool,
    /// Whether several tokens of an answer are computed in one step where that is faster here; default yes.
    pub speculates: Option<bool>,
    /// Adapters (LoRA) that its requests are computed with. They change neither how it is loaded nor how often:
    /// names that differ in them alone share what is loaded.
    pub adapters: Vec<Adapter>,
    /// The number format that it is prepared in, if it was published in a form that no engine maps; default: as its owner chose
    /// last, else 16-bit floats.
    pub quantization: Option<Quantization>,
    /// The engine that runs it, if it was published in safetensors; default `auto`.
    pub engine: Option<EngineChoice>,
    /// The template of its conversations instead of its own.
    pub chat_template: Option<ChatTemplate>,
    /// How much the model thinks before it answers, where a request says nothing of it; default: as its template has it.
    pub thinking: Option<Effort>,
    /// Instances that are loaded whenever the model is; default 1.
    pub min_instances: Option<u32>,
    /// The most instances, when requests wait and memory is free; default as many as `min_instances`.
    pub max_instances: Option<u32>,
    /// Names of models that must be in memory wherever this one is: loaded, used and evicted with it.
    pub needs: Vec<String>,
    /// A smaller model of the same vocabulary, as its owner names it, that says what this one may say next: both are one in
    /// memory, and several tokens of an answer are computed in one step where that is faster here.
    pub draft: Option<String>,
    /// How one vector is made of all tokens'; default: as the model's file says, and the mean for an encoder whose file says
    /// nothing. A model that writes text makes vectors as well where this is set.
    pub pooling: Option<Pooling>,
    /// What is put before texts that are queries, such as `query: `. It is text: no special tokens are read in it.
    pub query_prompt: Option<String>,
    /// What is put before texts that are documents, such as `passage: `.
    pub document_prompt: Option<String>,
    /// What conversations begin with that have no system message of their own; default: what the model's author set.
    pub system: Option<String>,
    /// Strings that end answers whose requests name none; default: what the model's author set.
    pub stop: Vec<String>,
    /// How tokens are chosen where requests do not say so; default: what the model's author set.
    pub sampling: SamplingOptions,
    /// Tokens of an answer at most, where requests do not say so; default: as many as the context holds.
    pub max_tokens: Option<u32>,
}

impl ModelSettings {
    /// These settings with so many tokens of context for each slot.
    #[must_use]
    pub fn context_tokens(mut self, context_tokens: u32) -> Self {
        self.context_tokens = Some(context_tokens);
        self
    }

    /// These settings with so many requests served at the same time.
    #[must_use]
    pub fn slots(mut self, slots: u32) -> Self {
        self.slots = Some(slots);
        self
    }

    /// These settings with another wish for how the weights are to lie in memory.
    #[must_use]
    pub fn layout(mut self, layout: LayoutWish) -> Self {
        self.layout = Some(layout);
        self
    }

    /// These settings with another number format of the KV cache.
    #[must_use]
    pub fn kv_type(mut self, kv_type: KvType) -> Self {
        self.kv_type = Some(kv_type);
        self
    }

    /// These settings with so many threads of one step at most.
    #[must_use]
    pub fn threads(mut self, threads: u32) -> Self {
        self.threads = Some(threads);
        self
    }

    /// These settings with how long the model stays ready when idle.
    #[must_use]
    pub fn keep_alive(mut self, keep_alive: KeepAlive) -> Self {
        self.keep_alive = Some(keep_alive);
        self
    }

    /// These settings, with the weights kept from being paged out.
    #[must_use]
    pub fn lock_memory(mut self) -> Self {
        self.lock_memory = true;
        self
    }

    /// These settings, with control tokens read in what people wrote.
    #[must_use]
    pub fn special_tokens_in_content(mut self) -> Self {
        self.special_tokens_in_content = true;
        self
    }

    /// These settings with or without several tokens of an answer in one step.
    #[must_use]
    pub fn speculates(mut self, speculates: bool) -> Self {
        self.speculates = Some(speculates);
        self
    }

    /// These settings with this number format of weights that have to be prepared.
    #[must_use]
    pub fn quantization(mut self, quantization: Quantization) -> Self {
        self.quantization = Some(quantization);
        self
    }

    /// These settings with this engine for a model that was published in safetensors.
    #[must_use]
    pub fn engine(mut self, engine: EngineChoice) -> Self {
        self.engine = Some(engine);
        self
    }

    /// These settings with these adapters in place of others.
    #[must_use]
    pub fn adapters(mut self, adapters: impl IntoIterator<Item = Adapter>) -> Self {
        self.adapters = adapters.into_iter().collect();
        self
    }

    /// These settings with another chat template than the model's own.
    #[must_use]
    pub fn chat_template(mut self, chat_template: ChatTemplate) -> Self {
        self.chat_template = Some(chat_template);
        self
    }

    /// These settings with how much the model thinks where a request says nothing of it.
    #[must_use]
    pub fn thinking(mut self, thinking: Effort) -> Self {
        self.thinking = Some(thinking);
        self
    }

    /// These settings with so many instances whenever the model is loaded.
    #[must_use]
    pub fn min_instances(mut self, min_instances: u32) -> Self {
        self.min_instances = Some(min_instances);
        self
    }

    /// These settings with so many instances at most.
    #[must_use]
    pub fn max_instances(mut self, max_instances: u32) -> Self {
        self.max_instances = Some(max_instances);
        self
    }

    /// These settings, with these models needed wherever this one is.
    #[must_use]
    pub fn needs<T: Into<String>>(mut self, names: impl IntoIterator<Item = T>) -> Self {
        self.needs = names.into_iter().map(Into::into).collect();
        self
    }

    /// These settings with a draft model, by its name or its file.
    #[must_use]
    pub fn draft(mut self, draft: impl Into<String>) -> Self {
        self.draft = Some(draft.into());
        self
    }

    /// These settings with vectors made in this way.
    #[must_use]
    pub fn pooling(mut self, pooling: Pooling) -> Self {
        self.pooling = Some(pooling);
        self
    }

    /// These settings with this text before queries.
    #[must_use]
    pub fn query_prompt(mut self, prompt: impl Into<String>) -> Self {
        self.query_prompt = Some(prompt.into());
        self
    }

    /// These settings with this text before documents.
    #[must_use]
    pub fn document_prompt(mut self, prompt: impl Into<String>) -> Self {
        self.document_prompt = Some(prompt.into());
        self
    }

    /// These settings with this system message for conversations that have none.
    #[must_use]
    pub fn system(mut self, system: impl Into<String>) -> Self {
        self.system = Some(system.into());
        self
    }

    /// These settings with these strings that end answers, where requests name none.
    #[must_use]
    pub fn stop<T: Into<String>>(mut self, stop: impl IntoIterator<Item = T>) -> Self {
        self.stop = stop.into_iter().map(Into::into).collect();
        self
    }

    /// These settings with how tokens are chosen where requests do not say so.
    #[must_use]
    pub fn sampling(mut self, sampling: SamplingOptions) -> Self {
        self.sampling = sampling;
        self
    }

    /// These settings with so many tokens of an answer at most, where requests do not say so.
    #[must_use]
    pub fn max_tokens(mut self, max_tokens: u32) -> Self {
        self.max_tokens = Some(max_tokens);
        self
    }

    /// The draft model that is loaded with the model: none where drafts are switched off.
    pub(crate) fn wanted_draft(&self) -> Option<&str> {
        self.draft.as_deref().filter(|_| self.speculates != Some(false))
    }

    /// These settings, with `fallback`'s wherever these say nothing.
    #[must_use]
    pub fn or(&self, fallback: &Self) -> Self {
        Self {
            context_tokens: self.context_tokens.or(fallback.context_tokens),
            slots: self.slots.or(fallback.slots),
            layout: self.layout.or(fallback.layout),
            kv_type: self.kv_type.or(fallback.kv_type),
            threads: self.threads.or(fallback.threads),
            keep_alive: self.keep_alive.or(fallback.keep_alive),
            lock_memory: self.lock_memory || fallback.lock_memory,
            special_tokens_in_content: self.special_tokens_in_content || fallback.special_tokens_in_content,
            speculates: self.speculates.or(fallback.speculates),
            adapters: if self.adapters.is_empty() {
                fallback.adapters.clone()
            } else {
                self.adapters.clone()
            },
            quantization: self.quantization.or(fallback.quantization),
            engine: self.engine.or(fallback.engine),
            chat_template: self.chat_template.clone().or_else(|| fallback.chat_template.clone()),
            thinking: self.thinking.or(fallback.thinking),
            min_instances: self.min_instances.or(fallback.min_instances),
            max_instances: self.max_instances.or(fallback.max_instances),
            needs: if self.needs.is_empty() { fallback.needs.clone() } else { self.needs.clone() },
            draft: self.draft.clone().or_else(|| fallback.draft.clone()),
            pooling: self.pooling.or(fallback.pooling),
            query_prompt: self.query_prompt.clone().or_else(|| fallback.query_prompt.clone()),
            document_prompt: self.document_prompt.clone().or_else(|| fallback.document_prompt.clone()),
            system: self.system.clone().or_else(|| fallback.system.clone()),
            stop: if self.stop.is_empty() { fallback.stop.clone() } else { self.stop.clone() },
            sampling: self.sampling.or(&fallback.sampling),
            max_tokens: self.max_tokens.or(fallback.max_tokens),
        }
    }

    /// How many instances of the model there may be. A `max_instances` below `min_instances` counts as that.
    pub fn instances(&self) -> Instances {
        let min = self.min_instances.unwrap_or(1).max(1);
        Instances { min, max: self.max_instances.unwrap_or(min).max(min) }
    }
}

/// A chat template that an owner chose.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChatTemplate {
    /// One of [`BUILT_IN_TEMPLATES`](samovar_core::chat::BUILT_IN_TEMPLATES), by its name.
    BuiltIn(String),
    /// A file of Jinja, which is read when it is used.
    File(PathBuf),
}

impl ChatTemplate {
    /// Bytes that a file may have; published templates stay below 100 KB.
    const LIMIT_BYTES: u64 = 1 << 20;

    /// Jinja, or the name of a built-in template.
    ///
    /// # Errors
    /// `InvalidModel` when the file cannot be read, is no text, or is too long.
    pub(crate) fn read(&self) -> Result<String, Failure> {
        let path = match self {
            Self::BuiltIn(name) => return Ok(name.clone()),
            Self::File(path) => path,
        };
        let refuse = |why: String| {
            Failure::new(ErrorKind::InvalidModel, format!("the chat template cannot be read: {why}"))
                .with_hint("check `chat_template` in the model's settings; relative paths start at the configuration file")
        };
        let unreadable =
            |error: std::io::Error| refuse(format!("{}: {}", path.display(), system_words(&error)));
        let file = fs_err::File::open(path).map_err(unreadable)?;
        let mut text = String::new();
        let read = file.take(Self::LIMIT_BYTES + 1).read_to_string(&mut text);
        read.map_err(unreadable)?;
        if text.len() as u64 > Self::LIMIT_BYTES {
            return Err(refuse(format!("{} is longer than {} bytes", path.display(), Self::LIMIT_BYTES)));
        }
        Ok(text)
    }
}

/// A name that the owner gave to a model, with the settings that go with it.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct Alias {
    /// The name that requests use.
    pub name: String,
    /// What it stands for.
    pub source: ModelRef,
    /// Its settings.
    pub settings: ModelSettings,
}

impl Alias {
    /// This name for this model, with these settings.
    pub fn new(name: impl Into<String>, source: ModelRef, settings: ModelSettings) -> Self {
        Self { name: name.into(), source, settings }
    }
}

/// Who may continue from the state of whose prompts.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PrefixSharing {
    /// Every request from every other's. What two clients' prompts begin with is computed once, and how long a request
    /// takes tells that another client asked the like before.
    #[default]
    All,
    /// Requests of one client from each other's alone.
    Client,
}

/// Settings of the runtime.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct RuntimeSettings {
    /// Where models are kept, and where they come from.
    pub store: StoreConfig,
    /// The pool's limits and policy.
    pub pool: PoolConfig,
    /// Names that the owner gave to models.
    pub aliases: Vec<Alias>,
    /// Settings of every model that has none of its own.
    pub defaults: ModelSettings,
    /// Deadline of requests that bring none.
    pub default_deadline: Option<Duration>,
    /// Who may continue from the state of whose prompts.
    pub share_prefixes: PrefixSharing,
    /// The most context that a request of the network may ask for where its model's name has less; 0 = only what that has.
    pub context_ceiling_tokens: u32,
    /// Memory for requests that are read in and answers that are not read; `None` = a sixteenth of what there is.
    pub buffer_bytes: Option<u64>,
}

impl RuntimeSettings {
    /// This store and this pool, with everything else at its default.
    pub fn new(store: StoreConfig, pool: PoolConfig) -> Self {
        Self {
            store,
            pool,
            aliases: Vec::new(),
            defaults: ModelSettings::default(),
            default_deadline: None,
            share_prefixes: PrefixSharing::default(),
            context_ceiling_tokens: 0,
            buffer_bytes: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_name_says_of_speculation_counts_more_than_the_default() {
        let (silent, off) = (ModelSettings::default(), ModelSettings::default().speculates(false));
        let on = ModelSettings::default().speculates(true);
        assert_eq!(silent.or(&silent).speculates, None);
        assert_eq!(silent.or(&off).speculates, Some(false));
        assert_eq!(on.or(&off).speculates, Some(true));
    }

    #[test]
    fn a_template_is_read_when_it_is_used() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("chat.jinja");
        let template = ChatTemplate::File(path.clone());
        let failure = template.read().expect_err("is not there");
        assert_eq!(failure.kind, ErrorKind::InvalidModel);
        assert!(failure.hint.is_some_and(|hint| hint.contains("chat_template")));
        fs_err::write(&path, "{{ messages }}").expect("written");
        assert_eq!(template.read().expect("reads"), "{{ messages }}");
        fs_err::write(&path, "x".repeat((1 << 20) + 1)).expect("written");
        assert!(template.read().is_err());
        assert_eq!(ChatTemplate::BuiltIn("gemma".to_owned()).read().expect("a name"), "gemma");
    }
}
