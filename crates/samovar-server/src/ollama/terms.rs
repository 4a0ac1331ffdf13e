//! What every request for text may set, whatever it is given.

use axum::http::HeaderMap;
use samovar::{Common, Generate, Input, ModelInfo};
use samovar_core::units::KeepAlive;
use serde::Deserialize;
use serde_json::Value;

use super::names::{self, Named};
use super::options::{self, Options};
use super::wishes;
use crate::app::App;
use crate::client::Asker;
use crate::field::{Field, field};
use crate::generation::params;
use crate::generation::request_terms::RequestTerms;
use crate::refusal::Refusal;

const TOP_LOGPROBS: f64 = 20.0;

/// The fields that `/api/generate` and `/api/chat` both know.
#[derive(Debug, Deserialize)]
pub(super) struct Terms {
    model: Option<String>,
    stream: Option<bool>,
    format: Option<Value>,
    think: Option<Value>,
    options: Option<Options>,
    keep_alive: Option<KeepAlive>,
    logprobs: Option<bool>,
    top_logprobs: Option<f64>,
}

/// The same with what they mean.
pub(crate) const FIELDS: &[Field] = &[
    field("model", "The model; `NAME:latest` is the same as `NAME`. Required.").text(),
    field("stream", "False: the answer is one object. Default: true, one object a line.").boolean(),
    field("format", "What the answer must look like: `json`, or a JSON schema."),
    field(
        "think",
        "Whether the model thinks before it answers: true, false, `low`, `medium` or `high`. Default: as the model does of itself.",
    ),
    field(
        "options",
        "`temperature`, `top_k`, `top_p`, `min_p`, `seed`, `stop`, `repeat_penalty`, `repeat_last_n`, `presence_penalty`, `frequency_penalty`, `num_predict` (-1 = as many as the context holds) and `num_ctx` (a loaded model grows to it, or as far as the model or its owner allows); others are passed over. The defaults are what the model's author set, or else Ollama's.",
    ).object(),
    field(
        "keep_alive",
        "How long the model stays ready afterwards: seconds, or such as `10m`; -1 = until its memory is needed. Within `server.keep_alive_floor` and `server.keep_alive_ceiling` for requests over HTTP.",
    ),
    field("logprobs", "True: tell how likely each token of the answer was.").boolean(),
    field("top_logprobs", "Tell the likeliest alternatives, too: from 0 to 20; needs `logprobs`.").integer(),
];

/// What a request wants, apart from what the model is given.
#[derive(Debug)]
pub(super) struct Wanted {
    /// The model by the client's own name, which the answer repeats.
    pub(super) asked: String,
    pub(super) info: Option<ModelInfo>,
    pub(super) common: Common,
    /// Everything but the input.
    pub(super) generate: Generate,
    pub(super) is_streamed: bool,
}

impl Terms {
    /// Checks everything, and finds the model.
    ///
    /// # Errors
    /// 400 that names the parameter.
    pub(super) async fn check(
        self,
        app: &App,
        asker: &Asker,
        headers: &HeaderMap,
    ) -> Result<Wanted, Refusal> {
        let asked = names::required(self.model)?;
        let chosen = self.options.unwrap_or_default().check()?;
        let mut generate = Generate::new(Input::Text(String::new()));
        generate.sampling = chosen.sampling;
        generate.sampling_defaults = options::defaults();
        generate.stop = chosen.stop;
        generate.max_tokens = chosen.max_tokens;
        generate.constraint = wishes::constraint(self.format.as_ref())?;
        generate.logprobs = logprobs(self.logprobs, self.top_logprobs)?;
        let think = wishes::think(self.think.as_ref())?;
        let mut common = common(asker, headers, self.keep_alive)?;
        let Named { reference, info } = names::find(app, &asked).await;
        if let Some(think) = think {
            think.tell(&mut generate, &asked, info.as_ref())?;
        }
        common.model = reference;
        common.context_tokens = chosen.context_tokens;
        // Many of Ollama's clients always send a `num_ctx`: more than they may have is as much as that.
        common.takes_less_context = true;
        Ok(Wanted { asked, info, common, generate, is_streamed: self.stream.unwrap_or(true) })
    }
}

fn logprobs(asked: Option<bool>, top: Option<f64>) -> Result<Option<u32>, Refusal> {
    let top = params::whole("top_logprobs", top, &(0.0..=TOP_LOGPROBS))?;
    Ok(asked.unwrap_or(false).then(|| top.unwrap_or(0)))
}

/// The terms of any request, for a model that is yet to be found.
///
/// # Errors
/// 400 for a deadline that is none.
pub(super) fn common(
    asker: &Asker,
    headers: &HeaderMap,
    keep_alive: Option<KeepAlive>,
) -> Result<Common, Refusal> {
    RequestTerms { keep_alive, ..RequestTerms::default() }.check_all_but_model(asker, headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_described_fields_are_those_that_are_parsed() {
        use crate::field::{names, parsed};
        assert_eq!(names(FIELDS), parsed::<Terms>());
    }
}
