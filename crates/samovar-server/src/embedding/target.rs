//! Which model does the work where a request names none: its API has no field for it, and one server has one model.

use samovar::ModelInfo;

use crate::app::App;
use crate::redact::redact;
use crate::refusal::Refusal;

/// Names of models that a refusal lists.
const LISTED: usize = 8;

/// What a model is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ability {
    /// Make vectors.
    Embed,
    /// Score documents.
    Rerank,
    /// Split texts into its tokens; every model can.
    Tokenize,
    /// Write text.
    Generate,
    /// Fill in gaps in texts.
    Infill,
}

impl Ability {
    fn is_of(self, model: &ModelInfo) -> bool {
        let can = |word: &str| model.capabilities.iter().any(|own| own == word);
        match self {
            Self::Embed => can("embed"),
            Self::Rerank => can("rerank"),
            Self::Tokenize => true,
            Self::Generate => can("generate"),
            Self::Infill => can("infill"),
        }
    }

    const fn verb(self) -> &'static str {
        match self {
            Self::Embed => "makes vectors",
            Self::Rerank => "reranks",
            Self::Tokenize => "tokenizes",
            Self::Generate => "writes text",
            Self::Infill => "fills in text",
        }
    }
}

/// The model that was asked for, or else the only one that can do it: the only one that requests may name, or the only one of
/// those that is in memory. Where all tokenize, an embedder does it before others.
///
/// # Errors
/// 400 that names those which can, where there is none or several.
pub(crate) async fn model(app: &App, asked: Option<String>, ability: Ability) -> Result<String, Refusal> {
    if let Some(model) = asked.filter(|model| !model.is_empty()) {
        app.check_model(&model)?;
        return Ok(model);
    }
    let known = app.models().await;
    let able = |ability: Ability| -> Vec<String> {
        known.iter().filter(|model| ability.is_of(model)).map(|model| model.name.clone()).collect()
    };
    let mut names = able(ability);
    if ability == Ability::Tokenize && names.len() > 1 {
        let embedders = able(Ability::Embed);
        if embedders.len() == 1 {
            names = embedders;
        }
    }
    if let [only] = names.as_slice() {
        return Ok(only.clone());
    }
    let stats = app.runtime.stats().await.models;
    let in_memory = |name: &&String| stats.iter().any(|model| model.instances > 0 && model.name == **name);
    let mut loaded = names.iter().filter(in_memory);
    match (loaded.next(), loaded.next()) {
        (Some(only), None) => Ok(only.clone()),
        _ => Err(ambiguous(&names, ability)),
    }
}

fn ambiguous(names: &[String], ability: Ability) -> Refusal {
    if names.is_empty() {
        let message = format!("`model` is missing, and no model here {}", ability.verb());
        return Refusal::invalid("model", message).with_hint("GET /v1/models lists what there is");
    }
    let listed: Vec<String> = names.iter().take(LISTED).map(|name| redact(name)).collect();
    let more = if names.len() > LISTED { ", …" } else { "" };
    let message = format!(
        "`model` is missing, and more than one model here {}: {}{more}",
        ability.verb(),
        listed.join(", ")
    );
    Refusal::invalid("model", message)
        .with_hint("name one of them as `model`, in the body or as `?model=NAME`")
}
