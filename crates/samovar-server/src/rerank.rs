//! `/v1/rerank` and `/rerank`: documents in the order in which they answer a query, asked in one of two forms that are told apart
//! by the field that has the documents.
//!
//! ```text
//!   documents   Jina's and Cohere's form   ──► {"object":"list","model":…,"usage":…,"results":[{"index","relevance_score"}]}
//!   texts       text-embeddings-inference  ──► [{"index","score"}]
//! ```

use std::fmt;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use axum::response::Response;
use samovar::Embed;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::buffer_charge::BufferCharge;
use crate::client::Asker;
use crate::embedding::compute::{Computed, check_fits, compute};
use crate::embedding::inputs::{Cut, INPUTS, List, present};
use crate::embedding::target::{self, Ability};
use crate::embedding::terms::{Named, Terms, Wanted};
use crate::embedding::{number, pieces};
use crate::field::{Field, field};
use crate::generation::params;
use crate::layer::RequestId;
use crate::openai::Refused;
use crate::payload::Payload;
use crate::refusal::Refusal;

/// Results that may be asked for; there are no more than documents.
const TOP: std::ops::RangeInclusive<f64> = 1.0..=4_294_967_295.0;

/// The fields of both forms.
#[derive(Debug, Deserialize)]
struct Rerank {
    query: Option<String>,
    documents: Option<List<Document>>,
    texts: Option<List<String>>,
    top_n: Option<f64>,
    return_documents: Option<bool>,
    return_text: Option<bool>,
    raw_scores: Option<bool>,
    truncate: Option<Cut>,
}

/// The same with what they mean.
pub(crate) const FIELDS: &[Field] = &[
    field("query", "What is looked for. Required.").text(),
    field(
        "documents",
        "What may answer it, in Jina's and Cohere's form: texts, or objects with `text`; at most 10,000. This or `texts` is required.",
    ).list(),
    field("texts", "The same in the form of text-embeddings-inference, whose answer is a bare array.").texts(),
    field("top_n", "Only so many of the best. Default: all.").integer(),
    field("return_documents", "True: each result repeats its document. Default: false.").boolean(),
    field("return_text", "The same for `texts`.").boolean(),
    field("raw_scores", "True: scores as the model gives them; else each becomes a number from 0 to 1.").boolean(),
    field(
        "truncate",
        "What becomes of documents that are too long: true or `end`, the end is left out; `start`, the beginning is; false or `none`, the request is refused with both counts. Default: true.",
    ),
];

/// A text, with an object around it or without.
#[derive(Debug)]
struct Document(String);

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Document;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an object with `text`")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Document, E> {
                Ok(Document(text.to_owned()))
            }

            /// Keeps nothing of the other fields, however much they hold.
            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Document, A::Error> {
                let mut text: Option<String> = None;
                while let Some(name) = fields.next_key::<String>()? {
                    if name == "text" {
                        text = Some(fields.next_value()?);
                    } else {
                        fields.next_value::<IgnoredAny>()?;
                    }
                }
                text.map(Document).ok_or_else(|| A::Error::custom("it has no field `text`"))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// `POST /v1/rerank`, `POST /rerank`.
pub(crate) async fn rerank(
    State(app): State<App>,
    Extension(id): Extension<RequestId>,
    named: Named,
    asker: Asker,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refused> {
    let payload = Payload::read(body, &app.limits).await?;
    let wanted = payload.parse::<Terms>()?.check(&asker, &headers)?.or_named(named);
    let checked = payload.parse::<Rerank>()?.check()?;
    // What it says is in what was checked.
    drop(payload);
    let Wanted { model, mut common, urgency } = wanted;
    common.model = target::model(&app, model, Ability::Rerank).await?;
    // Each document has a copy of the query, and a second one of itself where it is to be repeated.
    let Checked { query, texts, form, top, truncate, is_raw, returns_text } = checked;
    let mut held = BufferCharge::new(&app, &common.client);
    let copies = query.len() * texts.len();
    check_fits(&app, copies, "query")?;
    held.add(copies)?;
    let kept = if returns_text {
        held.add(texts.iter().map(String::len).sum())?;
        texts.clone()
    } else {
        Vec::new()
    };
    let mut embed = Embed::rerank(&query, texts);
    embed.truncate = truncate.map_or(embed.truncate, |cut| cut.0);
    embed.urgency = urgency;
    let computed = compute(&app, common, embed, held, form.field()).await?;
    let mut ranked = ranked(&computed.values, is_raw)?;
    ranked.truncate(top);
    Ok(respond(computed, form, &ranked, &kept, &id.0)?)
}

#[cfg(test)]
pub(crate) fn check(payload: &Payload) -> Result<(), Refusal> {
    payload.parse::<Rerank>()?.check().map(drop)
}

/// Which of the two forms a request has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Jina's and Cohere's.
    Documents,
    /// That of text-embeddings-inference.
    Texts,
}

impl Form {
    /// The field that has the documents.
    const fn field(self) -> &'static str {
        match self {
            Self::Documents => "documents",
            Self::Texts => "texts",
        }
    }
}

