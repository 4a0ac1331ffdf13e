//! Downloads that are broken off here, and taken up with a hub that has changed in between.

use samovar_core::ErrorKind;
use samovar_testhub::{Content, Lie};

use crate::ground::{Ground, MODEL, REFERENCE, SIZES, SMALL, reference};

/// Bytes that a dropped download had received and not yet written: two batches for each of four connections.
const LOST_BYTES: u64 = 4 * (2 << 20);

/// Fetches about half of the model and drops the rest.
async fn half(ground: &Ground, size: u64) {
    let file = ground.repo.key(MODEL);
    // Not faster than it is read, so that little is lost on the way.
    ground.tell(Lie::Drip { bytes_per_second: 10_000_000 });
    ground.hub.hold_after(&file, size / 2);
    tokio::select! {
        outcome = ground.ensure() => panic!("it was held: {outcome:?}"),
        is_held = ground.hub.held(&file) => assert!(is_held),
    }
    assert!(ground.hub.quiet().await, "whoever is dropped hangs up");
    assert_eq!(ground.sent(), size / 2);
    ground.hub.release(&file);
    ground.hub.stop_lying();
}

#[tokio::test]
async fn a_download_that_was_dropped_goes_on_where_it_was() {
    for size in SIZES {
        let ground = Ground::of(size).await;
        half(&ground, size).await;
        ground.is_sound().await;
        ground.recovers().await;
        assert!(ground.sent() <= size + LOST_BYTES.min(size / 2), "{} of {size}", ground.sent());
    }
}

#[tokio::test]
async fn what_changed_in_between_starts_anew_or_goes_on_and_never_mixes() {
    for size in SIZES {
        for lie in [Lie::ChangedEtag, Lie::IgnoreRange, Lie::Etag("\"another\"".to_owned())] {
            let ground = Ground::of(size).await;
            half(&ground, size).await;
            ground.tell(lie).comes().await;
            assert!(ground.sent() <= 2 * size + size / 2, "{} of {size}", ground.sent());
            ground.recovers().await;
        }
    }
}

#[tokio::test]
async fn wrong_bytes_in_the_second_half_spoil_the_whole_and_nothing_stays() {
    for size in SIZES {
        let ground = Ground::of(size).await;
        half(&ground, size).await;
        ground.tell(Lie::WrongBytes).refused(ErrorKind::Upstream).await;
        ground.recovers().await;
    }
}

#[tokio::test]
async fn wrong_bytes_in_the_first_half_are_found_and_fetched_again() {
    for size in SIZES {
        let ground = Ground::of(size).await;
        ground.tell(Lie::WrongBytes);
        half(&ground, size).await;
        ground.recovers().await;
    }
}

#[tokio::test]
async fn a_branch_that_moves_in_between_brings_the_file_that_was_asked_for() {
    for size in SIZES {
        let ground = Ground::of(size).await;
        let old = ground.repo.digest(MODEL);
        half(&ground, size).await;
        ground.repo.put(MODEL, Content::pattern(size, 77));
        assert_ne!(ground.repo.digest(MODEL), old);
        ground.recovers().await;
    }
}

#[tokio::test]
async fn a_branch_that_moves_sends_only_what_is_new() {
    let ground = Ground::of(SMALL).await;
    ground.ensure().await.unwrap();
    ground.repo.put("README.md", "another commit, the same model");
    let pulled = ground.store.pull(&reference(REFERENCE), None).await.unwrap();
    assert_eq!((pulled.fetched_bytes, ground.sent()), (0, SMALL));
    assert_eq!(pulled.artifact.key.commit.as_str(), ground.repo.head());

    ground.repo.put(MODEL, Content::pattern(SMALL, 78));
    let pulled = ground.store.pull(&reference(REFERENCE), None).await.unwrap();
    assert_eq!((pulled.fetched_bytes, ground.sent()), (SMALL, 2 * SMALL));
    ground.recovers().await;
}

#[tokio::test]
async fn the_same_bytes_under_another_name_are_not_sent_again() {
    let ground = Ground::of(SMALL).await;
    ground.ensure().await.unwrap();
    ground.hub.add_repo("other/copy").put("copy.Q4_K_M.gguf", Content::pattern(SMALL, 1));
    let before = ground.hub.sent();
    ground.ensure_as("hf://other/copy").await.unwrap();
    assert_eq!(ground.hub.sent().since(&before).body_bytes, 0);
    ground.is_sound().await;
}

#[tokio::test]
async fn several_who_ask_at_once_share_one_download_also_when_it_breaks_off() {
    for size in SIZES {
        let ground = Ground::of(size).await;
        ground.tell(Lie::Cut { after: 120_000 }.times(3));
        let (a, b, c, d) = tokio::join!(ground.ensure(), ground.ensure(), ground.ensure(), ground.ensure());
        for outcome in [a, b, c, d] {
            outcome.unwrap();
        }
        assert_eq!(ground.sent(), size);
        ground.recovers().await;
    }
}

#[tokio::test]
async fn several_who_ask_at_once_are_all_told_of_a_lie() {
    let ground = Ground::of(SMALL).await;
    ground.tell(Lie::WrongBytes);
    let (a, b, c) = tokio::join!(ground.ensure(), ground.ensure(), ground.ensure());
    for outcome in [a, b, c] {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Upstream);
        assert!(error.hint().is_some());
    }
    ground.is_sound().await;
    ground.recovers().await;
}
