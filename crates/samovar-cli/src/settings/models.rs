//! Settings of models in the library's own types: those of each name, and those of all models.

use std::collections::BTreeMap;

use samovar::{Alias, ChatTemplate, EngineChoice, ModelSettings, Pooling, SamplingOptions};
use samovar_core::footprint::{KvType, LayoutWish};
use samovar_core::units::KeepAlive;
use samovar_core::{ErrorKind, Failure, ModelRef, Quantization};

use super::model_keys::{
    ADAPTERS, CHAT_TEMPLATE, DOCUMENT_PROMPT, DRAFT, ENGINE, MAX_TOKENS, NEEDS, POOLING, QUERY_PROMPT,
    SOURCE, STOP, SYSTEM, THINKING,
};
use super::value::Value;
use super::values::{Values, count, flag, names, text, value};
use super::{Provenance, file};
use crate::home;

pub(super) fn aliases(models: &BTreeMap<String, Values>) -> Result<Vec<Alias>, Failure> {
    models
        .iter()
        .map(|(name, values)| {
            let (source, provenance) =
                values.get(SOURCE.path).expect("invariant: the file reader asks for it");
            let source = source_of(name, &source.to_string(), provenance)?;
            let mut settings = model_settings(values, "");
            settings.draft = draft_of(name, values)?;
            Ok(Alias::new(name, source, settings))
        })
        .collect()
}

/// The draft model of a name: another name, or a model as the command line would name it.
fn draft_of(name: &str, values: &Values) -> Result<Option<String>, Failure> {
    let Some((draft, provenance)) = values.get(DRAFT.path) else { return Ok(None) };
    let draft = draft.to_string();
    match draft.parse::<ModelRef>() {
        Ok(ModelRef::File(path)) => {
            let path = home::absolute(&file::source_path(&path.to_string_lossy(), provenance))?;
            Ok(Some(path.to_string_lossy().into_owned()))
        }
        Ok(_) => Ok(Some(draft)),
        Err(error) => {
            let failure = Failure::from(error);
            let message = format!("{provenance}: models.{name}.draft: {}", failure.message);
            Err(failure.with_message(message))
        }
    }
}

fn source_of(name: &str, source: &str, provenance: &Provenance) -> Result<ModelRef, Failure> {
    let place = |failure: Failure| {
        let message = format!("{provenance}: models.{name}.source: {}", failure.message);
        failure.with_message(message)
    };
    match source.parse::<ModelRef>() {
        Ok(ModelRef::Demo) => Ok(ModelRef::Demo),
        Ok(ModelRef::File(path)) => {
            Ok(ModelRef::file(home::absolute(&file::source_path(&path.to_string_lossy(), provenance))?))
        }
        Ok(hub @ (ModelRef::Hub(_) | ModelRef::Remote(_))) => Ok(hub),
        Ok(ModelRef::Alias(other)) => Err(place(
            Failure::new(
                ErrorKind::InvalidRequest,
                format!("{:?} is neither a file nor `demo`", other.as_str()),
            )
            .with_hint(format!("for a file write \"./{}\"", other.as_str())),
        )),
        Err(error) => Err(place(error.into())),
    }
}

pub(super) fn model_settings(values: &Values, prefix: &str) -> ModelSettings {
    let at = |name: &str| format!("{prefix}{name}");
    let mut settings = ModelSettings::default();
    settings.context_tokens = count(values, &at("context_tokens"));
    settings.slots = count(values, &at("slots"));
    settings.layout = text(values, &at("layout")).and_then(|word| LayoutWish::named(&word));
    settings.quantization = text(values, &at("quantization")).and_then(|word| Quantization::named(&word));
    settings.engine = text(values, &at(ENGINE.path)).and_then(|word| EngineChoice::named(&word));
    settings.kv_type =
        text(values, &at("kv_type")).map(|word| if word == "q8_0" { KvType::Q8_0 } else { KvType::F16 });
    settings.threads = count(values, &at("threads"));
    settings.keep_alive = match value(values, &at("keep_alive")) {
        Some(Value::KeepAlive(keep_alive)) => Some(*keep_alive),
        _ => None::<KeepAlive>,
    };
    settings.lock_memory = flag(values, &at("lock_memory"));
    settings.special_tokens_in_content = flag(values, &at("special_tokens_in_content"));
    settings.speculates = text(values, &at("speculation")).map(|word| word == "auto");
    settings.adapters = match value(values, &at(ADAPTERS.path)) {
        Some(Value::Adapters(adapters)) => adapters.clone(),
        _ => Vec::new(),
    };
    settings.min_instances = count(values, &at("min_instances"));
    settings.max_instances = count(values, &at("max_instances"));
    settings.needs = names(values, &at(NEEDS.path));
    settings.thinking = text(values, &at(THINKING.path)).and_then(|word| word.parse().ok());
    settings.pooling = text(values, &at(POOLING.path)).and_then(|word| Pooling::named(&word));
    settings.query_prompt = text(values, &at(QUERY_PROMPT.path));
    settings.document_prompt = text(values, &at(DOCUMENT_PROMPT.path));
    settings.chat_template = match value(values, &at(CHAT_TEMPLATE.path)) {
        Some(Value::Text(name)) => Some(ChatTemplate::BuiltIn(name.clone())),
        Some(Value::Path(path)) => Some(ChatTemplate::File(path.clone())),
        _ => None,
    };
    settings.system = text(values, &at(SYSTEM.path));
    settings.stop = match value(values, &at(STOP.path)) {
        Some(Value::Texts(texts)) => texts.clone(),
        _ => Vec::new(),
    };
    settings.max_tokens = count(values, &at(MAX_TOKENS.path));
    settings.sampling = sampling(values, &at);
    settings
}

/// How tokens are chosen, as far as a model's settings say so.
fn sampling(values: &Values, at: &impl Fn(&str) -> String) -> SamplingOptions {
    let number = |name: &str| match value(values, &at(name)) {
        Some(Value::Number(number) | Value::Ratio(number)) => Some(*number as f32),
        _ => None,
    };
    let whole = |name: &str| count(values, &at(name));
    SamplingOptions {
        temperature: number("temperature"),
        top_k: whole("top_k"),
        top_p: number("top_p"),
        min_p: number("min_p"),
        repeat_penalty: number("repeat_penalty"),
        repeat_last_tokens: whole("repeat_last_tokens"),
        frequency_penalty: number("frequency_penalty"),
        presence_penalty: number("presence_penalty"),
        seed: whole("seed"),
        ..SamplingOptions::default()
    }
}
