//! Every method there is, with its parameters, its result and what is told on the way: calls are dispatched by this table, and
//! `rpc.discover` is made of it.

use futures_util::FutureExt;
use futures_util::future::ready;
use serde::Deserialize;
use serde_json::{Value, json};

use super::session::{Answered, CallContext, Work};
use super::wire::{Fault, Id, parsed};
use super::{cache, discover, generate};
use crate::embedding::terms;
use crate::field::{Field, field};
use crate::generation::request_terms;
use crate::openai;

/// A method.
#[derive(Clone, Copy)]
pub(super) struct Method {
    pub(super) name: &'static str,
    /// What it does.
    pub(super) about: &'static str,
    /// Its parameters in their order, in groups. Of several with one name the first counts.
    pub(super) params: &'static [&'static [Field]],
    pub(super) required: &'static [&'static str],
    /// Whether its parameters have no order.
    pub(super) is_by_name: bool,
    /// Whether it is done even when the server leaves, and when all places of its connection are taken.
    pub(super) is_instant: bool,
    /// Whether it changes something of the daemon's.
    pub(super) changes: bool,
    /// What the result is.
    pub(super) result: &'static str,
    /// What is told before the result, by name.
    pub(super) notifications: &'static [(&'static str, &'static str)],
    pub(super) run: fn(CallContext) -> Work,
}

impl Method {
    pub(super) const fn new(
        name: &'static str,
        about: &'static str,
        result: &'static str,
        run: fn(CallContext) -> Work,
    ) -> Self {
        Self {
            name,
            about,
            params: &[],
            required: &[],
            is_by_name: false,
            is_instant: false,
            changes: false,
            result,
            notifications: &[],
            run,
        }
    }

    pub(super) const fn with(
        self,
        params: &'static [&'static [Field]],
        required: &'static [&'static str],
    ) -> Self {
        Self { params, required, ..self }
    }

    const fn by_name(self) -> Self {
        Self { is_by_name: true, ..self }
    }

    const fn instant(self) -> Self {
        Self { is_instant: true, ..self }
    }

    const fn changing(self) -> Self {
        Self { changes: true, ..self }
    }

    const fn telling(self, notifications: &'static [(&'static str, &'static str)]) -> Self {
        Self { notifications, ..self }
    }

    /// Its parameters in their order, each once.
    pub(super) fn fields(&self) -> Vec<Field> {
        let mut fields: Vec<Field> = Vec::new();
        for field in self.params.iter().copied().flatten() {
            if fields.iter().all(|known| known.name != field.name) {
                fields.push(*field);
            }
        }
        fields
    }

    /// Their names.
    pub(super) fn names(&self) -> Vec<&'static str> {
        self.fields().iter().map(|field| field.name).collect()
    }
}

const WAITS: &str = "`waiting`: what the request waits for: a fetch, a place in the queue, a load.";
const CANCEL: &[Field] = &[field("id", "The id of the request, of this connection.")];

/// Every method.
// Not a constant: each module that reads one compiles the methods that it names again.
pub(super) static METHODS: &[Method] = &[
    Method::new(
        "cache_model",
        "Fetches a model to the disk, unless it is there. A fetch that is cancelled is taken up again by the next one.",
        "`was_here`, `took_ms` and `model`: its name, file and sizes.",
        |call| cache::cache_model(call).boxed(),
    )
    .with(&[cache::CACHE_MODEL], &["model"])
    .changing()
    .telling(&[("cache_model.progress", WAITS)]),
    Method::new(
        "warm_cache",
        "Loads a model into memory; fetches it before, if need be. A load goes on when its request is cancelled.",
        "`model`, `took_ms` and `is_pinned`.",
        |call| cache::warm_cache(call).boxed(),
    )
    .with(&[cache::WARM_CACHE], &["model"])
    .changing()
    .telling(&[("warm_cache.progress", WAITS)]),
    Method::new(
        "clear_cache",
        "Unloads models as soon as nothing uses them, or removes from the disk what is beyond its limits.",
        "`tier`, and `instances` (how many are unloaded) or `collected` (as `samovar gc --json` prints it).",
        |call| cache::clear_cache(call).boxed(),
    )
    .with(&[cache::CLEAR_CACHE], &[])
    .changing(),
    Method::new(
        "get_cache_stats",
        "Counters and gauges of every tier.",
        "As `samovar stats --json` prints them.",
        |call| cache::get_cache_stats(call).boxed(),
    ),
    Method::new(
        "pool_status",
        "The models in memory, the memory that they take, and the queue.",
        "`pool`, `models`, `workers`, `requests_in_flight` and `uptime_ms`.",
        |call| cache::pool_status(call).boxed(),
    ),
    Method::new(
        "generate",
        "Answers a conversation (`messages`), or continues a text (`prompt`). The other parameters are the fields of OpenAI's API.",
        "`model`, `text`, `thinking`, `tool_calls`, `logprobs`, `finish`, `usage`, `tier` and `timings`.",
        |call| generate::generate(call).boxed(),
    )
    .with(
        &[
            generate::GENERATE,
            openai::chat::FIELDS,
            openai::COMMON_FIELDS,
            request_terms::FIELDS,
        ],
        &["model"],
    )
    .by_name()
    .telling(&[
        ("generate.progress", WAITS),
        ("generate.delta", "One of `text` (perhaps with `logprob`), `thinking`, `tool_call` and `tool_arguments`."),
    ]),
    Method::new(
        "embed",
        "Computes a vector for each input. The parameters are the fields of OpenAI's API.",
        "`embeddings` in the inputs' order, `model`, `usage` and `timings`.",
        |call| generate::embed(call).boxed(),
    )
    .with(&[openai::embeddings::FIELDS, terms::FIELDS], &["model", "input"])
    .by_name(),
    Method::new(
        "cancel",
        "Ends a request of this connection; its answer is an error of the kind `cancelled`.",
        "`cancelled`: false when there is no such request, or it is answered already.",
        |call| ready(cancel(call)).boxed(),
    )
    .with(&[CANCEL], &["id"])
    .instant(),
    Method::new(
        "rpc.discover",
        "Describes every method.",
        "A document of OpenRPC.",
        |call| ready(discover(call)).boxed(),
    )
    .instant(),
];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CancelBody {
    id: Value,
}

fn cancel(call: CallContext) -> Result<Answered, Fault> {
    let CancelBody { id } = parsed(call.params)?;
    let id = Id::of(&id).ok_or_else(|| Fault::params("`id` must be a text, a number or null"))?;
    Ok(Answered::of(&json!({ "cancelled": call.in_flight.cancel(&id) })))
}

fn discover(call: CallContext) -> Result<Answered, Fault> {
    let cache::NoParams {} = parsed(call.params)?;
    Ok(Answered::of(&discover::document(METHODS)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::{names, parsed as fields_of};

    #[test]
    fn every_method_has_a_name_of_its_own_and_parameters_that_are_parsed() {
        for (at, method) in METHODS.iter().enumerate() {
            assert!(METHODS[..at].iter().all(|other| other.name != method.name), "{}", method.name);
            let names = method.names();
            assert!(method.required.iter().all(|name| names.contains(name)), "{}", method.name);
            for text in [method.about, method.result] {
                assert!(text.ends_with('.'), "{text}");
            }
        }
        assert_eq!(names(CANCEL), fields_of::<CancelBody>());
    }
}
