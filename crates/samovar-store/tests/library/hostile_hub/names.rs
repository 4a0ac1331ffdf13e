//! Lies in the names of files.

use samovar_core::ErrorKind;
use samovar_core::model::ArtifactRef;
use samovar_testhub::{BadAnswer, evil_names, odd_names};

use super::fixture::{Fixture, MODEL, REFERENCE, SMALL};

#[tokio::test]
async fn evil_names_beside_the_model_are_passed_over() {
    let fixture = Fixture::of(SMALL).await;
    let sent = fixture.tell(BadAnswer::Names(evil_names())).comes().await;
    assert_eq!(sent.files.keys().collect::<Vec<_>>(), [&fixture.repo.key(MODEL)], "nothing else is fetched");
    fixture.recovers().await;
}

#[tokio::test]
async fn a_model_under_an_evil_name_is_refused_before_a_byte_is_asked_for() {
    for name in evil_names() {
        // As the only thing that is there, named as the file that is wanted.
        let name = name.replace(".gguf", ".Q4_K_M.gguf");
        let fixture = Fixture::of(SMALL).await;
        fixture.repo.remove(MODEL).put(&name, "evil");
        let error = fixture.ensure().await.expect_err(&name);
        let is_typed = matches!(
            error.kind(),
            ErrorKind::InvalidRequest | ErrorKind::NotFound | ErrorKind::Upstream | ErrorKind::Unsupported
        );
        assert!(is_typed && error.hint().is_some(), "{name:?}: {error:?}");
        fixture.refused(error.kind()).await;
        assert_eq!(fixture.hub.sent().body_bytes, 0, "{name:?}");
        fixture.repo.remove(&name).put(MODEL, "an honest model");
        fixture.recovers().await;
    }
}

#[tokio::test]
async fn odd_names_that_do_no_harm_are_taken_as_they_are() {
    for name in odd_names() {
        let name = name.replace(".gguf", ".Q4_K_M.gguf");
        let fixture = Fixture::of(SMALL).await;
        fixture.repo.remove(MODEL).put(&name, "odd");
        let artifact = fixture.ensure().await.expect(&name);
        assert_eq!(artifact.files[0].path.as_str(), name);
        fixture.is_sound().await;
    }
}

#[tokio::test]
async fn evil_names_beside_weights_of_several_files_are_passed_over_or_refused() {
    for name in evil_names() {
        let fixture = Fixture::of(SMALL).await;
        fixture.repo.remove(MODEL);
        fixture.repo.put("model.safetensors", "weights").put("config.json", "{}").put("tokenizer.json", "{}");
        let name = name.replace(".gguf", ".json");
        fixture.repo.put(&name, "{}");
        if let Ok(artifact) = fixture.ensure_as("hf://acme/tiny").await {
            let paths: Vec<_> = artifact.files.iter().map(|file| file.path.as_str()).collect();
            assert!(!paths.contains(&name.as_str()), "{name:?}");
        }
        fixture.is_sound().await;
    }
}

#[tokio::test]
async fn pickles_and_code_are_never_fetched() {
    let fixture = Fixture::of(SMALL).await;
    fixture.repo.remove(MODEL);
    for name in ["pytorch_model.bin", "model.pt", "model.pkl", "modeling.py", "convert.sh", "model.ckpt"] {
        fixture.repo.put(name, "import os");
    }
    fixture.refused_as("hf://acme/tiny", ErrorKind::NotFound).await;
    fixture.repo.put("model.safetensors", "weights").put("config.json", "{}");
    fixture.ensure_as("hf://acme/tiny").await.unwrap();
    let sent = fixture.hub.sent();
    let files: Vec<_> = sent.files.keys().map(String::as_str).collect();
    assert_eq!(files, ["acme/tiny/config.json", "acme/tiny/model.safetensors"]);
}

#[tokio::test]
async fn a_name_that_is_asked_for_is_checked_as_one_that_is_listed() {
    let fixture = Fixture::of(SMALL).await;
    for text in ["hf://acme/tiny/../../escaped.gguf", "hf://../escaped", "hf://acme/..:Q4_K_M"] {
        if text.parse::<ArtifactRef>().is_ok() {
            let error = fixture.ensure_as(text).await.expect_err(text);
            assert!(error.hint().is_some(), "{error:?}");
        }
        fixture.is_sound().await;
    }
    fixture.ensure_as(REFERENCE).await.unwrap();
}
