//! What every source must do: one suite, run against each of them and a server of its kind.
//!
//! ```text
//!   Subject { source, a model in it, what is missing, how its bytes are replaced } ─► case ─► facts that must hold
//! ```
//!
//! No case knows which source it is given. A new source adds a subject and one line below.

mod cases;
mod subjects;

use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, LocalBoxFuture};
use futures_util::stream;
use samovar_core::model::ArtifactRef;

use super::{Body, Listing, RemoteFile, Source};
use crate::error::Error;

/// Bytes of the model: so many that no answer is one packet.
const BYTES: usize = 300_000;

/// Puts other bytes in the place of the model's.
type Replace = Box<dyn Fn(Vec<u8>) -> LocalBoxFuture<'static, ()>>;

/// A source with a model in it.
struct Subject {
    source: Box<dyn Source>,
    /// Names a model of one file.
    model: ArtifactRef,
    /// The file's bytes.
    bytes: Vec<u8>,
    /// Names what is not there.
    missing: ArtifactRef,
    /// Names what another source has.
    foreign: ArtifactRef,
    /// Owns the server or folder, which lasts as long as this.
    replace: Replace,
}

impl Subject {
    async fn new(source: impl Source, [model, missing, foreign]: [&str; 3], replace: Replace) -> Self {
        let bytes: Vec<u8> =
            (0..BYTES as u32).map(|place| (place.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        replace(bytes.clone()).await;
        let reference = |text: &str| text.parse::<ArtifactRef>().unwrap();
        Self {
            source: Box::new(source),
            model: reference(model),
            bytes,
            missing: reference(missing),
            foreign: reference(foreign),
            replace,
        }
    }

    /// The same subject, whose source does wrong what `spoil` does to its bodies.
    fn spoiled(self, spoil: fn(Body) -> Body) -> Self {
        Self { source: Box::new(Spoiled { source: self.source, spoil }), ..self }
    }
}

/// A source whose answers are spoiled, so that the suite has something to find.
struct Spoiled {
    source: Box<dyn Source>,
    spoil: fn(Body) -> Body,
}

impl Source for Spoiled {
    fn resolve<'a>(&'a self, reference: &'a ArtifactRef) -> BoxFuture<'a, Result<Listing, Error>> {
        self.source.resolve(reference)
    }

    fn fetch<'a>(
        &'a self,
        file: &'a RemoteFile,
        range: std::ops::Range<u64>,
    ) -> BoxFuture<'a, Result<Body, Error>> {
        Box::pin(async move { self.source.fetch(file, range).await.map(self.spoil) })
    }
}

macro_rules! source_conformance {
    ($arm:ident $name:ident) => {
        source_conformance! { @$arm $name
            tells_a_whole_artifact,
            tells_the_same_when_asked_again,
            the_canonical_reference_means_the_same,
            what_is_promised_of_the_bytes_is_true,
            all_bytes_are_the_files,
            a_range_is_that_part_of_the_file,
            one_version_has_one_etag,
            a_local_file_has_the_same_bytes,
            two_parts_are_read_at_the_same_time,
            a_body_that_is_dropped_disturbs_nobody,
            what_is_not_there_is_missing,
            references_of_another_source_are_refused,
            other_bytes_are_another_commit,
        }
    };
    // Each case as a test of its own, with a subject of its own.
    (@each $name:ident $($case:ident,)*) => {
        mod $name {
            $(
                #[tokio::test]
                async fn $case() {
                    super::cases::$case(&super::subjects::$name().await).await;
                }
            )*
        }
    };
    // All cases one after another, where a subject takes seconds to be made or cannot be had everywhere.
    (@once $name:ident $($case:ident,)*) => {
        #[tokio::test]
        async fn $name() {
            let Some(subject) = subjects::$name().await else { return };
            $(cases::$case(&subject).await;)*
        }
    };
}

source_conformance!(each hub);
source_conformance!(each http);
source_conformance!(each ollama);
source_conformance!(each folder);
source_conformance!(each gs);
source_conformance!(each az);
source_conformance!(once s3);

#[tokio::test]
#[should_panic(expected = "other bytes than the file's")]
async fn a_source_that_sends_other_bytes_fails() {
    let wrong = subjects::folder().await.spoiled(|body| Body {
        stream: body
            .stream
            .map(|part| part.map(|bytes| bytes.iter().map(|byte| !byte).collect::<bytes::Bytes>()))
            .boxed(),
        ..body
    });
    cases::all_bytes_are_the_files(&wrong).await;
}

#[tokio::test]
#[should_panic(expected = "bytes were sent")]
async fn a_source_that_breaks_off_in_silence_fails() {
    let short = subjects::folder().await.spoiled(|body| Body { stream: stream::empty().boxed(), ..body });
    cases::a_range_is_that_part_of_the_file(&short).await;
}

#[tokio::test]
#[should_panic(expected = "one version has one etag")]
async fn a_source_without_the_etag_that_it_announced_fails() {
    let unnamed = subjects::folder().await.spoiled(|body| Body { etag: None, ..body });
    cases::one_version_has_one_etag(&unnamed).await;
}
