//! `/api/create`: a name over a model, or over bytes that were sent before, with what its requests begin with.
//!
//! ```text
//!   from, or files ─► the model behind it (fetched when it is not here) ─┐
//!   system, template, messages, parameters, license ─► a preset ─────────┴─► a name in the store
//! ```

use std::collections::BTreeMap;

use super::messages::{self, WireMessage};
use super::options::Options;
use super::told::{self, Teller, status};
use super::{Refused, manage, names, pull};
use crate::app::App;
use crate::field::{Field, field};
use crate::generation::running::until_cut;
use crate::ndjson;
use crate::payload::Payload;
use crate::refusal::{Refusal, shown};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use samovar::{CreateFrom, Preset};
use samovar_core::{Digest, Failure};
use serde::Deserialize;

/// What the weights of a model end with that can be taken in as they are.
const WEIGHTS: &str = ".gguf";

#[derive(Debug, Deserialize)]
struct ToCreate {
    model: Option<String>,
    name: Option<String>,
    from: Option<String>,
    files: Option<BTreeMap<String, String>>,
    system: Option<String>,
    template: Option<String>,
    messages: Option<Vec<WireMessage>>,
    parameters: Option<Options>,
    license: Option<License>,
    stream: Option<bool>,
    adapters: Option<BTreeMap<String, serde_json::Value>>,
    quantize: Option<String>,
    quantization: Option<String>,
    modelfile: Option<String>,
}

/// Its fields with what they mean.
pub(crate) const FIELDS: &[Field] = &[
    field("model", "The name to create; what was created under it before is replaced. Required.").text(),
    field("name", "The same by an older name.").text(),
    field(
        "from",
        "The model behind the name, which is fetched when it is not here. Of a created name the preset is taken over.",
    ).text(),
    field(
        "files",
        "Instead of `from`: one GGUF file, as `{\"model.gguf\": \"sha256:…\"}`, whose bytes were sent to `/api/blobs`.",
    ).object(),
    field("system", "What conversations begin with that have no system message of their own.").text(),
    field(
        "template",
        "The template of conversations: Jinja, the name of a built-in one, or one in Go's language that is like a built-in one. Default: the model's own.",
    ).text(),
    field("messages", "Messages that stand before those of every conversation, after its system message.").list(),
    field(
        "parameters",
        "What requests have that say nothing else: `temperature`, `top_k`, `stop`, `num_ctx`, … as in `options`.",
    ).object(),
    field("license", "A text, or several; `/api/show` tells it."),
    field("stream", "False: the answer is one object. Default: true, one object a line.").boolean(),
    field("adapters", "Refused unless it is empty: adapters are set under `[models.NAME]`.").object(),
    field("quantize", "Refused unless it is empty: weights are used as they are.").text(),
    field("quantization", "The same by another name.").text(),
    field("modelfile", "Refused unless it is empty: `from`, `system` and the others say the same.").text(),
];

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum License {
    One(String),
    Several(Vec<String>),
}

/// What is to be created; sound, as far as that can be told without a look at the model.
#[derive(Debug, PartialEq)]
struct Order {
    name: String,
    from: Base,
    preset: Preset,
}

#[derive(Debug, PartialEq, Eq)]
enum Base {
    Model(String),
    Blob(Digest),
}

/// `POST /api/create`.
pub(crate) async fn create(State(app): State<App>, body: Body) -> Result<Response, Refused> {
    manage::check(&app, "create a model", "write its settings under [models.NAME] in samovar.toml")?;
    let order: ToCreate = Payload::read(body, &app.limits).await?.parse()?;
    let is_streamed = order.stream.unwrap_or(true);
    let order = order.check()?;
    app.check_model(&order.name)?;
    if is_streamed {
        let owned = app.clone();
        let lines = told::lines(&app, |teller| async move { make(&owned, order, &teller).await });
        return Ok(ndjson::response(lines));
    }
    until_cut(&app, make(&app, order, &Teller::default())).await?;
    Ok(Json(status("success")).into_response())
}

async fn make(app: &App, order: Order, teller: &Teller) -> Result<(), Failure> {
    let Order { name, from, preset } = order;
    let from = match from {
        Base::Blob(digest) => {
            teller.say(status(&format!("using existing layer sha256:{digest}")));
            CreateFrom::Blob(digest)
        }
        Base::Model(asked) => {
            let mut found = names::find(app, &asked).await;
            if found.info.is_none() {
                let reference = pull::source(app, &asked).await?;
                pull::fetch(app.runtime.clone(), reference, teller.clone()).await?;
                found = names::find(app, &asked).await;
            }
            app.check_model(&found.reference)?;
            CreateFrom::Model(found.reference)
        }
    };
    teller.say(status("writing manifest"));
    app.runtime.create(&name, from, preset, app.surface.origin()).await.map(drop)
}

