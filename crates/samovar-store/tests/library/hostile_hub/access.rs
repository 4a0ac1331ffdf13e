//! Refusals: each has a meaning of its own, and a remedy.

use samovar_core::ErrorKind;
use samovar_testhub::{BadAnswer, Denial, Route};

use super::fixture::{Fixture, SMALL};

const KINDS: [(Denial, ErrorKind); 9] = [
    (Denial::GatedAnonymous, ErrorKind::Forbidden),
    (Denial::GatedStranger, ErrorKind::Forbidden),
    (Denial::RepoNotFoundAnonymous, ErrorKind::NotFound),
    (Denial::RepoNotFound, ErrorKind::NotFound),
    (Denial::RevisionNotFound, ErrorKind::NotFound),
    (Denial::EntryNotFound, ErrorKind::NotFound),
    (Denial::BadToken, ErrorKind::Forbidden),
    (Denial::Forbidden, ErrorKind::Forbidden),
    (Denial::Disabled, ErrorKind::Forbidden),
];

#[tokio::test]
async fn each_refusal_is_told_apart_wherever_it_comes() {
    for (denial, kind) in KINDS {
        for route in [Route::Info, Route::Tree, Route::Resolve] {
            let fixture = Fixture::of(SMALL).await;
            fixture.tell(BadAnswer::Denied(denial).at(route)).refused(kind).await;
            let sent = fixture.hub.sent();
            assert_eq!(sent.requests_for(route), 1, "a refusal that stays is not asked about again");
            assert_eq!(sent.body_bytes, 0);
            fixture.recovers().await;
        }
    }
}

#[tokio::test]
async fn a_gated_model_asks_for_its_terms_or_for_a_token() {
    let fixture = Fixture::with_token(SMALL, None).await;
    fixture.repo.gated("hf_member");
    let error = fixture.refused(ErrorKind::Forbidden).await;
    assert!(error.hint().unwrap().contains("HF_TOKEN"), "{:?}", error.hint());

    let fixture = Fixture::with_token(SMALL, Some("hf_stranger")).await;
    fixture.repo.gated("hf_member");
    let error = fixture.refused(ErrorKind::Forbidden).await;
    assert!(error.hint().unwrap().contains("accept"), "{:?}", error.hint());

    let fixture = Fixture::with_token(SMALL, Some("hf_member")).await;
    fixture.repo.gated("hf_member");
    fixture.ensure().await.unwrap();
    fixture.nobody_else_saw_the_token();
    assert!(fixture.hub.text_seen_elsewhere("hf_member").is_empty());
}

#[tokio::test]
async fn a_private_model_is_as_one_that_is_missing() {
    let fixture = Fixture::with_token(SMALL, None).await;
    fixture.repo.private("hf_owner");
    let error = fixture.refused(ErrorKind::NotFound).await;
    assert!(error.hint().unwrap().contains("HF_TOKEN"), "{:?}", error.hint());
    let fixture = Fixture::with_token(SMALL, Some("hf_owner")).await;
    fixture.repo.private("hf_owner");
    fixture.ensure().await.unwrap();
}

#[tokio::test]
async fn what_is_missing_is_said_to_be_missing() {
    let fixture = Fixture::of(SMALL).await;
    for text in ["hf://acme/none", "hf://acme/tiny@none:Q4_K_M", "hf://acme/tiny/none.gguf"] {
        fixture.refused_as(text, ErrorKind::NotFound).await;
    }
    let error = fixture.refused_as("hf://acme/tiny:Q2_K", ErrorKind::InvalidRequest).await;
    assert!(error.hint().unwrap().contains("Q4_K_M"), "{:?}", error.hint());
}

#[tokio::test]
async fn a_hubs_words_do_not_move_the_terminal() {
    for (value, kind) in [
        ("a".repeat(4_000), ErrorKind::Forbidden),
        ("\u{9b}2Jgone \u{202e}back".to_owned(), ErrorKind::Forbidden),
        // Such a character breaks HTTP itself.
        ("\u{1b}[2Jgone\u{7}".to_owned(), ErrorKind::Unavailable),
    ] {
        let fixture = Fixture::of(SMALL).await;
        fixture.tell(BadAnswer::Denied(Denial::Forbidden));
        fixture.tell(BadAnswer::Header { name: "X-Error-Message".to_owned(), value });
        fixture.refused(kind).await;
        fixture.recovers().await;
    }
}

#[tokio::test]
async fn a_model_whose_access_ends_is_still_here() {
    let fixture = Fixture::of(SMALL).await;
    fixture.ensure().await.unwrap();
    fixture.repo.private("hf_owner");
    let before = fixture.hub.requests().len();
    fixture.ensure().await.unwrap();
    assert_eq!(fixture.hub.requests().len(), before, "a hit asks no server");
    assert_eq!(fixture.sent(), SMALL);
}
