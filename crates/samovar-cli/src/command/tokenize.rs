//! `samovar tokenize`: texts as the model's token ids, their pieces or their number; and token ids as text.

use samovar::EmbedInput;
use samovar_core::{ErrorKind, Failure};
use samovar_server::admin::wire::{DetokenizeBody, TokenizeBody};
use serde_json::{Value, json};

use super::backend::{self, Backend};
use super::texts::{self, Item, Reading, Texts};
use super::vectors::{self, Rows};
use super::{Context, stored};
use crate::args::{Tokenize, VectorForm};
use crate::ended::Ended;

/// Lists of token ids of one request.
const LISTS_AT_ONCE: usize = 512;

pub(super) async fn execute(context: &Context, arguments: Tokenize) -> Result<(), Ended> {
    let model = backend::portable(&arguments.model, &context.settings)?;
    let how = format!("samovar tokenize {} \"A text\", or --file FILE with a text per line", arguments.model);
    let mut words = arguments.texts.clone();
    if arguments.detokenize && !words.is_empty() {
        words = vec![words.join(" ")];
    }
    let reading = Reading { keeps_empty: true, reads_ids: arguments.detokenize, ..Reading::default() };
    let texts = texts::begin(words, &arguments.source, reading, &how)?;
    let backend = vectors::backend(context, &arguments.terms)?;
    let ended = tokio::select! {
        ended = print(context, &backend, &model, &arguments, texts) => ended,
        _ = tokio::signal::ctrl_c() => Err(Ended::Interrupted),
    };
    backend.end().await;
    ended
}

async fn print(
    context: &Context,
    backend: &Backend<'_>,
    model: &str,
    arguments: &Tokenize,
    mut texts: Texts,
) -> Result<(), Ended> {
    let near = |failure| Ended::from(stored::with_near(model, failure, &context.settings));
    let form = if context.report.is_json() { VectorForm::Json } else { VectorForm::Text };
    let mut rows = Rows::new(&context.report, form);
    // The model is loaded with progress for a person, and before its vocabulary is asked.
    backend.warm(&context.report, model, false).await.map_err(near)?;
    while let Some(items) = texts.batches.recv().await {
        let items = items?;
        let answers = if arguments.detokenize {
            detokenized(backend, model, items).await
        } else {
            tokenized(backend, model, arguments, items, &texts).await
        };
        for (value, text) in answers.map_err(near)? {
            rows.row(&value, || text)?;
        }
    }
    rows.end()
}

/// What is printed of each text: for programs, and for people.
type Answers = Result<Vec<(Value, String)>, Failure>;

async fn detokenized(backend: &Backend<'_>, model: &str, items: Vec<Item>) -> Answers {
    let (places, tokens): (Vec<u64>, Vec<Vec<u32>>) = items
        .into_iter()
        .map(|item| match item.input {
            EmbedInput::Tokens(tokens) => (item.place, tokens),
            // A reader of ids gives nothing else.
            _ => (item.place, Vec::new()),
        })
        .unzip();
    let texts = backend.detokenize(&DetokenizeBody { model: model.to_owned(), tokens }).await?;
    let row = |(place, text): (u64, String)| (json!({ "index": place, "text": text }), text);
    Ok(places.into_iter().zip(texts).map(row).collect())
}

async fn tokenized(
    backend: &Backend<'_>,
    model: &str,
    arguments: &Tokenize,
    items: Vec<Item>,
    texts: &Texts,
) -> Answers {
    let mut asked = Vec::with_capacity(items.len());
    let mut places = Vec::with_capacity(items.len());
    for Item { place, input, .. } in items {
        let EmbedInput::Text(text) = input else {
            let message = format!("{} has token ids", texts.origin.place(place));
            return Err(Failure::new(ErrorKind::InvalidRequest, message)
                .with_hint("--detokenize reads token ids, and prints their text"));
        };
        asked.push(text);
        places.push(place);
    }
    let body = TokenizeBody {
        model: model.to_owned(),
        texts: asked,
        add_special: !arguments.plain,
        parse_special: arguments.special,
    };
    let lists = backend.tokenize(&body).await?;
    let mut pieces =
        if arguments.pieces { each_alone(backend, model, &lists).await? } else { Vec::new() }.into_iter();
    let row = |(place, tokens): (u64, Vec<u32>)| {
        if arguments.count {
            return (json!({ "index": place, "count": tokens.len() }), tokens.len().to_string());
        }
        if arguments.pieces {
            let pieces: Vec<String> = pieces.by_ref().take(tokens.len()).collect();
            let quoted: Vec<String> = pieces.iter().map(|piece| format!("{piece:?}")).collect();
            return (json!({ "index": place, "tokens": tokens, "pieces": pieces }), quoted.join(" "));
        }
        let ids: Vec<String> = tokens.iter().map(ToString::to_string).collect();
        (json!({ "index": place, "tokens": tokens }), ids.join(" "))
    };
    Ok(places.into_iter().zip(lists).map(row).collect())
}

/// The text of each token alone.
async fn each_alone(backend: &Backend<'_>, model: &str, lists: &[Vec<u32>]) -> Result<Vec<String>, Failure> {
    let alone: Vec<Vec<u32>> = lists.iter().flatten().map(|token| vec![*token]).collect();
    let mut pieces = Vec::with_capacity(alone.len());
    for part in alone.chunks(LISTS_AT_ONCE) {
        let body = DetokenizeBody { model: model.to_owned(), tokens: part.to_vec() };
        pieces.extend(backend.detokenize(&body).await?);
    }
    Ok(pieces)
}
