//! A request for vectors or scores: what it asks for, what is wrong with it, and how soon it is needed.

use samovar_core::embedding::{EmbedInput, EmbedOutput, INPUTS_MAX, Truncate, Urgency};
use samovar_core::{ErrorKind, Failure};
use serde::{Deserialize, Serialize};

use super::PART_INPUT_BYTES;
use crate::request::Origin;

/// Inputs of one request.
const REQUEST_INPUTS_MAX: usize = 100_000;
/// Inputs and bytes of a request that is a query, where it does not say what it is.
const QUERY_INPUTS: usize = 16;
const QUERY_BYTES: usize = 64 << 10;
/// The same where documents are scored: those that a search has found, all of one part.
const RERANK_INPUTS: usize = INPUTS_MAX;
const RERANK_BYTES: usize = PART_INPUT_BYTES;

/// Asks for vectors or scores of texts. The answer's events are an [`Embedded`](crate::AnswerEvent::Embedded) for each input, in
/// any order, and a last one.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Embed {
    /// At least one, at most 100,000. Many are computed part by part, with others' between them.
    pub inputs: Vec<EmbedInput>,
    /// What each becomes.
    pub output: EmbedOutput,
    /// What becomes of inputs that are too long for the model.
    pub truncate: Truncate,
    /// What the texts are for: a model that tells queries from documents has a prompt before each, which its settings name
    /// (`query_prompt`, `document_prompt`). `None` = no prompt. Token ids and pairs have none.
    pub role: Option<TextRole>,
    /// How soon the answer is needed; `None` = by what is asked: up to 16 inputs of up to 64 KiB together are a query, as are up
    /// to 256 of up to 1 MiB that are to be scored; more are an import. Requests over the network with more than 256 inputs
    /// are imports, whatever they say.
    pub urgency: Option<Urgency>,
}

impl Embed {
    /// Normalised vectors of these, with every option at its default.
    pub fn new(inputs: Vec<EmbedInput>) -> Self {
        let output = EmbedOutput::Vector { dimensions: None, normalize: true };
        Self { inputs, output, truncate: Truncate::default(), role: None, urgency: None }
    }

    /// Scores of how well each document answers the query.
    pub fn rerank(query: &str, documents: impl IntoIterator<Item = String>) -> Self {
        let pair = |document| EmbedInput::Pair { query: query.to_owned(), document };
        let inputs = documents.into_iter().map(pair).collect();
        Self { output: EmbedOutput::Score, truncate: Truncate::End, ..Self::new(inputs) }
    }
}

/// What a text is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextRole {
    /// Something is looked for with it.
    Query,
    /// It may be found.
    Document,
}

impl Embed {
    /// What is wrong with the request, whatever its model.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let wrong = |message: String, hint: &str| {
            Err(Failure::new(ErrorKind::InvalidRequest, message).with_param("input").with_hint(hint))
        };
        match self.inputs.len() {
            0 => wrong("there is no input".to_owned(), "send at least one text"),
            inputs if inputs > REQUEST_INPUTS_MAX => wrong(
                format!("there are {inputs} inputs, and one request may have {REQUEST_INPUTS_MAX}"),
                "send several requests, one after the other",
            ),
            _ => Ok(()),
        }
    }

    /// How soon it is needed, by what it says and what is asked.
    pub(super) fn urgency_of(&self, origin: Origin) -> Urgency {
        match self.urgency {
            Some(Urgency::Interactive) if origin == Origin::Network && self.inputs.len() > INPUTS_MAX => {
                Urgency::Bulk
            }
            Some(urgency) => urgency,
            None if self.is_query() => Urgency::Interactive,
            None => Urgency::Bulk,
        }
    }

    fn is_query(&self) -> bool {
        let (inputs_max, bytes_max) = match self.output {
            EmbedOutput::Vector { .. } => (QUERY_INPUTS, QUERY_BYTES),
            EmbedOutput::Score => (RERANK_INPUTS, RERANK_BYTES),
        };
        let bytes = || self.inputs.iter().map(EmbedInput::bytes).sum::<usize>();
        self.inputs.len() <= inputs_max && bytes() <= bytes_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_short_inputs_are_a_query() {
        let of = |inputs: usize, bytes: usize| {
            Embed::new(vec![EmbedInput::Text("x".repeat(bytes)); inputs]).is_query()
        };
        assert!(of(1, 10) && of(16, 4_096));
        assert!(!of(17, 1) && !of(16, 4_097) && !of(1, 100_000));
    }

    #[test]
    fn the_documents_that_a_search_has_found_are_a_query() {
        let of = |documents: usize, bytes: usize| {
            Embed::rerank("", vec!["x".repeat(bytes); documents]).urgency_of(Origin::Network)
        };
        assert_eq!((of(256, 4_096), of(100, 2_000)), (Urgency::Interactive, Urgency::Interactive));
        assert_eq!((of(257, 1), of(256, 4_097)), (Urgency::Bulk, Urgency::Bulk));
    }

    #[test]
    fn a_large_request_of_the_network_is_an_import_whatever_it_says() {
        let of = |inputs: usize, said: Urgency, origin: Origin| {
            let embed = Embed::new(vec![EmbedInput::Tokens(Vec::new()); inputs]);
            Embed { urgency: Some(said), ..embed }.urgency_of(origin)
        };
        assert_eq!(of(INPUTS_MAX, Urgency::Interactive, Origin::Network), Urgency::Interactive);
        assert_eq!(of(INPUTS_MAX + 1, Urgency::Interactive, Origin::Network), Urgency::Bulk);
        assert_eq!(of(INPUTS_MAX + 1, Urgency::Interactive, Origin::Owner), Urgency::Interactive);
        assert_eq!(of(1, Urgency::Bulk, Origin::Network), Urgency::Bulk);
    }

    #[test]
    fn none_and_too_many_inputs_are_refused() {
        let of = |inputs: usize| Embed::new(vec![EmbedInput::Tokens(Vec::new()); inputs]).check();
        for wrong in [0, REQUEST_INPUTS_MAX + 1] {
            let failure = of(wrong).expect_err("is refused");
            assert_eq!((failure.kind, failure.hint.is_some()), (ErrorKind::InvalidRequest, true));
        }
        assert_eq!((of(1), of(REQUEST_INPUTS_MAX)), (Ok(()), Ok(())));
    }
}
