//! `/tokenize`: token ids of texts, in one of two forms that are told apart by the field that has the text.
//!
//! ```text
//!   inputs    text-embeddings-inference ──► [[{"id","text","special"}]], a list for each text
//!   content   llama-server              ──► {"tokens":[…]}, ids, or {"id","piece"} with `with_pieces`
//! ```

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use samovar::Common;
use samovar_core::Failure;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::app::App;
use crate::buffer_charge::BufferCharge;
use crate::client::Asker;
use crate::embedding::inputs::Inputs;
use crate::embedding::target::{self, Ability};
use crate::embedding::terms::{Named, Terms, Wanted};
use crate::embedding::{number, pieces};
use crate::field::{Field, field};
use crate::generation::running::{admit, until_cut};
use crate::openai::Refused;
use crate::payload::Payload;
use crate::refusal::Refusal;

/// Lists of tokens that the runtime reads at once.
const LISTS: usize = 1_024;

/// The fields of both forms.
#[derive(Debug, Deserialize)]
struct ToTokenize {
    inputs: Option<Inputs>,
    add_special_tokens: Option<bool>,
    content: Option<String>,
    add_special: Option<bool>,
    parse_special: Option<bool>,
    with_pieces: Option<bool>,
}

/// The same with what they mean.
pub(crate) const FIELDS: &[Field] = &[
    field(
        "inputs",
        "A text or texts, at most 1,024, in the form of text-embeddings-inference: the answer is a list for each. This or `content` is required.",
    ),
    field("add_special_tokens", "With `inputs`: false = no special tokens around each text. Default: true.")
        .boolean(),
    field("content", "A text, in the form of llama-server: the answer is an object with `tokens`.").text(),
    field("add_special", "With `content`: true = special tokens around the text. Default: false.").boolean(),
    field(
        "parse_special",
        "With `content`: false = the names of special tokens are text as all other. Default: true.",
    )
    .boolean(),
    field(
        "with_pieces",
        "With `content`: true = tell the text of each token, or its bytes where they are no text.",
    )
    .boolean(),
];

/// `POST /tokenize`.
pub(crate) async fn tokenize(
    State(app): State<App>,
    named: Named,
    asker: Asker,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refused> {
    let payload = Payload::read(body, &app.limits).await?;
    let wanted = payload.parse::<Terms>()?.check(&asker, &headers)?.or_named(named);
    let Checked { texts, add_special, parse_special, form } = payload.parse::<ToTokenize>()?.check()?;
    // What it says is in the texts.
    drop(payload);
    let Wanted { model, mut common, .. } = wanted;
    common.model = target::model(&app, model, Ability::Tokenize).await?;
    let _in_flight = admit(&app, &mut common)?;
    let mut held = BufferCharge::new(&app, &common.client);
    // All looks at the vocabulary together have the time of one request.
    let until = common.deadline.and_then(|deadline| Instant::now().checked_add(deadline));
    let work = app.runtime.tokenize(common.clone(), texts, add_special, parse_special);
    let lists = until_cut(&app, work).await?;
    held.add(lists.iter().map(|list| size_of_val(list.as_slice())).sum())?;
    let response = match form {
        Form::Content { with_pieces: false } => answer_ids(held, lists),
        Form::Content { with_pieces: true } => {
            let vocabulary = vocabulary(&app, common, until, &lists).await?;
            answer_pieces(held, lists, vocabulary)
        }
        Form::Inputs => {
            let vocabulary = vocabulary(&app, common, until, &lists).await?;
            answer_lists(held, lists, vocabulary)
        }
    };
    Ok(response?)
}

/// What a request asks for, and in which form.
#[derive(Debug)]
struct Checked {
    texts: Vec<String>,
    add_special: bool,
    parse_special: bool,
    form: Form,
}

#[derive(Clone, Copy, Debug)]
enum Form {
    /// That of text-embeddings-inference.
    Inputs,
    /// That of llama-server.
    Content { with_pieces: bool },
}

impl ToTokenize {
    fn check(self) -> Result<Checked, Refusal> {
        match (self.inputs, self.content) {
            (Some(_), Some(_)) => {
                Err(Refusal::invalid("content", "either `inputs` or `content` may be given, not both"))
            }
            (None, Some(content)) => Ok(Checked {
                texts: vec![content],
                add_special: self.add_special.unwrap_or(false),
                parse_special: self.parse_special.unwrap_or(true),
                form: Form::Content { with_pieces: self.with_pieces.unwrap_or(false) },
            }),
            (inputs, None) => Ok(Checked {
                texts: Inputs::texts(inputs, "inputs")?,
                add_special: self.add_special_tokens.unwrap_or(true),
                // As `/embed` reads them.
                parse_special: false,
                form: Form::Inputs,
            }),
        }
    }
}

/// The bytes of each token that occurs in the lists; those of control tokens are empty.
async fn vocabulary(
    app: &App,
    mut common: Common,
    until: Option<Instant>,
    lists: &[Vec<u32>],
) -> Result<BTreeMap<u32, Vec<u8>>, Failure> {
    let ids: BTreeSet<u32> = lists.iter().flatten().copied().collect();
    let ids: Vec<u32> = ids.into_iter().collect();
    let mut vocabulary = BTreeMap::new();
    for part in ids.chunks(LISTS) {
        let each = part.iter().map(|id| vec![*id]).collect();
        common.deadline = until.map(|until| until.saturating_duration_since(Instant::now()));
        let bytes = until_cut(app, app.runtime.detokenize(common.clone(), each)).await?;
        vocabulary.extend(part.iter().copied().zip(bytes));
    }
    Ok(vocabulary)
}

/// A token as text-embeddings-inference writes it.
#[derive(Serialize)]
struct Token<'a> {
    id: u32,
    text: &'a str,
    special: bool,
}

