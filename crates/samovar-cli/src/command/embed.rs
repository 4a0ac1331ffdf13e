//! `samovar embed`: texts to vectors, a line each, in the order of the texts.

use std::fmt::Write as _;

use samovar::{Embed as Work, EmbedInput, EmbedOutput, Embedded, Request, TextRole};
use serde::Serialize;
use serde_json::Value;

use super::texts::{self, Item, Reading};
use super::vectors::{self, Rows, Tally};
use super::{Context, backend};
use crate::args::{Embed, VectorForm};
use crate::ended::Ended;

pub(super) async fn execute(context: &Context, arguments: Embed) -> Result<(), Ended> {
    let Embed { model, texts, source, terms, .. } = &arguments;
    let model = backend::portable(model, &context.settings)?;
    let how = format!("samovar embed {} \"A text\", or --file FILE with a text per line", arguments.model);
    let reading = Reading { skip: arguments.skip, ..Reading::default() };
    let mut texts = texts::begin(texts.clone(), source, reading, &how)?;
    let backend = vectors::backend(context, terms)?;
    let usual = if context.report.is_json() { VectorForm::Json } else { VectorForm::Jsonl };
    let mut rows = Rows::new(&context.report, arguments.format.unwrap_or(usual));
    let mut tally = Tally::new(arguments.skip);
    let request = |inputs| request(&model, inputs, &arguments);
    let take = |item: Item, embedded: Embedded| {
        let row = Row {
            index: item.place,
            id: item.id.as_ref(),
            embedding: &embedded.values,
            tokens: embedded.tokens,
            truncated: embedded.was_cut.then_some(true),
        };
        rows.row(&row, || with_blanks(&embedded.values))
    };
    let ended = vectors::compute(context, &backend, terms, &mut texts, &mut tally, request, take).await;
    backend.end().await;
    match ended {
        Ok(()) if tally.texts == 0 && arguments.skip == 0 => Err(texts::no_text(&how).into()),
        Ok(()) => rows.end(),
        Err(ended) => {
            let note = tally.how_to_go_on(&texts.origin);
            if let Some(note) = note.filter(|_| !matches!(ended, Ended::OutputClosed)) {
                context.report.note(&note);
            }
            Err(ended)
        }
    }
}

fn request(model: &str, inputs: Vec<EmbedInput>, arguments: &Embed) -> Request {
    let mut work = Work::new(inputs);
    work.output =
        EmbedOutput::Vector { dimensions: arguments.dimensions, normalize: !arguments.no_normalize };
    work.truncate = arguments.truncate.unwrap_or_default();
    work.role = match (arguments.query, arguments.document) {
        (true, _) => Some(TextRole::Query),
        (_, true) => Some(TextRole::Document),
        _ => None,
    };
    Request::embed(model, work)
}

/// What came of a text.
#[derive(Serialize)]
struct Row<'a> {
    index: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a Value>,
    embedding: &'a [f32],
    tokens: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    truncated: Option<bool>,
}

fn with_blanks(values: &[f32]) -> String {
    let mut text = String::with_capacity(values.len() * 12);
    for (at, value) in values.iter().enumerate() {
        let blank = if at == 0 { "" } else { " " };
        write!(text, "{blank}{value}").expect("invariant: writing to a String succeeds");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_only_what_there_is_to_say() {
        let row = Row { index: 3, id: None, embedding: &[0.5, -1.0], tokens: 4, truncated: None };
        let json = serde_json::to_string(&row).expect("JSON");
        assert_eq!(json, r#"{"index":3,"embedding":[0.5,-1.0],"tokens":4}"#);
        let id = Value::from("a");
        let row = Row { id: Some(&id), truncated: Some(true), ..row };
        let json = serde_json::to_string(&row).expect("JSON");
        assert_eq!(json, r#"{"index":3,"id":"a","embedding":[0.5,-1.0],"tokens":4,"truncated":true}"#);
        assert_eq!(with_blanks(&[0.5, -1.0, 2e-7]), "0.5 -1 0.0000002");
    }
}
