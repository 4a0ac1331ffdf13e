//! Models of web servers, folders, Ollama's registry and an S3 server, through the whole store.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use crate::s3_server;

use std::path::{Path, PathBuf};
use std::time::Duration;

use s3_server::{BUCKET, Server};
use samovar_core::{ArtifactRef, Digest};
use samovar_store::config::Secret;
use samovar_store::{Artifact, Error, RetryConfig, SourceConfig, Store, StoreConfig};
use samovar_testhub::{BadAnswer, Content, Hub, Route};

const SIZE: usize = 300_000;

/// A store and a server beside it.
struct World {
    dir: tempfile::TempDir,
    hub: Hub,
    store: Store,
}

impl World {
    fn new() -> Self {
        Self::with(SourceConfig::default())
    }

    fn with(sources: SourceConfig) -> Self {
        let (dir, hub) = (tempfile::tempdir().unwrap(), Hub::start_blocking());
        let mut config = StoreConfig::new(dir.path().join("store"), dir.path().join("state"));
        config.min_free_bytes = 0;
        config.sources = SourceConfig {
            ollama_endpoint: Some(hub.endpoint()),
            retry: RetryConfig {
                tries: 2,
                first_wait: Duration::from_millis(1),
                longest_wait: Duration::from_millis(5),
            },
            ..sources
        };
        Self { store: Store::open(config).unwrap(), dir, hub }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    async fn ensure(&self, reference: &str) -> Result<Artifact, Error> {
        self.store.ensure(&parse(reference), None).await
    }

    async fn bytes(&self, reference: &str) -> Vec<u8> {
        let artifact = self.ensure(reference).await.unwrap_or_else(|error| panic!("{reference}: {error}"));
        let opened = self.store.open_artifact(&artifact.key_digest).unwrap();
        opened.weights().iter().flat_map(|path| fs_err::read(path).unwrap()).collect()
    }

    /// Nothing was kept, under whatever name.
    fn assert_empty(&self) {
        assert_eq!(self.store.list().unwrap(), []);
        let blobs = fs_err::read_dir(self.store.dir().join("blobs/sha256")).unwrap();
        let files = blobs.flat_map(|shard| fs_err::read_dir(shard.unwrap().path()).unwrap()).count();
        assert_eq!(files, 0, "blobs were left behind");
    }
}

fn parse(reference: &str) -> ArtifactRef {
    reference.parse().unwrap_or_else(|error| panic!("{reference}: {error}"))
}

fn content(seed: u8) -> Vec<u8> {
    (0..SIZE).map(|place| (place as u8).wrapping_mul(37).wrapping_add(seed)).collect()
}

fn write(path: &Path, bytes: &[u8]) {
    fs_err::create_dir_all(path.parent().unwrap()).unwrap();
    fs_err::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_file_of_a_web_server_is_fetched_once() {
    let world = World::new();
    world.hub.add_plain("a/x-Q4_K_M.gguf", Content::bytes(content(1)));
    let url = world.hub.plain_url("a/x-Q4_K_M.gguf");
    assert_eq!(world.bytes(&url).await, content(1));
    let sent = world.hub.sent();
    assert_eq!(sent.of("plain/a/x-Q4_K_M.gguf"), SIZE as u64);
    let artifact = world.ensure(&url).await.unwrap();
    assert_eq!(world.hub.sent(), sent, "the second time no server is asked");
    assert_eq!((artifact.key.source.as_str(), artifact.key.quant.as_str()), ("http", "Q4_K_M"));
    assert_eq!(artifact.files[0].path.as_str(), "x-Q4_K_M.gguf");
}

#[tokio::test]
async fn a_promised_digest_is_held_against_the_bytes() {
    let world = World::new();
    world.hub.add_plain("x.gguf", Content::bytes(content(1)));
    let url = world.hub.plain_url("x.gguf");
    let wrong = format!("{url}#sha256={}", Digest::of_bytes(b"other"));
    let error = world.ensure(&wrong).await.unwrap_err();
    assert!(matches!(error, Error::Mismatch { .. }), "{error}");
    world.assert_empty();
    let right = format!("{url}#sha256={}", Digest::of_bytes(&content(1)));
    assert_eq!(world.bytes(&right).await, content(1));
}

#[tokio::test]
async fn the_same_digest_at_another_address_is_not_fetched_again() {
    let world = World::new();
    let digest = Digest::of_bytes(&content(1));
    world.hub.add_plain("one.gguf", Content::bytes(content(1)));
    world.hub.add_plain("two.gguf", Content::bytes(content(1)));
    world.bytes(&format!("{}#sha256={digest}", world.hub.plain_url("one.gguf"))).await;
    world.bytes(&format!("{}#sha256={digest}", world.hub.plain_url("two.gguf"))).await;
    assert_eq!(world.hub.sent().body_bytes, SIZE as u64);
}

#[tokio::test]
async fn a_file_that_changed_at_its_server_is_another_commit() {
    let world = World::new();
    world.hub.add_plain("x.gguf", Content::bytes(content(1)));
    let url = world.hub.plain_url("x.gguf");
    let first = world.ensure(&url).await.unwrap();
    let same = world.store.pull(&parse(&url), None).await.unwrap();
    assert!(same.was_here);
    world.hub.add_plain("x.gguf", Content::bytes(content(2)));
    assert_eq!(world.bytes(&url).await, content(1), "what is here is used until a pull");
    let pulled = world.store.pull(&parse(&url), None).await.unwrap();
    assert_ne!(pulled.artifact.key.commit, first.key.commit);
    assert_eq!(world.bytes(&url).await, content(2));
}

#[tokio::test]
async fn servers_that_say_little_serve_all_the_same() {
    for lie in [
        BadAnswer::NoHeader { name: "ETag".to_owned() }.into(),
        BadAnswer::IgnoreRange.into(),
        BadAnswer::NoLength.into(),
        BadAnswer::Chunked.into(),
        samovar_testhub::Rule::from(BadAnswer::Status { status: 405, retry_after: None }).to("HEAD"),
        samovar_testhub::Rule::from(BadAnswer::Status { status: 403, retry_after: None }).to("HEAD"),
    ] {
        let world = World::new();
        world.hub.add_plain("x.gguf", Content::bytes(content(3)));
        world.hub.lie(lie.clone());
        assert_eq!(world.bytes(&world.hub.plain_url("x.gguf")).await, content(3), "{lie:?}");
    }
}

type Judge = fn(&Error) -> bool;

#[tokio::test]
async fn what_a_web_server_says_is_told_apart() {
    let status = |status| BadAnswer::Status { status, retry_after: None };
    let cases: [(BadAnswer, Judge); 6] = [
        (status(404), |error| matches!(error, Error::Missing { .. })),
        (status(403), |error| matches!(error, Error::Denied { .. })),
        (status(401), |error| matches!(error, Error::Denied { .. })),
        (status(503), |error| matches!(error, Error::Unreachable { .. })),
        (BadAnswer::HangUp, |error| matches!(error, Error::Unreachable { .. })),
        (BadAnswer::HtmlPage, |error| matches!(error, Error::BadAnswer { .. })),
    ];
    for (lie, is_right) in cases {
        let world = World::new();
        world.hub.add_plain("x.gguf", Content::bytes(content(1)));
        world.hub.lie(lie.clone());
        let error = world.ensure(&world.hub.plain_url("x.gguf")).await.unwrap_err();
        assert!(is_right(&error), "{lie:?}: {error:?}");
        world.assert_empty();
    }
}

#[tokio::test]
async fn lies_of_a_web_server_never_become_blobs() {
    for lie in [
        BadAnswer::WrongBytes,
        BadAnswer::FlipBit { at: 77 },
        BadAnswer::ShortBody { by: 10 },
        BadAnswer::ShortLength { by: 10 },
        BadAnswer::LongLength { by: 10 },
        BadAnswer::Trailing { by: 10 },
        BadAnswer::WrongContentRange { shift: 1 },
    ] {
        let world = World::new();
        world.hub.add_plain("x.gguf", Content::bytes(content(1)));
        world.hub.lie(lie.clone());
        let url = format!("{}#sha256={}", world.hub.plain_url("x.gguf"), Digest::of_bytes(&content(1)));
        match world.ensure(&url).await {
            // A lie that does no harm, since all the bytes came.
            Ok(_) => assert_eq!(world.bytes(&url).await, content(1), "{lie:?}"),
            Err(_) => world.assert_empty(),
        }
    }
}

#[tokio::test]
async fn parts_are_fetched_from_beside_the_named_one() {
    let world = World::new();
    world.hub.add_plain("m/x-Q8_0-00001-of-00002.gguf", Content::bytes(content(1)));
    world.hub.add_plain("m/x-Q8_0-00002-of-00002.gguf", Content::bytes(content(2)));
    let url = world.hub.plain_url("m/x-Q8_0-00001-of-00002.gguf");
    assert_eq!(world.bytes(&url).await, [content(1), content(2)].concat());
    let digest = Digest::of_bytes(b"x");
    let error = world.ensure(&format!("{url}#sha256={digest}")).await.unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
}

#[tokio::test]
async fn what_is_no_model_file_is_not_asked_for() {
    let world = World::new();
    for name in ["model.bin", "model.pt", "run.py", "x.zip"] {
        let error = world.ensure(&world.hub.plain_url(name)).await.unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    }
    let error = world.ensure("http://192.0.2.1/x.gguf").await.unwrap_err();
    assert!(matches!(&error, Error::Unsupported { .. }), "{error}");
    assert_eq!(world.hub.requests(), []);
}

#[tokio::test]
async fn offline_only_this_machine_is_asked() {
    let world = World::with(SourceConfig { is_offline: true, ..SourceConfig::default() });
    write(&world.path("m/x.gguf"), &content(1));
    for reference in [&world.hub.plain_url("x.gguf"), "s3://b/x.gguf", "ollama://x", "hf://a/b"] {
        let error = world.ensure(reference).await.unwrap_err();
        assert!(matches!(error, Error::Offline { .. }), "{error}");
    }
    assert_eq!(world.hub.requests(), []);
    let path = fs_err::canonicalize(world.path("m/x.gguf")).unwrap();
    assert_eq!(world.bytes(&format!("file://{}", path.display())).await, content(1));
}

#[tokio::test]
async fn a_folder_means_its_preferred_model_and_is_not_led_out_of() {
    let world = World::new();
    let folder = world.path("share");
    write(&folder.join("x-Q8_0.gguf"), &content(8));
    write(&folder.join("deep/x-Q4_K_M.gguf"), &content(4));
    write(&folder.join("model.bin"), b"pickle");
    write(&world.path("outside.gguf"), b"secret");
    fs_err::os::unix::fs::symlink(world.path("outside.gguf"), folder.join("y-Q4_K_M.gguf")).unwrap();
    let reference = format!("file://{}", folder.display());
    assert_eq!(world.bytes(&reference).await, content(4));
    let artifact = world.ensure(&reference).await.unwrap();
    assert_eq!((artifact.key.source.as_str(), artifact.files.len()), ("folder", 1));
}

#[tokio::test]
async fn a_named_file_is_copied_and_its_change_is_another_commit() {
    let world = World::new();
    let path = world.path("x.gguf");
    write(&path, &content(1));
    let reference = format!("file://{}", path.display());
    let first = world.ensure(&reference).await.unwrap();
    write(&path, &content(2));
    assert_eq!(world.bytes(&reference).await, content(1), "the store has a copy of its own");
    let pulled = world.store.pull(&parse(&reference), None).await.unwrap();
    assert_ne!(pulled.artifact.key.commit, first.key.commit);
    assert_eq!(world.bytes(&reference).await, content(2));
    let wrong = format!("{reference}#sha256={}", Digest::of_bytes(b"other"));
    let error = world.ensure(&wrong).await.unwrap_err();
    assert!(matches!(error, Error::Mismatch { .. }), "{error}");
}

#[tokio::test]
async fn a_path_with_nothing_at_it_is_missing() {
    let world = World::new();
    fs_err::create_dir_all(world.path("empty")).unwrap();
    for path in ["nothing.gguf", "empty"] {
        let error = world.ensure(&format!("file://{}", world.path(path).display())).await.unwrap_err();
        assert!(matches!(error, Error::Missing { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_model_of_ollamas_registry_is_fetched_by_its_digests() {
    let world = World::new();
    let layers = [
        ("application/vnd.ollama.image.model", Content::bytes(content(5))),
        ("application/vnd.ollama.image.template", Content::bytes("{{ .Prompt }}")),
        ("application/vnd.ollama.image.params", Content::bytes("{}")),
    ];
    world.hub.add_ollama("library/tiny:1b", &layers);
    world.hub.add_ollama("library/tiny:latest", &layers);
    assert_eq!(world.bytes("ollama://tiny:1b").await, content(5));
    let sent = world.hub.sent();
    assert_eq!(world.bytes("ollama://tiny").await, content(5));
    let since = world.hub.sent().since(&sent);
    assert!(since.body_bytes < 1000, "the same layers under another tag: {since:?}");
    let artifact = world.ensure("ollama://tiny:1b").await.unwrap();
    let names: Vec<_> = artifact.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(names, ["model.gguf", "template.go.txt", "params.json"]);
}

#[tokio::test]
async fn what_ollamas_registry_says_is_told_apart() {
    let world = World::new();
    let model = ("application/vnd.ollama.image.model", Content::bytes(content(5)));
    world.hub.add_ollama(
        "library/lora:latest",
        &[model.clone(), ("application/vnd.ollama.image.adapter", Content::bytes("a"))],
    );
    world.hub.set_ollama_manifest(
        "library/odd:latest",
        serde_json::json!({"layers": [
            {"mediaType": model.0, "digest": "md5:0123456789abcdef0123456789abcdef", "size": 3}
        ]}),
    );
    let error = world.ensure("ollama://missing").await.unwrap_err();
    assert!(matches!(error, Error::Missing { .. }), "{error}");
    let error = world.ensure("ollama://lora").await.unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    let error = world.ensure("ollama://odd").await.unwrap_err();
    assert!(matches!(error, Error::BadAnswer { .. }), "{error}");
    world.assert_empty();
}

#[tokio::test]
async fn wrong_layers_of_ollamas_registry_are_not_kept() {
    let world = World::new();
    let model = ("application/vnd.ollama.image.model", Content::bytes(content(5)));
    let digests = world.hub.add_ollama("library/tiny:latest", &[model]);
    for lie in [
        BadAnswer::WrongBytes,
        BadAnswer::ShortLength { by: 7 },
        BadAnswer::HtmlPage,
        BadAnswer::Text("{}".to_owned()),
    ] {
        world.hub.stop_lying();
        world.hub.lie(lie.clone().on(&format!("sha256:{}", digests[0])));
        let error = world.ensure("ollama://tiny").await.unwrap_err();
        assert!(!error.to_string().is_empty(), "{lie:?}");
        world.assert_empty();
    }
    world.hub.stop_lying();
    assert_eq!(world.bytes("ollama://tiny").await, content(5));
    assert!(world.hub.counts().told.iter().all(|told| *told > 0) || !world.hub.requests().is_empty());
    assert!(world.hub.sent().requests_for(Route::OllamaManifest) > 0);
}

#[tokio::test]
async fn an_object_of_an_s3_server_is_fetched_verified_and_kept() {
    let Some(server) = Server::start(None) else { return };
    let large = content(1).repeat(40);
    server.put("m/x-Q4_K_M.gguf", &large);
    server.put("m/x-Q8_0.gguf", &content(8));
    server.put("m/pytorch_model.bin", b"pickle");
    let option = |name: &str, value: &str| (name.to_owned(), Secret::new(value));
    let object_options = vec![
        option("aws_endpoint", &server.endpoint()),
        option("aws_access_key_id", "key"),
        option("aws_secret_access_key", "secret"),
    ];
    let world = World::with(SourceConfig { object_options, ..SourceConfig::default() });
    let object = format!("s3://{BUCKET}/m/x-Q4_K_M.gguf");
    let wrong = format!("{object}#sha256={}", Digest::of_bytes(b"other"));
    let error = world.ensure(&wrong).await.unwrap_err();
    assert!(matches!(error, Error::Mismatch { .. }), "{error}");
    world.assert_empty();
    assert_eq!(world.bytes(&object).await, large);
    assert_eq!(world.bytes(&format!("s3://{BUCKET}/m")).await, large, "a prefix means the preferred model");
    let right = format!("{object}#sha256={}", Digest::of_bytes(&large));
    assert_eq!(world.bytes(&right).await, large);
    server.put("m/x-Q4_K_M.gguf", &content(2));
    let pulled = world.store.pull(&parse(&object), None).await.unwrap();
    assert!(!pulled.was_here);
    assert_eq!(world.bytes(&object).await, content(2));
    let error = world.ensure(&format!("s3://{BUCKET}/none.gguf")).await.unwrap_err();
    assert!(matches!(error, Error::Missing { .. }), "{error}");
    drop(server);
    assert_eq!(world.bytes(&object).await, content(2), "what is here needs no server");
    let error = world.ensure(&format!("s3://{BUCKET}/none.gguf")).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn an_address_without_a_files_name_may_be_a_model() {
    let world = World::new();
    world.hub.add_plain("download", Content::bytes(content(1)));
    let url = world.hub.plain_url("download");
    assert_eq!(world.bytes(&url).await, content(1));
    assert_eq!(world.ensure(&url).await.unwrap().files[0].path.as_str(), "download.gguf");
}
