//! From inputs as they travel to the tokens that the model reads: special tokens around them, pairs joined, and what is too
//! long refused or cut before anything native is asked to compute it.
//!
//! ```text
//!   text                  [CLS] text [SEP]        <s> text </s>             text <|endoftext|>
//!   pair, as its file     [CLS] q [SEP] d [SEP]   <s> q </s></s> d </s>     the file's template for rerankers
//! ```

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use samovar_core::Failure;
use samovar_core::embedding::{EmbedInput, EmbedOutput, EmbedRequest, INPUTS_MAX, Pooling, Truncate};
use samovar_core::port::PromptControl;

use super::ticket::Item;
use crate::error::Error;
use crate::prompts;
use crate::vocabulary::{Bounds, Control, Vocabulary};

/// Where the text of a pair's template is found.
const TEMPLATE: &str = "tokenizer.chat_template.rerank";
/// What stands in it for a query, and for a document.
const QUERY: &str = "{query}";
const DOCUMENT: &str = "{document}";
/// What ends a text of models that put it between a query and a document twice, as RoBERTa does.
const TWICE: &str = "</s>";
/// Tokens that are read beyond those that are kept, so that a word at the edge is read as if the text went on.
const MARGIN: usize = 16;

/// How inputs of one model become tokens.
#[derive(Debug)]
pub(crate) struct Inputs {
    /// Begins a text.
    begin: Option<LlamaToken>,
    /// Ends it.
    end: Option<LlamaToken>,
    /// Stands between a query and a document; empty = they are not joined by special tokens.
    between: Vec<LlamaToken>,
    /// Joins them by text.
    template: Option<String>,
}

/// Whether a request can be answered by a model with vectors of this width at all.
pub(crate) fn check(request: &EmbedRequest, pooling: Pooling, width: usize) -> Result<(), Error> {
    match request.inputs.len() {
        0 => return Err(Error::NoInputs),
        count if count > INPUTS_MAX => return Err(Error::TooManyInputs { count }),
        _ => {}
    }
    let scores = pooling == Pooling::Rank;
    match request.output {
        EmbedOutput::Score if !scores => Err(Error::NoScores),
        EmbedOutput::Vector { .. } if scores => Err(Error::OnlyScores),
        EmbedOutput::Vector { dimensions: Some(wanted), .. } if wanted == 0 || wanted as usize > width => {
            Err(Error::Dimensions { wanted, width })
        }
        EmbedOutput::Vector { .. } => {
            let is_pair = |input: &EmbedInput| matches!(input, EmbedInput::Pair { .. });
            match request.inputs.iter().position(is_pair) {
                Some(index) => Err(Error::PairForVector { index }),
                None => Ok(()),
            }
        }
        EmbedOutput::Score => Ok(()),
    }
}

impl Inputs {
    /// Reads what a model's vocabulary and file say about it.
    pub(crate) fn of(model: &LlamaModel, vocabulary: &Vocabulary, pooling: Pooling) -> Self {
        let vocab = model.vocab();
        let (begin, end) = vocabulary.ends();
        // Where the last token's vector is the text's, that is a token which ends texts. Not every file says so.
        let eos = vocab.eos();
        let end = end.or_else(|| (pooling == Pooling::Last && eos.0 >= 0).then_some(eos));
        let is_twice =
            |end: LlamaToken| vocab.text(end).is_some_and(|text| text.to_bytes() == TWICE.as_bytes());
        let between = match (begin, end) {
            (Some(_), Some(end)) => vec![end; if is_twice(end) { 2 } else { 1 }],
            _ => Vec::new(),
        };
        Self { begin, end, between, template: model.meta_val_str(TEMPLATE).ok() }
    }

    /// The tokens of all inputs, each of which has at most `limit`.
    ///
    /// # Errors
    /// Of the first input that cannot be read, with its place.
    pub(crate) fn read(
        &self,
        model: &LlamaModel,
        vocabulary: &Vocabulary,
        request: &EmbedRequest,
        limit: u32,
        control: &dyn PromptControl,
    ) -> Result<Vec<Item>, Failure> {
        let truncate = request.truncate;
        let reading = |(index, input): (usize, &EmbedInput)| -> Result<Item, Failure> {
            if !control.is_wanted() {
                return Err(Error::PromptUnwanted.into());
            }
            let reader = Reader { inputs: self, model, vocabulary, limit, truncate, control, index };
            let place = |error: Error| Failure::from(error).with_param(format!("input[{index}]"));
            let (tokens, was_cut) = reader.read(input).map_err(place)?;
            Ok(Item { index: index as u32, tokens, was_cut })
        };
        request.inputs.iter().enumerate().map(reading).collect()
    }
}

/// Reads one input.
struct Reader<'a> {
    inputs: &'a Inputs,
    model: &'a LlamaModel,
    vocabulary: &'a Vocabulary,
    limit: u32,
    truncate: Truncate,
    control: &'a dyn PromptControl,
    index: usize,
}

/// Tokens, and whether some were left out.
type Read = (Vec<LlamaToken>, bool);

