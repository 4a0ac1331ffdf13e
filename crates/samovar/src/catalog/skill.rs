//! What a model can do, and which others here can do what it cannot.

use samovar_core::port::Capabilities;
use samovar_core::{ErrorKind, Failure};

use super::Catalog;
use super::embedder::reading;
use super::facts::Purpose;
use crate::request::Origin;

/// Names whose models are looked at for what they can do: headers that were not read yet are read for it.
const LOOKED_AT_MAX: usize = 64;
/// Names of a hint.
const NAMED_MAX: usize = 3;

/// A kind of work that not every model can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Skill {
    /// To write text.
    Generate,
    /// To fill in a gap in a text.
    Infill,
    /// To make vectors of texts.
    Embed,
    /// To score how well documents answer a query.
    Rerank,
}

impl Skill {
    /// Whether it is one of these.
    pub(crate) const fn is_in(self, capabilities: Capabilities) -> bool {
        match self {
            Self::Generate => capabilities.can_generate,
            Self::Infill => capabilities.can_infill,
            Self::Embed => capabilities.can_embed,
            Self::Rerank => capabilities.can_rerank,
        }
    }

    /// What a model without it does not do.
    const fn what_is_not_done(self) -> &'static str {
        match self {
            Self::Generate => "does not write text",
            Self::Infill => "does not fill in text: its file has no fill-in-the-middle (FIM) tokens",
            Self::Embed => "makes no vectors of texts",
            Self::Rerank => "does not score documents",
        }
    }

    /// What is said where no model here has it.
    fn how_to_come_by_it(self, name: &str, origin: Origin) -> String {
        match (self, origin) {
            (Self::Generate, Origin::Owner) => "fetch a model that writes text: samovar pull".to_owned(),
            (Self::Infill, Origin::Owner) => {
                "fetch a model with FIM tokens, such as Qwen2.5-Coder".to_owned()
            }
            (Self::Embed, Origin::Owner) => format!(
                "fetch an embedding model, or set `pooling` under [models.{name}] in samovar.toml to have this one make vectors"
            ),
            (Self::Rerank, Origin::Owner) => "fetch a reranker whose file has a classifier".to_owned(),
            (_, Origin::Network) => "no model here does; its owner can add one".to_owned(),
        }
    }
}

impl Catalog {
    /// What is said to a client that asks the model of this name for what it can not do. May read headers.
    pub(crate) fn lacking(&self, name: &str, skill: Skill, origin: Origin) -> Failure {
        let able = self.able(skill);
        let hint = match &able[..] {
            [] => skill.how_to_come_by_it(name, origin),
            able => format!("ask a model here that does: {}", able.join(", ")),
        };
        let message = format!("`{name}` {}", skill.what_is_not_done());
        Failure::new(ErrorKind::InvalidRequest, message).with_param("model").with_hint(hint)
    }

    /// Names of some models here that have this skill.
    fn able(&self, skill: Skill) -> Vec<String> {
        let names = self.names_now();
        let can = |name: &str| {
            // A client that hears of a name may use it.
            let target = self.target(&names, name, Origin::Network).ok()?;
            let facts = self.facts_for(&target, Purpose::List).ok()?;
            Some(skill.is_in(reading(&*self.engine, &facts.descriptor, &target.settings).capabilities))
        };
        let listed = self.listed_names(&names).into_iter().take(LOOKED_AT_MAX);
        listed.filter(|name| can(name) == Some(true)).take(NAMED_MAX).collect()
    }
}
