//! The engine against a source that follows a script, with paused time.
#![expect(clippy::single_range_in_vec_init, reason = "a list of gaps may have one")]

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use samovar_core::Digest;
use samovar_core::model::ArtifactRef;

use super::{Sink, fetch};
use crate::artifact::manifest::Role;
use crate::config::{RetryConfig, SourceConfig};
use crate::disk::span::Spans;
use crate::error::Error;
use crate::source::{Body, Listing, Promise, RemoteFile, Source};

const MIB: u64 = 1 << 20;

/// What a scripted source does with one request; what the script does not say, it does right.
#[derive(Clone, Debug)]
enum Act {
    Right,
    /// A part under this etag, of a file in which every byte is this.
    Other(&'static str, u8),
    /// The whole file, whatever was asked for; with an etag or without.
    Whole(Option<&'static str>),
    /// The whole file, which breaks off after so many bytes.
    WholeCut(Option<&'static str>, u64),
    /// The connection breaks off after so many bytes.
    Cut(u64),
    /// So many bytes, then silence.
    Stall(u64),
    /// More than was asked for.
    Long,
    /// A part that begins elsewhere.
    Elsewhere(u64),
    /// Says that the file is larger or smaller.
    Size(u64),
    Refuse(Option<u64>),
    Denied,
}

struct Scripted {
    content: Vec<u8>,
    etag: Option<&'static str>,
    says_size: bool,
    script: Mutex<VecDeque<Act>>,
    asked: Mutex<Vec<(Range<u64>, Option<String>)>>,
    sent: Arc<AtomicU64>,
}

impl Scripted {
    fn new(bytes: u64, script: impl IntoIterator<Item = Act>) -> Self {
        Self {
            content: content(bytes),
            etag: Some("one"),
            says_size: true,
            script: Mutex::new(script.into_iter().collect()),
            asked: Mutex::default(),
            sent: Arc::default(),
        }
    }

    fn file(&self) -> RemoteFile {
        RemoteFile {
            path: "model.gguf".parse().unwrap(),
            role: Role::Weights,
            size: self.says_size.then_some(self.content.len() as u64),
            // The engine only asks whether there is one.
            promise: Promise::Sha256(Digest::of_bytes(b"any")),
            locator: "model".to_owned(),
            etag: None,
            local: None,
        }
    }

    fn asked(&self) -> Vec<Range<u64>> {
        self.asked.lock().unwrap().iter().map(|(range, _)| range.clone()).collect()
    }

    fn answer(&self, range: Range<u64>) -> Result<Body, Error> {
        let act = self.script.lock().unwrap().pop_front().unwrap_or(Act::Right);
        let size = self.content.len() as u64;
        let part = range.start..range.end.min(size);
        let slice = |range: Range<u64>| self.content[range.start as usize..range.end as usize].to_vec();
        let right = |bytes: Vec<u8>, end: Option<Error>| self.body(bytes, end, part.start, self.etag);
        Ok(match act {
            Act::Right => right(slice(part.clone()), None),
            Act::Other(etag, byte) => {
                let bytes = vec![byte; (part.end - part.start) as usize];
                self.body(bytes, None, part.start, Some(etag))
            }
            Act::Whole(etag) => Body { is_whole: true, ..self.body(slice(0..size), None, 0, etag) },
            Act::WholeCut(etag, bytes) => {
                Body { is_whole: true, ..self.body(slice(0..bytes), Some(broken()), 0, etag) }
            }
            Act::Cut(bytes) => right(slice(part.start..(part.start + bytes).min(part.end)), Some(broken())),
            Act::Stall(bytes) => {
                let mut body = right(slice(part.start..(part.start + bytes).min(part.end)), None);
                body.stream = body.stream.chain(stream::pending()).boxed();
                body
            }
            Act::Long => {
                let mut bytes = slice(part.clone());
                bytes.extend([0xee; 999]);
                right(bytes, None)
            }
            Act::Elsewhere(start) => self.body(slice(start..size), None, start, self.etag),
            Act::Size(size) => Body { size: Some(size), ..right(slice(part.clone()), None) },
            Act::Refuse(seconds) => {
                return Err(Error::Unreachable {
                    subject: "x".to_owned(),
                    message: "refused".to_owned(),
                    retry_after: seconds.map(Duration::from_secs),
                    is_silent: false,
                });
            }
            Act::Denied => {
                return Err(Error::Denied {
                    subject: "x".to_owned(),
                    message: String::new(),
                    hint: String::new(),
                });
            }
        })
    }

    fn body(&self, bytes: Vec<u8>, end: Option<Error>, start: u64, etag: Option<&str>) -> Body {
        let sent = self.sent.clone();
        let chunks: Vec<_> = Bytes::from(bytes).chunks(100_000).map(Bytes::copy_from_slice).collect();
        let chunks = stream::iter(chunks).map(move |chunk| {
            sent.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            Ok(chunk)
        });
        let stream = chunks.chain(stream::iter(end.map(Err))).boxed();
        let size = self.says_size.then_some(self.content.len() as u64);
        Body { stream, start, size, etag: etag.map(str::to_owned), is_whole: false }
    }
}

/// Bytes of which no two places look alike.
fn content(bytes: u64) -> Vec<u8> {
    let mut content: Vec<u8> =
        (0..bytes.div_ceil(8)).flat_map(|at| at.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()).collect();
    content.truncate(bytes as usize);
    content
}

fn broken() -> Error {
    let message = "broke off".to_owned();
    Error::Unreachable { subject: "x".to_owned(), message, retry_after: None, is_silent: false }
}

impl Source for Scripted {
    fn resolve<'a>(&'a self, _: &'a ArtifactRef) -> BoxFuture<'a, Result<Listing, Error>> {
        unreachable!("the engine resolves nothing")
    }

    fn fetch<'a>(&'a self, file: &'a RemoteFile, range: Range<u64>) -> BoxFuture<'a, Result<Body, Error>> {
        self.asked.lock().unwrap().push((range.clone(), file.etag.clone()));
        std::future::ready(self.answer(range)).boxed()
    }
}

/// A file in memory that refuses to be written twice, since what is there may have been hashed.
#[derive(Default)]
struct Memory(Mutex<State>);

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    spans: Spans,
    size: Option<u64>,
    etag: Option<String>,
    restarts: u32,
}

impl Sink for Memory {
    fn size(&self) -> Option<u64> {
        self.0.lock().unwrap().size
    }

    fn set_size(&self, size: u64) {
        self.0.lock().unwrap().size = Some(size);
    }

    fn etag(&self) -> Option<String> {
        self.0.lock().unwrap().etag.clone()
    }

    fn missing(&self, chunk_bytes: u64) -> Vec<Range<u64>> {
        let state = self.0.lock().unwrap();
        state.size.map(|size| state.spans.missing(size, chunk_bytes)).unwrap_or_default()
    }

    fn done_bytes(&self) -> u64 {
        self.0.lock().unwrap().spans.bytes()
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let mut state = self.0.lock().unwrap();
        let end = offset + bytes.len() as u64;
        assert!(state.size.is_none_or(|size| end <= size), "bytes past the end");
        let is_new = state.spans.iter().all(|span| span.end <= offset || end <= span.start);
        assert!(is_new, "bytes that are there are written again");
        let length = state.bytes.len().max(end as usize);
        state.bytes.resize(length, 0);
        state.bytes[offset as usize..end as usize].copy_from_slice(bytes);
        Ok(())
    }

    fn written(&self, range: Range<u64>) -> Result<(), Error> {
        self.0.lock().unwrap().spans.insert(range);
        Ok(())
    }

    fn restart(&self, size: Option<u64>, etag: Option<&str>) -> Result<(), Error> {
        let mut state = self.0.lock().unwrap();
        let restarts = state.restarts + 1;
        *state = State { size, etag: etag.map(str::to_owned), restarts, ..State::default() };
        Ok(())
    }
}

impl Memory {
    /// For the file of this source, with these bytes of it there already.
    fn of(source: &Scripted, etag: Option<&str>, there: &[Range<u64>]) -> Arc<Self> {
        let memory = Self::default();
        memory.restart(source.file().size, etag).unwrap();
        for range in there {
            memory.write_at(range.start, &source.content[range.start as usize..range.end as usize]).unwrap();
            memory.written(range.clone()).unwrap();
        }
        memory.0.lock().unwrap().restarts = 0;
        Arc::new(memory)
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().bytes.clone()
    }

    fn restarts(&self) -> u32 {
        self.0.lock().unwrap().restarts
    }
}

fn config() -> SourceConfig {
    SourceConfig {
        connections: 4,
        retry: RetryConfig {
            tries: 4,
            first_wait: Duration::from_millis(100),
            longest_wait: Duration::from_secs(60),
        },
        stall: Duration::from_secs(30),
        ..SourceConfig::default()
    }
}

async fn run(source: &Scripted, sink: &Arc<Memory>) -> Result<(), Error> {
    fetch(source, &source.file(), sink.clone(), &config(), |_| ()).await
}

/// Fetches into an empty file and compares.
async fn comes_whole(source: &Scripted) -> Arc<Memory> {
    let sink = Memory::of(source, None, &[]);
    run(source, &sink).await.unwrap();
    assert!(sink.bytes() == source.content, "the bytes differ");
    sink
}

#[tokio::test(start_paused = true)]
async fn a_small_file_is_asked_for_once() {
    for bytes in [1, 100_000, 8 * MIB] {
        let source = Scripted::new(bytes, []);
        comes_whole(&source).await;
        assert_eq!(source.asked(), [0..bytes]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_file_is_not_asked_for() {
    let source = Scripted::new(0, []);
    comes_whole(&source).await;
    assert_eq!(source.asked(), []);
}

#[tokio::test(start_paused = true)]
async fn a_large_file_comes_by_several_connections_and_each_byte_once() {
    let source = Scripted::new(70 * MIB + 12_345, []);
    comes_whole(&source).await;
    assert_eq!(source.sent.load(Ordering::Relaxed), 70 * MIB + 12_345);
    let asked = source.asked();
    assert!(asked.len() >= 4, "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn progress_is_told_to_the_byte() {
    let source = Scripted::new(20 * MIB, [Act::Cut(3 * MIB)]);
    let sink = Memory::of(&source, None, &[]);
    let told = AtomicU64::new(0);
    let sent = |bytes| {
        told.fetch_add(bytes, Ordering::Relaxed);
    };
    fetch(&source, &source.file(), sink, &config(), sent).await.unwrap();
    assert_eq!(told.load(Ordering::Relaxed), 20 * MIB);
}

#[tokio::test(start_paused = true)]
async fn what_is_there_is_not_asked_for_again() {
    let source = Scripted::new(40 * MIB, []);
    let sink = Memory::of(&source, Some("one"), &[0..5 * MIB, 9 * MIB..30 * MIB]);
    run(&source, &sink).await.unwrap();
    assert!(sink.bytes() == source.content);
    assert_eq!(source.sent.load(Ordering::Relaxed), 14 * MIB);
    assert_eq!(sink.restarts(), 0);
    assert!(source.asked.lock().unwrap().iter().all(|(_, etag)| etag.as_deref() == Some("one")));
}

#[tokio::test(start_paused = true)]
async fn a_broken_connection_goes_on_where_it_broke() {
    let source = Scripted::new(4 * MIB, [Act::Cut(MIB), Act::Cut(0), Act::Cut(MIB + 7)]);
    comes_whole(&source).await;
    assert_eq!(source.asked(), [0..4 * MIB, MIB..4 * MIB, MIB..4 * MIB, 2 * MIB + 7..4 * MIB]);
    assert_eq!(source.sent.load(Ordering::Relaxed), 4 * MIB, "no byte is sent twice");
}

#[tokio::test(start_paused = true)]
async fn silence_is_a_broken_connection() {
    let source = Scripted::new(4 * MIB, [Act::Stall(MIB)]);
    let since = tokio::time::Instant::now();
    comes_whole(&source).await;
    assert_eq!(source.asked(), [0..4 * MIB, MIB..4 * MIB]);
    assert!(since.elapsed() >= Duration::from_secs(30) && since.elapsed() < Duration::from_secs(32));
}

#[tokio::test(start_paused = true)]
async fn failures_without_progress_end_it_and_the_last_is_told() {
    let source = Scripted::new(4 * MIB, vec![Act::Refuse(None); 10]);
    let error = run(&source, &Memory::of(&source, None, &[])).await.unwrap_err();
    assert!(matches!(&error, Error::Unreachable { message, .. } if message == "refused"), "{error:?}");
    assert_eq!(source.asked().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_stays_is_not_tried_again() {
    let source = Scripted::new(40 * MIB, [Act::Denied]);
    let error = run(&source, &Memory::of(&source, None, &[])).await.unwrap_err();
    assert!(matches!(error, Error::Denied { .. }));
    assert_eq!(source.asked().len(), 1, "one request, not one a connection");
}

#[tokio::test(start_paused = true)]
async fn a_wish_to_be_left_alone_is_heard() {
    let source = Scripted::new(MIB, [Act::Refuse(Some(17))]);
    let since = tokio::time::Instant::now();
    comes_whole(&source).await;
    assert_eq!(since.elapsed().as_secs(), 17);

    let source = Scripted::new(MIB, [Act::Refuse(Some(86_400))]);
    let since = tokio::time::Instant::now();
    comes_whole(&source).await;
    assert_eq!(since.elapsed().as_secs(), 60, "no longer than the longest wait");
}

#[tokio::test(start_paused = true)]
async fn connections_that_are_refused_leave_and_the_others_go_on() {
    let refuse = Act::Refuse(Some(50));
    let source = Scripted::new(64 * MIB, [Act::Right, refuse.clone(), refuse.clone(), refuse]);
    let since = tokio::time::Instant::now();
    comes_whole(&source).await;
    assert!(since.elapsed() < Duration::from_secs(1), "it did not wait: {:?}", since.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_whole_file_instead_of_a_part_starts_anew() {
    for etag in [None, Some("two")] {
        let source = Scripted::new(20 * MIB, [Act::Whole(etag)]);
        let sink = Memory::of(&source, Some("one"), &[0..7 * MIB]);
        run(&source, &sink).await.unwrap();
        assert!(sink.bytes() == source.content);
        assert_eq!((sink.restarts(), source.asked().len()), (1, 1));
        assert_eq!(sink.etag().as_deref(), etag);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_without_ranges_sends_a_large_file_once() {
    let source = Scripted::new(70 * MIB, [Act::Whole(Some("one"))]);
    comes_whole(&source).await;
    assert_eq!(source.asked().len(), 1);
    assert_eq!(source.sent.load(Ordering::Relaxed), 70 * MIB);
}

#[tokio::test(start_paused = true)]
async fn the_whole_file_of_the_same_version_fills_the_gaps() {
    let source = Scripted::new(20 * MIB, [Act::Whole(Some("one"))]);
    let sink = Memory::of(&source, Some("one"), &[0..7 * MIB, 9 * MIB..10 * MIB]);
    run(&source, &sink).await.unwrap();
    assert!(sink.bytes() == source.content);
    assert_eq!((sink.restarts(), source.asked().len()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_server_without_ranges_that_always_breaks_off_is_given_up() {
    let source = Scripted::new(20 * MIB, vec![Act::WholeCut(None, 10 * MIB); 50]);
    let sink = Memory::of(&source, None, &[0..MIB]);
    let error = run(&source, &sink).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    assert!(source.asked().len() <= 10, "{}", source.asked().len());
}

#[tokio::test(start_paused = true)]
async fn another_etag_starts_anew_and_never_mixes() {
    let source = Scripted::new(40 * MIB, [Act::Right, Act::Other("two", 7)]);
    let sink = comes_whole(&source).await;
    assert!(sink.restarts() >= 2, "once for the first etag, once for another");

    let mut source = Scripted::new(40 * MIB, []);
    source.etag = Some("two");
    let sink = Memory::of(&source, Some("one"), &[0..20 * MIB]);
    run(&source, &sink).await.unwrap();
    assert_eq!((sink.restarts(), sink.etag().as_deref()), (1, Some("two")));
    assert_eq!(source.sent.load(Ordering::Relaxed), 40 * MIB);
}

#[tokio::test(start_paused = true)]
async fn a_version_that_was_announced_and_that_nothing_else_fixes_must_stay() {
    let source = Scripted::new(4 * MIB, vec![Act::Other("two", 7); 20]);
    let sink = Memory::of(&source, Some("one"), &[0..MIB]);
    let file = RemoteFile { etag: Some("one".to_owned()), promise: Promise::Unknown, ..source.file() };
    let error = fetch(&source, &file, sink.clone(), &config(), |_| ()).await.unwrap_err();
    assert!(error.to_string().contains("changed at its source"), "{error}");
    assert_eq!((sink.restarts(), sink.done_bytes()), (0, MIB), "what is there is still right");
}

#[tokio::test(start_paused = true)]
async fn an_etag_that_never_stays_is_given_up() {
    let acts = (0..50).map(|at| Act::Other(if at % 2 == 0 { "two" } else { "three" }, 7));
    let source = Scripted::new(4 * MIB, acts);
    let sink = Memory::of(&source, Some("one"), &[0..MIB]);
    let error = run(&source, &sink).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    assert!(source.asked().len() < 10);
}

#[tokio::test(start_paused = true)]
async fn sizes_that_differ_from_the_announced_one_are_lies() {
    for act in [Act::Size(MIB + 1), Act::Size(1)] {
        let source = Scripted::new(MIB, [act]);
        let error = run(&source, &Memory::of(&source, None, &[])).await.unwrap_err();
        assert!(matches!(error, Error::BadAnswer { .. }), "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_that_nobody_asked_for_are_not_taken() {
    let source = Scripted::new(40 * MIB, vec![Act::Long; 5]);
    comes_whole(&source).await;

    let source = Scripted::new(4 * MIB, [Act::Elsewhere(MIB)]);
    let error = run(&source, &Memory::of(&source, None, &[])).await.unwrap_err();
    assert!(matches!(error, Error::BadAnswer { .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_file_of_unknown_size_comes_as_one_stream() {
    let mut source = Scripted::new(20 * MIB + 3, [Act::Cut(5 * MIB), Act::Whole(Some("one"))]);
    source.says_size = false;
    let sink = comes_whole(&source).await;
    assert_eq!(sink.size(), Some(20 * MIB + 3));
    assert_eq!(source.asked(), [0..u64::MAX, 5 * MIB..u64::MAX]);
    assert_eq!(sink.restarts(), 1, "to note the etag, before the first byte");
}

#[tokio::test(start_paused = true)]
async fn a_size_that_the_answer_says_holds() {
    let source = Scripted::new(20 * MIB, [Act::Cut(5 * MIB)]);
    let sink = Arc::new(Memory::default());
    let file = RemoteFile { size: None, ..source.file() };
    fetch(&source, &file, sink.clone(), &config(), |_| ()).await.unwrap();
    assert!(sink.bytes() == source.content);
    assert_eq!(source.sent.load(Ordering::Relaxed), 20 * MIB);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_is_dropped_leaves_what_came() {
    let source = Scripted::new(40 * MIB, [Act::Stall(6 * MIB)]);
    let sink = Memory::of(&source, None, &[]);
    let fetching = run(&source, &sink);
    tokio::time::timeout(Duration::from_secs(5), fetching).await.unwrap_err();
    let done = sink.done_bytes();
    assert!(done >= 4 * MIB, "all but what was not yet a batch: {done}");
    run(&source, &sink).await.unwrap();
    assert!(sink.bytes() == source.content);
}
