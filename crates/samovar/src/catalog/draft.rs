//! The draft model that an owner named for a model: found like any, checked against its model, and loaded as one with it.
//!
//! Of the settings of its own name only the files count. Two models whose bytes are known are compared once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use samovar_core::{DraftModel, ErrorKind, Failure, WeightsId, format};

use super::Catalog;
use super::facts::Facts;
use super::published::Looked;
use super::target::{Absent, Target};
use crate::bounded::BoundedMap;
use crate::request::Origin;

/// Pairs of models that are known at a time; others are compared again.
const PAIRS_MAX: usize = 256;

/// A draft model that is here and fits its model.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) facts: Arc<Facts>,
    pub(super) model: Arc<DraftModel>,
}

/// Where the name of a draft model leads.
pub(super) enum FoundDraft {
    /// The model has none.
    Nowhere,
    /// To one that is here.
    Local(Draft),
    /// To one that has to be fetched or prepared first.
    Absent(Box<Absent>),
}

impl FoundDraft {
    /// The one that is here.
    pub(super) fn local(self) -> Option<Draft> {
        match self {
            Self::Local(draft) => Some(draft),
            Self::Nowhere | Self::Absent(_) => None,
        }
    }
}

/// What comparing a model with a draft model came to: the draft model, or why it is none for that model.
type Compared = Result<Arc<DraftModel>, String>;

/// The pairs that are known: a model, and a draft model.
#[derive(Default)]
pub(super) struct Drafts {
    compared: Mutex<BoundedMap<(WeightsId, WeightsId), Compared, PAIRS_MAX>>,
}

impl Drafts {
    fn compared(&self) -> MutexGuard<'_, BoundedMap<(WeightsId, WeightsId), Compared, PAIRS_MAX>> {
        // Every change is a single insert.
        self.compared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Catalog {
    /// The draft model of a model under this name.
    ///
    /// # Errors
    /// `InvalidRequest` for one that cannot draft for the model, with both names and the reason; whatever keeps it from being
    /// found.
    pub(super) fn draft(&self, target: &Target, facts: &Facts) -> Result<FoundDraft, Failure> {
        let Some(name) = target.settings.wanted_draft() else { return Ok(FoundDraft::Nowhere) };
        let drafting = || self.name_of(target, facts);
        // The owner wrote the name, whichever client asks for the model.
        let found = self.target(&target.names, name, Origin::Owner).map_err(|failure| {
            let message =
                format!("the draft model of `{}` is not to be had: {}", drafting(), failure.message);
            failure.with_message(message)
        })?;
        let draft = match self.look(&found, None)? {
            Looked::Here(draft) => draft,
            Looked::Absent(absent) => return Ok(FoundDraft::Absent(Box::new(absent))),
        };
        match self.compare(facts, &draft)? {
            Ok(model) => Ok(FoundDraft::Local(Draft { facts: draft, model })),
            Err(why) => {
                let model = drafting();
                let message = format!("`{name}` cannot be the draft model of `{model}`: {why}");
                Err(Failure::new(ErrorKind::InvalidRequest, message).with_param("model").with_hint(format!(
                    "name a smaller model of the same family as `draft` under [models.{model}] in samovar.toml, or none"
                )))
            }
        }
    }

    fn compare(&self, facts: &Facts, draft: &Facts) -> Result<Compared, Failure> {
        let pair = (facts.weights, draft.weights);
        if let Some(known) = self.drafts.compared().get(&pair) {
            return Ok(known.clone());
        }
        // Nothing is locked while files are read.
        let why = if draft.engine.id != facts.engine.id {
            Some(format!("{} runs it, and {} the model", draft.engine.id, facts.engine.id))
        } else if !draft.capabilities.can_generate || !facts.capabilities.can_generate {
            Some("one of both writes no text".to_owned())
        } else {
            format::cannot_draft((&draft.files, &draft.descriptor), (&facts.files, &facts.descriptor))?
        };
        let model = || Arc::new(DraftModel::new(draft.weights, &draft.descriptor));
        let compared = why.map_or_else(|| Ok(model()), Err);
        self.drafts.compared().insert(pair, compared.clone());
        Ok(compared)
    }
}
