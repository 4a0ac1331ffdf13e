//! `POST /completion`.

use std::collections::VecDeque;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use samovar::{AnswerEvent, Generate, Input, Request, Work};
use samovar_core::Failure;

use super::answer::Form;
use super::error::Refused;
use super::logit_bias::check_count;
use super::lookup::Lookup;
use super::options::{Options, Wanted};
use super::prompt::Prompt;
use super::query::Asked;
use super::stream::Writer;
use crate::app::App;
use crate::buffer_charge::BufferCharge;
use crate::client::Asker;
use crate::embedding::target::{self, Ability};
use crate::generation::choices::Choices;
use crate::generation::running::admit;
use crate::generation::{collected, event_stream, heading};
use crate::payload::Payload;
use crate::redact::redact;
use crate::refusal::Refusal;

/// `POST /completion`.
pub(crate) async fn complete(
    State(app): State<App>,
    asked: Asked,
    asker: Asker,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refused> {
    let payload = Payload::read(body, &app.limits).await?;
    let wanted = payload.parse::<Options>()?.check(&asker, &headers)?;
    respond(app, payload, wanted, asked.model, Ability::Generate).await
}

/// Answers what is wanted by the model that the body names, or that is `named`, or else the only one with this ability.
pub(super) async fn respond(
    app: App,
    payload: Payload,
    wanted: Wanted,
    named: Option<String>,
    ability: Ability,
) -> Result<Response, Refused> {
    let mut held = BufferCharge::new(&app, &wanted.common.client);
    // What it says is in what is wanted.
    drop(payload);
    let mut form = Form::of(&wanted);
    let is_streamed = wanted.is_streamed;
    let requests = Box::pin(requests(&app, wanted, (named, ability), &mut held)).await?;
    let count = requests.len();
    let mut choices = Choices::start(&app, requests, held)?;
    let opening = if is_streamed { choices.open_soon().await? } else { choices.open().await? };
    let headers = heading::of(&opening);
    if let Some(granted) = &opening.granted {
        form.model = redact(&granted.model);
    }
    if is_streamed {
        return Ok(
            (headers, event_stream::response(choices, opening, Writer::new(form, count))).into_response()
        );
    }
    let body = Body::from(whole(choices, opening.events, &form, count).await?);
    Ok((headers, [(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// A request for each answer, counted by what it holds. Texts that have to become token ids first are looked up in the model's
/// vocabulary, for which it is loaded.
async fn requests(
    app: &App,
    wanted: Wanted,
    (named, ability): (Option<String>, Ability),
    held: &mut BufferCharge,
) -> Result<Vec<Request>, Refusal> {
    let Wanted { model, mut common, mut generate, prompts, biases_by_text, answers, .. } = wanted;
    held.add(prompts.iter().map(Prompt::waiting_bytes).sum())?;
    let model = model.filter(|model| !model.is_empty()).or(named);
    common.model = target::model(app, model, ability).await?;
    let _in_flight = admit(app, &mut common)?;
    let lookup = Lookup::new(app, &common);
    generate.sampling.logit_bias.extend(lookup.biases(biases_by_text).await?);
    check_count(generate.sampling.logit_bias.len())?;
    let mut requests = Vec::with_capacity(prompts.len() * answers as usize);
    for prompt in prompts {
        generate.input = lookup.input(prompt).await?;
        // With one seed all answers would be the same: each has the next one.
        for answer in 0..answers {
            held.add(own_bytes(&generate))?;
            let mut generate = generate.clone();
            generate.sampling.seed = generate.sampling.seed.map(|seed| seed.wrapping_add(answer));
            requests.push(Request::of(common.clone(), Work::Generate(generate)));
        }
    }
    let left = lookup.left().deadline;
    for request in &mut requests {
        request.common.deadline = left;
    }
    Ok(requests)
}

/// Bytes of what each answer's request has of its own.
fn own_bytes(generate: &Generate) -> usize {
    let of_input = match &generate.input {
        Input::Text(text) => text.len(),
        Input::Tokens(ids) => size_of_val(ids.as_slice()),
        Input::Infill(infill) => infill.bytes() + size_of_val(infill.chunks.as_slice()),
        _ => 0,
    };
    let of_constraint = generate.constraint.as_ref().map_or(0, |constraint| constraint.source().len());
    let of_stops: usize = generate.stop.iter().map(String::len).sum();
    of_input + of_constraint + of_stops + size_of_val(generate.sampling.logit_bias.as_slice())
}

/// Waits for all answers, and writes the object of each, which are counted until their reader has them.
async fn whole(
    choices: Choices,
    said: VecDeque<(usize, AnswerEvent)>,
    form: &Form,
    count: usize,
) -> Result<Bytes, Failure> {
    let (collected, held) = collected::collect(choices, said, count).await?;
    let (is_list, mut bytes) = (count > 1, Vec::new());
    for (index, one) in collected.iter().enumerate() {
        let end = one.end()?;
        if is_list {
            bytes.push(if index == 0 { b'[' } else { b',' });
        }
        form.write(&mut bytes, index, one, end);
    }
    if is_list {
        bytes.push(b']');
    }
    held.becomes(bytes)
}
