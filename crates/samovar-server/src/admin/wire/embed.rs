//! What asking for vectors, scores and token ids looks like. The events of vectors and scores are those of text
//! ([`GenerateEvent`](super::GenerateEvent)).

use std::time::Duration;

use samovar::{Common, Embed, EmbedInput, EmbedOutput, Origin, Request, TextRole, Truncate, Urgency, Work};
use samovar_core::units::KeepAlive;
use samovar_core::{ErrorKind, Failure};
use serde::{Deserialize, Serialize};

/// What becomes vectors or scores.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EmbedBodyInput {
    /// Texts, each of which becomes a vector.
    Texts(Vec<String>),
    /// Lists of token ids, each of which becomes a vector.
    Tokens(Vec<Vec<u32>>),
    /// Documents, each of which becomes a score of how well it answers the query.
    Rerank {
        /// What is looked for.
        query: String,
        /// What may answer it.
        documents: Vec<String>,
    },
}

/// Asks for vectors or scores. Every field but `model` and `input` may be left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbedBody {
    /// The model reference, as the user wrote it; files relative to the daemon, so send absolute paths.
    pub model: String,
    /// What becomes vectors or scores.
    pub input: EmbedBodyInput,
    /// So many of a vector's first numbers; absent = all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dimensions: Option<u32>,
    /// A vector's length becomes 1; absent = it does.
    #[serde(default = "yes")]
    pub normalize: bool,
    /// What becomes of inputs that are too long; absent = the request is refused.
    #[serde(default)]
    pub truncate: Truncate,
    /// What the texts are for; absent = neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<TextRole>,
    /// How soon the answer is needed; absent = by the number of inputs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub urgency: Option<Urgency>,
    /// How long the answer may take in all, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// How long the model stays ready after this request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_alive: Option<KeepAlive>,
    /// Who asks, for fairness between clients; absent = the owner.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub client: String,
}

const fn yes() -> bool {
    true
}

impl EmbedBody {
    /// What this body asks of the runtime, from `origin`.
    pub fn into_request(self, origin: Origin) -> Request {
        let vector = EmbedOutput::Vector { dimensions: self.dimensions, normalize: self.normalize };
        let (output, inputs) = match self.input {
            EmbedBodyInput::Texts(texts) => (vector, texts.into_iter().map(EmbedInput::Text).collect()),
            EmbedBodyInput::Tokens(lists) => (vector, lists.into_iter().map(EmbedInput::Tokens).collect()),
            EmbedBodyInput::Rerank { query, documents } => {
                let pair = |document| EmbedInput::Pair { query: query.clone(), document };
                (EmbedOutput::Score, documents.into_iter().map(pair).collect())
            }
        };
        let mut embed = Embed::new(inputs);
        embed.output = output;
        embed.truncate = self.truncate;
        embed.role = self.role;
        embed.urgency = self.urgency;
        let mut common = Common::new(self.model);
        common.deadline = self.deadline_ms.map(Duration::from_millis);
        common.keep_alive = self.keep_alive;
        common.client = self.client;
        common.origin = origin;
        Request::of(common, Work::Embed(embed))
    }
}

impl TryFrom<Request> for EmbedBody {
    /// `Unsupported`: the request asks for something else, or its inputs are of several kinds.
    type Error = Failure;

    fn try_from(Request { common, work, .. }: Request) -> Result<Self, Failure> {
        let Work::Embed(embed) = work else {
            return Err(Failure::new(ErrorKind::Unsupported, "this route makes vectors and scores alone"));
        };
        let (dimensions, normalize) = match embed.output {
            EmbedOutput::Vector { dimensions, normalize } => (dimensions, normalize),
            EmbedOutput::Score => (None, true),
        };
        Ok(Self {
            model: common.model,
            input: input_of(embed.inputs)?,
            dimensions,
            normalize,
            truncate: embed.truncate,
            role: embed.role,
            urgency: embed.urgency,
            deadline_ms: common.deadline.map(|deadline| deadline.as_millis() as u64),
            keep_alive: common.keep_alive,
            client: common.client,
        })
    }
}

