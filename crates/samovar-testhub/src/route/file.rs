//! The bytes of a file: whole or in part, true or not.

use std::time::Duration;

use super::Asked;
use super::resolve::length_only;
use crate::bad_answer::{BadAnswer, Topic};
use crate::content::Content;
use crate::reply::{Body, Ending, Framing, Reply, Sending};
use crate::repo::Stored;
use crate::request::Part;
use crate::state::State;

/// What a captive portal shows.
const PAGE: &str = "<!DOCTYPE html><html><head><title>Welcome to the network</title></head>\
                    <body><h1>Please sign in</h1></body></html>";

/// What is said of a file besides its bytes.
pub(super) struct FileHeaders {
    /// Without quotes.
    pub(super) etag: String,
}

/// Answers with a file, or the part of it that is asked for.
pub(super) fn serve(state: &mut State, asked: &Asked<'_>, file: &Stored, facts: &FileHeaders) -> Reply {
    let request = asked.request;
    let size = file.content.size_bytes();
    if request.is_head() {
        let mut reply = Reply::new(200)
            .with("Content-Type", "application/octet-stream")
            .with("Accept-Ranges", "bytes")
            .with("ETag", format!("\"{}\"", facts.etag));
        length_only(&mut reply, size);
        return reply;
    }
    let told = state.draw(Topic::Body, asked.target.occasion(&request.method));
    let lies: Vec<BadAnswer> = told.into_iter().map(|told| told.lie).collect();
    let is_partial = request.header("range").is_some() || request.header("if-range").is_some();
    let etag = if is_partial && lies.contains(&BadAnswer::ChangedEtag) {
        format!("\"changed-{}\"", &facts.etag[..16])
    } else {
        format!("\"{}\"", facts.etag)
    };
    if lies.contains(&BadAnswer::HtmlPage) {
        return Reply::text(200, "text/html; charset=utf-8", PAGE).with("ETag", etag);
    }
    let is_other = request.header("if-range").is_some_and(|condition| condition != etag);
    let part = match request.part(size) {
        _ if is_other || lies.contains(&BadAnswer::IgnoreRange) => Part::Whole,
        Part::Some { .. } if lies.contains(&BadAnswer::Unsatisfiable) => Part::Outside,
        part => part,
    };
    let (mut reply, start, length) = match part {
        Part::Whole => (Reply::new(200), 0, size),
        Part::Some { first, last } => {
            let range = format!("bytes {first}-{last}/{size}");
            (Reply::new(206).with("Content-Range", range), first, last - first + 1)
        }
        Part::Outside => {
            return Reply::text(416, "text/plain", "")
                .with("Content-Range", format!("bytes */{size}"))
                .with("ETag", etag);
        }
    };
    let mut sending = Sending::new(asked.target.file(), Content::clone(&file.content), start, length);
    for lie in &lies {
        distort(&mut reply, &mut sending, size, lie);
    }
    reply.body = Body::File(Box::new(sending));
    reply.with("Content-Type", "application/octet-stream").with("Accept-Ranges", "bytes").with("ETag", etag)
}

fn distort(reply: &mut Reply, sending: &mut Sending, size: u64, lie: &BadAnswer) {
    match *lie {
        BadAnswer::WrongBytes => sending.is_all_wrong = true,
        BadAnswer::FlipBit { at } => sending.flipped = Some(at),
        BadAnswer::ShortBody { by } => {
            sending.cut = Some((sending.length.saturating_sub(by), Ending::Close));
        }
        BadAnswer::ShortLength { by } => {
            sending.length = sending.length.saturating_sub(by);
            sending.framing = Framing::Length(sending.length);
        }
        BadAnswer::LongLength { by } => {
            sending.extra = by;
            sending.framing = Framing::Length(sending.length + by);
        }
        BadAnswer::Trailing { by } => sending.extra = by,
        BadAnswer::NoLength => {
            sending.framing = Framing::UntilClose;
            reply.closes = true;
        }
        BadAnswer::Chunked => sending.framing = Framing::Chunked,
        BadAnswer::WrongContentRange { shift } if reply.status == 206 => {
            let first = sending.start.saturating_add_signed(shift);
            let last = (sending.start + sending.length - 1).saturating_add_signed(shift);
            reply.set("Content-Range", format!("bytes {first}-{last}/{size}"));
        }
        BadAnswer::Stall { after, for_ms } => {
            sending.stall = Some((after, for_ms.map(Duration::from_millis)));
        }
        BadAnswer::Cut { after } => sending.cut = Some((after, Ending::Close)),
        BadAnswer::Reset { after } => sending.cut = Some((after, Ending::Reset)),
        BadAnswer::Drip { bytes_per_second } => sending.bytes_per_second = Some(bytes_per_second.max(1)),
        _ => (),
    }
}
