//! Lies about a file's bytes and how many there are.

use samovar_core::ErrorKind;
use samovar_testhub::Lie;

use crate::ground::{Ground, LARGE, SIZES, SMALL};

#[tokio::test]
async fn wrong_bytes_under_the_right_name_are_refused_and_nothing_of_them_stays() {
    for size in SIZES {
        let ground = Ground::of(size).await;
        ground.tell(Lie::WrongBytes).refused(ErrorKind::Upstream).await;
        let sent = ground.recovers().await;
        assert_eq!(sent.body_bytes, size, "none of the wrong bytes was taken up again");
    }
}

#[tokio::test]
async fn one_flipped_bit_is_enough_wherever_it_is() {
    for at in [0, SMALL / 2, SMALL - 1] {
        let ground = Ground::of(SMALL).await;
        ground.tell(Lie::FlipBit { at }).refused(ErrorKind::Upstream).await;
        assert_eq!(ground.recovers().await.body_bytes, SMALL);
    }
    let ground = Ground::of(LARGE).await;
    ground.tell(Lie::FlipBit { at: LARGE - 5_000_000 }).refused(ErrorKind::Upstream).await;
    assert_eq!(ground.recovers().await.body_bytes, LARGE);
}

#[tokio::test]
async fn a_body_that_ends_too_early_goes_on_where_it_ended() {
    for size in SIZES {
        for by in [1, 1_000, 100_000] {
            let ground = Ground::of(size).await;
            let sent = ground.tell(Lie::ShortBody { by }.once()).comes().await;
            assert_eq!(sent.body_bytes, size, "no byte is sent twice");
            ground.recovers().await;
        }
    }
}

#[tokio::test]
async fn a_body_that_always_ends_too_early_is_given_up() {
    let ground = Ground::of(SMALL).await;
    ground.tell(Lie::ShortBody { by: 1 }).refused(ErrorKind::Unavailable).await;
    assert_eq!(ground.sent(), SMALL - 1);
    assert_eq!(ground.recovers().await.body_bytes, 1, "what came is kept");
}

#[tokio::test]
async fn lengths_that_contradict_the_file_are_refused() {
    for size in SIZES {
        for lie in [
            Lie::ShortLength { by: 1 },
            Lie::ShortLength { by: 100_000 },
            Lie::LongLength { by: 1 },
            Lie::LongLength { by: 100_000 },
        ] {
            let ground = Ground::of(size).await;
            ground.tell(lie).refused(ErrorKind::Upstream).await;
            ground.recovers().await;
        }
    }
}

#[tokio::test]
async fn lengths_that_contradict_the_file_are_refused_also_without_ranges() {
    for lie in [Lie::ShortLength { by: 1 }, Lie::ShortLength { by: 100_000 }, Lie::LongLength { by: 100_000 }]
    {
        let ground = Ground::of(SMALL).await;
        ground.tell(Lie::IgnoreRange).tell(lie).refused(ErrorKind::Upstream).await;
        ground.recovers().await;
    }
}

#[tokio::test]
async fn bytes_after_the_end_are_not_taken() {
    for size in SIZES {
        let ground = Ground::of(size).await;
        ground.tell(Lie::Trailing { by: 5_000 }).comes().await;
        ground.recovers().await;
    }
}

#[tokio::test]
async fn a_body_need_not_declare_its_length() {
    for size in SIZES {
        for lie in [Lie::NoLength, Lie::Chunked] {
            let ground = Ground::of(size).await;
            assert_eq!(ground.tell(lie.clone()).comes().await.body_bytes, size);
            ground.recovers().await;

            let ground = Ground::of(size).await;
            assert_eq!(ground.tell(lie).tell(Lie::IgnoreRange).comes().await.body_bytes, size);
            ground.recovers().await;
        }
    }
}

#[tokio::test]
async fn a_body_without_a_length_that_does_not_end_is_cut() {
    for lie in [Lie::NoLength, Lie::Chunked] {
        let ground = Ground::of(SMALL).await;
        ground.tell(lie).tell(Lie::IgnoreRange).tell(Lie::LongLength { by: 100 << 20 });
        // Whether what came before the end is taken or the whole refused is the store's affair: the digest decides.
        let _ = ground.ensure().await;
        assert!(ground.sent() < 90 << 20, "it is not read to its end");
        ground.is_sound().await;
        ground.recovers().await;
    }
}

#[tokio::test]
async fn a_page_of_a_portal_is_no_model() {
    for size in SIZES {
        let ground = Ground::of(size).await;
        ground.tell(Lie::HtmlPage).refused(ErrorKind::Upstream).await;
        assert_eq!(ground.recovers().await.body_bytes, size);
    }
}

#[tokio::test]
async fn bytes_in_an_encoding_that_nobody_asked_for_are_refused() {
    let ground = Ground::of(SMALL).await;
    ground.tell(header("Content-Encoding", "gzip")).refused(ErrorKind::Upstream).await;
    ground.recovers().await;
}

#[tokio::test]
async fn lengths_that_are_no_numbers_end_the_connection() {
    for value in ["-1", "18446744073709551616", "12, 13", "0x10"] {
        let ground = Ground::of(SMALL).await;
        ground.tell(header("Content-Length", value)).refused(ErrorKind::Unavailable).await;
        ground.recovers().await;
    }
}

fn header(name: &str, value: &str) -> Lie {
    Lie::Header { name: name.to_owned(), value: value.to_owned() }
}