/// The inputs as they travel, which are all of the first one's kind.
fn input_of(inputs: Vec<EmbedInput>) -> Result<EmbedBodyInput, Failure> {
    let mut input = match inputs.first() {
        None | Some(EmbedInput::Text(_)) => EmbedBodyInput::Texts(Vec::new()),
        Some(EmbedInput::Tokens(_)) => EmbedBodyInput::Tokens(Vec::new()),
        Some(EmbedInput::Pair { query, .. }) => {
            EmbedBodyInput::Rerank { query: query.clone(), documents: Vec::new() }
        }
    };
    for next in inputs {
        match (&mut input, next) {
            (EmbedBodyInput::Texts(texts), EmbedInput::Text(text)) => texts.push(text),
            (EmbedBodyInput::Tokens(lists), EmbedInput::Tokens(tokens)) => lists.push(tokens),
            (EmbedBodyInput::Rerank { query: of_all, documents }, EmbedInput::Pair { query, document })
                if *of_all == query =>
            {
                documents.push(document);
            }
            _ => {
                let message = "this route takes inputs of one kind, and documents of one query";
                return Err(Failure::new(ErrorKind::Unsupported, message));
            }
        }
    }
    Ok(input)
}

/// Asks for the token ids of texts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizeBody {
    /// The model reference, as the user wrote it; files relative to the daemon, so send absolute paths.
    pub model: String,
    /// The texts.
    pub texts: Vec<String>,
    /// Add the special tokens that the model expects around a text; absent = add them.
    #[serde(default = "yes")]
    pub add_special: bool,
    /// Read special tokens in the texts.
    #[serde(default)]
    pub parse_special: bool,
}

/// Token ids of texts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokenized {
    /// A list for each text.
    pub tokens: Vec<Vec<u32>>,
}

/// Asks for the texts of token ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetokenizeBody {
    /// The model reference, as the user wrote it; files relative to the daemon, so send absolute paths.
    pub model: String,
    /// A list for each text.
    pub tokens: Vec<Vec<u32>>,
}

/// Texts of token ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detokenized {
    /// A text for each list; bytes that are no UTF-8 text are replaced by U+FFFD, and control tokens are left out.
    pub texts: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn travelled(embed: Embed) -> Embed {
        let body = EmbedBody::try_from(Request::embed("m", embed)).expect("travels");
        let json = serde_json::to_string(&body).expect("JSON");
        let body: EmbedBody = serde_json::from_str(&json).expect("reads");
        match body.into_request(Origin::Owner).work {
            Work::Embed(embed) => embed,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_asked_arrives_as_it_was_sent() {
        let text = |text: &str| EmbedInput::Text(text.to_owned());
        let mut embed = Embed::new(vec![text("a"), text("b")]);
        embed.output = EmbedOutput::Vector { dimensions: Some(7), normalize: false };
        embed.truncate = Truncate::Start;
        embed.role = Some(TextRole::Query);
        embed.urgency = Some(Urgency::Bulk);
        assert_eq!(travelled(embed.clone()), embed);
        let tokens = Embed::new(vec![EmbedInput::Tokens(vec![1, 2]), EmbedInput::Tokens(vec![])]);
        assert_eq!(travelled(tokens.clone()), tokens);
        let rerank = Embed::rerank("q", ["a".to_owned(), "b".to_owned()]);
        assert_eq!(travelled(rerank.clone()), rerank);
    }

    #[test]
    fn inputs_of_several_kinds_do_not_travel() {
        let pair = |query: &str| EmbedInput::Pair { query: query.to_owned(), document: "d".to_owned() };
        for inputs in [
            vec![EmbedInput::Text("a".to_owned()), EmbedInput::Tokens(vec![1])],
            vec![pair("one"), pair("other")],
        ] {
            let failure = input_of(inputs).expect_err("is refused");
            assert_eq!(failure.kind, ErrorKind::Unsupported);
        }
    }
}
