//! Models' names as Ollama writes them, each with a tag, and which model of ours such a name means.
//!
//! ```text
//!   here                    in Ollama's API
//!   tiny                    tiny:latest
//!   ollama://qwen3:4b       qwen3:4b
//!   org/name:Q4_K_M         hf.co/org/name:Q4_K_M
//! ```

use samovar::{Kind, ModelInfo};
use samovar_core::Failure;
use samovar_core::model::ArtifactRef;

use crate::app::App;
use crate::redact::redact;
use crate::refusal::Refusal;

/// What a name means that has no tag.
const LATEST: &str = ":latest";
/// Where Ollama's clients mean that a name leads which has no host.
const REGISTRY: &str = "ollama://";
/// How they write a model of the hub.
const HUB: &str = "hf.co/";

/// A model's name as Ollama's clients read it.
pub(super) fn of(model: &ModelInfo) -> String {
    if model.kind == Kind::Created { with_tag(model.name.clone()) } else { shown(&model.name) }
}

/// The name as it is kept: without the tag that is meant anyway.
pub(super) fn without_latest(name: &str) -> &str {
    name.strip_suffix(LATEST).unwrap_or(name)
}

fn with_tag(name: String) -> String {
    let has_tag = name.rsplit('/').next().is_some_and(|last| last.contains(':'));
    if has_tag { name } else { name + LATEST }
}

/// The same by our name for it.
pub(super) fn shown(name: &str) -> String {
    let name = redact(name);
    let is_of_hub = name.matches('/').count() == 1 && !name.contains(['@', '…']);
    with_tag(match name.strip_prefix(REGISTRY) {
        Some(short) => short.to_owned(),
        None if is_of_hub => format!("{HUB}{name}"),
        None => name,
    })
}

/// Which of our names one of Ollama's may be, the likeliest first.
fn readings(asked: &str) -> Vec<String> {
    let without_tag = asked.strip_suffix(LATEST);
    let mut readings: Vec<String> =
        [Some(asked), without_tag].into_iter().flatten().map(str::to_owned).collect();
    if let Some(of_hub) = asked.strip_prefix(HUB) {
        readings.push(of_hub.to_owned());
        readings.extend(of_hub.strip_suffix(LATEST).map(str::to_owned));
    } else if !asked.contains("://") {
        readings.push(format!("{REGISTRY}{asked}"));
    }
    readings
}

/// The model that a request names.
#[derive(Clone, Debug)]
pub(super) struct Named {
    /// By our name; the client's own where none of ours is meant.
    pub(super) reference: String,
    /// What is known of it, where it is here.
    pub(super) info: Option<ModelInfo>,
}

/// The model that a name means.
pub(super) async fn find(app: &App, asked: &str) -> Named {
    for reference in readings(asked) {
        if app.check_model(&reference).is_ok()
            && let Ok(info) = app.runtime.model(&reference, app.surface.origin()).await
        {
            return Named { reference, info: Some(info) };
        }
    }
    Named { reference: asked.to_owned(), info: None }
}

/// The created name that a request means, also where the model behind it cannot be used.
pub(super) async fn created(app: &App, asked: &str) -> Option<String> {
    let created = app.runtime.created().await;
    readings(asked).into_iter().find(|reading| created.iter().any(|model| model.name == *reading))
}

/// Where a model is fetched from that is not here: Ollama's registry, unless its name says something else.
///
/// # Errors
/// 400 for a name that leads nowhere; 403 for one that the request may not have fetched.
pub(super) fn source(app: &App, asked: &str) -> Result<ArtifactRef, Failure> {
    let address = address(asked);
    app.check_source(&address)?;
    app.check_model(&address)?;
    Ok(address.parse()?)
}

fn address(asked: &str) -> String {
    let says_where = asked.contains("://") || asked.starts_with(HUB);
    if says_where { asked.to_owned() } else { format!("{REGISTRY}{asked}") }
}

/// The name that a request must have.
///
/// # Errors
/// 400 when it is missing or empty.
pub(super) fn required(model: Option<String>) -> Result<String, Refusal> {
    model.filter(|model| !model.is_empty()).ok_or_else(|| {
        Refusal::invalid("model", "model is required").with_hint("GET /api/tags lists what there is")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_shown_with_a_tag_and_read_again() {
        for (name, expected) in [
            ("tiny", "tiny:latest"),
            ("demo", "demo:latest"),
            ("mine:v2", "mine:v2"),
            ("ollama://qwen3:4b", "qwen3:4b"),
            ("ollama://llama3.2", "llama3.2:latest"),
            ("ollama://me/writer:1b", "me/writer:1b"),
            ("org/name:Q4_K_M", "hf.co/org/name:Q4_K_M"),
            ("org/name", "hf.co/org/name:latest"),
        ] {
            let shown = shown(name);
            assert_eq!(shown, expected);
            // The registry's own names leave out the tag that is meant anyway.
            let read = readings(&shown);
            let same = format!("{name}{LATEST}");
            assert!(read.iter().any(|reading| reading == name || *reading == same), "{name}: {read:?}");
        }
    }

    #[test]
    fn a_pull_leads_to_ollamas_registry_unless_its_name_says_more() {
        let source = |asked: &str| address(asked).parse::<ArtifactRef>();
        let of = |asked: &str| source(asked).expect("a source").to_string();
        assert_eq!(of("qwen3:4b"), "ollama://qwen3:4b");
        assert_eq!(of("me/writer:1b"), "ollama://me/writer:1b");
        assert_eq!(of("hf.co/org/name:Q4_K_M"), "hf://org/name:Q4_K_M");
        for wrong in ["", "a b", "a/b/c"] {
            assert!(source(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_name_is_what_it_says_before_it_is_anything_else() {
        assert_eq!(readings("tiny:latest"), ["tiny:latest", "tiny", "ollama://tiny:latest"]);
        assert_eq!(readings("me/writer:1b"), ["me/writer:1b", "ollama://me/writer:1b"]);
        assert_eq!(readings("ollama://x"), ["ollama://x"]);
    }
}