impl ToCreate {
    fn check(self) -> Result<Order, Refusal> {
        let filled = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
        let refuse = |param: &str, message: &str, hint: &str| {
            Err(Refusal::unsupported(param, format!("`{param}` is not supported: {message}")).with_hint(hint))
        };
        let asked = names::required(self.model.filter(|model| !model.is_empty()).or(self.name))?;
        for (param, value) in [("quantize", self.quantize), ("quantization", self.quantization)] {
            if filled(value).is_some() {
                let hint = "leave it out, or create the name from a model that is quantized already";
                return refuse(param, "weights are used as they are", hint);
            }
        }
        if self.adapters.is_some_and(|adapters| !adapters.is_empty()) {
            return refuse(
                "adapters",
                "they are set by the owner",
                "set `adapters` under [models.NAME] in samovar.toml",
            );
        }
        if filled(self.modelfile).is_some() {
            let hint = "send `from`, `system`, `template`, `parameters` and `messages` instead";
            return refuse("modelfile", "its instructions are fields of their own", hint);
        }
        let from = match (filled(self.from), self.files.filter(|files| !files.is_empty())) {
            (Some(from), None) => Base::Model(from),
            (None, Some(files)) => Base::Blob(weights(&files)?),
            (Some(_), Some(_)) => {
                return Err(Refusal::invalid(
                    "files",
                    "a model is created from `from` or from `files`, not from both",
                ));
            }
            (None, None) => {
                return Err(Refusal::invalid("from", "neither from or files was specified").with_hint(
                    "name the model in `from`, or send a GGUF file and name its digest in `files`",
                ));
            }
        };
        let chosen = self.parameters.unwrap_or_default().check()?;
        let license = self.license.map(|license| match license {
            License::One(text) => text,
            License::Several(texts) => texts.join("\n\n"),
        });
        let mut preset = Preset::default();
        preset.system = filled(self.system);
        preset.template = filled(self.template);
        preset.messages = messages::messages(self.messages.unwrap_or_default())?;
        preset.stop = chosen.stop;
        preset.sampling = chosen.sampling;
        preset.max_tokens = chosen.max_tokens;
        preset.context_tokens = chosen.context_tokens;
        preset.license = filled(license);
        Ok(Order { name: names::without_latest(&asked).to_owned(), from, preset })
    }
}

/// The digest of the one file of weights.
fn weights(files: &BTreeMap<String, String>) -> Result<Digest, Refusal> {
    let other = files.keys().find(|name| !name.to_ascii_lowercase().ends_with(WEIGHTS));
    if let Some(other) = other {
        let message = format!("`files` names {:?}: only GGUF files are taken", shown(other));
        return Err(Refusal::unsupported("files", message)
            .with_hint("convert the model to one GGUF file, and name it with the ending .gguf"));
    }
    let Some((name, digest)) = files.iter().next().filter(|_| files.len() == 1) else {
        let message = format!("`files` names {} files, and one is taken", files.len());
        return Err(Refusal::unsupported("files", message)
            .with_hint("merge the parts into one file; a second file for images is not supported"));
    };
    digest.parse::<Digest>().map_err(|error| {
        Refusal::invalid("files", format!("the digest of {:?} is none: {error}", shown(name)))
            .with_hint("write sha256: and 64 hexadecimal digits, as they were sent to /api/blobs")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn the_described_fields_are_those_that_are_parsed() {
        use crate::field::{names, parsed};
        assert_eq!(names(FIELDS), parsed::<ToCreate>());
    }

    fn read(body: Value) -> Result<Order, String> {
        let order: ToCreate = serde_json::from_value(body).expect("parses");
        order.check().map_err(|refusal| refusal.failure.param.expect("names the field"))
    }

    #[test]
    fn a_name_has_all_that_is_said_of_it() {
        let order = read(json!({
            "model": "poet:latest", "from": "tiny", "system": "Rhyme.", "template": "gemma", "license": ["a", "b"],
            "messages": [{ "role": "user", "content": "Hi" }, { "role": "assistant", "content": "Ho" }],
            "parameters": { "temperature": 0.5, "stop": ["x"], "num_ctx": 128, "num_predict": 9, "unknown": [] },
        }))
        .expect("sound");
        assert_eq!((order.name.as_str(), &order.from), ("poet", &Base::Model("tiny".to_owned())));
        let preset = order.preset;
        assert_eq!((preset.system.as_deref(), preset.template.as_deref()), (Some("Rhyme."), Some("gemma")));
        assert_eq!((preset.messages.len(), preset.stop), (2, vec!["x".to_owned()]));
        assert_eq!((preset.context_tokens, preset.max_tokens), (Some(128), Some(9)));
        assert_eq!((preset.sampling.temperature, preset.license.as_deref()), (Some(0.5), Some("a\n\nb")));
        let digest = Digest::of_bytes(b"x");
        let files = json!({ "X.GGUF": format!("sha256:{digest}") });
        let order =
            read(json!({ "name": "a", "files": files, "quantize": "", "adapters": {} })).expect("sound");
        assert_eq!((order.from, order.preset), (Base::Blob(digest), Preset::default()));
    }

    #[test]
    fn what_cannot_be_created_is_refused_by_name() {
        let digest = format!("sha256:{}", Digest::of_bytes(b"x"));
        for (body, field) in [
            (json!({}), "model"),
            (json!({ "model": "a" }), "from"),
            (json!({ "model": "a", "from": "" }), "from"),
            (json!({ "model": "a", "from": "b", "files": { "x.gguf": digest } }), "files"),
            (json!({ "model": "a", "files": { "x.safetensors": digest } }), "files"),
            (json!({ "model": "a", "files": { "x.gguf": digest, "y.gguf": digest } }), "files"),
            (json!({ "model": "a", "files": { "x.gguf": "sha256:beef" } }), "files"),
            (json!({ "model": "a", "from": "b", "quantize": "q4_K_M" }), "quantize"),
            (json!({ "model": "a", "from": "b", "quantization": "q4_K_M" }), "quantization"),
            (json!({ "model": "a", "from": "b", "adapters": { "x": "y" } }), "adapters"),
            (json!({ "model": "a", "modelfile": "FROM b" }), "modelfile"),
            (json!({ "model": "a", "from": "b", "parameters": { "temperature": -1 } }), "temperature"),
            (json!({ "model": "a", "from": "b", "messages": [{ "role": "owner" }] }), "messages[0].role"),
        ] {
            assert_eq!(read(body).expect_err("refuses"), field);
        }
    }
}
