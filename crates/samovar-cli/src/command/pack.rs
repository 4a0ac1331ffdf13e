//! `samovar pack`: makes models' packed files now, measures their layouts, and tells what came of it.

use samovar::PackedInfo;
use samovar_core::footprint::Speed;
use samovar_core::units::ByteSize;
use samovar_core::{Failure, LayoutWish};
use samovar_server::admin::wire::{PackBody, PackEvent};
use serde_json::{Value, json};

use super::{Context, backend, stored};
use crate::args::Pack;
use crate::client::Connection;
use crate::daemon::start;
use crate::ended::Ended;
use crate::report::{Align, Columns};

pub(super) async fn execute(context: &Context, arguments: Pack) -> Result<(), Ended> {
    let mut packed = Vec::new();
    for name in &arguments.models {
        let model = backend::portable(name, &context.settings)?;
        let info = tokio::select! {
            info = pack(context, &model) => info?,
            _ = tokio::signal::ctrl_c() => return Err(Ended::Interrupted),
        };
        if context.report.is_json() {
            packed.push(as_json(name, &info));
        } else {
            context.report.line(&sentence(name, &info))?;
            if !info.speeds.is_empty() {
                context.report.table(speeds(&info.speeds))?;
            }
        }
    }
    if context.report.is_json() { context.report.json(&packed) } else { Ok(()) }
}

async fn pack(context: &Context, model: &str) -> Result<PackedInfo, Failure> {
    stored::keep_offline(context, model).await?;
    let body = PackBody { model: model.to_owned() };
    let connection = context.daemon().await?;
    let send = async |connection: Connection| connection.pack(&body).await;
    let mut events = start::ask(&context.settings, connection, send).await?;
    let progress = context.report.progress();
    progress.say(format!("Packing {model}"));
    loop {
        match backend::event(context, events.next().await).await? {
            PackEvent::Waiting(wait) => progress.waiting(model, &wait.into()),
            PackEvent::Progress { fraction } => {
                progress.say(format!("Packing {model} {:.0} %", fraction.clamp(0.0, 1.0) * 100.0));
            }
            PackEvent::Done(packed) => return Ok(packed),
            PackEvent::Failed(failure) => return Err(stored::of_daemon(context, model, failure)),
        }
    }
}

fn as_json(name: &str, info: &PackedInfo) -> Value {
    json!({ "model": name, "packed": info })
}

/// What came of it, and what the next load will be.
fn sentence(name: &str, info: &PackedInfo) -> String {
    let file = match info.bytes {
        Some(bytes) => format!("{name} is packed, {}", ByteSize::from_bytes(bytes)),
        None => format!("{name} was packed and measured; the file was removed, because it does not pay"),
    };
    format!("{file}; the next load is {}: {}", info.layout, info.why)
}

/// How fast each layout is here.
pub(super) fn speeds(speeds: &[Speed]) -> Columns {
    let mut columns = Columns::new(&[
        ("LAYOUT", Align::Left),
        ("PROMPT", Align::Right),
        ("ANSWER", Align::Right),
        ("8 ANSWERS", Align::Right),
    ]);
    let rate = |rate: f64| format!("{rate:.1}/s");
    for Speed { layout, prefill, decode, decode_eight, .. } in speeds {
        columns.row([layout.to_string(), rate(*prefill), rate(*decode), rate(*decode_eight)]);
    }
    columns
}

/// How a model's weights lie and would lie, in a sentence for `why` and `show`.
pub(super) fn layout(info: &PackedInfo) -> String {
    let next = format!("{}: {}", info.layout, info.why);
    let wish = match info.wish {
        LayoutWish::Auto => String::new(),
        wish if wish.as_str() == info.layout.as_str() => String::new(),
        wish => format!(" (its settings wish for {wish})"),
    };
    let now = match &info.arrangement {
        Some(arranged) if arranged.layout != info.layout => {
            format!("; its last load was {}", arranged.layout)
        }
        _ => String::new(),
    };
    let making = info.progress.map(|part| format!("; being made, {:.0} %", part * 100.0)).unwrap_or_default();
    let last_error = info.last_error.as_deref().filter(|last_error| *last_error != info.why);
    let last_error = last_error.map(|last_error| format!("; {last_error}")).unwrap_or_default();
    format!("{next}{wish}{now}{making}{last_error}")
}

/// What is said of its packed file, where there is one.
pub(super) fn file(info: &PackedInfo) -> Option<String> {
    let bytes = info.bytes?;
    let when =
        info.made_unix_ms.map(|made| format!(", made {}", super::list::used(Some(made)))).unwrap_or_default();
    let use_ = if info.layout.needs_packed_file() { "" } else { ", not used" };
    Some(format!("{}{when}{use_}", ByteSize::from_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use samovar_core::{Arrangement, Layout};

    use super::*;

    #[test]
    fn what_was_made_and_what_comes_next_is_one_sentence() {
        let mut info = PackedInfo::default();
        info.layout = Layout::Packed;
        info.why = "it was measured to be the fastest on this machine".to_owned();
        info.bytes = Some(700_000_000);
        assert_eq!(
            sentence("tiny", &info),
            "tiny is packed, 700 MB; the next load is packed: it was measured to be the fastest on this machine"
        );
        info.arrangement = Some(Arrangement { layout: Layout::Mapped, refused: None });
        assert_eq!(
            layout(&info),
            "packed: it was measured to be the fastest on this machine; its last load was mapped"
        );
    }

    #[test]
    fn a_file_that_the_next_load_needs_not_says_so() {
        let is_unused = |layout| {
            let mut info = PackedInfo::default();
            info.layout = layout;
            info.bytes = Some(700_000_000);
            file(&info).is_some_and(|said| said.ends_with("not used"))
        };
        let layouts = [Layout::Mapped, Layout::Packed, Layout::Hybrid, Layout::Repacked];
        assert_eq!(layouts.map(is_unused), [true, false, false, true]);
    }

    #[test]
    fn a_wish_that_cannot_be_met_and_the_trouble_are_told() {
        let mut info = PackedInfo::default();
        info.wish = LayoutWish::Packed;
        info.layout = Layout::Mapped;
        info.why = "its packed file has not been made yet".to_owned();
        info.last_error = Some("its packed file could not be made: the disk is full".to_owned());
        assert_eq!(
            layout(&info),
            "mapped: its packed file has not been made yet (its settings wish for packed); its packed file could \
             not be made: the disk is full"
        );
        assert_eq!(file(&info), None);
    }
}
