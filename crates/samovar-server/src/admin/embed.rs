//! Vectors and scores with everything that happens on the way, and token ids.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use samovar::Common;

use super::Refused;
use super::generate::stream;
use super::wire::{DetokenizeBody, Detokenized, EmbedBody, TokenizeBody, Tokenized};
use crate::app::App;
use crate::client::Asker;
use crate::generation::running::{admit, until_cut};
use crate::payload::Payload;

/// `POST /admin/embed`.
pub(crate) async fn embed(State(app): State<App>, asker: Asker, body: Body) -> Result<Response, Refused> {
    let body: EmbedBody = Payload::read(body, &app.limits).await?.parse()?;
    Ok(stream(&app, &asker, body.into_request(asker.origin))?)
}

/// `POST /admin/tokenize`.
pub(crate) async fn tokenize(
    State(app): State<App>,
    asker: Asker,
    body: Body,
) -> Result<Json<Tokenized>, Refused> {
    let body: TokenizeBody = Payload::read(body, &app.limits).await?.parse()?;
    let mut common = common(&asker, body.model);
    let _in_flight = admit(&app, &mut common)?;
    let work = app.runtime.tokenize(common, body.texts, body.add_special, body.parse_special);
    Ok(Json(Tokenized { tokens: until_cut(&app, work).await? }))
}

/// `POST /admin/detokenize`.
pub(crate) async fn detokenize(
    State(app): State<App>,
    asker: Asker,
    body: Body,
) -> Result<Json<Detokenized>, Refused> {
    let body: DetokenizeBody = Payload::read(body, &app.limits).await?.parse()?;
    let mut common = common(&asker, body.model);
    let _in_flight = admit(&app, &mut common)?;
    let texts = until_cut(&app, app.runtime.detokenize(common, body.tokens)).await?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Json(Detokenized { texts: texts.into_iter().map(text).collect() }))
}

/// The terms of what the owner asks.
fn common(asker: &Asker, model: String) -> Common {
    let mut common = Common::new(model);
    asker.sign(&mut common, None);
    common
}
