//! Lies in etags, commits and other headers.

use samovar_core::ErrorKind;
use samovar_testhub::{Lie, Route, evil_tags};

use crate::ground::{Ground, SMALL, TOKEN};

#[tokio::test]
async fn evil_etags_are_text_and_nothing_more() {
    for tag in evil_tags() {
        let ground = Ground::of(SMALL).await;
        ground.tell(Lie::Etag(tag.clone()));
        // A header that breaks HTTP may end the connection; anything else must not matter, since the digest is known.
        let is_broken = tag.contains(['\0', '\n']) || tag.len() > 8 * 1024;
        match ground.ensure().await {
            Ok(_) => (),
            Err(error) => assert!(is_broken && error.hint().is_some(), "{tag:?}: {error:?}"),
        }
        ground.is_sound().await;
        ground.recovers().await;
    }
}

#[tokio::test]
async fn etags_that_are_another_files_digest_do_not_make_it_that_file() {
    let ground = Ground::of(SMALL).await;
    let kept = ground.hub.add_repo("acme/kept").digest("kept.Q8_0.gguf");
    ground.tell(Lie::Etag(format!("\"{kept}\""))).tell(Lie::WrongBytes);
    ground.refused(ErrorKind::Upstream).await;
    ground.recovers().await;
}

#[tokio::test]
async fn evil_commits_are_refused_where_they_would_become_a_name() {
    for tag in evil_tags() {
        let ground = Ground::of(SMALL).await;
        ground.tell(Lie::Commit(tag).at(Route::Info)).refused(ErrorKind::Upstream).await;
        assert_eq!(ground.hub.sent().body_bytes, 0);
        ground.recovers().await;
    }
}

#[tokio::test]
async fn evil_commits_in_headers_do_not_matter() {
    for tag in evil_tags() {
        let ground = Ground::of(SMALL).await;
        ground.tell(Lie::Commit(tag.clone()).at(Route::Resolve));
        let is_broken = tag.contains(['\0', '\n']) || tag.len() > 8 * 1024;
        match ground.ensure().await {
            Ok(_) => (),
            Err(error) => assert!(is_broken && error.hint().is_some(), "{tag:?}: {error:?}"),
        }
        ground.is_sound().await;
        ground.recovers().await;
    }
}

#[tokio::test]
async fn another_size_than_was_listed_is_refused() {
    for size in [0, SMALL - 1, SMALL + 1, u64::MAX] {
        let ground = Ground::of(SMALL).await;
        ground.tell(Lie::LinkedSize(size)).refused(ErrorKind::Upstream).await;
        ground.recovers().await;
    }
}

#[tokio::test]
async fn headers_that_are_missing_are_not_needed() {
    for name in ["X-Repo-Commit", "X-Linked-Etag", "X-Linked-Size", "ETag", "Accept-Ranges"] {
        let ground = Ground::of(SMALL).await;
        let sent = ground.tell(Lie::NoHeader { name: name.to_owned() }).comes().await;
        assert_eq!(sent.body_bytes, SMALL, "without {name}");
        ground.recovers().await;
    }
}

#[tokio::test]
async fn cookies_are_not_kept() {
    let ground = Ground::of(SMALL).await;
    let value = format!("session={TOKEN}; Path=/");
    ground.tell(Lie::Header { name: "Set-Cookie".to_owned(), value }).comes().await;
    ground.recovers().await;
    assert!(ground.hub.requests().iter().all(|seen| seen.cookie.is_none()));
}