impl Reader<'_> {
    fn read(&self, input: &EmbedInput) -> Result<Read, Error> {
        let (tokens, was_cut) = match input {
            EmbedInput::Text(text) if text.is_empty() => (Vec::new(), false),
            EmbedInput::Text(text) => self.framed(&[], text)?,
            EmbedInput::Tokens(tokens) => self.cut(prompts::checked(self.model, tokens)?),
            EmbedInput::Pair { query, document } => self.pair(query, document)?,
        };
        if tokens.is_empty() {
            return Err(Error::EmptyInput { index: self.index });
        }
        if tokens.len() > self.limit() {
            return Err(self.too_long(tokens.len()));
        }
        Ok((tokens, was_cut))
    }

    fn limit(&self) -> usize {
        self.limit as usize
    }

    fn too_long(&self, tokens: usize) -> Error {
        Error::InputTooLong { index: self.index, tokens, limit: self.limit }
    }

    /// A text behind `head`, between what begins and ends texts.
    fn framed(&self, head: &[LlamaToken], text: &str) -> Result<Read, Error> {
        let (begin, end) = (self.inputs.begin, self.inputs.end);
        let around = usize::from(begin.is_some()) + head.len() + usize::from(end.is_some());
        let Some(room) = self.limit().checked_sub(around) else { return Err(self.query_too_long(around)) };
        let (text, was_cut) = self.text(text, room)?;
        Ok((begin.into_iter().chain(head.iter().copied()).chain(text).chain(end).collect(), was_cut))
    }

    fn query_too_long(&self, tokens: usize) -> Error {
        Error::QueryTooLong { index: self.index, tokens, limit: self.limit }
    }

    fn pair(&self, query: &str, document: &str) -> Result<Read, Error> {
        if let Some(template) = &self.inputs.template {
            return self.templated(template, query, document);
        }
        if self.inputs.between.is_empty() {
            return Err(Error::NoPairs);
        }
        let mut head = self.whole(query, Control::Never)?;
        head.extend(&self.inputs.between);
        self.framed(&head, document)
    }

    /// A pair by its template, in which alone control tokens are read.
    fn templated(&self, template: &str, query: &str, document: &str) -> Result<Read, Error> {
        let Some((before, after)) = template.split_once(DOCUMENT) else { return Err(Error::NoPairs) };
        // A space before a word is a part of the word's token.
        let (before, space) = before.strip_suffix(' ').map_or((before, ""), |before| (before, " "));
        let (mut tokens, tail) = (self.around(before, query)?, self.around(after, query)?);
        let around = tokens.len() + tail.len();
        let Some(room) = self.limit().checked_sub(around) else { return Err(self.query_too_long(around)) };
        let (document, was_cut) = self.text(&format!("{space}{document}"), room)?;
        tokens.extend(document);
        tokens.extend(tail);
        Ok((tokens, was_cut))
    }

    /// A part of a template, with the query in its place.
    fn around(&self, part: &str, query: &str) -> Result<Vec<LlamaToken>, Error> {
        let (mut text, mut places) = (String::with_capacity(part.len() + query.len()), Vec::new());
        for (number, literal) in part.split(QUERY).enumerate() {
            if number > 0 {
                text.push_str(query);
            }
            let start = text.len();
            let found = self.vocabulary.control().find(literal);
            places.extend(found.map(|place| start + place.start..start + place.end));
            text.push_str(literal);
        }
        self.whole(&text, Control::At(&places))
    }

    /// The tokens of a text of which nothing is left out.
    fn whole(&self, text: &str, control: Control<'_>) -> Result<Vec<LlamaToken>, Error> {
        let bounds = Bounds { context_tokens: Some(self.limit), enough: None, control: self.control };
        self.vocabulary.tokenize(self.model, text, control, false, bounds).map_err(|error| match error {
            Error::PromptFarTooLong { prompt, context: limit } => {
                Error::InputFarTooLong { index: self.index, tokens: prompt, limit }
            }
            error => error,
        })
    }

    /// The tokens of a text for which there is so much room; more, if what is too long is to be refused.
    fn text(&self, text: &str, room: usize) -> Result<Read, Error> {
        let wanted = room + MARGIN;
        let (part, enough) = match self.truncate {
            Truncate::Refuse => return Ok((self.whole(text, Control::Never)?, false)),
            Truncate::End => (self.vocabulary.beginning(text, wanted), Some(wanted)),
            Truncate::Start => (self.vocabulary.ending(text, wanted), None),
        };
        let bounds = Bounds { context_tokens: None, enough, control: self.control };
        let mut tokens = self.vocabulary.tokenize(self.model, part, Control::Never, false, bounds)?;
        let was_cut = tokens.len() > room || part.len() < text.len();
        if self.truncate == Truncate::End {
            tokens.truncate(room);
        } else {
            tokens.drain(..tokens.len().saturating_sub(room));
        }
        Ok((tokens, was_cut))
    }

    /// Tokens as they came, cut if they are too many and may be cut: special ones at the end that is kept, and at the other,
    /// stay.
    fn cut(&self, mut tokens: Vec<LlamaToken>) -> Read {
        let (limit, count) = (self.limit(), tokens.len());
        if count <= limit || self.truncate == Truncate::Refuse {
            return (tokens, false);
        }
        let vocab = self.model.vocab();
        let is_special = |token: LlamaToken| vocab.is_control(token) || vocab.is_eog(token);
        let (first, last) = (tokens[0], tokens[count - 1]);
        if self.truncate == Truncate::End {
            tokens.truncate(limit);
            if is_special(last) {
                tokens[limit - 1] = last;
            }
        } else {
            tokens.drain(..count - limit);
            if is_special(first) {
                tokens[0] = first;
            }
        }
        (tokens, true)
    }
}
