//! `samovar rerank`: documents in the order in which they answer a query, with their scores.

use samovar::{Embed as Work, EmbedInput, Embedded, Request};
use samovar_core::{ErrorKind, Failure};
use serde_json::{Value, json};

use super::texts::{self, Item, Reading};
use super::vectors::{self, Tally};
use super::{Context, backend};
use crate::args::Rerank;
use crate::ended::Ended;
use crate::report::{Align, Columns};

/// Documents of one command, which are kept until all have their score.
const DOCUMENTS_MAX: usize = 100_000;

pub(super) async fn execute(context: &Context, arguments: Rerank) -> Result<(), Ended> {
    let Rerank { query, documents, source, terms, .. } = &arguments;
    let model = backend::portable(&arguments.model, &context.settings)?;
    if query.trim().is_empty() {
        return Err(Failure::new(ErrorKind::InvalidRequest, "the query is empty")
            .with_hint("write what is looked for after the model")
            .into());
    }
    let how = format!(
        "samovar rerank {} {query:?} \"A document\", or --file FILE with a document per line",
        arguments.model
    );
    let mut texts = texts::begin(documents.clone(), source, Reading::default(), &how)?;
    let backend = vectors::backend(context, terms)?;
    let mut tally = Tally::new(0);
    let request = |inputs: Vec<EmbedInput>| {
        let documents = inputs.into_iter().filter_map(|input| match input {
            EmbedInput::Text(text) => Some(text),
            _ => None,
        });
        Request::embed(model.as_str(), Work::rerank(query, documents))
    };
    let mut scored: Vec<Scored> = Vec::new();
    let origin = texts.origin.clone();
    let take = |item: Item, embedded: Embedded| -> Result<(), Ended> {
        if scored.len() >= DOCUMENTS_MAX {
            let message = format!("there are more than {DOCUMENTS_MAX} documents");
            let hint = "find the likeliest ones by their vectors first, and sort those";
            return Err(Failure::new(ErrorKind::InvalidRequest, message).with_hint(hint).into());
        }
        scored.push(Scored::new(item, &embedded, arguments.raw, &|place| origin.place(place))?);
        Ok(())
    };
    let ended = vectors::compute(context, &backend, terms, &mut texts, &mut tally, request, take).await;
    backend.end().await;
    ended?;
    if scored.is_empty() {
        return Err(texts::no_text(&how).into());
    }
    sort(&mut scored);
    scored.truncate(arguments.top.map_or(usize::MAX, |top| top as usize));
    if context.report.is_json() {
        return context.report.json(&scored.iter().map(Scored::as_json).collect::<Vec<_>>());
    }
    let mut columns =
        Columns::new(&[("SCORE", Align::Right), ("INDEX", Align::Right), ("TEXT", Align::Left)]);
    for Scored { index, score, text, .. } in scored {
        columns.row([format!("{score:.4}"), index.to_string(), text.replace(['\n', '\t'], " ")]);
    }
    context.report.table(columns)
}

/// A document with its score.
#[derive(Clone, Debug, PartialEq)]
struct Scored {
    index: u64,
    id: Option<Value>,
    score: f32,
    text: String,
}

impl Scored {
    /// # Errors
    /// `InvalidRequest` for token ids, and for a model with several scores.
    fn new(
        item: Item,
        embedded: &Embedded,
        is_raw: bool,
        place: &dyn Fn(u64) -> String,
    ) -> Result<Self, Failure> {
        let EmbedInput::Text(text) = item.input else {
            let message = format!("{} has token ids", place(item.place));
            return Err(Failure::new(ErrorKind::InvalidRequest, message).with_hint("documents are texts"));
        };
        let [score] = embedded.values[..] else {
            let message =
                format!("the model has {} classes, and a reranker has one score", embedded.values.len());
            return Err(Failure::new(ErrorKind::InvalidRequest, message)
                .with_param("model")
                .with_hint("`samovar show MODEL` says what a model can be asked for"));
        };
        let score = if is_raw { score } else { sigmoid(score) };
        Ok(Self { index: item.place, id: item.id, score, text })
    }

    fn as_json(&self) -> Value {
        let mut object = json!({ "index": self.index, "score": self.score, "text": self.text });
        if let Some(id) = &self.id {
            object["id"] = id.clone();
        }
        object
    }
}

/// The best first; equal ones keep their order.
fn sort(scored: &mut [Scored]) {
    scored.sort_by(|one, other| other.score.total_cmp(&one.score));
}

fn sigmoid(score: f32) -> f32 {
    (1.0 / (1.0 + (-f64::from(score)).exp())) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(place: u64, values: &[f32], is_raw: bool) -> Result<Scored, Failure> {
        let item = Item { place, input: EmbedInput::Text("d".to_owned()), id: None };
        let embedded = Embedded { index: 0, tokens: 1, was_cut: false, values: values.to_vec() };
        Scored::new(item, &embedded, is_raw, &|place| format!("text {place}"))
    }

    #[test]
    fn the_best_come_first_and_scores_lie_between_0_and_1() {
        let mut all: Vec<Scored> = [(0, 0.0), (1, -2.0), (2, 3.0), (3, 0.0)]
            .into_iter()
            .map(|(place, score)| scored(place, &[score], false).expect("a score"))
            .collect();
        sort(&mut all);
        assert_eq!(all.iter().map(|scored| scored.index).collect::<Vec<_>>(), [2, 0, 3, 1]);
        assert!(all.iter().all(|scored| scored.score > 0.0 && scored.score < 1.0), "{all:?}");
        assert_eq!(scored(0, &[-2.0], true).expect("a score").score.to_bits(), (-2.0_f32).to_bits());
    }

    #[test]
    fn what_has_no_single_score_is_refused() {
        let failure = scored(0, &[0.1, 0.9], false).expect_err("a classifier");
        assert!(failure.message.contains("2 classes") && failure.hint.is_some());
        let item = Item { place: 4, input: EmbedInput::Tokens(vec![1]), id: None };
        let embedded = Embedded { index: 0, tokens: 1, was_cut: false, values: vec![1.0] };
        let failure = Scored::new(item, &embedded, false, &|place| format!("text {place}")).expect_err("ids");
        assert_eq!(failure.message, "text 4 has token ids");
    }
}
