//! The cases of the suite: facts that hold for whatever source they are given.

use std::ops::Range;

use futures_util::{StreamExt as _, TryStreamExt as _};
use samovar_core::Digest;

use super::Subject;
use crate::artifact::manifest::Role;
use crate::ensure;
use crate::error::Error;
use crate::source::{Listing, Promise, RemoteFile};

impl Subject {
    async fn listing(&self) -> Listing {
        self.source.resolve(&self.model).await.unwrap()
    }

    /// What comes for a range, which must be that part of these bytes.
    async fn read(&self, file: &RemoteFile, range: Range<u64>, bytes: &[u8]) {
        let size = bytes.len() as u64;
        let body = self.source.fetch(file, range.clone()).await.unwrap();
        assert!([0, range.start].contains(&body.start), "{range:?} was asked, {} on were sent", body.start);
        assert!(body.size.is_none_or(|said| said == size), "a file of {:?} bytes", body.size);
        let (start, is_whole) = (body.start, body.is_whole);
        let end = if is_whole { size } else { range.end.min(size) };
        let got = body.stream.try_collect::<Vec<_>>().await.unwrap().concat();
        assert_eq!(got.len() as u64, end - start, "so many bytes were sent for {range:?}");
        assert!(got == bytes[start as usize..end as usize], "other bytes than the file's for {range:?}");
    }
}

/// The one file of the model.
fn file(listing: &Listing) -> &RemoteFile {
    let [file] = &listing.files[..] else { panic!("{:?}", listing.files) };
    file
}

pub(super) async fn tells_a_whole_artifact(subject: &Subject) {
    let listing = subject.listing().await;
    ensure::check(&listing).unwrap();
    let file = file(&listing);
    assert_eq!((file.role, file.size), (Role::Weights, Some(subject.bytes.len() as u64)));
    assert_eq!(listing.key.modality, "text");
}

pub(super) async fn tells_the_same_when_asked_again(subject: &Subject) {
    let (first, second) = (subject.listing().await, subject.listing().await);
    assert_eq!(first.key, second.key);
    assert_eq!((first.reference, first.revision), (second.reference, second.revision));
}

pub(super) async fn the_canonical_reference_means_the_same(subject: &Subject) {
    let listing = subject.listing().await;
    let again = subject.source.resolve(&listing.reference.parse().unwrap()).await.unwrap();
    assert_eq!((again.key, &again.reference), (listing.key, &listing.reference));
}

pub(super) async fn what_is_promised_of_the_bytes_is_true(subject: &Subject) {
    let listing = subject.listing().await;
    match file(&listing).promise {
        Promise::Sha256(digest) => assert_eq!(digest, Digest::of_bytes(&subject.bytes)),
        // Git's hash is held against the bytes by the store, and nothing is always true.
        Promise::GitSha1(_) | Promise::Unknown => (),
    }
}

pub(super) async fn all_bytes_are_the_files(subject: &Subject) {
    let listing = subject.listing().await;
    for end in [subject.bytes.len() as u64, u64::MAX] {
        subject.read(file(&listing), 0..end, &subject.bytes).await;
    }
}

pub(super) async fn a_range_is_that_part_of_the_file(subject: &Subject) {
    let (listing, size) = (subject.listing().await, subject.bytes.len() as u64);
    for range in [0..1, 1_000..1_100, size - 1..size, size / 2..u64::MAX] {
        subject.read(file(&listing), range, &subject.bytes).await;
    }
}

pub(super) async fn one_version_has_one_etag(subject: &Subject) {
    let listing = subject.listing().await;
    let file = file(&listing);
    let first = subject.source.fetch(file, 0..10).await.unwrap().etag;
    let second = subject.source.fetch(file, 1_000..1_100).await.unwrap().etag;
    assert_eq!(first, second, "one version has one etag");
    if file.etag.is_some() {
        assert_eq!(file.etag, first, "one version has one etag");
    }
    let is_promised = matches!(file.promise, Promise::Sha256(_));
    assert!(is_promised || first.is_some(), "nothing would tell that a resumed download met another version");
}

pub(super) async fn a_local_file_has_the_same_bytes(subject: &Subject) {
    let listing = subject.listing().await;
    if let Some(path) = &file(&listing).local {
        assert!(fs_err::read(path).unwrap() == subject.bytes, "other bytes than the file's");
    }
}

pub(super) async fn two_parts_are_read_at_the_same_time(subject: &Subject) {
    let (listing, half) = (subject.listing().await, subject.bytes.len() as u64 / 2);
    let file = file(&listing);
    tokio::join!(
        subject.read(file, 0..half, &subject.bytes),
        subject.read(file, half..half * 2, &subject.bytes)
    );
}

pub(super) async fn a_body_that_is_dropped_disturbs_nobody(subject: &Subject) {
    let listing = subject.listing().await;
    let mut body = subject.source.fetch(file(&listing), 0..u64::MAX).await.unwrap();
    assert!(!body.stream.next().await.unwrap().unwrap().is_empty());
    drop(body);
    subject.read(file(&listing), 0..u64::MAX, &subject.bytes).await;
}

pub(super) async fn what_is_not_there_is_missing(subject: &Subject) {
    let error = subject.source.resolve(&subject.missing).await.unwrap_err();
    assert!(matches!(error, Error::Missing { .. }), "{error}");
    assert!(error.hint().is_some() && !error.may_pass(), "{error}");
}

pub(super) async fn references_of_another_source_are_refused(subject: &Subject) {
    let error = subject.source.resolve(&subject.foreign).await.unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
}

/// The last, since the model has other bytes afterwards.
pub(super) async fn other_bytes_are_another_commit(subject: &Subject) {
    let before = subject.listing().await;
    let other = [subject.bytes.as_slice(), b"and more"].concat();
    (subject.replace)(other.clone()).await;
    let after = subject.listing().await;
    assert_ne!(before.key.commit, after.key.commit);
    subject.read(file(&after), 0..u64::MAX, &other).await;
    // A download of what was there before: the digest, an error or another etag keeps the two apart.
    let old = file(&before);
    if !matches!(old.promise, Promise::Sha256(_))
        && let Ok(body) = subject.source.fetch(old, 0..10).await
    {
        assert_ne!(body.etag, old.etag, "another version under the etag of the first");
    }
}
