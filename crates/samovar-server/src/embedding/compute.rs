//! Computes vectors or scores, and keeps them, counted, until all are there.

use axum::http::HeaderMap;
use samovar::{AnswerEvent, Common, Embed, Request, Timings, Work};
use samovar_core::generation::FinishReason;
use samovar_core::{ErrorKind, Failure};

use crate::app::App;
use crate::buffer_charge::BufferCharge;
use crate::generation::heading;
use crate::generation::opening::Opening;
use crate::generation::running::{Running, leaving};
use crate::redact::redact;

/// The runtime's name for what it is given.
const INPUT: &str = "input";

/// What all inputs of a request became.
#[derive(Debug)]
pub(crate) struct Computed {
    /// Where the model was, and where the time went.
    pub(crate) headers: HeaderMap,
    /// The model's name, fit for strangers.
    pub(crate) model: String,
    /// In the inputs' order; none is empty.
    pub(crate) values: Vec<Vec<f32>>,
    /// Tokens that were computed for them.
    pub(crate) tokens: u64,
    /// Where the time went.
    pub(crate) timings: Timings,
    /// Counts the values, and what was counted before.
    pub(crate) held: BufferCharge,
}

impl Computed {
    /// What no inputs become.
    pub(crate) fn nothing(held: BufferCharge) -> Self {
        Self {
            headers: HeaderMap::new(),
            model: String::new(),
            values: Vec::new(),
            tokens: 0,
            timings: Timings::default(),
            held,
        }
    }
}

/// Computes all inputs of `embed`. A failure that is about the inputs names `param`.
///
/// # Errors
/// Whatever failed: nothing that is computed by then is answered. `Busy` when no memory is left for the values.
pub(crate) async fn compute(
    app: &App,
    common: Common,
    embed: Embed,
    mut held: BufferCharge,
    param: &str,
) -> Result<Computed, Failure> {
    let inputs = embed.inputs.len();
    let mut running = Running::start(app, Request::of(common, Work::Embed(embed)))?;
    let traces = [running.trace()];
    let mut opening = Opening::begin();
    let mut values = vec![Vec::new(); inputs];
    let (mut has_begun, mut tokens, mut summary) = (false, 0, None);
    while let Some(event) = running.next().await {
        match event {
            AnswerEvent::Embedded(embedded) => {
                if !std::mem::replace(&mut has_begun, true) {
                    // All of them are as wide as the first: who has no room for them hears it at once.
                    let bytes = inputs * (size_of::<Vec<f32>>() + size_of_val(embedded.values.as_slice()));
                    check_fits(app, bytes, param)?;
                    held.add(bytes)?;
                }
                tokens += u64::from(embedded.tokens);
                if let Some(place) = values.get_mut(embedded.index as usize) {
                    *place = embedded.values;
                }
            }
            AnswerEvent::Done(done) => summary = Some(done),
            AnswerEvent::Failed(failure) => return Err(named(failure, param)),
            event => opening.take(Some((0, event)), &traces)?,
        }
    }
    let computed = values.iter().filter(|values| !values.is_empty()).count();
    if computed < inputs {
        let was_cut = summary.is_some_and(|summary| summary.finish == FinishReason::TimedOut);
        return Err(incomplete(app, was_cut, computed, inputs));
    }
    let model = opening.granted.as_ref().map(|granted| redact(&granted.model)).unwrap_or_default();
    let timings = summary.map(|summary| summary.timings).unwrap_or_default();
    Ok(Computed { headers: heading::of(&opening), model, values, tokens, timings, held })
}

fn incomplete(app: &App, was_cut: bool, computed: usize, inputs: usize) -> Failure {
    if was_cut && app.server.is_draining() {
        return leaving();
    }
    let (kind, why) = if was_cut {
        (ErrorKind::DeadlineExceeded, "the deadline passed")
    } else {
        (ErrorKind::Internal, "the answer ended")
    };
    let failure = Failure::new(kind, format!("{why} when {computed} of {inputs} inputs were computed"));
    if was_cut { failure.with_hint("send fewer inputs, or allow more time with `timeout`") } else { failure }
}

/// Refuses what one client has no memory for, however often it tries again: it may hold half of what there is.
///
/// # Errors
/// `InvalidRequest` that names `param`.
pub(crate) fn check_fits(app: &App, bytes: usize, param: &str) -> Result<(), Failure> {
    let most = app.runtime.buffers().total_bytes() / 2;
    if bytes as u64 <= most {
        return Ok(());
    }
    let message = format!(
        "`{param}` takes {bytes} bytes of memory until it is answered, and one client has {most} at most"
    );
    Err(Failure::new(ErrorKind::InvalidRequest, message)
        .with_param(param)
        .with_hint("send several requests with a part of it each, one after the other"))
}

/// The failure with the name of the API's own field, where it is about an input: `input`, or `input[3]`.
fn named(failure: Failure, param: &str) -> Failure {
    let place = match failure.param.as_deref() {
        Some(own) => own.strip_prefix(INPUT).filter(|place| place.is_empty() || place.starts_with('[')),
        None => (failure.kind == ErrorKind::ContextExceeded).then_some(""),
    };
    match place.map(|place| format!("{param}{place}")) {
        Some(param) => failure.with_param(param),
        None => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_has_the_name_that_its_api_gives_it() {
        let param = |kind, own: Option<&str>| {
            let failure = Failure::new(kind, "x");
            named(own.map_or(failure.clone(), |own| failure.with_param(own)), "documents").param
        };
        let invalid = |own| param(ErrorKind::InvalidRequest, Some(own));
        assert_eq!(invalid("input").as_deref(), Some("documents"));
        assert_eq!(invalid("input[3]").as_deref(), Some("documents[3]"));
        assert_eq!(invalid("input_type").as_deref(), Some("input_type"));
        assert_eq!(param(ErrorKind::ContextExceeded, None).as_deref(), Some("documents"));
        assert_eq!(param(ErrorKind::Busy, None), None);
    }
}
