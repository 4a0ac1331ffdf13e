//! Lies in etags, commits and other headers.

use samovar_core::ErrorKind;
use samovar_testhub::{BadAnswer, Route, evil_tags};

use super::fixture::{Fixture, SMALL, TOKEN};

#[tokio::test]
async fn evil_etags_are_text_and_nothing_more() {
    for tag in evil_tags() {
        let fixture = Fixture::of(SMALL).await;
        fixture.tell(BadAnswer::Etag(tag.clone()));
        // A header that breaks HTTP may end the connection; anything else must not matter, since the digest is known.
        let is_broken = tag.contains(['\0', '\n']) || tag.len() > 8 * 1024;
        match fixture.ensure().await {
            Ok(_) => (),
            Err(error) => assert!(is_broken && error.hint().is_some(), "{tag:?}: {error:?}"),
        }
        fixture.is_sound().await;
        fixture.recovers().await;
    }
}

#[tokio::test]
async fn etags_that_are_another_files_digest_do_not_make_it_that_file() {
    let fixture = Fixture::of(SMALL).await;
    let kept = fixture.hub.add_repo("acme/kept").digest("kept.Q8_0.gguf");
    fixture.tell(BadAnswer::Etag(format!("\"{kept}\""))).tell(BadAnswer::WrongBytes);
    fixture.refused(ErrorKind::Upstream).await;
    fixture.recovers().await;
}

#[tokio::test]
async fn evil_commits_are_refused_where_they_would_become_a_name() {
    for tag in evil_tags() {
        let fixture = Fixture::of(SMALL).await;
        fixture.tell(BadAnswer::Commit(tag).at(Route::Info)).refused(ErrorKind::Upstream).await;
        assert_eq!(fixture.hub.sent().body_bytes, 0);
        fixture.recovers().await;
    }
}

#[tokio::test]
async fn evil_commits_in_headers_do_not_matter() {
    for tag in evil_tags() {
        let fixture = Fixture::of(SMALL).await;
        fixture.tell(BadAnswer::Commit(tag.clone()).at(Route::Resolve));
        let is_broken = tag.contains(['\0', '\n']) || tag.len() > 8 * 1024;
        match fixture.ensure().await {
            Ok(_) => (),
            Err(error) => assert!(is_broken && error.hint().is_some(), "{tag:?}: {error:?}"),
        }
        fixture.is_sound().await;
        fixture.recovers().await;
    }
}

#[tokio::test]
async fn another_size_than_was_listed_is_refused() {
    for size in [0, SMALL - 1, SMALL + 1, u64::MAX] {
        let fixture = Fixture::of(SMALL).await;
        fixture.tell(BadAnswer::LinkedSize(size)).refused(ErrorKind::Upstream).await;
        fixture.recovers().await;
    }
}

#[tokio::test]
async fn headers_that_are_missing_are_not_needed() {
    for name in ["X-Repo-Commit", "X-Linked-Etag", "X-Linked-Size", "ETag", "Accept-Ranges"] {
        let fixture = Fixture::of(SMALL).await;
        let sent = fixture.tell(BadAnswer::NoHeader { name: name.to_owned() }).comes().await;
        assert_eq!(sent.body_bytes, SMALL, "without {name}");
        fixture.recovers().await;
    }
}

#[tokio::test]
async fn cookies_are_not_kept() {
    let fixture = Fixture::of(SMALL).await;
    let value = format!("session={TOKEN}; Path=/");
    fixture.tell(BadAnswer::Header { name: "Set-Cookie".to_owned(), value }).comes().await;
    fixture.recovers().await;
    assert!(fixture.hub.requests().iter().all(|seen| seen.cookie.is_none()));
}
