//! Lies in descriptions and listings.

use samovar_core::ErrorKind;
use samovar_testhub::{Lie, Route, evil_tags};

use crate::ground::{Ground, LARGE, MODEL, SMALL};

#[tokio::test]
async fn another_size_in_the_listing_is_refused() {
    for size in [0, 1, SMALL - 1, SMALL + 1, 1 << 30] {
        let ground = Ground::of(SMALL).await;
        ground.tell(Lie::TreeSize(size)).refused(ErrorKind::Upstream).await;
        ground.recovers().await;
    }
}

#[tokio::test]
async fn a_size_beyond_every_disk_is_refused_before_a_byte_is_asked_for() {
    for size in [1 << 60, u64::MAX] {
        let ground = Ground::of(SMALL).await;
        ground.tell(Lie::TreeSize(size)).refused(ErrorKind::InsufficientStorage).await;
        assert_eq!(ground.hub.sent().body_bytes, 0);
        ground.recovers().await;
    }
}

#[tokio::test]
async fn another_digest_in_the_listing_is_refused() {
    for size in [SMALL, LARGE] {
        let ground = Ground::of(size).await;
        ground.tell(Lie::TreeDigest).refused(ErrorKind::Upstream).await;
        ground.recovers().await;
    }
}

#[tokio::test]
async fn a_file_of_gits_with_another_hash_is_refused() {
    let ground = Ground::of(SMALL).await;
    ground.repo.remove(MODEL).put("model.safetensors", "weights").put("config.json", "{}");
    ground.tell(Lie::TreeDigest.on("config.json"));
    ground.refused_as("hf://acme/tiny", ErrorKind::Upstream).await;
    ground.hub.stop_lying();
    ground.ensure_as("hf://acme/tiny").await.unwrap();
    ground.is_sound().await;
}

#[tokio::test]
async fn a_digest_that_is_none_is_refused_before_a_byte_is_asked_for() {
    let mut texts = evil_tags();
    texts.extend(
        ["md5:d41d8cd98f00b204e9800998ecf8427e", "sha512:00", "sha256:", "blake3:00", "null", "é"]
            .map(str::to_owned),
    );
    for text in texts {
        let ground = Ground::of(SMALL).await;
        ground.tell(Lie::TreeOid(text.clone()).on(MODEL)).refused(ErrorKind::Upstream).await;
        assert_eq!(ground.hub.sent().body_bytes, 0, "{text:?}");
        ground.recovers().await;
    }
}

#[tokio::test]
async fn a_listing_without_end_is_given_up() {
    let ground = Ground::of(SMALL).await;
    ground.hub.set_page_entries(100);
    ground.tell(Lie::EndlessPages).refused(ErrorKind::Upstream).await;
    assert!(ground.hub.sent().requests_for(Route::Tree) <= 1_000);
    ground.recovers().await;
}

#[tokio::test]
async fn a_listing_in_pages_is_read_to_its_end() {
    let ground = Ground::of(SMALL).await;
    ground.hub.set_page_entries(1);
    ground.repo.put("a.txt", "a").put("b.txt", "b");
    ground.recovers().await;
    assert!(ground.hub.sent().requests_for(Route::Tree) >= 3);
}

#[tokio::test]
async fn a_listing_that_goes_on_elsewhere_is_refused() {
    let ground = Ground::of(SMALL).await;
    ground.repo.put("z.txt", "z");
    ground.hub.set_page_entries(1);
    ground.tell(Lie::NextPageElsewhere).refused(ErrorKind::Upstream).await;
    ground.recovers().await;
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
            let ground = Ground::of(SMALL).await;
            ground.tell(Lie::Text(text.clone()).at(route)).refused(ErrorKind::Upstream).await;
            ground.recovers().await;
        }
    }
}

#[tokio::test]
async fn an_empty_listing_has_no_model() {
    let ground = Ground::of(SMALL).await;
    let error = ground.tell(Lie::Text("[]".to_owned()).at(Route::Tree)).ensure().await.unwrap_err();
    assert!(error.hint().is_some(), "{error:?}");
    ground.refused(error.kind()).await;
    ground.recovers().await;
}
