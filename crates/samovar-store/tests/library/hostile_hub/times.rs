//! Lies about time: too busy, too slow, gone.

use std::time::{Duration, Instant};

use samovar_core::{ErrorKind, Failure};
use samovar_testhub::{BadAnswer, RetryAfter, Route, Rule};

use super::fixture::{Fixture, LARGE, MODEL, SIZES, SMALL, STALL};

fn status(status: u16, retry_after: Option<RetryAfter>) -> BadAnswer {
    BadAnswer::Status { status, retry_after }
}

#[tokio::test]
async fn a_hub_that_is_unwell_for_a_moment_is_asked_again() {
    let retry_after =
        [None, Some(RetryAfter::Seconds(0)), Some(RetryAfter::Date(1)), Some(RetryAfter::Nonsense)];
    for code in [429, 500, 502, 503, 504] {
        for retry_after in retry_after {
            let fixture = Fixture::of(SMALL).await;
            // A file's way is one thing to try, over both of its hosts.
            for (route, times) in [(Route::Info, 3), (Route::Tree, 3), (Route::Resolve, 2), (Route::Cdn, 1)] {
                fixture.tell(status(code, retry_after).at(route).times(times));
            }
            assert_eq!(fixture.comes().await.body_bytes, SMALL, "{code} {retry_after:?}");
            assert_eq!(fixture.hub.told(), [3, 3, 2, 1]);
            fixture.recovers().await;
        }
    }
}

#[tokio::test]
async fn connections_that_are_refused_in_the_middle_leave_the_rest_to_others() {
    let fixture = Fixture::of(LARGE).await;
    let refuse = Rule::from(status(429, Some(RetryAfter::Seconds(1)))).at(Route::Cdn);
    fixture.tell(refuse.after_occasions(1).times(3));
    assert_eq!(fixture.comes().await.body_bytes, LARGE);
    fixture.recovers().await;
}

#[tokio::test]
async fn a_hub_that_stays_unwell_is_given_up_and_says_when_to_come_again() {
    for code in [429, 500, 503] {
        let fixture = Fixture::of(SMALL).await;
        fixture.tell(status(code, Some(RetryAfter::Seconds(3_600))));
        let begin = Instant::now();
        let error = fixture.refused(ErrorKind::Unavailable).await;
        assert!(begin.elapsed() < Duration::from_secs(20), "it does not wait for an hour");
        let failure = Failure::from(error);
        assert_eq!(failure.retry_after_ms, Some(3_600_000));
        assert!(fixture.hub.requests().len() <= 8);
        fixture.recovers().await;
    }
}

#[tokio::test]
async fn a_stalled_connection_is_given_up_and_what_came_is_kept() {
    for size in SIZES {
        let fixture = Fixture::of(size).await;
        let sent = fixture.tell(BadAnswer::Stall { after: 200_000, for_ms: None }.once()).comes().await;
        assert_eq!(sent.body_bytes, size, "no byte is sent twice");
        fixture.recovers().await;
    }
}

#[tokio::test]
async fn a_hub_that_always_stalls_is_given_up() {
    let fixture = Fixture::of(SMALL).await;
    let begin = Instant::now();
    fixture.tell(BadAnswer::Stall { after: 0, for_ms: None }).refused(ErrorKind::Unavailable).await;
    assert!(begin.elapsed() < STALL * 10, "{:?}", begin.elapsed());
    assert_eq!(fixture.recovers().await.body_bytes, SMALL);
}

#[tokio::test]
async fn an_answer_that_does_not_begin_is_given_up() {
    let fixture = Fixture::of(SMALL).await;
    fixture.tell(BadAnswer::Late { by_ms: 30_000 }).refused(ErrorKind::Unavailable).await;
    fixture.recovers().await;
}

#[tokio::test]
async fn a_pause_shorter_than_the_patience_is_nothing() {
    let fixture = Fixture::of(SMALL).await;
    let for_ms = Some(STALL.as_millis() as u64 / 4);
    let sent = fixture.tell(BadAnswer::Stall { after: 1_000, for_ms }).comes().await;
    assert_eq!((sent.body_bytes, sent.requests_for(Route::Cdn)), (SMALL, 1));
    fixture.recovers().await;
}

#[tokio::test]
async fn a_slow_drip_is_waited_for() {
    let fixture = Fixture::of(SMALL).await;
    let sent = fixture.tell(BadAnswer::Drip { bytes_per_second: 200_000 }).comes().await;
    assert_eq!((sent.body_bytes, sent.requests_for(Route::Cdn)), (SMALL, 1));
    fixture.recovers().await;
}

#[tokio::test]
async fn a_connection_that_is_cut_again_and_again_still_brings_each_byte_once() {
    for size in SIZES {
        for after in [100_000, 7_000_001] {
            let fixture = Fixture::of(size).await;
            let sent = fixture.tell(BadAnswer::Cut { after }).comes().await;
            assert_eq!(sent.body_bytes, size, "cut after {after}");
            fixture.recovers().await;
        }
    }
}

#[tokio::test]
async fn a_connection_that_is_cut_at_once_each_time_is_given_up() {
    for lie in [BadAnswer::Cut { after: 0 }, BadAnswer::Reset { after: 0 }, BadAnswer::HangUp] {
        let fixture = Fixture::of(SMALL).await;
        fixture.tell(lie).refused(ErrorKind::Unavailable).await;
        assert!(fixture.hub.requests().len() <= 30);
        fixture.recovers().await;
    }
}

#[tokio::test]
async fn a_reset_in_the_middle_is_gone_on_from() {
    for size in SIZES {
        let fixture = Fixture::of(size).await;
        fixture.tell(BadAnswer::Reset { after: 150_000 }.times(3)).comes().await;
        fixture.recovers().await;
    }
}

#[tokio::test]
async fn a_hub_that_hangs_up_a_few_times_is_asked_again() {
    let fixture = Fixture::of(SMALL).await;
    for (route, times) in [(Route::Info, 3), (Route::Tree, 3), (Route::Resolve, 2), (Route::Cdn, 1)] {
        fixture.tell(BadAnswer::HangUp.at(route).times(times));
    }
    assert_eq!(fixture.comes().await.body_bytes, SMALL);
    fixture.recovers().await;
}

#[tokio::test]
async fn a_dead_hub_disturbs_nothing_that_is_here() {
    let fixture = Fixture::of(SMALL).await;
    fixture.ensure().await.unwrap();
    fixture.tell(BadAnswer::HangUp);
    let before = fixture.hub.requests().len();
    let begin = Instant::now();
    for _ in 0..100 {
        fixture.ensure().await.unwrap();
    }
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert_eq!(fixture.hub.requests().len(), before);
    fixture.is_sound().await;
}

#[tokio::test]
async fn a_download_that_hangs_keeps_nobody_from_what_is_here() {
    let fixture = Fixture::of(LARGE).await;
    let file = fixture.repo.key(MODEL);
    fixture.hub.hold_after(&file, 5_000_000);
    let meanwhile = async {
        assert!(fixture.hub.held(&file).await);
        let begin = Instant::now();
        for _ in 0..20 {
            fixture.is_sound().await;
        }
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
        fixture.hub.release(&file);
    };
    let (outcome, ()) = tokio::join!(fixture.ensure(), meanwhile);
    outcome.unwrap();
    fixture.recovers().await;
}