/// A request whose fields are sound.
#[derive(Debug)]
struct Checked {
    query: String,
    texts: Vec<String>,
    form: Form,
    top: usize,
    truncate: Option<Cut>,
    is_raw: bool,
    returns_text: bool,
}

impl Rerank {
    fn check(self) -> Result<Checked, Refusal> {
        let query = present(self.query, "query")?;
        if query.is_empty() {
            return Err(Refusal::invalid("query", "`query` cannot be an empty string"));
        }
        let (form, texts) = match (self.documents, self.texts) {
            (Some(_), Some(_)) => {
                return Err(Refusal::invalid(
                    "texts",
                    "either `documents` or `texts` may be given, not both",
                ));
            }
            (Some(documents), None) => {
                (Form::Documents, documents.0.into_iter().map(|Document(text)| text).collect::<Vec<_>>())
            }
            (None, texts) => {
                let missing = || Refusal::invalid("documents", "`documents` is missing");
                (Form::Texts, texts.ok_or_else(missing)?.0)
            }
        };
        if texts.is_empty() {
            let param = form.field();
            return Err(Refusal::invalid(param, format!("`{param}` must not be an empty array")));
        }
        let top = params::whole("top_n", self.top_n, &TOP)?.map_or(INPUTS, |top| top as usize);
        let returns_text = match form {
            Form::Documents => self.return_documents,
            Form::Texts => self.return_text,
        };
        Ok(Checked {
            query,
            texts,
            form,
            top,
            truncate: self.truncate,
            is_raw: self.raw_scores.unwrap_or(false),
            returns_text: returns_text.unwrap_or(false),
        })
    }
}

/// Each document's place in the request with its score, the best first.
fn ranked(values: &[Vec<f32>], is_raw: bool) -> Result<Vec<(usize, f32)>, Refusal> {
    let score = |(index, values): (usize, &Vec<f32>)| match values.as_slice() {
        [score] => Ok((index, *score)),
        several => {
            let message = format!("the model has {} classes, and a reranker has one score", several.len());
            Err(Refusal::invalid("model", message))
        }
    };
    let mut ranked = values.iter().enumerate().map(score).collect::<Result<Vec<_>, _>>()?;
    // Equal ones keep their order.
    ranked.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    if !is_raw {
        for (_, score) in &mut ranked {
            *score = sigmoid(*score);
        }
    }
    Ok(ranked)
}

fn sigmoid(score: f32) -> f32 {
    (1.0 / (1.0 + (-f64::from(score)).exp())) as f32
}

/// A result in the form of Jina and Cohere.
#[derive(Serialize)]
struct Scored<'a> {
    index: usize,
    relevance_score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<Repeated<'a>>,
}

#[derive(Serialize)]
struct Repeated<'a> {
    text: &'a str,
}

