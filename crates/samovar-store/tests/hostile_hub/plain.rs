//! The same for web servers that know nothing of models, and for Ollama's registry.

use samovar_core::{Digest, ErrorKind};
use samovar_testhub::{Content, Lie, Route, evil_names};
use serde_json::json;

use crate::ground::{Ground, SIZES, SMALL};

const MODEL_LAYER: &str = "application/vnd.ollama.image.model";

/// A model in the plain area, and how a user names it, with or without its digest.
async fn plain(size: u64, with_digest: bool) -> (Ground, String) {
    let ground = Ground::of(SMALL).await;
    let content = Content::pattern(size, 3);
    let digest = content.digest().unwrap();
    ground.hub.add_plain("web.gguf", content);
    let url = ground.hub.plain_url("web.gguf");
    (ground, if with_digest { format!("{url}#sha256={digest}") } else { url })
}

async fn comes(ground: &Ground, text: &str, digest: Digest) {
    let artifact = ground.ensure_as(text).await.unwrap();
    assert_eq!(artifact.files[0].digest, digest);
    ground.is_sound().await;
    let before = ground.hub.sent();
    ground.ensure_as(text).await.unwrap();
    assert_eq!(ground.hub.sent().since(&before).body_bytes, 0, "bytes are sent once");
}

#[tokio::test]
async fn a_web_servers_lies_about_a_known_digest_are_refused() {
    for size in SIZES {
        for lie in [
            Lie::WrongBytes,
            Lie::FlipBit { at: size / 3 },
            Lie::HtmlPage,
            Lie::ShortLength { by: 100 },
            Lie::LongLength { by: 100 },
        ] {
            let (ground, text) = plain(size, true).await;
            ground.tell(lie).refused_as(&text, ErrorKind::Upstream).await;
            ground.hub.stop_lying();
            comes(&ground, &text, Content::pattern(size, 3).digest().unwrap()).await;
        }
    }
}

#[tokio::test]
async fn a_web_server_that_breaks_off_is_gone_on_from() {
    for size in SIZES {
        for with_digest in [true, false] {
            for lie in [Lie::Cut { after: 200_000 }, Lie::NoLength, Lie::Chunked, Lie::IgnoreRange] {
                let (ground, text) = plain(size, with_digest).await;
                ground.tell(lie.clone().times(2));
                comes(&ground, &text, Content::pattern(size, 3).digest().unwrap()).await;
                assert_eq!(ground.hub.sent().of("plain/web.gguf"), size, "{lie:?} {size} {with_digest}");
            }
        }
    }
}

#[tokio::test]
async fn a_web_file_that_changes_in_the_middle_never_mixes() {
    for size in SIZES {
        let (ground, text) = plain(size, false).await;
        ground.tell(Lie::Cut { after: 200_000 }.once());
        ground.tell(samovar_testhub::Rule::from(Lie::ChangedEtag).after_occasions(1).once());
        match ground.ensure_as(&text).await {
            Ok(artifact) => assert_eq!(artifact.files[0].digest, Content::pattern(size, 3).digest().unwrap()),
            Err(error) => assert!(error.hint().is_some(), "{error:?}"),
        }
        ground.is_sound().await;
    }
}

#[tokio::test]
async fn a_web_servers_redirects_get_no_token() {
    let (ground, text) = plain(SMALL, true).await;
    ground.tell(Lie::RedirectElsewhere);
    comes(&ground, &text, Content::pattern(SMALL, 3).digest().unwrap()).await;
    let asked = ground.hub.requests();
    let plain = asked.iter().filter(|seen| seen.route == Route::Plain);
    assert!(plain.clone().count() > 0 && plain.clone().all(|seen| seen.authorization.is_none()));
}

#[tokio::test]
async fn an_ollama_model_comes_without_a_token_and_once() {
    for size in SIZES {
        let ground = Ground::of(SMALL).await;
        let digests =
            ground.hub.add_ollama("library/tiny:latest", &[(MODEL_LAYER, Content::pattern(size, 4))]);
        ground.tell(Lie::Cut { after: 150_000 }.times(2));
        comes(&ground, "ollama://tiny", digests[0]).await;
        assert_eq!(ground.hub.sent().of(&format!("ollama/library/tiny/sha256:{}", digests[0])), size);
        let asked = ground.hub.requests();
        let registry = asked.iter().filter(|seen| seen.target.starts_with("/v2/"));
        assert!(registry.clone().count() > 0 && registry.clone().all(|seen| seen.authorization.is_none()));
    }
}

#[tokio::test]
async fn a_registrys_wrong_bytes_are_refused() {
    for size in SIZES {
        let ground = Ground::of(SMALL).await;
        let digests =
            ground.hub.add_ollama("library/tiny:latest", &[(MODEL_LAYER, Content::pattern(size, 4))]);
        ground.tell(Lie::WrongBytes).refused_as("ollama://tiny", ErrorKind::Upstream).await;
        ground.hub.stop_lying();
        comes(&ground, "ollama://tiny", digests[0]).await;
    }
}

#[tokio::test]
async fn a_manifest_with_evil_digests_is_refused_before_a_byte_is_asked_for() {
    let mut digests: Vec<String> =
        ["md5:00", "sha256:", "sha256:../../escaped", "sha256:00", "", "sha512:00"].map(str::to_owned).into();
    digests.extend(evil_names());
    for digest in digests {
        let ground = Ground::of(SMALL).await;
        ground.hub.set_ollama_manifest(
            "library/tiny:latest",
            json!({
                "schemaVersion": 2,
                "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": digest, "size": 2},
                "layers": [{"mediaType": MODEL_LAYER, "digest": digest, "size": 100}],
            }),
        );
        ground.refused_as("ollama://tiny", ErrorKind::Upstream).await;
        assert_eq!(ground.hub.sent().body_bytes, 0, "{digest:?}");
    }
}

#[tokio::test]
async fn a_manifest_that_is_none_is_refused() {
    for manifest in [json!(null), json!([]), json!({"layers": 7}), json!({"layers": []}), json!("text")] {
        let ground = Ground::of(SMALL).await;
        ground.hub.set_ollama_manifest("library/tiny:latest", manifest.clone());
        let error = ground.ensure_as("ollama://tiny").await.unwrap_err();
        assert!(error.hint().is_some(), "{manifest}: {error:?}");
        ground.refused_as("ollama://tiny", error.kind()).await;
    }
}
