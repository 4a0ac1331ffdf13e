//! Models that make vectors or scores of texts: which models do, how, and what their vectors are known by.

use samovar_core::port::{Capabilities, Engine};
use samovar_core::{Descriptor, Digest, Failure, Pooling, WeightsId};

use super::Catalog;
use super::skill::Skill;
use crate::embed::EmbedderInfo;
use crate::request::Origin;
use crate::settings::ModelSettings;

/// The longest input of an embedder, in tokens, when nothing is said. Longer ones take memory that few need: attention over
/// an encoder's input grows with the square of its length.
pub(super) const DEFAULT_INPUT_TOKENS: u32 = 2_048;
/// Requests that one embedder serves at the same time: they are computed together, and each takes next to nothing.
pub(super) const DEFAULT_SLOTS: u32 = 64;
/// Characters of a fingerprint: 64 bits.
const FINGERPRINT_CHARS: usize = 16;

/// A model as its settings have it read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    /// What it can do.
    pub(super) capabilities: Capabilities,
    /// How its vectors are made; `None` = it makes none.
    pub(super) pooling: Option<Pooling>,
}

impl Reading {
    /// Whether it makes vectors or scores, and nothing else.
    pub(super) const fn is_embedder(self) -> bool {
        self.pooling.is_some() && !self.capabilities.can_generate
    }
}

/// How the model is read under these settings. The owner's pooling counts, then the file's; of a model that can not write text,
/// and whose file says nothing, it is the mean.
pub(super) fn reading(engine: &dyn Engine, descriptor: &Descriptor, settings: &ModelSettings) -> Reading {
    let own = engine.capabilities(descriptor);
    let of_encoder = (!descriptor.is_causal || !own.can_generate).then_some(Pooling::Mean);
    let pooling = settings.pooling.or(descriptor.pooling).or(of_encoder);
    let with_it = match pooling {
        None => Capabilities { can_embed: false, can_rerank: false, ..own },
        Some(_) if pooling == descriptor.pooling => own,
        Some(_) => {
            let Capabilities { can_embed, can_rerank, .. } =
                engine.capabilities(&Descriptor { pooling, ..descriptor.clone() });
            Capabilities { can_embed, can_rerank, ..own }
        }
    };
    let pooling = pooling.filter(|_| with_it.can_embed || with_it.can_rerank);
    Reading { capabilities: with_it, pooling }
}

impl Catalog {
    /// What the vectors of the model that `reference` names are.
    ///
    /// # Errors
    /// `InvalidRequest` when it makes none; whatever keeps it from being found.
    pub(crate) fn embedder(&self, reference: &str, origin: Origin) -> Result<EmbedderInfo, Failure> {
        let target = self.target(&self.names_now(), reference, origin)?;
        let facts = self.facts_of(&target)?;
        let draft = self.draft(&target, &facts)?.local();
        let planned = self.planned(&target, &facts, draft.as_ref(), None)?;
        let model = self.name_of(&target, &facts);
        let Some(pooling) = planned.options.pooling else {
            return Err(self.lacking(&model, Skill::Embed, origin));
        };
        let settings = &target.settings;
        let query_prompt = settings.query_prompt.clone().unwrap_or_default();
        let document_prompt = settings.document_prompt.clone().unwrap_or_default();
        Ok(EmbedderInfo {
            model,
            fingerprint: fingerprint(&facts.weights, pooling, &query_prompt, &document_prompt),
            pooling,
            dimensions: facts.descriptor.embedding_width,
            max_input_tokens: planned.options.context_tokens,
            query_prompt,
            document_prompt,
            can_rerank: planned.capabilities.can_rerank,
        })
    }
}

/// Stands for all that two vectors must have in common to be compared. The number counts the rules by which vectors are made of
/// what a model computes (normalised after they are cut to their dimensions); the longest input is none of it.
fn fingerprint(weights: &WeightsId, pooling: Pooling, query_prompt: &str, document_prompt: &str) -> String {
    let pooling = pooling.as_str();
    let all = format!("samovar embedder 1\n{weights}\n{pooling}\n{query_prompt:?}\n{document_prompt:?}\n");
    Digest::of_bytes(all.as_bytes()).to_string().chars().take(FINGERPRINT_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use samovar_core::testing::fake::FakeEngine;

    use super::*;

    fn read(own: Capabilities, descriptor: &Descriptor, pooling: Option<Pooling>) -> Reading {
        let engine = FakeEngine::builder().capabilities(own).build();
        reading(&engine, descriptor, &ModelSettings { pooling, ..ModelSettings::default() })
    }

    #[test]
    fn vectors_are_made_as_the_owner_says_else_as_the_file_says_else_by_the_mean() {
        let neither = Capabilities { can_embed: false, can_rerank: false, ..FakeEngine::CAPABILITIES };
        let all = Capabilities { can_embed: true, can_rerank: true, ..neither };
        let chat = FakeEngine::descriptor("chat", 1 << 20);
        let plain = read(all, &chat, None);
        assert_eq!((plain.pooling, plain.capabilities), (None, neither), "it writes text");
        let both = read(all, &chat, Some(Pooling::Last));
        assert_eq!((both.pooling, both.capabilities, both.is_embedder()), (Some(Pooling::Last), all, false));
        let alone = Capabilities { can_generate: false, ..all };
        assert_eq!(read(alone, &chat, None).pooling, Some(Pooling::Mean));
        let encoder = Descriptor { is_causal: false, ..chat.clone() };
        let mean = read(alone, &encoder, None);
        assert!(mean.pooling == Some(Pooling::Mean) && mean.is_embedder());
        let says_so = Descriptor { pooling: Some(Pooling::Cls), ..encoder };
        assert_eq!(read(alone, &says_so, None).pooling, Some(Pooling::Cls));
        assert_eq!(read(alone, &says_so, Some(Pooling::Last)).pooling, Some(Pooling::Last));
        let cannot = read(neither, &chat, Some(Pooling::Mean));
        assert_eq!((cannot.pooling, cannot.capabilities), (None, neither));
    }

    #[test]
    fn a_fingerprint_stands_for_weights_pooling_and_prompts() {
        let weights = |bytes: &[u8]| WeightsId::File(Digest::of_bytes(bytes));
        let of = |bytes: &[u8], pooling, query: &str, document: &str| {
            fingerprint(&weights(bytes), pooling, query, document)
        };
        let first = of(b"a", Pooling::Mean, "", "");
        assert_eq!((first.len(), &first), (FINGERPRINT_CHARS, &of(b"a", Pooling::Mean, "", "")));
        let others = [
            of(b"b", Pooling::Mean, "", ""),
            of(b"a", Pooling::Cls, "", ""),
            of(b"a", Pooling::Mean, "query: ", ""),
            of(b"a", Pooling::Mean, "", "query: "),
        ];
        assert!(others.iter().all(|other| *other != first));
    }
}
