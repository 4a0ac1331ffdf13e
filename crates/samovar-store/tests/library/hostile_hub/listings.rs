//! Lies in descriptions and listings.

use samovar_core::ErrorKind;
use samovar_testhub::{BadAnswer, Route, evil_tags};

use super::fixture::{Fixture, LARGE, MODEL, SMALL};

#[tokio::test]
async fn another_size_in_the_listing_is_refused() {
    for size in [0, 1, SMALL - 1, SMALL + 1, 1 << 30] {
        let fixture = Fixture::of(SMALL).await;
        fixture.tell(BadAnswer::TreeSize(size)).refused(ErrorKind::Upstream).await;
        fixture.recovers().await;
    }
}

#[tokio::test]
async fn a_size_beyond_every_disk_is_refused_before_a_byte_is_asked_for() {
    for size in [1 << 60, u64::MAX] {
        let fixture = Fixture::of(SMALL).await;
        fixture.tell(BadAnswer::TreeSize(size)).refused(ErrorKind::InsufficientStorage).await;
        assert_eq!(fixture.hub.sent().body_bytes, 0);
        fixture.recovers().await;
    }
}

#[tokio::test]
async fn another_digest_in_the_listing_is_refused() {
    for size in [SMALL, LARGE] {
        let fixture = Fixture::of(size).await;
        fixture.tell(BadAnswer::TreeDigest).refused(ErrorKind::Upstream).await;
        fixture.recovers().await;
    }
}

#[tokio::test]
async fn a_file_of_gits_with_another_hash_is_refused() {
    let fixture = Fixture::of(SMALL).await;
    fixture.repo.remove(MODEL).put("model.safetensors", "weights").put("config.json", "{}");
    fixture.tell(BadAnswer::TreeDigest.on("config.json"));
    fixture.refused_as("hf://acme/tiny", ErrorKind::Upstream).await;
    fixture.hub.stop_lying();
    fixture.ensure_as("hf://acme/tiny").await.unwrap();
    fixture.is_sound().await;
}

#[tokio::test]
async fn a_digest_that_is_none_is_refused_before_a_byte_is_asked_for() {
    let mut texts = evil_tags();
    texts.extend(
        ["md5:d41d8cd98f00b204e9800998ecf8427e", "sha512:00", "sha256:", "blake3:00", "null", "é"]
            .map(str::to_owned),
    );
    for text in texts {
        let fixture = Fixture::of(SMALL).await;
        fixture.tell(BadAnswer::TreeOid(text.clone()).on(MODEL)).refused(ErrorKind::Upstream).await;
        assert_eq!(fixture.hub.sent().body_bytes, 0, "{text:?}");
        fixture.recovers().await;
    }
}

#[tokio::test]
async fn a_listing_without_end_is_given_up() {
    let fixture = Fixture::of(SMALL).await;
    fixture.hub.set_page_entries(100);
    fixture.tell(BadAnswer::EndlessPages).refused(ErrorKind::Upstream).await;
    assert!(fixture.hub.sent().requests_for(Route::Tree) <= 1_000);
    fixture.recovers().await;
}

#[tokio::test]
async fn a_listing_in_pages_is_read_to_its_end() {
    let fixture = Fixture::of(SMALL).await;
    fixture.hub.set_page_entries(1);
    fixture.repo.put("a.txt", "a").put("b.txt", "b");
    fixture.recovers().await;
    assert!(fixture.hub.sent().requests_for(Route::Tree) >= 3);
}

#[tokio::test]
async fn a_listing_that_goes_on_elsewhere_is_refused() {
    let fixture = Fixture::of(SMALL).await;
    fixture.repo.put("z.txt", "z");
    fixture.hub.set_page_entries(1);
    fixture.tell(BadAnswer::NextPageElsewhere).refused(ErrorKind::Upstream).await;
    fixture.recovers().await;
}

#[tokio::test]
async fn what_is_no_description_or_listing_is_refused_in_bounded_memory() {
    let texts = [
        String::new(),
        "null".to_owned(),
        "{}".to_owned(),
        "[1, 2]".to_owned(),
        "[{\"type\": \"file\", \"path\": \"x.gguf\", \"size\": -1}]".to_owned(),
        "[{\"type\": \"file\", \"path\": 7, \"size\": 1}]".to_owned(),
        "{\"sha\": 7}".to_owned(),
        "<!DOCTYPE html><title>Sign in</title>".to_owned(),
        "[".repeat(200_000),
        format!("{{\"sha\": \"{}\"}}", "f".repeat(40 << 20)),
    ];
    for text in texts {
        for route in [Route::Info, Route::Tree] {
            let fixture = Fixture::of(SMALL).await;
            fixture.tell(BadAnswer::Text(text.clone()).at(route)).refused(ErrorKind::Upstream).await;
            fixture.recovers().await;
        }
    }
}

#[tokio::test]
async fn an_empty_listing_has_no_model() {
    let fixture = Fixture::of(SMALL).await;
    let error = fixture.tell(BadAnswer::Text("[]".to_owned()).at(Route::Tree)).ensure().await.unwrap_err();
    assert!(error.hint().is_some(), "{error:?}");
    fixture.refused(error.kind()).await;
    fixture.recovers().await;
}
