//! Lies about which part of a file comes.

use samovar_core::ErrorKind;
use samovar_testhub::BadAnswer;

use super::fixture::{Fixture, LARGE, SIZES};

#[tokio::test]
async fn the_whole_file_instead_of_a_part_is_read_once() {
    for size in SIZES {
        let fixture = Fixture::of(size).await;
        let sent = fixture.tell(BadAnswer::IgnoreRange).comes().await;
        assert_eq!(sent.body_bytes, size);
        fixture.recovers().await;
    }
}

#[tokio::test]
async fn the_whole_file_in_the_middle_of_a_download_does_not_mix_with_the_parts() {
    let fixture = Fixture::of(LARGE).await;
    fixture.tell(samovar_testhub::Rule::from(BadAnswer::IgnoreRange).after_occasions(2).once()).comes().await;
    fixture.recovers().await;
}

#[tokio::test]
async fn bytes_from_another_place_are_refused() {
    for shift in [-7, 1, 8 << 20] {
        for size in SIZES {
            let fixture = Fixture::of(size).await;
            fixture.tell(BadAnswer::WrongContentRange { shift }.once());
            if shift < 0 {
                // The first part begins at 0, so only a later one can be shifted down.
                let _ = fixture.ensure().await;
                fixture.is_sound().await;
            } else {
                fixture.refused(ErrorKind::Upstream).await;
            }
            fixture.recovers().await;
        }
    }
}

#[tokio::test]
async fn a_range_without_a_description_is_refused() {
    for value in ["", "bytes */100", "bytes 0-", "bytes 18446744073709551615-0/1", "lines 0-299999/300000"] {
        let fixture = Fixture::of(300_000).await;
        let lie = BadAnswer::Header { name: "Content-Range".to_owned(), value: value.to_owned() };
        fixture.tell(lie.at(samovar_testhub::Route::Cdn)).refused(ErrorKind::Upstream).await;
        fixture.recovers().await;
    }
}

#[tokio::test]
async fn a_file_that_is_said_to_be_shorter_than_before_is_refused() {
    for size in SIZES {
        let fixture = Fixture::of(size).await;
        fixture.tell(BadAnswer::Unsatisfiable).refused(ErrorKind::Upstream).await;
        fixture.recovers().await;
    }
}

#[tokio::test]
async fn an_etag_that_changes_between_parts_never_mixes_two_files() {
    let fixture = Fixture::of(LARGE).await;
    fixture.tell(samovar_testhub::Rule::from(BadAnswer::ChangedEtag).after_occasions(1)).comes().await;
    fixture.recovers().await;
}
