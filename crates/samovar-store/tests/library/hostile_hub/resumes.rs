//! Downloads that are broken off here, and taken up with a hub that has changed in between.

use samovar_core::ErrorKind;
use samovar_testhub::{BadAnswer, Content};

use super::fixture::{Fixture, MODEL, REFERENCE, SIZES, SMALL, reference};

/// Bytes that a dropped download had received and not yet written: two batches for each of four connections.
const LOST_BYTES: u64 = 4 * (2 << 20);

/// Fetches about half of the model and drops the rest.
async fn half(fixture: &Fixture, size: u64) {
    let file = fixture.repo.key(MODEL);
    // Not faster than it is read, so that little is lost on the way.
    fixture.tell(BadAnswer::Drip { bytes_per_second: 10_000_000 });
    fixture.hub.hold_after(&file, size / 2);
    tokio::select! {
        outcome = fixture.ensure() => panic!("it was held: {outcome:?}"),
        is_held = fixture.hub.held(&file) => assert!(is_held),
    }
    assert!(fixture.hub.quiet().await, "a dropped fetch hangs up");
    assert_eq!(fixture.sent(), size / 2);
    fixture.hub.release(&file);
    fixture.hub.stop_lying();
}

#[tokio::test]
async fn a_download_that_was_dropped_goes_on_where_it_was() {
    for size in SIZES {
        let fixture = Fixture::of(size).await;
        half(&fixture, size).await;
        fixture.is_sound().await;
        fixture.recovers().await;
        assert!(fixture.sent() <= size + LOST_BYTES.min(size / 2), "{} of {size}", fixture.sent());
    }
}

#[tokio::test]
async fn what_changed_in_between_starts_anew_or_goes_on_and_never_mixes() {
    for size in SIZES {
        for lie in [BadAnswer::ChangedEtag, BadAnswer::IgnoreRange, BadAnswer::Etag("\"another\"".to_owned())]
        {
            let fixture = Fixture::of(size).await;
            half(&fixture, size).await;
            fixture.tell(lie).comes().await;
            assert!(fixture.sent() <= 2 * size + size / 2, "{} of {size}", fixture.sent());
            fixture.recovers().await;
        }
    }
}

#[tokio::test]
async fn wrong_bytes_in_the_second_half_spoil_the_whole_and_nothing_stays() {
    for size in SIZES {
        let fixture = Fixture::of(size).await;
        half(&fixture, size).await;
        fixture.tell(BadAnswer::WrongBytes).refused(ErrorKind::Upstream).await;
        fixture.recovers().await;
    }
}

#[tokio::test]
async fn wrong_bytes_in_the_first_half_are_found_and_fetched_again() {
    for size in SIZES {
        let fixture = Fixture::of(size).await;
        fixture.tell(BadAnswer::WrongBytes);
        half(&fixture, size).await;
        fixture.recovers().await;
    }
}

#[tokio::test]
async fn a_branch_that_moves_in_between_brings_the_file_that_was_asked_for() {
    for size in SIZES {
        let fixture = Fixture::of(size).await;
        let old = fixture.repo.digest(MODEL);
        half(&fixture, size).await;
        fixture.repo.put(MODEL, Content::pattern(size, 77));
        assert_ne!(fixture.repo.digest(MODEL), old);
        fixture.recovers().await;
    }
}

#[tokio::test]
async fn a_branch_that_moves_sends_only_what_is_new() {
    let fixture = Fixture::of(SMALL).await;
    fixture.ensure().await.unwrap();
    fixture.repo.put("README.md", "another commit, the same model");
    let pulled = fixture.store.pull(&reference(REFERENCE), None).await.unwrap();
    assert_eq!((pulled.fetched_bytes, fixture.sent()), (0, SMALL));
    assert_eq!(pulled.artifact.key.commit.as_str(), fixture.repo.head());

    fixture.repo.put(MODEL, Content::pattern(SMALL, 78));
    let pulled = fixture.store.pull(&reference(REFERENCE), None).await.unwrap();
    assert_eq!((pulled.fetched_bytes, fixture.sent()), (SMALL, 2 * SMALL));
    fixture.recovers().await;
}

#[tokio::test]
async fn the_same_bytes_under_another_name_are_not_sent_again() {
    let fixture = Fixture::of(SMALL).await;
    fixture.ensure().await.unwrap();
    fixture.hub.add_repo("other/copy").put("copy.Q4_K_M.gguf", Content::pattern(SMALL, 1));
    let before = fixture.hub.sent();
    fixture.ensure_as("hf://other/copy").await.unwrap();
    assert_eq!(fixture.hub.sent().since(&before).body_bytes, 0);
    fixture.is_sound().await;
}

#[tokio::test]
async fn several_who_ask_at_once_share_one_download_also_when_it_breaks_off() {
    for size in SIZES {
        let fixture = Fixture::of(size).await;
        fixture.tell(BadAnswer::Cut { after: 120_000 }.times(3));
        let (a, b, c, d) =
            tokio::join!(fixture.ensure(), fixture.ensure(), fixture.ensure(), fixture.ensure());
        for outcome in [a, b, c, d] {
            outcome.unwrap();
        }
        assert_eq!(fixture.sent(), size);
        fixture.recovers().await;
    }
}

#[tokio::test]
async fn several_who_ask_at_once_are_all_told_of_a_lie() {
    let fixture = Fixture::of(SMALL).await;
    fixture.tell(BadAnswer::WrongBytes);
    let (a, b, c) = tokio::join!(fixture.ensure(), fixture.ensure(), fixture.ensure());
    for outcome in [a, b, c] {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Upstream);
        assert!(error.hint().is_some());
    }
    fixture.is_sound().await;
    fixture.recovers().await;
}