/// A result in the form of text-embeddings-inference.
#[derive(Serialize)]
struct Rank<'a> {
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    score: f32,
}

#[derive(Serialize)]
struct Answer<'a> {
    id: String,
    object: &'static str,
    model: &'a str,
    usage: Usage,
    results: Vec<Scored<'a>>,
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: u64,
    total_tokens: u64,
}

fn respond(
    computed: Computed,
    form: Form,
    ranked: &[(usize, f32)],
    kept: &[String],
    id: &str,
) -> Result<Response, samovar_core::Failure> {
    let Computed { headers, model, tokens, held, .. } = computed;
    let text = |index: usize| kept.get(index).map(String::as_str);
    let mut bytes = Vec::new();
    match form {
        Form::Documents => {
            let scored = |&(index, relevance_score): &(usize, f32)| Scored {
                index,
                relevance_score,
                document: text(index).map(|text| Repeated { text }),
            };
            let answer = Answer {
                id: format!("rerank-{id}"),
                object: "list",
                model: &model,
                usage: Usage { prompt_tokens: tokens, total_tokens: tokens },
                results: ranked.iter().map(scored).collect(),
            };
            number::write_json(&mut bytes, &answer);
        }
        Form::Texts => {
            let rank = |&(index, score): &(usize, f32)| Rank { index, text: text(index), score };
            number::write_json(&mut bytes, &ranked.iter().map(rank).collect::<Vec<_>>());
        }
    }
    pieces::whole(headers, held, bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_described_fields_are_those_that_are_parsed() {
        use crate::field::{names, parsed};
        assert_eq!(names(FIELDS), parsed::<Rerank>());
    }

    #[test]
    fn the_best_come_first_and_equal_ones_keep_their_order() {
        let values = [vec![-1.0], vec![3.0], vec![0.0], vec![3.0]];
        let raw = ranked(&values, true).expect("scores");
        assert_eq!(raw, [(1, 3.0), (3, 3.0), (2, 0.0), (0, -1.0)]);
        let scores = ranked(&values, false).expect("scores");
        assert_eq!(scores.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [1, 3, 2, 0]);
        assert!((scores[2].1 - 0.5).abs() < f32::EPSILON, "{scores:?}");
        assert!(scores.iter().all(|(_, score)| (0.0..=1.0).contains(score)), "{scores:?}");
    }

    #[test]
    fn a_classifier_of_several_classes_is_no_reranker() {
        let refusal = ranked(&[vec![1.0, 2.0]], true).expect_err("refuses");
        assert_eq!(refusal.failure.param.as_deref(), Some("model"));
    }

    #[test]
    fn what_cannot_be_ranked_is_refused_by_name() {
        let refused = |body: serde_json::Value| {
            let refusal = check(&Payload::of(body.to_string())).expect_err("refuses");
            refusal.failure.param.expect("names the field")
        };
        assert_eq!(refused(json!({ "documents": ["a"] })), "query");
        assert_eq!(refused(json!({ "query": "", "documents": ["a"] })), "query");
        assert_eq!(refused(json!({ "query": "q" })), "documents");
        assert_eq!(refused(json!({ "query": "q", "documents": [] })), "documents");
        assert_eq!(refused(json!({ "query": "q", "texts": [] })), "texts");
        assert_eq!(refused(json!({ "query": "q", "texts": ["a"], "documents": ["a"] })), "texts");
        assert_eq!(refused(json!({ "query": "q", "documents": ["a", { "title": "b" }] })), "documents[1]");
        assert_eq!(refused(json!({ "query": "q", "documents": ["a"], "top_n": 0 })), "top_n");
        assert_eq!(refused(json!({ "query": "q", "documents": [{ "text": 3 }] })), "documents[0].text");
        assert_eq!(refused(json!({ "query": "q", "documents": [3] })), "documents[0]");
        let sound = r#"{"query":"q","documents":["a",{"more":[1,{"x":null}],"text":"b"},""]}"#;
        assert!(check(&Payload::of(sound)).is_ok());
    }
}
