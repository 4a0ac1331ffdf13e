//! Lies about a file's bytes and how many there are.

use samovar_core::ErrorKind;
use samovar_testhub::BadAnswer;

use super::fixture::{Fixture, LARGE, SIZES, SMALL};

#[tokio::test]
async fn wrong_bytes_under_the_right_name_are_refused_and_nothing_of_them_stays() {
    for size in SIZES {
        let fixture = Fixture::of(size).await;
        fixture.tell(BadAnswer::WrongBytes).refused(ErrorKind::Upstream).await;
        let sent = fixture.recovers().await;
        assert_eq!(sent.body_bytes, size, "none of the wrong bytes was taken up again");
    }
}

#[tokio::test]
async fn one_flipped_bit_is_enough_wherever_it_is() {
    for at in [0, SMALL / 2, SMALL - 1] {
        let fixture = Fixture::of(SMALL).await;
        fixture.tell(BadAnswer::FlipBit { at }).refused(ErrorKind::Upstream).await;
        assert_eq!(fixture.recovers().await.body_bytes, SMALL);
    }
    let fixture = Fixture::of(LARGE).await;
    fixture.tell(BadAnswer::FlipBit { at: LARGE - 5_000_000 }).refused(ErrorKind::Upstream).await;
    assert_eq!(fixture.recovers().await.body_bytes, LARGE);
}

#[tokio::test]
async fn a_body_that_ends_too_early_goes_on_where_it_ended() {
    for size in SIZES {
        for by in [1, 1_000, 100_000] {
            let fixture = Fixture::of(size).await;
            let sent = fixture.tell(BadAnswer::ShortBody { by }.once()).comes().await;
            assert_eq!(sent.body_bytes, size, "no byte is sent twice");
            fixture.recovers().await;
        }
    }
}

#[tokio::test]
async fn a_body_that_always_ends_too_early_is_given_up() {
    let fixture = Fixture::of(SMALL).await;
    fixture.tell(BadAnswer::ShortBody { by: 1 }).refused(ErrorKind::Unavailable).await;
    assert_eq!(fixture.sent(), SMALL - 1);
    assert_eq!(fixture.recovers().await.body_bytes, 1, "what came is kept");
}

#[tokio::test]
async fn lengths_that_contradict_the_file_are_refused() {
    for size in SIZES {
        for lie in [
            BadAnswer::ShortLength { by: 1 },
            BadAnswer::ShortLength { by: 100_000 },
            BadAnswer::LongLength { by: 1 },
            BadAnswer::LongLength { by: 100_000 },
        ] {
            let fixture = Fixture::of(size).await;
            fixture.tell(lie).refused(ErrorKind::Upstream).await;
            fixture.recovers().await;
        }
    }
}

#[tokio::test]
async fn lengths_that_contradict_the_file_are_refused_also_without_ranges() {
    for lie in [
        BadAnswer::ShortLength { by: 1 },
        BadAnswer::ShortLength { by: 100_000 },
        BadAnswer::LongLength { by: 100_000 },
    ] {
        let fixture = Fixture::of(SMALL).await;
        fixture.tell(BadAnswer::IgnoreRange).tell(lie).refused(ErrorKind::Upstream).await;
        fixture.recovers().await;
    }
}

#[tokio::test]
async fn bytes_after_the_end_are_not_taken() {
    for size in SIZES {
        let fixture = Fixture::of(size).await;
        fixture.tell(BadAnswer::Trailing { by: 5_000 }).comes().await;
        fixture.recovers().await;
    }
}

#[tokio::test]
async fn a_body_need_not_declare_its_length() {
    for size in SIZES {
        for lie in [BadAnswer::NoLength, BadAnswer::Chunked] {
            let fixture = Fixture::of(size).await;
            assert_eq!(fixture.tell(lie.clone()).comes().await.body_bytes, size);
            fixture.recovers().await;

            let fixture = Fixture::of(size).await;
            assert_eq!(fixture.tell(lie).tell(BadAnswer::IgnoreRange).comes().await.body_bytes, size);
            fixture.recovers().await;
        }
    }
}

#[tokio::test]
async fn a_body_without_a_length_that_does_not_end_is_cut() {
    for lie in [BadAnswer::NoLength, BadAnswer::Chunked] {
        let fixture = Fixture::of(SMALL).await;
        fixture.tell(lie).tell(BadAnswer::IgnoreRange).tell(BadAnswer::LongLength { by: 100 << 20 });
        // Whether what came before the end is taken or the whole refused is the store's affair: the digest decides.
        let _ = fixture.ensure().await;
        assert!(fixture.sent() < 90 << 20, "it is not read to its end");
        fixture.is_sound().await;
        fixture.recovers().await;
    }
}

#[tokio::test]
async fn a_page_of_a_portal_is_no_model() {
    for size in SIZES {
        let fixture = Fixture::of(size).await;
        fixture.tell(BadAnswer::HtmlPage).refused(ErrorKind::Upstream).await;
        assert_eq!(fixture.recovers().await.body_bytes, size);
    }
}

#[tokio::test]
async fn bytes_in_an_encoding_that_nobody_asked_for_are_refused() {
    let fixture = Fixture::of(SMALL).await;
    fixture.tell(header("Content-Encoding", "gzip")).refused(ErrorKind::Upstream).await;
    fixture.recovers().await;
}

#[tokio::test]
async fn lengths_that_are_no_numbers_end_the_connection() {
    for value in ["-1", "18446744073709551616", "12, 13", "0x10"] {
        let fixture = Fixture::of(SMALL).await;
        fixture.tell(header("Content-Length", value)).refused(ErrorKind::Unavailable).await;
        fixture.recovers().await;
    }
}

fn header(name: &str, value: &str) -> BadAnswer {
    BadAnswer::Header { name: name.to_owned(), value: value.to_owned() }
}