fn answer_lists(
    held: BufferCharge,
    lists: Vec<Vec<u32>>,
    vocabulary: BTreeMap<u32, Vec<u8>>,
) -> Result<Response, Failure> {
    let mut lists = lists.into_iter();
    let mut before = b'[';
    // The list that is being written, and what comes before its next token.
    let mut open: Option<(std::vec::IntoIter<u32>, &str)> = None;
    pieces::respond(HeaderMap::new(), held, move |bytes| {
        if let Some((tokens, before)) = &mut open {
            if let Some(id) = tokens.next() {
                bytes.extend_from_slice(std::mem::replace(before, ",").as_bytes());
                let raw = vocabulary.get(&id).map(Vec::as_slice).unwrap_or_default();
                let text = String::from_utf8_lossy(raw);
                number::write_json(bytes, &Token { id, text: &text, special: raw.is_empty() });
            } else {
                bytes.push(b']');
                open = None;
            }
            return true;
        }
        let Some(list) = lists.next() else {
            bytes.push(b']');
            return false;
        };
        bytes.extend_from_slice(&[std::mem::replace(&mut before, b','), b'[']);
        open = Some((list.into_iter(), ""));
        true
    })
}

fn answer_ids(held: BufferCharge, lists: Vec<Vec<u32>>) -> Result<Response, Failure> {
    answer_tokens(held, lists, |bytes, id| number::write_json(bytes, &id))
}

fn answer_pieces(
    held: BufferCharge,
    lists: Vec<Vec<u32>>,
    vocabulary: BTreeMap<u32, Vec<u8>>,
) -> Result<Response, Failure> {
    answer_tokens(held, lists, move |bytes, id| {
        let raw = vocabulary.get(&id).map(Vec::as_slice).unwrap_or_default();
        let piece = std::str::from_utf8(raw).map_or(Piece::Bytes(raw), Piece::Text);
        number::write_json(bytes, &WithPiece { id, piece });
    })
}

/// A token as llama-server writes it.
#[derive(Serialize)]
struct WithPiece<'a> {
    id: u32,
    piece: Piece<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Piece<'a> {
    Text(&'a str),
    /// A part of a character.
    Bytes(&'a [u8]),
}

/// `{"tokens":[…]}` of the only list.
fn answer_tokens(
    held: BufferCharge,
    lists: Vec<Vec<u32>>,
    write: impl Fn(&mut Vec<u8>, u32) + Send + 'static,
) -> Result<Response, Failure> {
    let mut tokens = lists.into_iter().flatten();
    let mut before = "";
    let mut has_begun = false;
    pieces::respond(HeaderMap::new(), held, move |bytes| {
        if !std::mem::replace(&mut has_begun, true) {
            bytes.extend_from_slice(br#"{"tokens":["#);
        }
        let Some(id) = tokens.next() else {
            bytes.extend_from_slice(b"]}");
            return false;
        };
        bytes.extend_from_slice(std::mem::replace(&mut before, ",").as_bytes());
        write(bytes, id);
        true
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_described_fields_are_those_that_are_parsed() {
        use crate::field::{names, parsed};
        assert_eq!(names(FIELDS), parsed::<ToTokenize>());
    }
}
