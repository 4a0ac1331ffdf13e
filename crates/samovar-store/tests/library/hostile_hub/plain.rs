//! The same for web servers that know nothing of models, and for Ollama's registry.

use samovar_core::{Digest, ErrorKind};
use samovar_testhub::{BadAnswer, Content, Route, evil_names};
use serde_json::json;

use super::fixture::{Fixture, SIZES, SMALL};

const MODEL_LAYER: &str = "application/vnd.ollama.image.model";

/// A model in the plain area, and how a user names it, with or without its digest.
async fn plain(size: u64, with_digest: bool) -> (Fixture, String) {
    let fixture = Fixture::of(SMALL).await;
    let content = Content::pattern(size, 3);
    let digest = content.digest().unwrap();
    fixture.hub.add_plain("web.gguf", content);
    let url = fixture.hub.plain_url("web.gguf");
    (fixture, if with_digest { format!("{url}#sha256={digest}") } else { url })
}

async fn comes(fixture: &Fixture, text: &str, digest: Digest) {
    let artifact = fixture.ensure_as(text).await.unwrap();
    assert_eq!(artifact.files[0].digest, digest);
    fixture.is_sound().await;
    let before = fixture.hub.sent();
    fixture.ensure_as(text).await.unwrap();
    assert_eq!(fixture.hub.sent().since(&before).body_bytes, 0, "bytes are sent once");
}

#[tokio::test]
async fn a_web_servers_lies_about_a_known_digest_are_refused() {
    for size in SIZES {
        for lie in [
            BadAnswer::WrongBytes,
            BadAnswer::FlipBit { at: size / 3 },
            BadAnswer::HtmlPage,
            BadAnswer::ShortLength { by: 100 },
            BadAnswer::LongLength { by: 100 },
        ] {
            let (fixture, text) = plain(size, true).await;
            fixture.tell(lie).refused_as(&text, ErrorKind::Upstream).await;
            fixture.hub.stop_lying();
            comes(&fixture, &text, Content::pattern(size, 3).digest().unwrap()).await;
        }
    }
}

#[tokio::test]
async fn a_web_server_that_breaks_off_is_gone_on_from() {
    for size in SIZES {
        for with_digest in [true, false] {
            for lie in [
                BadAnswer::Cut { after: 200_000 },
                BadAnswer::NoLength,
                BadAnswer::Chunked,
                BadAnswer::IgnoreRange,
            ] {
                let (fixture, text) = plain(size, with_digest).await;
                fixture.tell(lie.clone().times(2));
                comes(&fixture, &text, Content::pattern(size, 3).digest().unwrap()).await;
                assert_eq!(fixture.hub.sent().of("plain/web.gguf"), size, "{lie:?} {size} {with_digest}");
            }
        }
    }
}

#[tokio::test]
async fn a_web_file_that_changes_in_the_middle_never_mixes() {
    for size in SIZES {
        let (fixture, text) = plain(size, false).await;
        fixture.tell(BadAnswer::Cut { after: 200_000 }.once());
        fixture.tell(samovar_testhub::Rule::from(BadAnswer::ChangedEtag).after_occasions(1).once());
        match fixture.ensure_as(&text).await {
            Ok(artifact) => assert_eq!(artifact.files[0].digest, Content::pattern(size, 3).digest().unwrap()),
            Err(error) => assert!(error.hint().is_some(), "{error:?}"),
        }
        fixture.is_sound().await;
    }
}

#[tokio::test]
async fn a_web_servers_redirects_get_no_token() {
    let (fixture, text) = plain(SMALL, true).await;
    fixture.tell(BadAnswer::RedirectElsewhere);
    comes(&fixture, &text, Content::pattern(SMALL, 3).digest().unwrap()).await;
    let asked = fixture.hub.requests();
    let plain = asked.iter().filter(|seen| seen.route == Route::Plain);
    assert!(plain.clone().count() > 0 && plain.clone().all(|seen| seen.authorization.is_none()));
}

#[tokio::test]
async fn an_ollama_model_comes_without_a_token_and_once() {
    for size in SIZES {
        let fixture = Fixture::of(SMALL).await;
        let digests =
            fixture.hub.add_ollama("library/tiny:latest", &[(MODEL_LAYER, Content::pattern(size, 4))]);
        fixture.tell(BadAnswer::Cut { after: 150_000 }.times(2));
        comes(&fixture, "ollama://tiny", digests[0]).await;
        assert_eq!(fixture.hub.sent().of(&format!("ollama/library/tiny/sha256:{}", digests[0])), size);
        let asked = fixture.hub.requests();
        let registry = asked.iter().filter(|seen| seen.target.starts_with("/v2/"));
        assert!(registry.clone().count() > 0 && registry.clone().all(|seen| seen.authorization.is_none()));
    }
}

#[tokio::test]
async fn a_registrys_wrong_bytes_are_refused() {
    for size in SIZES {
        let fixture = Fixture::of(SMALL).await;
        let digests =
            fixture.hub.add_ollama("library/tiny:latest", &[(MODEL_LAYER, Content::pattern(size, 4))]);
        fixture.tell(BadAnswer::WrongBytes).refused_as("ollama://tiny", ErrorKind::Upstream).await;
        fixture.hub.stop_lying();
        comes(&fixture, "ollama://tiny", digests[0]).await;
    }
}

#[tokio::test]
async fn a_manifest_with_evil_digests_is_refused_before_a_byte_is_asked_for() {
    let mut digests: Vec<String> =
        ["md5:00", "sha256:", "sha256:../../escaped", "sha256:00", "", "sha512:00"].map(str::to_owned).into();
    digests.extend(evil_names());
    for digest in digests {
        let fixture = Fixture::of(SMALL).await;
        fixture.hub.set_ollama_manifest(
            "library/tiny:latest",
            json!({
                "schemaVersion": 2,
                "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": digest, "size": 2},
                "layers": [{"mediaType": MODEL_LAYER, "digest": digest, "size": 100}],
            }),
        );
        fixture.refused_as("ollama://tiny", ErrorKind::Upstream).await;
        assert_eq!(fixture.hub.sent().body_bytes, 0, "{digest:?}");
    }
}

#[tokio::test]
async fn a_manifest_that_is_none_is_refused() {
    for manifest in [json!(null), json!([]), json!({"layers": 7}), json!({"layers": []}), json!("text")] {
        let fixture = Fixture::of(SMALL).await;
        fixture.hub.set_ollama_manifest("library/tiny:latest", manifest.clone());
        let error = fixture.ensure_as("ollama://tiny").await.unwrap_err();
        assert!(error.hint().is_some(), "{manifest}: {error:?}");
        fixture.refused_as("ollama://tiny", error.kind()).await;
    }
}
